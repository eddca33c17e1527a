"""The image: what hadolint says, and the promises that the chart relies on."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import tomllib

import pytest
import yaml

from .chart import CHART, ROOT, find, pod, render, server, tool

DOCKERFILE = ROOT / "Dockerfile"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


@pytest.fixture(scope="module")
def stages() -> list[list[tuple[str, str]]]:
    """Instructions of each stage, (keyword, rest), continuation lines joined."""
    text = re.sub(r"(?m)^\s*#.*\n", "", DOCKERFILE.read_text()).replace("\\\n", " ")
    found: list[list[tuple[str, str]]] = []
    for line in filter(None, map(str.strip, text.splitlines())):
        keyword, _, rest = line.partition(" ")
        if keyword == "FROM":
            found.append([])
        found[-1].append((keyword, rest.strip()))
    return found


@pytest.fixture(scope="module")
def image(stages: list[list[tuple[str, str]]]) -> dict[str, str]:
    """The last stage: each keyword's last use."""
    return dict(stages[-1])


@pytest.fixture(scope="module")
def environment(image: dict[str, str]) -> dict[str, str]:
    return dict(pair.split("=", 1) for pair in shlex.split(image["ENV"]))


def test_hadolint_has_nothing_to_say() -> None:
    result = subprocess.run(
        [str(tool("hadolint")), str(DOCKERFILE)], capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stdout


def test_two_stages_of_a_python_that_is_supported(stages: list[list[tuple[str, str]]]) -> None:
    assert [stage[0][1] for stage in stages] == [
        "python:3.12-slim AS build",
        "python:3.12-slim",
    ]
    assert "Programming Language :: Python :: 3.12" in PROJECT["project"]["classifiers"]


def test_versions_are_the_ones_that_were_tested(stages: list[list[tuple[str, str]]]) -> None:
    (run,) = (rest for keyword, rest in stages[0] if keyword == "RUN")
    assert "-c constraints.txt" in run
    # Without cuda-core, GPUs multiply at half the speed; the others are what the chart runs beside.
    assert "[server,training,data,cuda,postgres,s3,otel]" in run


def test_the_wheel_gets_every_package_through_dockerignore(
    stages: list[list[tuple[str, str]]],
) -> None:
    copied = {
        source for keyword, rest in stages[0] if keyword == "COPY" for source in rest.split()[:-1]
    }
    packages = PROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]
    project = PROJECT["project"]
    assert copied >= {*packages, project["readme"], *project["license-files"], "pyproject.toml"}
    allowed = (ROOT / ".dockerignore").read_text().splitlines()
    assert "*" in allowed
    assert {line[1:] for line in allowed if line.startswith("!")} == copied


def test_the_user_is_not_root_and_the_chart_agrees(image: dict[str, str]) -> None:
    user, _, group = image["USER"].partition(":")
    context = pod(render())["spec"]["securityContext"]
    assert (int(user), int(group)) == (10001, 10001)
    assert (context["runAsUser"], context["runAsGroup"]) == (10001, 10001)


def test_nothing_is_written_outside_the_volume_and_tmp(
    image: dict[str, str], environment: dict[str, str]
) -> None:
    settings = find(render(), "ConfigMap")["data"]
    assert environment["HATSTAND_HOME"] == settings["HATSTAND_HOME"]
    assert environment["HF_HOME"] == settings["HF_HOME"]
    assert json.loads(image["VOLUME"]) == [environment["HATSTAND_HOME"]]
    assert environment["HOME"] == "/tmp"
    assert environment["PYTHONDONTWRITEBYTECODE"] == "1"


def test_the_chart_gives_arguments_to_the_command_line(image: dict[str, str]) -> None:
    assert json.loads(image["ENTRYPOINT"]) == ["hatstand"]
    assert "hatstand" in PROJECT["project"]["scripts"]
    assert server(render())["args"][0] == "serve"
    assert "command" not in server(render())


def test_one_version_everywhere(stages: list[list[tuple[str, str]]], image: dict[str, str]) -> None:
    version = PROJECT["project"]["version"]
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    assert chart["appVersion"] == version
    assert ("ARG", f"VERSION={version}") in stages[-1]
    labels = dict(pair.split("=", 1) for pair in shlex.split(image["LABEL"]))
    assert labels["org.opencontainers.image.licenses"] == PROJECT["project"]["license"]
    assert {"title", "description", "source", "version", "revision"} <= {
        label.removeprefix("org.opencontainers.image.") for label in labels
    }
