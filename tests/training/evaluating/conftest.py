"""One trained version in a registry, for everything that is measured of versions."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml
from rich.console import Console

from tests.training.conftest import write_rows
from training.commands import train


@dataclass(frozen=True)
class Colors:
    """`colors@1`: its registry, its base, and rows that it was not trained on."""

    registry: Path
    base: Path
    heldout: Path


@pytest.fixture(scope="session")
def colors(tmp_path_factory: pytest.TempPathFactory, tiny_base: Path) -> Colors:
    """A run of 40 steps that learns to answer `red` or `blue`."""
    folder = tmp_path_factory.mktemp("colors")
    answers = ("red", "blue")
    write_rows(folder / "train.jsonl", [(f"color {n}?", answers[n % 2]) for n in range(24)])
    write_rows(folder / "heldout.jsonl", [(f"color {n}?", answers[n % 2]) for n in range(50, 56)])
    recipe = {
        "base": str(tiny_base),
        "output": "out",
        "data": {"train": "train.jsonl", "validation": 4},
        "hat": {
            "chat_template": "{% for m in messages %}{{ m.content }}\n{% endfor %}> ",
            "stop": ["\n\n"],
            "sampling": {"max_tokens": 8, "temperature": 0},
        },
        "lora": {"r": 4, "alpha": 8},
        "train": {"max_steps": 40, "batch_size": 4, "learning_rate": 2e-2},
    }
    path = folder / "recipe.yaml"
    path.write_text(yaml.safe_dump(recipe))
    train(path, (), "colors@prod", folder / "registry", console=Console(file=io.StringIO()))
    return Colors(folder / "registry", tiny_base, folder / "heldout.jsonl")
