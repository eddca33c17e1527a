"""What helm and Kubernetes themselves say about the chart."""

from __future__ import annotations

from pathlib import Path

import kubernetes_validate
import pytest

from .chart import CHART, MINIMAL, RELEASE, VARIANTS, find, helm, render, variant

NEWEST = ["1.35.0", "1.36.0", "1.37.0"]
KUBERNETES = NEWEST[-1]
ADDED = (
    *("coreos.com", "keda.sh", "jobset.x-k8s.io"),
    *("gateway.networking", "inference.networking", "llm-d.ai"),
)
by_name = pytest.mark.parametrize("path", VARIANTS, ids=lambda path: path.stem)


def test_default_values_lint_cleanly() -> None:
    result = helm("lint", "--strict", str(CHART))
    assert result.returncode == 0, result.stdout + result.stderr


@by_name
def test_variants_lint_cleanly(path: Path) -> None:
    result = helm("lint", "--strict", str(CHART), "-f", str(path))
    assert result.returncode == 0, result.stdout + result.stderr


@by_name
@pytest.mark.parametrize("version", NEWEST)
def test_manifests_are_what_kubernetes_takes(path: Path, version: str) -> None:
    manifests = render(variant(path))
    core = [m for m in manifests if not any(group in m["apiVersion"] for group in ADDED)]
    assert {"ConfigMap", "Deployment", "Service"} <= {m["kind"] for m in core}
    for manifest in core:
        kubernetes_validate.validate(manifest, version, strict=True)


def test_the_newest_versions_are_the_newest_that_can_be_asked() -> None:
    assert kubernetes_validate.latest_version() == KUBERNETES


def test_strict_validation_sees_a_typo() -> None:
    """Guards the test above: a validator that takes anything would prove nothing."""
    deployment = find(render(), "Deployment")
    deployment["spec"]["template"]["spec"]["containers"][0]["livenesProbe"] = {}
    with pytest.raises(kubernetes_validate.ValidationError, match="livenesProbe"):
        kubernetes_validate.validate(deployment, KUBERNETES, strict=True)


def test_service_monitor_is_off_until_asked_for() -> None:
    assert "ServiceMonitor" not in {manifest["kind"] for manifest in render()}


def test_service_monitor_scrapes_the_service() -> None:
    """Its kind is not among Kubernetes' own schemas, so the whole of it is spelled out."""
    values = {**MINIMAL, "serviceMonitor": {"enabled": True, "labels": {"release": "prometheus"}}}
    manifests = render(values)
    monitor = find(manifests, "ServiceMonitor")
    service = find(manifests, "Service")
    assert monitor["apiVersion"] == "monitoring.coreos.com/v1"
    assert monitor["metadata"]["labels"]["release"] == "prometheus"
    selected = monitor["spec"].pop("selector")["matchLabels"]
    assert selected.items() <= service["metadata"]["labels"].items()
    assert monitor["spec"] == {
        "endpoints": [
            {"port": "http", "path": "/metrics", "interval": "15s", "scrapeTimeout": "10s"}
        ]
    }


def test_older_kubernetes_is_refused() -> None:
    """The preStop `sleep` action would be dropped there, and draining with it."""
    result = helm("template", RELEASE, str(CHART), "--kube-version", "1.29")
    assert result.returncode != 0
    assert "1.30" in result.stderr


def test_works_as_a_subchart(tmp_path: Path) -> None:
    """Helm adds `global` to a subchart's values, and the strict schema has to live with it."""
    (tmp_path / "charts").mkdir()
    (tmp_path / "charts" / "hatstand").symlink_to(CHART)
    (tmp_path / "Chart.yaml").write_text("apiVersion: v2\nname: umbrella\nversion: 0.1.0\n")
    arguments = ("--set", "hatstand.auth.insecure=true,global.team=hats")
    result = helm("template", RELEASE, str(tmp_path), *arguments)
    assert result.returncode == 0, result.stderr
    assert "kind: Deployment" in result.stdout
