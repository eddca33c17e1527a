"""The bench's table and its JSON."""

from __future__ import annotations

import datetime
import json
import os
import platform
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from server.bench.workload import LONG, PROMPT_TOKENS, SHORT, Case, Measured

PACKAGES = ("hatstand", "torch", "transformers", "peft", "bitsandbytes")
Results = Mapping[str, Mapping[Case, Measured]]
"""Figures by side, then by case."""


def machine() -> dict[str, Any]:
    """Where and with what the figures were taken."""
    return {
        "date": datetime.date.today().isoformat(),
        "processor": _processor(),
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        **{package: version(package) for package in PACKAGES},
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f"{models[0]} ({os.cpu_count()} cores)" if models else platform.processor()


def print_table(
    console: Console, results: Results, memory: Mapping[str, int], cases: Sequence[Case], peer: str
) -> None:
    """Tokens per second and time to first token, and how many times the peer each side is."""
    table = Table(title=f"prompt {PROMPT_TOKENS} tokens, decoding {SHORT} → {LONG}, greedy")
    table.add_column("streams/adapters")
    table.add_column("side")
    for heading in ("tok/s", "× peer", "first token, ms", "× peer", "base weights, MB"):
        table.add_column(heading, justify="right")
    for case in cases:
        reference = results[peer][case]
        for side, by_case in results.items():
            measured = by_case[case]
            table.add_row(
                case.label,
                side,
                f"{measured.tokens_per_second:.1f}",
                f"{measured.tokens_per_second / reference.tokens_per_second:.2f}",
                f"{measured.first_token * 1e3:.0f}",
                f"{reference.first_token / measured.first_token:.2f}",
                f"{memory[side] / 1e6:.0f}",
            )
        table.add_section()
    console.print(table)
    console.print("  ".join(f"{key} {value}" for key, value in machine().items()))


def write_json(
    path: Path, results: Results, memory: Mapping[str, int], cases: Sequence[Case]
) -> None:
    rows = [
        {
            "side": side,
            "streams": case.streams,
            "adapters": case.adapters,
            "tokens_per_second": by_case[case].tokens_per_second,
            "first_token_seconds": by_case[case].first_token,
            "weight_bytes": memory[side],
        }
        for side, by_case in results.items()
        for case in cases
    ]
    path.write_text(json.dumps({"machine": machine(), "results": rows}, indent=2) + "\n")
