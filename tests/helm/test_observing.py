"""The dashboard and the alerts ask for metrics that a server exports; the chart's test chats."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from registry import Registry
from registry.bases import read_base
from server.serve import serving
from server.settings import EngineOptions, Settings
from tests.support.tiny import TinyAdapter, write_tiny_base
from tests.support.waiting import PATIENCE

from .chart import CHART, ROOT, find, overlay, render

pytestmark = pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")
METRIC = re.compile(r"\b((?:hatstand_|vllm:)\w+)\{")
PROMETHEUS_OWN = {"namespace", "service", "pod", "le"}  # labels that scraping adds, or a quantile's


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A server that has answered once with an adapter."""
    root = tmp_path_factory.mktemp("observed")
    base = write_tiny_base(root / "tiny")
    registry = Registry.open(root / "registry")
    registry.push(TinyAdapter("sql").write(base, root / "sql"), "sql", base=read_base(base))
    engine = EngineOptions(device="cpu", kv_memory=1 << 20, max_rank=4, max_slots=2)
    settings = Settings(base=str(base), registry=registry.folder, port=0, engine=engine)
    with serving(settings) as url:
        body = {"model": "sql", "prompt": "x", "max_tokens": 3}
        reply = httpx.post(f"{url}/v1/completions", json=body, timeout=PATIENCE)
        assert reply.status_code == 200
        yield url


@pytest.fixture(scope="module")
def exported(url: str) -> dict[str, set[str]]:
    """Every series' name, with the labels it has; families without a series yet have none."""
    found: dict[str, set[str]] = {}
    reply = httpx.get(f"{url}/metrics", timeout=PATIENCE)
    for family in text_string_to_metric_families(reply.text):
        found.setdefault(family.name, set())
        for sample in family.samples:
            found.setdefault(sample.name, set()).update(sample.labels)
    return found


def generator() -> ModuleType:
    spec = importlib.util.spec_from_file_location("dashboard", ROOT / "helm" / "dashboard.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["dashboard"] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def queries() -> dict[str, str]:
    """Each panel's and each alert's query, by its title."""
    panels = {
        f"{panel['title']}: {target['legendFormat']}": target["expr"]
        for panel in generator().dashboard()["panels"]
        for target in panel["targets"]
    }
    manifests = render(overlay({"prometheusRule": {"enabled": True}}))
    (group,) = find(manifests, "PrometheusRule")["spec"]["groups"]
    return {**panels, **{rule["alert"]: rule["expr"] for rule in group["rules"]}}


def test_every_metric_that_is_asked_for_is_exported(exported: dict[str, set[str]]) -> None:
    asked = {name for query in queries().values() for name in METRIC.findall(query)}
    assert len(asked) > 15
    assert asked <= exported.keys()


def test_every_label_that_is_asked_for_is_there(exported: dict[str, set[str]]) -> None:
    for title, query in queries().items():
        labels = set(re.findall(r"(\w+)=~?\"", query))
        for group in re.findall(r"by \(([\w, ]+)\)", query):
            labels.update(group.split(", "))
        metrics = METRIC.findall(query)
        known = set().union(*(exported[name] for name in metrics)) | PROMETHEUS_OWN
        if not any(name.startswith("hatstand_canary_") for name in metrics):  # none runs here
            assert labels <= known, title


def test_the_dashboard_is_the_generated_one() -> None:
    module = generator()
    assert json.loads(module.FILE.read_text()) == module.dashboard()
    manifest = find(render(overlay({"dashboard": {"enabled": True}})), "ConfigMap", "dashboard")
    assert json.loads(manifest["data"]["hatstand.json"]) == module.dashboard()
    assert manifest["metadata"]["labels"]["grafana_dashboard"] == "1"


def test_alerts_say_what_is_wrong() -> None:
    manifests = render(overlay({"prometheusRule": {"enabled": True, "labels": {"a": "b"}}}))
    rule = find(manifests, "PrometheusRule")
    assert rule["metadata"]["labels"]["a"] == "b"
    for alert in rule["spec"]["groups"][0]["rules"]:
        assert alert["labels"]["severity"] in ("critical", "warning")
        assert alert["annotations"]["summary"].endswith(".")


def test_the_charts_test_chats_with_the_server(url: str, tmp_path: Path) -> None:
    manifest = find(render(), "Pod", "test")
    assert manifest["metadata"]["annotations"]["helm.sh/hook"] == "test"
    (container,) = manifest["spec"]["containers"]
    assert container["command"] == ["python", "-c"]
    (script,) = container["args"]
    assert script == (CHART / "files" / "chat_once.py").read_text()
    environ = {**os.environ, "PYTHONPATH": str(ROOT), "HATSTAND_URL": url}
    result = subprocess.run(
        [sys.executable, "-c", script],
        cwd=tmp_path,
        env={**environ, "HATSTAND_API_KEYS": "first-key:inference,second"},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout.startswith("tiny: ")
