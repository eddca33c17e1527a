"""What the chart can be told: nonsense is refused by name, and every value does something."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from .chart import CHART, overlay, refusal, rendered

VALUES = CHART / "values.yaml"


def nest(path: str, value: Any) -> dict[str, Any]:
    for key in reversed(path.split("/")):
        value = {key: value}
    assert isinstance(value, dict)
    return value


NONSENSE = [
    ("nameOverride", "Not A Label"),
    ("fullnameOverride", "x" * 54),
    ("image/repository", "Upper/Case"),
    ("image/tag", "two words"),
    ("image/digest", "sha256:short"),
    ("image/pullPolicy", "Sometimes"),
    ("imagePullSecrets", ["regcred"]),
    ("imagePullSecrets", "regcred"),
    ("base/name", ""),
    ("base/name", "--insecure"),
    ("base/name", "org/name; rm -rf /"),
    ("base/pull", "yes"),
    ("hub/existingSecret", "Has_Underscore"),
    ("hub/token", "hf_abc"),
    ("auth/keys", ["short"]),
    ("auth/keys", ["0123456789abcdef,0123456789abcdef"]),
    ("auth/keys", ["0123456789abcdef:root"]),
    ("auth/keys", "0123456789abcdef"),
    ("auth/insecure", "true"),
    ("auth/secretKey", ""),
    ("server/replicas", -1),
    ("server/replicas", 1.5),
    ("server/rollout/maxSurge", "25%"),
    ("server/spreadOver", "no label"),
    ("server/priorityClassName", "Not_A_Name"),
    ("registry/url", "registry.example"),
    ("registry/url", "https://key@registry.example"),
    ("registry/key", "hsk_"),
    ("registry/deploy/port", 80),
    ("registry/deploy/replicas", 0),
    ("registry/deploy/database/url", "postgresql://u:p@h/d"),
    ("registry/deploy/blobs/url", "file:///blobs"),
    ("registry/deploy/resources/limits/memory", "1"),
    ("registry/deploy/persistence/size", "20"),
    ("server/options/drain-delay", 3),
    ("server/env/HATSTAND_REGISTRY_KEY", "hsk_"),
    ("autoscaling/kind", "vpa"),
    ("autoscaling/minReplicas", 0),
    ("autoscaling/kvPercent", 0.8),
    ("autoscaling/prometheusUrl", ""),
    ("disruptionBudget/maxUnavailable", "50%"),
    ("networkPolicy/from", ["everybody"]),
    ("networkPolicy/from", [{}]),
    ("gateway/endpointPicker/failureMode", "Maybe"),
    ("gateway/endpointPicker/port", 0),
    ("gateway/hostnames", ["Not A Host"]),
    ("gateway/objectives", [{"name": "fast"}]),
    ("gateway/objectiveGroup", "example.com"),
    ("training/push", "Not A Name"),
    ("training/push", "sql@7@8"),
    ("training/recipe", "base: x"),
    ("training/retries", -1),
    ("training/nodes", 0),
    ("training/gpusPerNode", 1.5),
    ("worker/replicas", -1),
    ("worker/queue/url", "postgresql://u:p@h/d"),
    ("worker/queue/existingSecret", "Has_Underscore"),
    ("worker/terminationSeconds", 0),
    ("worker/priorityClassName", "Not_A_Name"),
    ("worker/resources/limits/memory", "32"),
    ("worker/gpus", 2),
    ("server/env/HATSTAND_TUNING", "postgresql://u:p@h/d"),
    ("persistence/hostPath", "relative"),
    ("persistence/hostPath", "/a/../b c"),
    ("prometheusRule/firstTokenSeconds", 0),
    ("dashboard/labels", {"a": 1}),
    ("server/strategy", "BlueGreen"),
    ("server/port", 80),
    ("server/port", 65536),
    ("server/port", "8000"),
    ("server/options/host", "127.0.0.1"),
    ("server/options/insecure", True),
    ("server/options", {"--max-slots": 8}),
    ("server/options/pin", []),
    ("server/env/HATSTAND_API_KEYS", "0123456789abcdef"),
    ("server/env/HF_TOKEN", "hf_abc"),
    ("server/env/HATSTAND_HOME", "/elsewhere"),
    ("server/env", {"lower case": "x"}),
    ("server/env/A", {"nested": "x"}),
    ("server/gpu/resourceName", "gpu"),
    ("server/gpu/resourceName", ""),
    ("server/gpu/count", 2),
    ("server/resources/limits/memory", "16"),
    ("server/resources/limits/memory", "0Gi"),
    ("server/resources/limits/memory", 16),
    ("server/resources/limits", {"nvidia.com/gpu": 2}),
    ("server/resources/requests/cpu", "-1"),
    ("server/resources/requests/cpu", 0),
    ("server/resources/requests/cpu", "two"),
    ("server/startupSeconds", 0),
    ("server/pullSeconds", "1h"),
    ("server/drain/endpointSeconds", 0),
    ("server/drain/timeoutSeconds", 0.5),
    ("server/drain/gracePeriod", 30),
    ("server/tmpSize", "2GB"),
    ("server/runtimeClassName", "NVIDIA"),
    ("server/nodeSelector", {"gpu": True}),
    ("server/tolerations", ["all"]),
    ("server/affinity", {"gpuAffinity": {}}),
    ("server/podAnnotations", {"a": 1}),
    ("server/podLabels", ["a"]),
    ("service/type", "ExternalName"),
    ("service/port", 0),
    ("service/annotations", {"a": 1}),
    ("persistence/accessMode", "ReadOnlyMany"),
    ("persistence/size", "50"),
    ("persistence/size", "lots"),
    ("persistence/storageClass", "Fast SSD"),
    ("persistence/mountPath", "/root"),
    ("securityContext/runAsUser", 0),
    ("securityContext/runAsGroup", 0),
    ("securityContext/fsGroup", -5),
    ("securityContext/runAsUser", "root"),
    ("securityContext/privileged", True),
    ("serviceAccount/create", 1),
    ("serviceAccount/automount", True),
    ("serviceMonitor/enabled", "yes"),
    ("serviceMonitor/intervalSeconds", "15s"),
    ("serviceMonitor/labels", {"a": 1}),
    ("image", None),
    ("replicaCount", 2),
]


@pytest.mark.parametrize(("path", "value"), NONSENSE, ids=[f"{p}={v!r}" for p, v in NONSENSE])
def test_nonsense_is_refused_by_name(path: str, value: Any) -> None:
    message = refusal(overlay(nest(path, value)))
    assert "values don't meet the specifications of the schema" in message
    where, _, key = path.rpartition("/")
    assert where in message
    assert key in message


REMOTE = overlay({"registry": {"url": "https://registry.example"}})
DEPLOYED = overlay({"registry": {"existingSecret": "keys", "deploy": {"enabled": True}}})
ELSEWHERE = {"database": {"existingSecret": "database"}, "blobs": {"url": "s3://bucket"}}
TRAINED = overlay(
    {"training": {"enabled": True, "recipeConfigMap": "recipe", "push": "sql@canary"}}, REMOTE
)
WORKING = overlay({"worker": {"enabled": True, "queue": {"existingSecret": "queue"}}}, REMOTE)
CONTRADICTIONS: list[tuple[dict[str, Any], str]] = [
    ({}, "without API keys"),
    ({"auth": {"keys": []}}, "without API keys"),
    ({"auth": {"keys": ["0123456789abcdef"], "existingSecret": "a"}}, "give one"),
    ({"auth": {"keys": ["0123456789abcdef"], "insecure": True}}, "auth.insecure=true"),
    ({"auth": {"existingSecret": "a", "insecure": True}}, "auth.insecure=true"),
    (overlay({"server": {"strategy": "RollingUpdate"}}), "persistence.accessMode ReadWriteOnce"),
    (overlay({"serviceMonitor": {"timeoutSeconds": 30}}), "serviceMonitor.timeoutSeconds: 30"),
    (overlay({"server": {"replicas": 2}}), "a registry that they share"),
    (overlay({"autoscaling": {"kind": "hpa"}}), "a registry that they share"),
    (overlay({"server": {"replicas": 2}}, REMOTE), "persistence.accessMode ReadWriteOnce"),
    (overlay({"registry": {"deploy": {"enabled": True}}}, REMOTE), "registry.url is one registry"),
    (
        overlay({"registry": {"deploy": {"enabled": True}}}),
        "a registry that is deployed needs keys",
    ),
    (overlay({"registry": {"deploy": {"replicas": 2}}}, DEPLOYED), "a registry of its own"),
    (overlay({"server": {"options": {"registry": "/x"}}}, REMOTE), "server.options.registry"),
    (overlay({"training": {"enabled": True}}), "not the server's own"),
    (overlay({"training": {"enabled": True}}, REMOTE), "training.recipeConfigMap and"),
    (overlay({"worker": {"enabled": True}}), "not the server's own"),
    (overlay({"worker": {"enabled": True}}, REMOTE), "worker.queue.existingSecret"),
    (
        overlay({"server": {"options": {"fine-tuning": True}}}, WORKING),
        "server.options.fine-tuning",
    ),
    (overlay({"autoscaling": {"minReplicas": 5}}), "autoscaling.minReplicas: 5"),
    (overlay({"server": {"rollout": {"maxSurge": 0}}}), "no pod could ever be exchanged"),
    (overlay({"persistence": {"hostPath": "/models"}}), "lost with the node"),
    (overlay({"persistence": {"hostPath": "/m", "enabled": False}}, REMOTE), "takes the place"),
]


@pytest.mark.parametrize(("values", "reason"), CONTRADICTIONS)
def test_contradictions_are_refused_with_the_reason(values: dict[str, Any], reason: str) -> None:
    assert reason in refusal(values)


def leaves(values: dict[str, Any], path: str = "") -> Iterator[str]:
    """Paths of everything in values.yaml that is not a mapping with something in it."""
    for key, value in values.items():
        if isinstance(value, dict) and value:
            yield from leaves(value, f"{path}{key}/")
        else:
            yield f"{path}{key}"


# For every value another one that is right, and what else has to be said for it to show.
CLAIM = {"persistence": {"existingClaim": "models", "accessMode": "ReadWriteMany"}}


def scaled(kind: str) -> dict[str, Any]:
    """Several servers, scaled so."""
    return overlay({"autoscaling": {"kind": kind}}, overlay(CLAIM, REMOTE))


CHANGES: dict[str, tuple[Any, dict[str, Any]]] = {
    "nameOverride": ("hats", {}),
    "fullnameOverride": ("hats", {}),
    "image/repository": ("registry.example/hatstand", {}),
    "image/tag": ("0.2.0", {}),
    "image/digest": (f"sha256:{'0' * 64}", {}),
    "image/pullPolicy": ("Always", {}),
    "imagePullSecrets": ([{"name": "regcred"}], {}),
    "base/name": ("smollm2-135m", {}),
    "base/pull": (False, {}),
    "hub/existingSecret": ("hub", {}),
    "hub/secretKey": ("token", {"hub": {"existingSecret": "hub"}}),
    "auth/keys": (
        ["fedcba9876543210"],
        {"auth": {"keys": ["0123456789abcdef"], "existingSecret": ""}},
    ),
    "auth/existingSecret": ("others", {}),
    "auth/secretKey": ("keys.txt", {}),
    "registry/url": ("https://registry.example", {}),
    "registry/existingSecret": ("keys", REMOTE),
    "registry/secretKey": ("key", DEPLOYED),
    "registry/deploy/enabled": (True, {"registry": {"existingSecret": "keys"}}),
    "registry/deploy/adminSecretKey": ("admin", DEPLOYED),
    "registry/deploy/replicas": (3, overlay({"registry": {"deploy": ELSEWHERE}}, DEPLOYED)),
    "registry/deploy/port": (8200, DEPLOYED),
    "registry/deploy/database/existingSecret": ("database", DEPLOYED),
    "registry/deploy/database/secretKey": (
        "url",
        overlay({"registry": {"deploy": {"database": {"existingSecret": "database"}}}}, DEPLOYED),
    ),
    "registry/deploy/blobs/url": ("s3://bucket/prefix", DEPLOYED),
    "registry/deploy/blobs/existingSecret": ("bucket", DEPLOYED),
    "registry/deploy/resources/requests/cpu": ("1", DEPLOYED),
    "registry/deploy/resources/requests/memory": ("1Gi", DEPLOYED),
    "registry/deploy/resources/limits/memory": ("2Gi", DEPLOYED),
    "registry/deploy/persistence/size": ("1Gi", DEPLOYED),
    "registry/deploy/persistence/storageClass": ("fast", DEPLOYED),
    "server/replicas": (0, {}),
    "server/strategy": ("RollingUpdate", CLAIM),
    "server/rollout/maxSurge": (2, overlay(CLAIM, {"server": {"strategy": "RollingUpdate"}})),
    "server/rollout/maxUnavailable": (2, overlay(CLAIM, {"server": {"strategy": "RollingUpdate"}})),
    "server/spreadOver": ("topology.kubernetes.io/zone", {}),
    "server/priorityClassName": ("high", {}),
    "autoscaling/kind": ("hpa", overlay(CLAIM, REMOTE)),
    "autoscaling/minReplicas": (2, scaled("hpa")),
    "autoscaling/maxReplicas": (9, scaled("hpa")),
    "autoscaling/waiting": (9, scaled("keda")),
    "autoscaling/kvPercent": (50, scaled("keda")),
    "autoscaling/downSeconds": (60, scaled("hpa")),
    "autoscaling/prometheusUrl": ("http://prometheus:9090", scaled("keda")),
    "disruptionBudget/enabled": (True, {}),
    "disruptionBudget/maxUnavailable": (2, {"disruptionBudget": {"enabled": True}}),
    "networkPolicy/enabled": (True, {}),
    "networkPolicy/from": ([{"podSelector": {"a": "b"}}], {"networkPolicy": {"enabled": True}}),
    "networkPolicy/registryFrom": (
        [{"ipBlock": {"cidr": "10.0.0.0/8"}}],
        overlay({"networkPolicy": {"enabled": True}}, DEPLOYED),
    ),
    "gateway/enabled": (True, {}),
    "gateway/parentName": ("front", {"gateway": {"enabled": True}}),
    "gateway/parentNamespace": ("gateways", {"gateway": {"enabled": True}}),
    "gateway/hostnames": (["models.example"], {"gateway": {"enabled": True}}),
    "gateway/endpointPicker/service": ("picker", {"gateway": {"enabled": True}}),
    "gateway/endpointPicker/port": (9003, {"gateway": {"enabled": True}}),
    "gateway/endpointPicker/failureMode": ("FailClose", {"gateway": {"enabled": True}}),
    "gateway/objectives": ([{"name": "batch", "priority": -1}], {"gateway": {"enabled": True}}),
    "gateway/objectiveGroup": (
        "inference.networking.x-k8s.io",
        {"gateway": {"enabled": True, "objectives": [{"name": "batch", "priority": -1}]}},
    ),
    "training/enabled": (True, overlay({"training": {"enabled": False}}, TRAINED)),
    "training/recipeConfigMap": ("other", TRAINED),
    "training/push": ("sql", TRAINED),
    "training/existingSecret": ("key", TRAINED),
    "training/secretKey": ("key", overlay({"training": {"existingSecret": "key"}}, TRAINED)),
    "training/nodes": (2, TRAINED),
    "training/gpusPerNode": (8, overlay({"training": {"nodes": 2}}, TRAINED)),
    "training/retries": (3, TRAINED),
    "training/resources/requests/cpu": ("4", TRAINED),
    "training/resources/requests/memory": ("8Gi", TRAINED),
    "training/resources/limits/memory": ("64Gi", TRAINED),
    "worker/enabled": (True, overlay({"worker": {"enabled": False}}, WORKING)),
    "worker/replicas": (2, WORKING),
    "worker/queue/existingSecret": ("jobs", WORKING),
    "worker/queue/secretKey": ("url", WORKING),
    "worker/existingSecret": ("key", WORKING),
    "worker/secretKey": ("key", overlay({"worker": {"existingSecret": "key"}}, WORKING)),
    "worker/terminationSeconds": (60, WORKING),
    "worker/priorityClassName": ("low", WORKING),
    "worker/resources/requests/cpu": ("4", WORKING),
    "worker/resources/requests/memory": ("8Gi", WORKING),
    "worker/resources/limits/memory": ("64Gi", WORKING),
    "prometheusRule/enabled": (True, {}),
    "prometheusRule/labels": ({"a": "b"}, {"prometheusRule": {"enabled": True}}),
    "prometheusRule/firstTokenSeconds": (2.5, {"prometheusRule": {"enabled": True}}),
    "dashboard/enabled": (True, {}),
    "dashboard/labels/grafana_dashboard": ("yes", {"dashboard": {"enabled": True}}),
    "persistence/hostPath": ("/models", REMOTE),
    "server/port": (9000, {}),
    "server/options": ({"max-slots": 4}, {}),
    "server/env": ({"HF_ENDPOINT": "https://hub.example"}, {}),
    "server/gpu/enabled": (False, {}),
    "server/gpu/resourceName": ("amd.com/gpu", {}),
    "server/resources/requests/cpu": ("1500m", {}),
    "server/resources/requests/memory": ("4Gi", {}),
    "server/resources/limits/memory": ("32Gi", {}),
    "server/startupSeconds": (60, {}),
    "server/pullSeconds": (60, {}),
    "server/drain/endpointSeconds": (5, {}),
    "server/drain/timeoutSeconds": (5, {}),
    "server/tmpSize": ("4Gi", {}),
    "server/runtimeClassName": ("nvidia", {}),
    "server/nodeSelector": ({"gpu": "h200"}, {}),
    "server/tolerations": ([{"operator": "Exists"}], {}),
    "server/affinity": ({"nodeAffinity": {}}, {}),
    "server/podAnnotations": ({"a": "b"}, {}),
    "server/podLabels": ({"a": "b"}, {}),
    "service/type": ("NodePort", {}),
    "service/port": (80, {}),
    "service/annotations": ({"a": "b"}, {}),
    "persistence/enabled": (False, {}),
    "persistence/existingClaim": ("models", {}),
    "persistence/storageClass": ("fast", {}),
    "persistence/accessMode": ("ReadWriteMany", {}),
    "persistence/size": ("10Gi", {}),
    "persistence/keep": (False, {}),
    "securityContext/runAsUser": (1000, {}),
    "securityContext/runAsGroup": (1000, {}),
    "securityContext/fsGroup": (None, {}),
    "serviceAccount/create": (False, {}),
    "serviceAccount/name": ("hats", {}),
    "serviceAccount/annotations": ({"a": "b"}, {}),
    "serviceMonitor/enabled": (True, {}),
    "serviceMonitor/intervalSeconds": (60, {"serviceMonitor": {"enabled": True}}),
    "serviceMonitor/timeoutSeconds": (5, {"serviceMonitor": {"enabled": True}}),
    "serviceMonitor/labels": ({"a": "b"}, {"serviceMonitor": {"enabled": True}}),
}


# One that cannot change alone: test_promises shows what it does.
NOT_ALONE = {"auth/insecure"}


def test_every_value_is_in_the_table_of_changes() -> None:
    assert set(leaves(yaml.safe_load(VALUES.read_text()))) == set(CHANGES) | NOT_ALONE


@pytest.mark.parametrize("path", CHANGES)
def test_every_value_changes_what_is_rendered(path: str) -> None:
    value, setting = CHANGES[path]
    before = overlay(setting)
    assert rendered(before) != rendered(overlay(nest(path, value), before))


def test_every_value_is_documented() -> None:
    """A comment stands above each; under `resources`, above each group."""
    lines = VALUES.read_text().splitlines()
    bare = [
        line.strip()
        for above, line in itertools.pairwise(lines)
        if re.match(r"\s*[\w-]+: \S", line)
        and not above.lstrip().startswith("#")
        and not re.match(r"\s+(cpu|memory): ", line)
    ]
    assert bare == []


def test_schema_and_values_name_the_same_things() -> None:
    """A value that only the schema knows would work, and nobody would hear of it."""

    def compare(schema: dict[str, Any], values: dict[str, Any], path: str) -> None:
        for key, below in schema["properties"].items():
            if isinstance(values[key], dict) and values[key] and "properties" in below:
                compare(below, values[key], f"{path}/{key}")
        assert schema["properties"].keys() == values.keys(), path

    schema = json.loads((CHART / "values.schema.json").read_text())
    del schema["properties"]["global"]  # helm's own
    compare(schema, yaml.safe_load(VALUES.read_text()), "")
