from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from registry.adapters import AdapterSpec
from registry.diff.weights import ShapesDiffer, Side, compare_weights
from registry.safetensors_file import SafetensorsFile
from tests.registry.making import TINY_CONFIG, make_adapter


def side(folder: Path, **base: Any) -> Side:
    names = ("adapter_config.json", "adapter_model.safetensors")
    return Side.open({name: folder / name for name in names}, {**TINY_CONFIG, **base})


def dense(folder: Path, layer: int, projection: Any) -> np.ndarray[Any, Any]:
    """ΔW as nobody should compute it."""
    opened = side(folder)
    factors = opened.factors((layer, projection))
    module = opened.spec.modules.get((layer, projection))
    if factors is None or module is None:
        return np.zeros((1, 1))
    file = SafetensorsFile.open(folder / "adapter_model.safetensors")
    a, b = (
        file.read(AdapterSpec.tensor_name(layer, projection, part)) for part in ("lora_A", "lora_B")
    )
    return module.scaling * b.astype(np.float64) @ a.astype(np.float64)


def test_norms_and_cosines_are_those_of_the_dense_updates(tmp_path: Path) -> None:
    one = make_adapter(tmp_path / "a", seed=0)
    two = make_adapter(tmp_path / "b", seed=1, r=3, lora_alpha=7, use_rslora=True)
    found = compare_weights(side(one), side(two))
    assert [(each.layer, each.projection) for each in found.modules] == [
        (0, "q_proj"),
        (0, "v_proj"),
        (1, "q_proj"),
        (1, "v_proj"),
    ]
    flat: list[list[np.ndarray[Any, Any]]] = [[], []]
    for module in found.modules:
        old, new = (dense(folder, module.layer, module.projection) for folder in (one, two))
        products = module.products
        assert products.norm_before == pytest.approx(np.linalg.norm(old))
        assert products.norm_after == pytest.approx(np.linalg.norm(new))
        cosine = (old * new).sum() / np.linalg.norm(old) / np.linalg.norm(new)
        assert products.cosine == pytest.approx(cosine)
        assert products.distance == pytest.approx(np.linalg.norm(old - new))
        flat[0].append(old.ravel())
        flat[1].append(new.ravel())
    old, new = (np.concatenate(parts) for parts in flat)
    assert found.total.distance == pytest.approx(np.linalg.norm(old - new))
    assert sorted(found.layers) == [0, 1]
    whole = sum(products.before for products in found.layers.values())
    assert whole == pytest.approx(np.linalg.norm(old) ** 2)


def test_the_same_direction_at_another_scale(tmp_path: Path) -> None:
    found = compare_weights(
        side(make_adapter(tmp_path / "a")), side(make_adapter(tmp_path / "b", lora_alpha=24))
    )
    assert found.total.cosine == pytest.approx(1.0)
    assert found.total.norm_after == pytest.approx(3 * found.total.norm_before)
    opposite = make_adapter(tmp_path / "c", lora_alpha=-8)
    assert compare_weights(side(tmp_path / "a"), side(opposite)).total.cosine == pytest.approx(-1)


def test_other_factors_of_the_same_update_are_no_difference(tmp_path: Path) -> None:
    """(B R)(R⁻¹ A) = B A: what counts is the update, not how it is factored."""
    folder = make_adapter(tmp_path / "a")
    opened = side(folder)
    turned: dict[str, Any] = {}
    mix = np.random.default_rng(5).standard_normal((4, 4))
    for site in opened.spec.modules:
        a, b = (
            opened.file.read(AdapterSpec.tensor_name(*site, part)) for part in ("lora_A", "lora_B")
        )
        turned[AdapterSpec.tensor_name(*site, "lora_A")] = (np.linalg.inv(mix) @ a).astype("f4")
        turned[AdapterSpec.tensor_name(*site, "lora_B")] = (b @ mix).astype("f4")
    found = compare_weights(opened, side(make_adapter(tmp_path / "b", tensors=turned)))
    assert found.total.cosine == pytest.approx(1.0, abs=1e-6)
    assert found.total.distance < 1e-4 * found.total.norm_before


def test_a_projection_on_one_side_only_counts_as_zero_on_the_other(tmp_path: Path) -> None:
    found = compare_weights(
        side(make_adapter(tmp_path / "a", target_modules=["q_proj"])),
        side(make_adapter(tmp_path / "b", target_modules=["q_proj", "up_proj"])),
    )
    assert found.projections == ("q_proj", "up_proj")
    added = found.modules[1].products
    assert (added.norm_before, added.cosine) == (0.0, None)
    assert added.distance == pytest.approx(added.norm_after)


def test_bases_of_other_shapes_are_not_compared(tmp_path: Path) -> None:
    folder = make_adapter(tmp_path / "a")
    with pytest.raises(ShapesDiffer, match="layer 0 q_proj"):
        compare_weights(side(folder), side(folder, hidden_size=32))
