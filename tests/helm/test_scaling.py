"""How many servers there are, where they run, and who may reach them."""

from __future__ import annotations

from typing import Any

import pytest

from .chart import PROFILES, find, overlay, pod, render, server, variant

REMOTE = overlay({"registry": {"url": "https://registry.example"}})
SEVERAL = overlay({"persistence": {"enabled": False}}, REMOTE)
MANY = next(path for path in PROFILES if path.stem == "values-many-gpus")


def test_an_autoscaler_is_not_overruled() -> None:
    """A count in the Deployment would be put back by every upgrade."""
    manifests = render(overlay({"autoscaling": {"kind": "hpa", "waiting": 3}}, SEVERAL))
    deployment = find(manifests, "Deployment")
    scaler = find(manifests, "HorizontalPodAutoscaler")["spec"]
    assert "replicas" not in deployment["spec"]
    assert scaler["scaleTargetRef"]["name"] == deployment["metadata"]["name"]
    assert scaler["behavior"]["scaleDown"]["stabilizationWindowSeconds"] == 600
    targets = {m["pods"]["metric"]["name"]: m["pods"]["target"] for m in scaler["metrics"]}
    assert {name: target["averageValue"] for name, target in targets.items()} == {
        "hatstand_sequences_waiting": "3",
        "hatstand_kv_usage_ratio": "800m",
    }


def test_keda_asks_prometheus_for_means() -> None:
    manifests = render(overlay({"autoscaling": {"kind": "keda"}}, SEVERAL))
    scaled = find(manifests, "ScaledObject")["spec"]
    assert scaled["scaleTargetRef"]["name"] == find(manifests, "Deployment")["metadata"]["name"]
    here = '{namespace="hats",service="demo-hatstand"}'
    assert [
        (each["metricType"], each["metadata"]["query"], each["metadata"]["threshold"])
        for each in scaled["triggers"]
    ] == [
        ("Value", f"avg(hatstand_sequences_waiting{here})", "4"),
        ("Value", f"avg(hatstand_kv_usage_ratio{here})", "0.8"),
    ]


@pytest.mark.parametrize("kind", ["PodDisruptionBudget", "NetworkPolicy", "InferencePool"])
def test_selectors_are_the_deployments(kind: str) -> None:
    manifests = render(variant(MANY))
    selected = find(manifests, "Deployment")["spec"]["selector"]["matchLabels"]
    spec = find(manifests, kind)["spec"]
    selector = spec.get("selector") or spec["podSelector"]
    assert selector == {"matchLabels": selected}


def test_replicas_are_spread_where_there_is_room() -> None:
    manifests = render(overlay({"server": {"replicas": 3}}, SEVERAL))
    (spread,) = pod(manifests)["spec"]["topologySpreadConstraints"]
    assert spread["whenUnsatisfiable"] == "ScheduleAnyway"
    labels = pod(manifests)["metadata"]["labels"]
    assert spread["labelSelector"]["matchLabels"].items() <= labels.items()


def test_the_network_opens_the_port_that_is_served() -> None:
    manifests = render(variant(MANY))
    for component in ("server", "registry"):
        spec = find(manifests, "Deployment", component)["spec"]["template"]["spec"]
        port = spec["containers"][0]["ports"][0]["containerPort"]
        (rule,) = find(manifests, "NetworkPolicy", component)["spec"]["ingress"]
        assert [opened["port"] for opened in rule["ports"]] == [port]
    peers = find(manifests, "NetworkPolicy", "registry")["spec"]["ingress"][0]["from"]
    labels = pod(manifests)["metadata"]["labels"]
    assert peers[0]["podSelector"]["matchLabels"].items() <= labels.items()


def test_requests_go_through_the_pool() -> None:
    manifests = render(variant(MANY))
    pool = find(manifests, "InferencePool")
    assert pool["apiVersion"] == "inference.networking.k8s.io/v1"
    ports = [each["containerPort"] for each in server(manifests)["ports"]]
    assert [each["number"] for each in pool["spec"]["targetPorts"]] == ports
    assert pool["spec"]["endpointPickerRef"] == {
        "name": "hatstand-epp",
        "port": {"number": 9002},
        "failureMode": "FailOpen",
    }
    pool_reference = {
        "group": "inference.networking.k8s.io",
        "kind": "InferencePool",
        "name": pool["metadata"]["name"],
    }
    (rule,) = find(manifests, "HTTPRoute")["spec"]["rules"]
    assert rule["backendRefs"] == [pool_reference]
    objectives = [each for each in manifests if each["kind"] == "InferenceObjective"]
    assert {each["metadata"]["name"]: each["spec"] for each in objectives} == {
        "interactive": {"priority": 10, "poolRef": pool_reference},
        "batch": {"priority": -10, "poolRef": pool_reference},
    }


def test_nodes_keep_the_base() -> None:
    (cache, _) = pod(render(variant(MANY)))["spec"]["volumes"]
    assert cache["hostPath"] == {"path": "/var/lib/hatstand", "type": "Directory"}


def kinds(values: dict[str, Any]) -> set[str]:
    return {manifest["kind"] for manifest in render(values)}


def test_what_needs_more_than_kubernetes_is_off_until_asked_for() -> None:
    assert kinds(overlay({})) == {
        "ConfigMap",
        "Deployment",
        "PersistentVolumeClaim",
        "Pod",
        "Service",
        "ServiceAccount",
    }
