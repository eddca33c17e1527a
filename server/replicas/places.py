"""Where replicas run: a GPU each, or a share of the processor's cores."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path
from typing import Literal

from server.errors import StartupError

VISIBLE = "CUDA_VISIBLE_DEVICES"
THREADS = "OMP_NUM_THREADS"
_NO_GPU = ("", "-1")  # CUDA sees what is named before these only
_DEVICE_NODE = re.compile(r"nvidia\d+")


@dataclass(frozen=True)
class Place:
    """One replica's number, device, and what its environment has to say."""

    number: int
    device: Literal["cpu", "cuda"]
    environ: Mapping[str, str]


def find_places(
    count: int, device: str, environ: Mapping[str, str] | None = None, dev: Path = Path("/dev")
) -> list[Place]:
    """A place for each of `count` replicas; with `device` "auto", on GPUs if there is any.

    Asks the environment and the device nodes, since CUDA itself must not be started in a process
    that goes on to start others. Raises StartupError when there are fewer GPUs than replicas.
    """
    environ = os.environ if environ is None else environ
    gpus = _gpus(environ, dev)
    if device == "cpu" or (device == "auto" and not gpus):
        threads = environ.get(THREADS) or str(max(1, _num_cores() // count))
        return [Place(number, "cpu", {THREADS: threads}) for number in range(count)]
    if len(gpus) < count:
        raise StartupError(
            f"--replicas {count} needs as many GPUs, and {len(gpus)} can be seen: give fewer, or "
            f"name them in {VISIBLE}."
        )
    return [Place(number, "cuda", {VISIBLE: gpus[number]}) for number in range(count)]


def _num_cores() -> int:
    """Those that this process may run on, where the system says; else all."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _gpus(environ: Mapping[str, str], dev: Path) -> list[str]:
    """What CUDA_VISIBLE_DEVICES may say to have one GPU each."""
    named = environ.get(VISIBLE)
    if named is not None:
        names = (name.strip() for name in named.split(","))
        return list(takewhile(lambda name: name not in _NO_GPU, names))
    nodes = [node for node in dev.iterdir() if _DEVICE_NODE.fullmatch(node.name)]
    return [str(number) for number in range(len(nodes))]
