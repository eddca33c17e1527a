"""Other projects' kinds against the schemas of their own CustomResourceDefinitions.

Those are not Kubernetes' and not in any package: HATSTAND_CRDS names a folder of them, as
docs/kubernetes.md says. As strict as `kubectl apply --validate=strict`: a field that a schema does
not have is refused. Pods within are held against Kubernetes' schemas elsewhere.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from copy import deepcopy
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from .chart import ROOT, VARIANTS, overlay, render, variant
from .test_lint import ADDED

FOLDER = os.environ.get("HATSTAND_CRDS", "")
pytestmark = pytest.mark.skipif(not FOLDER, reason="HATSTAND_CRDS names no folder of CRDs")
Schema = dict[str, Any]


@cache
def schemas() -> dict[tuple[str, str], Schema]:
    """By apiVersion and kind."""
    found = {}
    for file in Path(FOLDER).glob("*.yaml"):
        for document in yaml.load_all(file.read_text(), yaml.CSafeLoader):
            if document and document["kind"] == "CustomResourceDefinition":
                spec = document["spec"]
                for version in spec["versions"]:
                    key = (f"{spec['group']}/{version['name']}", spec["names"]["kind"])
                    found[key] = strict(deepcopy(version["schema"]["openAPIV3Schema"]))
    return found


def strict(schema: Schema) -> Schema:
    """The same, without room for fields that it does not name."""
    properties = schema.get("properties", {})
    open_ended = schema.get("x-kubernetes-preserve-unknown-fields")
    if properties and not open_ended and "additionalProperties" not in schema:
        schema["additionalProperties"] = False
    if schema.get("x-kubernetes-int-or-string"):
        schema.pop("type", None)
    for below in (*properties.values(), schema.get("items"), schema.get("additionalProperties")):
        if isinstance(below, dict):
            strict(below)
    return schema


def validate(manifest: dict[str, Any]) -> None:
    manifest = deepcopy(manifest)
    manifest["metadata"] = {}  # Kubernetes' own, and checked with the rest
    schema = schemas()[manifest["apiVersion"], manifest["kind"]]
    jsonschema.Draft7Validator(schema).validate(manifest)


def rendered() -> Iterator[dict[str, Any]]:
    for path in VARIANTS:
        for manifest in render(variant(path)):
            if any(group in manifest["apiVersion"] for group in ADDED):
                yield manifest


def test_each_kind_is_what_its_project_takes() -> None:
    kinds = set()
    for manifest in rendered():
        validate(manifest)
        kinds.add(manifest["kind"])
    assert kinds == {
        *("HTTPRoute", "InferencePool", "InferenceObjective"),
        *("JobSet", "PrometheusRule", "ScaledObject", "ServiceMonitor"),
    }


def test_the_documented_ray_service_is_what_kuberay_takes() -> None:
    validate(yaml.safe_load((ROOT / "docs" / "rayservice.yaml").read_text()))


def test_a_typo_is_refused() -> None:
    """Guards the tests above: a validator that takes anything would prove nothing."""
    values = overlay({"serviceMonitor": {"enabled": True}, "prometheusRule": {"enabled": True}})
    for manifest in render(values):
        if manifest["kind"] in ("ServiceMonitor", "PrometheusRule"):
            manifest["spec"]["selectr"] = {}
            with pytest.raises(jsonschema.ValidationError, match="selectr"):
                validate(manifest)
