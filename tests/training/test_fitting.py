"""What `auto` comes to on the machine that trains."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from rich.console import Console

from training import layer_choice
from training.collator import Collator
from training.fitting import Fitting, Session
from training.flat import FlatCollator
from training.progress import Progressing
from training.reading import read_recipe


@pytest.mark.parametrize(
    ("kind", "capability", "collator"),
    [
        ("cpu", (0, 0), Collator),
        ("cuda", (7, 5), Collator),  # torch's flash attention wants 8.0
        ("cuda", (8, 0), FlatCollator),
        ("cuda", (12, 0), FlatCollator),
    ],
)
def test_rows_lie_behind_one_another_where_attention_can_have_them_so(
    write_recipe: Any,
    monkeypatch: pytest.MonkeyPatch,
    kind: str,
    capability: tuple[int, int],
    collator: type,
) -> None:
    monkeypatch.setattr(layer_choice, "device", lambda: torch.device(kind))
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: capability)
    recipe = read_recipe(write_recipe())
    made = Fitting(recipe, 0, Progressing(Console(quiet=True)), Session(), "run")
    model = torch.nn.Module()
    model.config = object()  # type: ignore[assignment]
    assert isinstance(made._collator(model), collator)
