from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from registry import BaseRecord, Hat, Lock, Registry
from registry.adapters import AdapterSpec
from registry.cli import app
from registry.diff import diff_versions
from registry.diff.heat_map import draw_heat_map, grids
from registry.errors import AdapterNotFound, BaseMismatch
from tests.registry.making import make_adapter

CONFIG = {"peft_type": "LORA", "r": 4, "lora_alpha": 8, "target_modules": ["q_proj", "v_proj"]}
PNG = b"\x89PNG\r\n\x1a\n"


def lock(base: BaseRecord, folder: Path, **values: Any) -> Path:
    Lock(
        base=base, adapter_dtype="float32", rank=4, target_modules=("q_proj", "v_proj"), **values
    ).write(folder)
    return folder


@pytest.fixture
def filled(registry: Registry, base: BaseRecord, tmp_path: Path) -> Registry:
    """`sql@1` and `sql@2`, which differ in everything that a diff shows."""
    first, second = make_adapter(tmp_path / "a"), make_adapter(tmp_path / "b", seed=1, lora_alpha=2)
    Hat(system_prompt="Answer.", chat_template="{{ 1 }}").write(first)
    Hat(system_prompt="Answer in SQL.", chat_template="{{ 2 }}").write(second)
    lock(base, first, recipe={"lr": 0.1}, data={"a.jsonl": "sha256:1"}, metrics={"loss": 2.0})
    lock(base, second, recipe={"lr": 0.2}, data={"a.jsonl": "sha256:2"}, metrics={"loss": 1.5})
    for folder in (first, second):
        registry.push(folder, "sql")
    return registry


def test_the_order_of_a_set_is_no_change(
    registry: Registry, base: BaseRecord, tmp_path: Path
) -> None:
    """PEFT keeps target_modules in a set, and writes it as it comes."""
    folder = lock(base, make_adapter(tmp_path / "a"))
    config = json.loads((folder / "adapter_config.json").read_text())
    registry.push(folder, "sql")
    config["target_modules"].reverse()
    (folder / "adapter_config.json").write_text(json.dumps(config))
    assert registry.push(folder, "sql").number == 2
    assert diff_versions(registry, "sql@1", "sql@2").documents["config"] == ()


def test_every_document_is_compared(filled: Registry) -> None:
    found = diff_versions(filled, "sql@1", "sql@2").to_dict()
    keys = {
        name: [change["key"] for change in found[name]]
        for name in ("base", "config", "hat", "recipe", "data", "environment", "metrics")
    }
    assert keys == {
        "base": [],
        "config": ["lora_alpha"],
        "hat": ["chat_template", "system_prompt"],
        "recipe": ["lr"],
        "data": ["a.jsonl"],
        "environment": [],
        "metrics": ["loss"],
    }
    assert found["metrics"][0]["step"] == -0.5
    assert len(found["weights"]["modules"]) == 4
    assert len(found["weights"]["layers"]) == 2
    json.dumps(found, allow_nan=False)


def test_a_version_does_not_differ_from_itself(filled: Registry) -> None:
    found = diff_versions(filled, "sql", "sql@2")
    assert not any(found.documents.values())
    assert found.weights is not None
    assert found.weights.total.cosine == pytest.approx(1.0)
    assert found.weights.total.distance == pytest.approx(0.0, abs=1e-5)
    with pytest.raises(AdapterNotFound):
        diff_versions(filled, "sql", "sgl")


def test_the_picture_has_a_cell_for_every_projection(filled: Registry, tmp_path: Path) -> None:
    found = diff_versions(filled, "sql@1", "sql@2")
    assert found.weights is not None
    cosines, ratios = grids(found.weights)
    assert cosines.shape == ratios.shape == (2, 2)
    products = found.weights.modules[3].products
    assert cosines[1, 1] == products.cosine
    assert ratios[1, 1] == math.log2(products.norm_after / products.norm_before)
    draw_heat_map(found, tmp_path / "x.png")
    assert (tmp_path / "x.png").read_bytes().startswith(PNG)


def test_other_bases_differ_in_documents_only(
    filled: Registry, base: BaseRecord, tmp_path: Path
) -> None:
    other = base.model_copy(
        update={"fingerprint": "sha256:" + "0" * 64, "config": {**base.config, "head_dim": 8}}
    )
    found = diff_versions(filled, "sql@1", push_other(filled, tmp_path / "c", other))
    assert found.weights is None
    assert found.documents["base"]
    with pytest.raises(BaseMismatch, match="other shapes"):
        draw_heat_map(found, tmp_path / "x.png")


def push_other(registry: Registry, folder: Path, base: BaseRecord) -> str:
    """An adapter of ones for a base of another shape."""
    shapes = AdapterSpec.from_config(CONFIG, base.config).tensors
    make_adapter(folder, tensors={name: np.ones(shape, "f4") for name, shape in shapes.items()})
    return registry.push(lock(base, folder), "other").ref


def run(*arguments: object) -> str:
    result = CliRunner().invoke(app, ["diff", *map(str, arguments)])
    assert result.exit_code == 0, result.output
    return result.stdout


def test_the_command_prints_a_table_json_and_a_picture(filled: Registry, tmp_path: Path) -> None:
    where = ("--registry", filled.folder)
    table = run("sql@1", "sql@2", *where, "--png", tmp_path / "x.png")
    for word in ("sql@1 → sql@2", "lora_alpha", "Answer in SQL.", "-0.5", "cosine", "all"):
        assert word in table
    assert (tmp_path / "x.png").read_bytes().startswith(PNG)
    values = json.loads(run("sql@1", "sql@2", *where, "--json"))
    assert values["after"]["ref"] == "sql@2"
    assert "the same version" in run("sql@2", "sql", *where)


def test_matplotlib_is_imported_for_pictures_only(filled: Registry) -> None:
    code = (
        "import sys\nfrom registry.cli import main\n"
        f"sys.argv = ['registry', 'diff', 'sql@1', 'sql@2', '--registry', {str(filled.folder)!r}]\n"
        "try:\n    main()\nexcept SystemExit as done:\n    assert not done.code\n"
        "assert 'matplotlib' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, timeout=60)


def test_a_missing_matplotlib_names_the_install_command(filled: Registry, tmp_path: Path) -> None:
    code = (
        "import sys\nsys.modules['matplotlib'] = None\nfrom registry.cli import main\n"
        f"sys.argv = ['registry', 'diff', 'sql@1', 'sql@2', '--registry', {str(filled.folder)!r},"
        f" '--png', {str(tmp_path / 'x.png')!r}]\nmain()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], check=False, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 1
    assert "pip install 'hatstand[plots]'" in done.stderr
