"""The registry that the chart deploys, or finds elsewhere."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from registry import Registry
from registry.keys import Keys

from .chart import find, overlay, pod, render, server

DEPLOYED = overlay({"registry": {"existingSecret": "keys", "deploy": {"enabled": True}}})


def variables(container: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """A container's environment, by name."""
    return {variable["name"]: variable for variable in container["env"]}


def registry_spec(values: dict[str, Any] = DEPLOYED) -> dict[str, Any]:
    spec = find(render(values), "Deployment", "registry")["spec"]["template"]["spec"]
    assert isinstance(spec, dict)
    return spec


def test_servers_read_it_where_its_service_is() -> None:
    manifests = render(DEPLOYED)
    service = find(manifests, "Service", "registry")
    (port,) = service["spec"]["ports"]
    url = f"http://{service['metadata']['name']}:{port['port']}"
    assert f"--registry={url}" in server(manifests)["args"]
    (container,) = registry_spec()["containers"]
    assert port["targetPort"] == container["ports"][0]["name"]
    assert f"--port={container['ports'][0]['containerPort']}" in container["args"]
    selected = service["spec"]["selector"]
    template = find(manifests, "Deployment", "registry")["spec"]["template"]
    assert selected.items() <= template["metadata"]["labels"].items()
    assert not selected.items() <= pod(manifests)["metadata"]["labels"].items()


def test_one_elsewhere_is_read_by_url_and_key() -> None:
    values = {"registry": {"url": "https://registry.example", "existingSecret": "keys"}}
    manifests = render(overlay(values))
    assert "--registry=https://registry.example" in server(manifests)["args"]
    source = variables(server(manifests))["HATSTAND_REGISTRY_KEY"]["valueFrom"]["secretKeyRef"]
    assert source == {"name": "keys", "key": "HATSTAND_REGISTRY_KEY"}
    assert len([m for m in manifests if m["kind"] == "Deployment"]) == 1


def test_its_keys_are_adopted_before_it_answers(tmp_path: Path) -> None:
    """The very arguments of the init containers, carried out here."""
    folder = tmp_path / "registry"
    tokens = {
        "HATSTAND_REGISTRY_KEY": f"hsk_{'a' * 16}_{'r' * 32}",
        "HATSTAND_REGISTRY_ADMIN_KEY": f"hsk_{'b' * 16}_{'s' * 32}",
    }
    for container in registry_spec()["initContainers"]:
        command, *arguments = container["args"]
        assert command == "registry"
        source = variables(container)["HATSTAND_REGISTRY_KEY"]["valueFrom"]["secretKeyRef"]
        subprocess.run(
            [sys.executable, "-c", "from registry.cli import main; main()", *arguments],
            env={
                **os.environ,
                "HATSTAND_REGISTRY": str(folder),
                "HATSTAND_REGISTRY_KEY": tokens[source["key"]],
            },
            check=True,
            timeout=60,
        )
    found = {key.name: key.verbs for key in Keys(Registry.open(folder).catalog).list()}
    assert found == {"servers": ("read", "report"), "admin": ("admin",)}


def test_administrators_keys_reach_no_server() -> None:
    assert "ADMIN" not in str(pod(render(DEPLOYED)))


def test_database_and_bucket_come_from_secrets() -> None:
    more = {
        "database": {"existingSecret": "database", "secretKey": "url"},
        "blobs": {"url": "s3://bucket/adapters", "existingSecret": "bucket"},
    }
    spec = registry_spec(overlay({"registry": {"deploy": more}}, DEPLOYED))
    for container in (*spec["initContainers"], *spec["containers"]):
        environment = variables(container)
        assert environment["HATSTAND_BLOBS"]["value"] == "s3://bucket/adapters"
        source = environment["HATSTAND_DATABASE"]["valueFrom"]["secretKeyRef"]
        assert source == {"name": "database", "key": "url"}
        assert container["envFrom"] == [{"secretRef": {"name": "bucket"}}]


def test_prometheus_watches_it_with_a_key_that_may_read() -> None:
    manifests = render(overlay({"serviceMonitor": {"enabled": True}}, DEPLOYED))
    spec = find(manifests, "ServiceMonitor", "registry")["spec"]
    service = find(manifests, "Service", "registry")
    assert spec["selector"]["matchLabels"].items() <= service["metadata"]["labels"].items()
    (endpoint,) = spec["endpoints"]
    assert endpoint["port"] == service["spec"]["ports"][0]["name"]
    credentials = {"name": "keys", "key": "HATSTAND_REGISTRY_KEY"}
    assert endpoint["authorization"] == {"credentials": credentials}


def test_without_anything_to_keep_it_needs_no_volume() -> None:
    more = {"database": {"existingSecret": "database"}, "blobs": {"url": "s3://bucket"}}
    stateless = overlay({"registry": {"deploy": {**more, "replicas": 2}}}, DEPLOYED)
    for values, strategy, source in (
        (DEPLOYED, "Recreate", "persistentVolumeClaim"),
        (stateless, "RollingUpdate", "emptyDir"),
    ):
        manifests = render(values)
        assert find(manifests, "Deployment", "registry")["spec"]["strategy"]["type"] == strategy
        (volume, _) = registry_spec(values)["volumes"]
        assert source in volume
        claims = [m for m in manifests if m["kind"] == "PersistentVolumeClaim"]
        assert len(claims) == (2 if values == DEPLOYED else 1)  # one is the servers' cache


@pytest.mark.parametrize("values", [DEPLOYED, {"auth": {"insecure": True}}])
def test_it_is_open_only_where_that_is_said(values: dict[str, Any]) -> None:
    spec = registry_spec(overlay({"registry": {"deploy": {"enabled": True}}}, values))
    (container,) = spec["containers"]
    assert ("--insecure" in container["args"]) == (values != DEPLOYED)
    assert ("initContainers" in spec) == (values == DEPLOYED)
