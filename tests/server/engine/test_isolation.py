"""One adapter's numbers stay its own, even when they run out of range."""

from __future__ import annotations

from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from tests.support.serving import Driver, make_engine
from tests.support.tiny import TinyAdapter


@pytest.fixture(scope="module")
def wild_adapters(
    tiny_base: Path, tiny_adapters: dict[str, Path], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Path]:
    """`a` as it is, and `wild`: finite weights whose products are not."""
    folder = TinyAdapter("wild").write(tiny_base, tmp_path_factory.mktemp("wild") / "wild")
    file = folder / "adapter_model.safetensors"
    save_file({name: tensor * 1e38 for name, tensor in load_file(file).items()}, file)
    return {"a": tiny_adapters["a"], "wild": folder}


@pytest.mark.parametrize("name", ["a", None])
def test_a_sequence_is_itself_beside_and_after_a_wild_adapter(
    name: str | None, tiny_base: Path, wild_adapters: dict[str, Path]
) -> None:
    prompt = range(10, 30)
    few_blocks = {"kv_memory": 10 * 16 * 512}  # so that blocks change hands
    alone = Driver(make_engine(tiny_base, wild_adapters, **few_blocks))
    expected = alone.submit(prompt, name, max_tokens=20)
    alone.run()

    driver = Driver(make_engine(tiny_base, wild_adapters, **few_blocks))
    driver.submit(range(40), "wild", max_tokens=8)
    beside = driver.submit(prompt, name, max_tokens=20)
    driver.run()
    for length in (60, 50):
        driver.submit(range(length), "wild", max_tokens=8)
        driver.run()
    after = driver.submit(prompt, name, max_tokens=20)
    driver.run()
    assert driver.tokens(beside) == alone.tokens(expected)
    assert driver.tokens(after) == alone.tokens(expected)
