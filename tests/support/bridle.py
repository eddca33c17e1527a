"""Holds up, slows down and breaks servers that run in processes of their own.

So that a test meets them while they start, answer or die, however fast the machine is.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
SITE = """
import pathlib, sys, time
if "server.supervision.inside" in sys.orig_argv:
    held, slow, broken = (pathlib.Path(__file__).with_name(n) for n in ("held", "slow", "broken"))
    while held.exists():
        time.sleep(0.02)
    import torch
    from server.engine.engine import Engine
    step, steps = Engine.step, iter(range(8))

    def bridled(*arguments):
        if broken.exists() and next(steps, None) is None:
            broken.unlink()
            raise torch.AcceleratorError("CUDA error: an illegal memory access was encountered")
        if slow.exists():
            time.sleep(0.05)
        return step(*arguments)

    Engine.step = bridled
"""


@dataclass(frozen=True)
class Bridle:
    """On servers that were started with `environment`."""

    folder: Path

    @classmethod
    def put_on(cls, folder: Path) -> Bridle:
        """Python imports a `sitecustomize` before anything else."""
        folder.mkdir()
        (folder / "sitecustomize.py").write_text(SITE)
        return cls(folder)

    @property
    def environment(self) -> Mapping[str, str]:
        return {"PYTHONPATH": os.pathsep.join([str(self.folder), str(ROOT)])}

    @contextmanager
    def held(self) -> Iterator[None]:
        """No serving process comes up meanwhile."""
        with self._told("held"):
            yield

    @contextmanager
    def slow(self) -> Iterator[None]:
        """A token takes 50 ms and more meanwhile."""
        with self._told("slow"):
            yield

    def break_soon(self) -> None:
        """One engine breaks after eight steps."""
        (self.folder / "broken").touch()

    @contextmanager
    def _told(self, what: str) -> Iterator[None]:
        sign = self.folder / what
        sign.touch()
        try:
            yield
        finally:
            sign.unlink()
