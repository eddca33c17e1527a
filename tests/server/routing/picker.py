"""The endpoint picker of the Gateway API Inference Extension, as far as it looks at adapters.

Written after llm-d-router's metric protocol and its LoRA affinity scorer: it reads a gauge by its
exact name from classic Prometheus text, takes the series of the highest value, and knows adapters
by nothing but the names in its labels.
"""

from __future__ import annotations

import random
import re
from collections.abc import Mapping
from dataclasses import dataclass

GAUGE = "vllm:lora_requests_info"
_LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')


@dataclass(frozen=True)
class LoraInfo:
    """What one endpoint says of its adapters."""

    room: int  # the label max_lora
    running: frozenset[str]
    waiting: frozenset[str]

    def score(self, model: str) -> float:
        """How well the endpoint suits a request: 1 where the adapter is, 0 where none fits."""
        if model in self.running:
            return 1.0
        if len(self.running) + len(self.waiting) < self.room:
            return 0.8
        return 0.6 if model in self.waiting else 0.0


def scrape(text: str) -> LoraInfo:
    """The newest series of the gauge; its value is Unix time."""
    found: list[tuple[float, Mapping[str, str]]] = []
    for line in text.splitlines():
        series, _, value = line.rpartition(" ")
        name, _, labels = series.partition("{")
        if name == GAUGE:
            found.append((float(value), dict(_LABEL.findall(labels))))
    _, labels_of_newest = max(found, key=lambda each: each[0])
    return LoraInfo(
        int(labels_of_newest["max_lora"]),
        _names(labels_of_newest["running_lora_adapters"]),
        _names(labels_of_newest["waiting_lora_adapters"]),
    )


def _names(label: str) -> frozenset[str]:
    return frozenset(filter(None, label.split(",")))


def pick(endpoints: Mapping[str, LoraInfo], model: str, chance: random.Random) -> str:
    """The endpoint of the highest score; among equals any."""
    best = max(info.score(model) for info in endpoints.values())
    return chance.choice([url for url, info in endpoints.items() if info.score(model) == best])
