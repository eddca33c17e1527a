"""What the chart promises about the pods it makes, whichever values it is given."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import pytest

from server.api.keys import parse_keys

from .chart import VARIANTS, find, overlay, pod, pod_specs, render, server, variant

KEYS = ["0123456789abcdef", "fedcba9876543210:inference+admin"]


@pytest.fixture(params=VARIANTS, ids=lambda path: path.stem)
def manifests(request: pytest.FixtureRequest) -> list[dict[str, Any]]:
    path: Path = request.param
    return render(variant(path))


def containers(manifests: list[dict[str, Any]]) -> list[dict[str, Any]]:
    specs = pod_specs(manifests)
    return [each for spec in specs for each in spec.get("initContainers", []) + spec["containers"]]


def test_nothing_runs_as_root(manifests: list[dict[str, Any]]) -> None:
    for spec in pod_specs(manifests):
        context = spec["securityContext"]
        assert context["runAsNonRoot"] is True
        assert context.get("runAsUser", 10001) > 0
        assert context["seccompProfile"] == {"type": "RuntimeDefault"}


def test_no_container_can_write_its_image_or_gain_privilege(
    manifests: list[dict[str, Any]],
) -> None:
    for container in containers(manifests):
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "privileged": False,
            "readOnlyRootFilesystem": True,
        }


def test_the_cache_and_tmp_are_all_that_is_writable(manifests: list[dict[str, Any]]) -> None:
    settings = find(manifests, "ConfigMap")["data"]
    spec = pod(manifests)["spec"]
    volumes = {volume["name"]: volume for volume in spec["volumes"]}
    for container in spec.get("initContainers", []) + spec["containers"]:
        mounts = {mount["mountPath"]: mount["name"] for mount in container["volumeMounts"]}
        assert mounts == {settings["HATSTAND_HOME"]: "cache", "/tmp": "tmp"}
    assert volumes["tmp"]["emptyDir"]["sizeLimit"] == "2Gi"
    assert Path(settings["HF_HOME"]).is_relative_to(settings["HATSTAND_HOME"])


def test_no_token_of_the_cluster_reaches_the_pods(manifests: list[dict[str, Any]]) -> None:
    for spec in pod_specs(manifests):
        assert spec["automountServiceAccountToken"] is False
    for manifest in manifests:
        if manifest["kind"] == "ServiceAccount":
            assert manifest["automountServiceAccountToken"] is False
            assert pod(manifests)["spec"]["serviceAccountName"] == manifest["metadata"]["name"]


def test_other_services_do_not_leak_into_the_settings(manifests: list[dict[str, Any]]) -> None:
    """A Service called hatstand would set HATSTAND_PORT to tcp://… in every pod beside it."""
    for spec in pod_specs(manifests):
        assert spec["enableServiceLinks"] is False


def test_every_container_has_requests_and_a_memory_limit(manifests: list[dict[str, Any]]) -> None:
    for container in containers(manifests):
        assert {"cpu", "memory"} <= container["resources"]["requests"].keys()
        assert "memory" in container["resources"]["limits"]


def test_selectors_match_the_pods_and_nothing_else_of_theirs(
    manifests: list[dict[str, Any]],
) -> None:
    deployment = find(manifests, "Deployment")
    selector = deployment["spec"]["selector"]["matchLabels"]
    assert set(selector) == {
        "app.kubernetes.io/name",
        "app.kubernetes.io/instance",
        "app.kubernetes.io/component",
    }
    assert find(manifests, "Service")["spec"]["selector"] == selector
    assert selector.items() <= pod(manifests)["metadata"]["labels"].items()
    assert selector.items() <= deployment["metadata"]["labels"].items()


def test_the_service_reaches_the_port_that_is_served(manifests: list[dict[str, Any]]) -> None:
    container = server(manifests)
    (port,) = find(manifests, "Service")["spec"]["ports"]
    assert port["targetPort"] == container["ports"][0]["name"]
    assert f"--port={container['ports'][0]['containerPort']}" in container["args"]


def test_probes_ask_the_right_questions(manifests: list[dict[str, Any]]) -> None:
    container = server(manifests)
    asked = {kind: container[kind]["httpGet"] for kind in container if kind.endswith("Probe")}
    assert asked == {
        "startupProbe": {"path": "/healthz", "port": "http"},
        "livenessProbe": {"path": "/healthz", "port": "http"},
        "readinessProbe": {"path": "/readyz", "port": "http"},
    }


@pytest.mark.parametrize("seconds", [5, 901, 3600])
def test_the_startup_probe_waits_as_long_as_it_was_told(seconds: int) -> None:
    probe = server(render(overlay({"server": {"startupSeconds": seconds}})))["startupProbe"]
    waited = probe["periodSeconds"] * probe["failureThreshold"]
    assert seconds <= waited < seconds + probe["periodSeconds"]


def test_a_slow_pull_is_not_a_failed_rollout() -> None:
    values = overlay({"server": {"startupSeconds": 100, "pullSeconds": 1000}})
    assert find(render(values), "Deployment")["spec"]["progressDeadlineSeconds"] == 1100


def test_draining_fits_into_the_grace_period(manifests: list[dict[str, Any]]) -> None:
    container = server(manifests)
    asleep = container["lifecycle"]["preStop"]["sleep"]["seconds"]
    (drain,) = (a for a in container["args"] if a.startswith("--drain-timeout="))
    grace = pod(manifests)["spec"]["terminationGracePeriodSeconds"]
    assert asleep > 0
    assert grace >= asleep + int(drain.partition("=")[2]) + 10


def test_one_gpu_goes_to_the_server_alone() -> None:
    manifests = render(overlay({"server": {"gpu": {"resourceName": "amd.com/gpu"}}}))
    (puller,) = pod(manifests)["spec"]["initContainers"]
    assert server(manifests)["resources"]["limits"]["amd.com/gpu"] == 1
    assert "amd.com/gpu" not in puller["resources"]["limits"]
    assert "--device=cuda" in server(manifests)["args"]
    (toleration,) = pod(manifests)["spec"]["tolerations"]
    assert toleration == {"key": "amd.com/gpu", "operator": "Exists", "effect": "NoSchedule"}


def test_without_a_gpu_nothing_asks_for_one() -> None:
    manifests = render(overlay({"server": {"gpu": {"enabled": False}}}))
    assert server(manifests)["resources"]["limits"].keys() == {"memory"}
    assert "--device=cpu" in server(manifests)["args"]
    assert "tolerations" not in pod(manifests)["spec"]


def test_the_base_is_pulled_before_it_is_served() -> None:
    manifests = render(overlay({"base": {"name": "org/model"}, "hub": {"existingSecret": "hub"}}))
    (puller,) = pod(manifests)["spec"]["initContainers"]
    assert puller["args"] == ["base", "pull", "org/model"]
    assert puller["image"] == server(manifests)["image"]
    assert "--base=org/model" in server(manifests)["args"]
    assert [variable["name"] for variable in puller["env"]] == ["HF_TOKEN"]
    assert "HF_TOKEN" not in str(server(manifests))


def test_options_become_arguments() -> None:
    options = {
        "max-slots": 64,
        "kv-memory": 8589934592,
        "request-timeout": 0.5,
        "pin": ["sql", "extract@canary"],
        "shadow-bf16": True,
        "access-log": False,
        "registry": "/var/lib/hatstand/registry",
    }
    added = server(render(overlay({"server": {"options": options}})))["args"][6:]
    assert added == [
        "--no-access-log",
        "--kv-memory=8589934592",
        "--max-slots=64",
        "--pin=sql",
        "--pin=extract@canary",
        "--registry=/var/lib/hatstand/registry",
        "--request-timeout=0.5",
        "--shadow-bf16",
    ]


def test_numbers_in_the_environment_stay_whole() -> None:
    manifests = render(overlay({"server": {"env": {"OMP_NUM_THREADS": 4, "LIMIT": 123456789}}}))
    settings = find(manifests, "ConfigMap")["data"]
    assert settings["OMP_NUM_THREADS"] == "4"
    assert settings["LIMIT"] == "123456789"


def test_keys_of_the_chart_are_keys_that_the_server_reads() -> None:
    manifests = render({"auth": {"keys": KEYS}})
    secret = find(manifests, "Secret")
    (variable,) = server(manifests)["env"]
    reference = variable["valueFrom"]["secretKeyRef"]
    assert variable["name"] == "HATSTAND_API_KEYS"
    assert reference["name"] == secret["metadata"]["name"]
    written = base64.b64decode(secret["data"][reference["key"]]).decode()
    read = parse_keys(written.split(","), where="the Secret")
    assert [key.scopes for key in read] == [{"inference"}, {"inference", "admin"}]
    assert "--insecure" not in server(manifests)["args"]


def test_keys_stand_nowhere_but_in_the_secret() -> None:
    manifests = render({"auth": {"keys": KEYS}})
    others = [manifest for manifest in manifests if manifest["kind"] != "Secret"]
    assert "0123456789abcdef" not in str(others)


def test_a_secret_of_the_users_is_used_and_none_is_made() -> None:
    manifests = render({"auth": {"existingSecret": "my-keys", "secretKey": "keys.txt"}})
    assert "Secret" not in {manifest["kind"] for manifest in manifests}
    (variable,) = server(manifests)["env"]
    assert variable["valueFrom"]["secretKeyRef"] == {"name": "my-keys", "key": "keys.txt"}


def test_insecure_is_said_to_the_server_too() -> None:
    manifests = render({"auth": {"insecure": True}})
    assert "--insecure" in server(manifests)["args"]
    assert "env" not in server(manifests)
    assert "Secret" not in {manifest["kind"] for manifest in manifests}


CONFIG, SECRET = "checksum/config", "checksum/keys"


@pytest.mark.parametrize(
    ("values", "changed"),
    [
        ({"server": {"env": {"HF_ENDPOINT": "https://hub.example"}}}, {CONFIG}),
        ({"auth": {"keys": ["another-key-of-mine"]}}, {SECRET}),
        ({"service": {"annotations": {"a": "b"}}}, set()),
    ],
)
def test_new_settings_or_keys_roll_the_pods(values: dict[str, Any], changed: set[str]) -> None:
    base = {"auth": {"keys": KEYS}}
    before = pod(render(base))["metadata"]["annotations"]
    after = pod(render(overlay(values, base)))["metadata"]["annotations"]
    assert {name for name in before if before[name] != after[name]} == changed


def test_one_volume_means_one_pod_at_a_time() -> None:
    manifests = render()
    assert find(manifests, "Deployment")["spec"]["strategy"] == {"type": "Recreate"}
    assert find(manifests, "PersistentVolumeClaim")["spec"]["accessModes"] == ["ReadWriteOnce"]


def test_the_registry_outlives_the_release() -> None:
    claim = find(render(), "PersistentVolumeClaim")
    (cache, _) = pod(render())["spec"]["volumes"]
    assert claim["metadata"]["annotations"]["helm.sh/resource-policy"] == "keep"
    assert cache["persistentVolumeClaim"]["claimName"] == claim["metadata"]["name"]


def test_labels_of_the_chart_cannot_be_replaced() -> None:
    values = overlay({"server": {"podLabels": {"app.kubernetes.io/name": "other", "team": "a"}}})
    labels = pod(render(values))["metadata"]["labels"]
    assert labels["app.kubernetes.io/name"] == "hatstand"
    assert labels["team"] == "a"


def test_everything_lands_in_the_namespace_of_the_release(manifests: list[dict[str, Any]]) -> None:
    assert {manifest["metadata"]["namespace"] for manifest in manifests} == {"hats"}
