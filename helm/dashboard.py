"""Writes the chart's Grafana dashboard: `python helm/dashboard.py`.

Its panels stand here as queries and units; Grafana's JSON is made from them, so that what is edited
can be read. tests/helm/test_observing.py holds the queries against the metrics of a real server.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

FILE = Path(__file__).parent / "hatstand" / "files" / "dashboard.json"
HERE = 'namespace="$namespace",service="$service"'
WIDTH, HEIGHT, COLUMNS = 8, 8, 3


@dataclass(frozen=True)
class Panel:
    """A graph: lines by their legend, each a PromQL query."""

    title: str
    unit: str
    lines: dict[str, str]


def rate(metric: str, by: str = "") -> str:
    """Per second, over all replicas or by a label."""
    grouped = f" by ({by})" if by else ""
    return f"sum{grouped} (rate({metric}{{{HERE}}}[$__rate_interval]))"


def quantile(share: float, metric: str, *by: str) -> str:
    """Of a histogram, over all replicas, or by labels too."""
    return f"histogram_quantile({share}, {rate(f'{metric}_bucket', ', '.join(('le', *by)))})"


def gauge(metric: str, how: str = "sum", by: str = "") -> str:
    grouped = f" by ({by})" if by else ""
    return f"{how}{grouped} ({metric}{{{HERE}}})"


def latency(title: str, metric: str) -> Panel:
    return Panel(title, "s", {f"p{share}": quantile(share / 100, metric) for share in (50, 95, 99)})


PANELS = (
    Panel("Requests", "reqps", {"{{status}}": rate("hatstand_requests_total", "status")}),
    latency("Time to first token", "hatstand_time_to_first_token_seconds"),
    latency("Time per token", "hatstand_time_per_output_token_seconds"),
    Panel(
        "Sequences",
        "short",
        {
            "running": gauge("hatstand_sequences_running"),
            "waiting": gauge("hatstand_sequences_waiting"),
        },
    ),
    Panel(
        "Tokens per second",
        "short",
        {
            "generated": rate("hatstand_generated_tokens_total"),
            "prompt": rate("hatstand_prompt_tokens_total"),
            "from the prefix cache": rate("hatstand_prefix_hit_tokens_total"),
        },
    ),
    Panel(
        "KV cache in use", "percentunit", {"{{pod}}": gauge("hatstand_kv_usage_ratio", by="pod")}
    ),
    Panel(
        "Adapters read and evicted",
        "ops",
        {
            "read": rate("hatstand_adapter_loads_total"),
            "evicted": rate("hatstand_adapter_evictions_total"),
        },
    ),
    Panel(
        "Adapters in slots",
        "short",
        {
            "{{pod}}": gauge("vllm:num_gpu_loaded_lora_adapters", by="pod"),
            "slots of {{pod}}": gauge("hatstand_slots", by="pod"),
        },
    ),
    Panel(
        "Busiest adapters, tokens per second",
        "short",
        {"{{adapter}}": f"topk(10, {rate('hatstand_adapter_generated_tokens_total', 'adapter')})"},
    ),
    Panel(
        "Adapter load time, 95th percentile",
        "s",
        {"{{transition}}": quantile(0.95, "vllm:lora_adapter_load_seconds", "transition")},
    ),
    Panel("Preempted sequences", "ops", {"preempted": rate("hatstand_preemptions_total")}),
    Panel(
        "Registry connected",
        "bool_yes_no",
        {"{{pod}}": gauge("hatstand_registry_connected", by="pod")},
    ),
)


def dashboard() -> dict[str, Any]:
    """The document that Grafana imports."""
    return {
        "title": "Hatstand",
        "uid": "hatstand",
        "schemaVersion": 39,
        "tags": ["hatstand"],
        "time": {"from": "now-3h", "to": "now"},
        "refresh": "30s",
        "templating": {"list": [_source(), _choice("namespace"), _choice("service")]},
        "panels": [_panel(index, panel) for index, panel in enumerate(PANELS)],
    }


def _panel(index: int, panel: Panel) -> dict[str, Any]:
    row, column = divmod(index, COLUMNS)
    return {
        "id": index + 1,
        "type": "timeseries",
        "title": panel.title,
        "datasource": {"type": "prometheus", "uid": "${datasource}"},
        "gridPos": {"x": column * WIDTH, "y": row * HEIGHT, "w": WIDTH, "h": HEIGHT},
        "fieldConfig": {"defaults": {"unit": panel.unit, "min": 0}, "overrides": []},
        "targets": [
            {"refId": chr(ord("A") + place), "expr": query, "legendFormat": legend}
            for place, (legend, query) in enumerate(panel.lines.items())
        ],
    }


def _source() -> dict[str, Any]:
    return {"name": "datasource", "type": "datasource", "query": "prometheus"}


def _choice(label: str) -> dict[str, Any]:
    """A drop-down of a label's values, of the namespace that is chosen already."""
    chosen = "" if label == "namespace" else '{namespace="$namespace"}'
    return {
        "name": label,
        "type": "query",
        "datasource": {"type": "prometheus", "uid": "${datasource}"},
        "query": f"label_values(hatstand_slots{chosen}, {label})",
        "refresh": 2,
    }


if __name__ == "__main__":
    FILE.parent.mkdir(exist_ok=True)
    FILE.write_text(json.dumps(dashboard(), indent=1) + "\n")
