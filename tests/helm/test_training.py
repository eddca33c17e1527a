"""The Job or JobSet that trains: what `hatstand train` takes, with GPUs and a key of its own."""

from __future__ import annotations

from typing import Any

import kubernetes_validate

from .chart import VARIANTS, find, overlay, pod_specs, render, variant
from .test_command_line import hatstand_help

SEVERAL = next(variant(path) for path in VARIANTS if path.stem == "several-nodes")
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


def node_job() -> tuple[str, dict[str, Any]]:
    """The JobSet's name, and the Job that it makes of its nodes."""
    jobset = find(render(SEVERAL), "JobSet", "training")
    assert jobset["apiVersion"] == "jobset.x-k8s.io/v1alpha2"
    spec = jobset["spec"]
    (replicated,) = spec.pop("replicatedJobs")
    assert spec == {
        "network": {"enableDNSHostnames": True, "publishNotReadyAddresses": True},
        "failurePolicy": {"maxRestarts": 1},
    }
    assert replicated["name"] == "node"
    assert replicated["replicas"] == 1
    return jobset["metadata"]["name"], replicated["template"]["spec"]


def test_several_nodes_are_a_job_that_kubernetes_takes() -> None:
    """A JobSet's template is a Job's specification, which Kubernetes' own schema knows."""
    name, spec = node_job()
    job = {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": name}, "spec": spec}
    kubernetes_validate.validate(job, "1.37.0", strict=True)
    assert spec["completionMode"] == "Indexed"
    assert (spec["completions"], spec["parallelism"], spec["backoffLimit"]) == (3, 3, 0)
    assert not [m for m in render(SEVERAL) if m["kind"] == "Job"]


def test_nodes_meet_at_the_first_by_its_name() -> None:
    name, spec = node_job()
    (container,) = spec["template"]["spec"]["containers"]
    launcher = container["args"][: container["args"].index("train")]
    assert container["command"] == ["torchrun"]
    assert {"--nnodes=3", "--nproc-per-node=8", "--node-rank=$(JOB_COMPLETION_INDEX)"} <= set(
        launcher
    )
    assert f"--rdzv-endpoint={name}-node-0-0.{name}:29500" in launcher
    assert len(f"{name}-node-0-0") <= 63
    assert launcher[-2:] == ["-m", "clients"]
    assert container["args"][len(launcher) :][:2] == trainer()["args"][:2]
    assert container["resources"]["limits"]["nvidia.com/gpu"] == 8


def test_a_long_release_name_leaves_room_for_host_names() -> None:
    values = overlay({"fullnameOverride": "x" * 53}, SEVERAL)
    name = find(render(values), "JobSet", "training")["metadata"]["name"]
    assert len(f"{name}-node-0-0") <= 63


def test_nodes_share_memory_and_may_reach_each_other() -> None:
    _, spec = node_job()
    pod = spec["template"]["spec"]
    volumes = {volume["name"]: volume for volume in pod["volumes"]}
    assert volumes["shm"]["emptyDir"] == {"medium": "Memory"}
    assert {"name": "shm", "mountPath": "/dev/shm"} in pod["containers"][0]["volumeMounts"]
    policy = find(render(SEVERAL), "NetworkPolicy", "training")["spec"]
    labels = spec["template"]["metadata"]["labels"]
    (rule,) = policy["ingress"]
    (peer,) = rule["from"]
    assert policy["podSelector"] == peer["podSelector"]
    assert policy["podSelector"]["matchLabels"].items() <= labels.items()
