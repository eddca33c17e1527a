"""The Job that trains: what `hatstand train` takes, with a GPU and a key of its own."""

from __future__ import annotations

from typing import Any

from .chart import VARIANTS, find, overlay, pod_specs, render, variant
from .test_command_line import hatstand_help

VALUES = next(variant(path) for path in VARIANTS if path.stem == "training")


def trainer(values: dict[str, Any] = VALUES) -> dict[str, Any]:
    """The container that trains."""
    job = find(render(values), "Job", "training")
    (container,) = job["spec"]["template"]["spec"]["containers"]
    assert isinstance(container, dict)
    return container


def test_its_arguments_are_ones_that_train_takes() -> None:
    command, recipe, *options = trainer()["args"]
    assert recipe == "/recipe/recipe.yaml"
    text = hatstand_help(command)
    assert all(option.partition("=")[0] in text for option in options)
    assert "--registry=https://registry.example" in options
    assert "--push=sql@canary" in options


def test_it_reads_the_recipe_and_writes_elsewhere() -> None:
    container = trainer()
    mounts = {mount["name"]: mount for mount in container["volumeMounts"]}
    assert mounts["recipe"] == {"name": "recipe", "mountPath": "/recipe", "readOnly": True}
    (output,) = (a for a in container["args"] if a.startswith("--set=output="))
    assert output.removeprefix("--set=output=").startswith(mounts["cache"]["mountPath"])


def test_it_has_a_gpu_and_its_own_key() -> None:
    container = trainer()
    assert container["resources"]["limits"]["nvidia.com/gpu"] == 1
    (variable,) = container["env"]
    assert variable["valueFrom"]["secretKeyRef"]["name"] == "trainers-key"


def test_another_recipe_is_another_job() -> None:
    other = overlay({"training": {"push": "sql@next"}}, VALUES)
    names = {find(render(each), "Job", "training")["metadata"]["name"] for each in (VALUES, other)}
    assert len(names) == 2


def test_it_is_in_no_service() -> None:
    manifests = render(VALUES)
    selector = find(manifests, "Service")["spec"]["selector"]
    labels = find(manifests, "Job", "training")["spec"]["template"]["metadata"]["labels"]
    assert not selector.items() <= labels.items()
    assert all(spec["enableServiceLinks"] is False for spec in pod_specs(manifests))
