"""A run as lines of JSON: what programs follow."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .figures import FigureTracker

EVENTS_FILE = "events.jsonl"


class EventLog(FigureTracker):
    """Appends `{"at", "event", …}` lines; each is whole on disk before the run goes on."""

    def __init__(self, folder: Path, every: int) -> None:
        super().__init__(every)
        self._path = folder / EVENTS_FILE

    def begin(self, about: Mapping[str, Any], model: Any) -> None:
        del model
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._write("begin", {"arguments": about})

    def figures(self, step: int, values: Mapping[str, float]) -> None:
        self._write("figures", {"step": step, **values})

    def end(self) -> None:
        self._write("end", {})

    def on_save(self, _args: Any, state: Any, _control: Any, **_: Any) -> None:
        if state.is_world_process_zero:
            self._write("checkpoint", {"step": int(state.global_step)})

    def _write(self, event: str, values: Mapping[str, Any]) -> None:
        line = json.dumps({"at": round(time.time(), 3), "event": event, **values}, default=str)
        with self._path.open("a", encoding="utf-8") as file:
            file.write(line + "\n")
