"""What `helm install` prints: commands that kubectl understands, about things that exist."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
from pathlib import Path
from typing import Any

import pytest

from .chart import CHART, RELEASE, VARIANTS, helm, pod_specs, render, tool, variant


def notes(values: dict[str, Any]) -> str:
    arguments = ("--namespace", "hats", "--dry-run=client", "-f", "-")
    result = helm("install", RELEASE, str(CHART), *arguments, stdin=json.dumps(values))
    assert result.returncode == 0, result.stderr
    return result.stdout.partition("NOTES:\n")[2]


def kubectl_commands(text: str) -> list[list[str]]:
    return [shlex.split(command) for command in re.findall(r"kubectl [^|)\n]*(?:'[^']*')?", text)]


@pytest.mark.parametrize("path", VARIANTS, ids=lambda path: path.stem)
def test_kubectl_takes_every_command(path: Path, tmp_path: Path) -> None:
    """Against a port where nobody listens: each gets as far as the connection, no flag fails."""
    config = tmp_path / "kubeconfig"
    config.write_text(
        "{clusters: [{name: c, cluster: {server: 'http://127.0.0.1:1'}}], "
        "contexts: [{name: c, context: {cluster: c}}], current-context: c}"
    )
    commands = kubectl_commands(notes(variant(path)))
    assert len(commands) >= 5
    for command in commands:
        result = subprocess.run(
            [str(tool("kubectl")), *command[1:]],
            env={"KUBECONFIG": str(config), "HOME": str(tmp_path)},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert "127.0.0.1:1 was refused" in result.stderr, (command, result.stderr)


@pytest.mark.parametrize("path", VARIANTS, ids=lambda path: path.stem)
def test_they_name_what_is_rendered(path: Path) -> None:
    manifests = render(variant(path))
    text = notes(variant(path))
    rendered = {f"{m['kind'].lower()}/{m['metadata']['name']}" for m in manifests}
    named = set(re.findall(r"(?:deployment|service)/[a-z-]+", text))
    assert named
    assert named <= rendered
    containers = {
        each["name"]
        for spec in pod_specs(manifests)
        for each in spec.get("initContainers", []) + spec["containers"]
    }
    assert set(re.findall(r"--container (\S+)", text)) <= containers


def test_the_dangers_are_said_aloud() -> None:
    text = notes({"auth": {"insecure": True}, "persistence": {"enabled": False}})
    assert "auth.insecure is on" in text
    assert "persistence is off" in text
    assert "WARNING" not in notes({"auth": {"existingSecret": "my-keys"}})
