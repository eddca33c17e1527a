"""The chart as the real `helm` renders it."""

from __future__ import annotations

import functools
import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
CHART = ROOT / "helm" / "hatstand"
TOOLS = ROOT / ".cache" / "tools"
PROFILES = sorted(CHART.glob("values-*.yaml"))
VARIANTS = sorted((Path(__file__).parent / "variants").glob("*.yaml")) + PROFILES
RELEASE = "demo"

# The least that renders; what a test asks for is laid over it.
MINIMAL = {"auth": {"existingSecret": "my-keys"}}


def tool(name: str) -> Path:
    """What `.ci/tools` brought, or what is on PATH; without either it skips (in CI: fails)."""
    found = shutil.which(name, path=str(TOOLS)) or shutil.which(name)
    if found is None:
        reason = f"{name} is neither in .cache/tools (run .ci/tools) nor on PATH"
        if os.environ.get("HATSTAND_REQUIRE_TOOLS"):
            pytest.fail(reason)
        pytest.skip(reason)
    return Path(found)


def helm(*arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    """Run helm with no plugins, caches or cluster of the user's."""
    with tempfile.TemporaryDirectory() as home:
        environment = {
            "PATH": os.environ["PATH"],
            "HOME": home,
            "KUBECONFIG": str(Path(home, "none")),
        }
        return subprocess.run(
            [str(tool("helm")), *arguments],
            input=stdin,
            env=environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )


def overlay(values: Mapping[str, Any], base: Mapping[str, Any] = MINIMAL) -> dict[str, Any]:
    """`values` over `base`, mapping by mapping, as helm merges them."""
    merged = dict(base)
    for key, value in values.items():
        below = merged.get(key)
        if isinstance(value, Mapping) and isinstance(below, Mapping):
            value = overlay(value, below)
        merged[key] = value
    return merged


@functools.cache
def _template(values: str) -> str:
    result = helm("template", RELEASE, str(CHART), "--namespace", "hats", "-f", "-", stdin=values)
    assert result.returncode == 0, result.stderr
    return result.stdout


def rendered(values: Mapping[str, Any]) -> str:
    """The text of a release with exactly these values."""
    return _template(json.dumps(values, sort_keys=True))


def render(values: Mapping[str, Any] = MINIMAL) -> list[dict[str, Any]]:
    """Every manifest of a release with exactly these values."""
    documents = yaml.load_all(rendered(values), yaml.CSafeLoader)
    return [document for document in documents if document]


def refusal(values: Mapping[str, Any]) -> str:
    """What helm says when it refuses to render these values."""
    result = helm("template", RELEASE, str(CHART), "-f", "-", stdin=json.dumps(values))
    assert result.returncode != 0, "helm rendered what it should refuse"
    return result.stderr


def variant(path: Path) -> dict[str, Any]:
    values = yaml.safe_load(path.read_text())
    assert isinstance(values, dict)
    return values


def find(manifests: list[dict[str, Any]], kind: str, component: str = "server") -> dict[str, Any]:
    """The one manifest of a kind among those of a component."""
    label = "app.kubernetes.io/component"
    (found,) = (
        manifest
        for manifest in manifests
        if manifest["kind"] == kind and manifest["metadata"]["labels"][label] == component
    )
    return found


def pod_specs(manifests: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The specification of every pod that a release makes."""
    templates = [m["spec"]["template"] for m in manifests if m["kind"] in ("Deployment", "Job")]
    pods = [manifest for manifest in manifests if manifest["kind"] == "Pod"]
    jobs = [job for m in manifests if m["kind"] == "JobSet" for job in m["spec"]["replicatedJobs"]]
    templates += [job["template"]["spec"]["template"] for job in jobs]
    return [template["spec"] for template in [*templates, *pods]]


def pod(manifests: list[dict[str, Any]]) -> dict[str, Any]:
    """The pod template of the server's Deployment."""
    template = find(manifests, "Deployment")["spec"]["template"]
    assert isinstance(template, dict)
    return template


def server(manifests: list[dict[str, Any]]) -> dict[str, Any]:
    """The container that serves."""
    (container,) = pod(manifests)["spec"]["containers"]
    assert isinstance(container, dict)
    return container
