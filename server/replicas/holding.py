"""What a replica holds, read from its own metrics as the endpoint picker reads them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum
from functools import cached_property

from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

_SLOTS = "vllm:lora_requests_info"
_LOADED = "vllm:lora_adapter_loaded"
_NUM_LOADED = "vllm:num_gpu_loaded_lora_adapters"
_NUM_SLOTS = "vllm:max_gpu_lora_adapters"
_RUNNING = "vllm:num_requests_running"
_READ = (_SLOTS, _LOADED, _NUM_LOADED, _NUM_SLOTS, _RUNNING)


class Level(IntEnum):
    """How near an adapter is; less is nearer."""

    SLOT = 0
    HOST = 1
    COLD = 2


@dataclass(frozen=True)
class Holding:
    """Adapters by every name that a request may call them by. `base` is the base's name."""

    base: str = ""
    in_slots: frozenset[str] = frozenset()
    in_host: frozenset[str] = frozenset()
    num_free: int = 0  # slots

    @classmethod
    def read(cls, text: str) -> Holding:
        """From the text of /metrics."""
        samples = list(_samples(text))
        found = {sample.name: sample for sample in samples if sample.name != _LOADED}
        if not found:
            return cls()
        slots = found[_SLOTS].labels
        names = f"{slots['running_lora_adapters']},{slots['waiting_lora_adapters']}".split(",")
        loaded = (sample.labels for sample in samples if sample.name == _LOADED)
        return cls(
            base=found[_RUNNING].labels["model_name"],
            in_slots=frozenset(filter(None, names)),
            in_host=frozenset(each["adapter_name"] for each in loaded if each["level"] == "cpu"),
            num_free=int(found[_NUM_SLOTS].value - found[_NUM_LOADED].value),
        )

    def level_of(self, model: str) -> Level:
        """The base is everywhere."""
        if model in self._near:
            return Level.SLOT
        return Level.HOST if model in self.in_host else Level.COLD

    @cached_property
    def _near(self) -> frozenset[str]:
        return self.in_slots | {self.base, ""}


def _samples(text: str) -> Iterator[Sample]:
    """Of the families that matter: to parse them all takes milliseconds."""
    lines = [line for line in text.splitlines() if line.startswith(_READ)]
    for family in text_string_to_metric_families("\n".join(lines) + "\n"):
        yield from family.samples
