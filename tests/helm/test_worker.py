"""The Deployment of `hatstand worker`, and servers that take jobs for it."""

from __future__ import annotations

from typing import Any

from .chart import CHART, find, overlay, pod, render, server, variant
from .test_command_line import hatstand_help

VALUES = variant(CHART / "values-fine-tuning.yaml")


def worker(values: dict[str, Any] = VALUES) -> dict[str, Any]:
    """The container that works."""
    deployment = find(render(values), "Deployment", "worker")
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    assert isinstance(container, dict)
    return container


def secrets(container: dict[str, Any]) -> dict[str, tuple[str, str]]:
    """(Secret, key) of each variable."""
    references = {v["name"]: v["valueFrom"]["secretKeyRef"] for v in container["env"]}
    return {name: (each["name"], each["key"]) for name, each in references.items()}


def test_its_arguments_are_ones_that_worker_takes() -> None:
    command, *options = worker()["args"]
    assert command == "worker"
    text = hatstand_help(command)
    assert all(option.partition("=")[0] in text for option in options)
    assert f"--base={server(render(VALUES))['args'][1].removeprefix('--base=')}" in options


def test_it_takes_the_jobs_that_servers_take_and_pushes_where_they_read() -> None:
    serving = server(render(VALUES))
    assert "--fine-tuning" in serving["args"]
    assert "--fine-tuning" in hatstand_help("serve")
    queue = ("hatstand-tuning", "HATSTAND_TUNING")
    assert secrets(serving)["HATSTAND_TUNING"] == secrets(worker())["HATSTAND_TUNING"] == queue
    (registry,) = (a for a in serving["args"] if a.startswith("--registry="))
    assert registry in worker()["args"]


def test_its_key_is_its_own() -> None:
    keys = {secrets(each)["HATSTAND_REGISTRY_KEY"] for each in (worker(), server(render(VALUES)))}
    assert keys == {
        ("hatstand-worker-key", "HATSTAND_REGISTRY_KEY"),
        ("hatstand-registry-keys", "HATSTAND_REGISTRY_KEY"),
    }
    assert "HATSTAND_API_KEYS" not in secrets(worker())


def test_it_has_a_gpu_and_time_to_write_a_checkpoint() -> None:
    values = overlay({"worker": {"terminationSeconds": 45, "priorityClassName": "low"}}, VALUES)
    spec = find(render(values), "Deployment", "worker")["spec"]["template"]["spec"]
    assert spec["terminationGracePeriodSeconds"] == 45
    assert spec["priorityClassName"] == "low"
    assert worker(values)["resources"]["limits"]["nvidia.com/gpu"] == 1


def test_nobody_reaches_it_and_no_request_is_sent_to_it() -> None:
    manifests = render(VALUES)
    deployment = find(manifests, "Deployment", "worker")["spec"]
    labels = deployment["template"]["metadata"]["labels"]
    assert deployment["selector"]["matchLabels"].items() <= labels.items()
    assert not find(manifests, "Service")["spec"]["selector"].items() <= labels.items()
    policy = find(manifests, "NetworkPolicy", "worker")["spec"]
    assert policy["podSelector"]["matchLabels"].items() <= labels.items()
    assert policy["policyTypes"] == ["Ingress"]
    assert "ingress" not in policy


def test_the_registry_lets_it_in() -> None:
    values = overlay({"networkPolicy": {"registryFrom": [{"ipBlock": {"cidr": "10.0.0.0/8"}}]}})
    manifests = render(overlay(values, VALUES))
    (rule,) = find(manifests, "NetworkPolicy", "registry")["spec"]["ingress"]
    labels = find(manifests, "Deployment", "worker")["spec"]["template"]["metadata"]["labels"]
    selectors = [
        peer["podSelector"]["matchLabels"] for peer in rule["from"] if "podSelector" in peer
    ]
    assert any(selector.items() <= labels.items() for selector in selectors)
    assert any(s.items() <= pod(manifests)["metadata"]["labels"].items() for s in selectors)


def test_without_it_servers_take_no_jobs() -> None:
    assert "--fine-tuning" not in server(render())["args"]
