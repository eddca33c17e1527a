"""Logits of the 7B shape: ours, transformers + peft + bitsandbytes', and what bf16 costs anybody.

Both sides multiply with the same NF4 weights. A third run of the libraries, in fp32, tells how far
their own bf16 lies from the weights' exact result; ours has to be as near to it.
"""

from __future__ import annotations

import random
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
if not torch.cuda.is_available():
    pytest.skip("no CUDA device", allow_module_level=True)

from server.bases import Base  # noqa: E402
from server.engine.build import build_engine  # noqa: E402
from server.engine.config import EngineSettings  # noqa: E402
from server.engine.engine import Engine  # noqa: E402
from tests.gpu.nf4_base import write_nf4_base, write_random_adapter  # noqa: E402
from tests.gpu.shapes import MISTRAL_7B, open_unhashed  # noqa: E402
from tests.support.distance import Distance  # noqa: E402
from tests.support.oracle import Oracle  # noqa: E402
from tests.support.serving import Driver, FolderSource  # noqa: E402
from tests.support.witness import SEEN, Witness  # noqa: E402

pytestmark = pytest.mark.gpu

RAM_DISK = Path("/dev/shm")
WEIGHT_LIMIT = 4.3e9  # bytes of the whole shape
TOLD = 10  # tokens that each sequence says
NAMES = (None, "r8", "r16", "r64", "qv")
NO_WORSE = 1.15  # times the libraries' own distance from fp32
TOLERANCE = {1: (0.05, 0.006), 4: (0.1, 0.012), 32: (0.3, 0.04)}
"""By layers: nats between our log-probabilities and the libraries', at most and on average."""


@pytest.fixture
def ram_disk(tmp_path: Path) -> Iterator[Path]:
    folder = RAM_DISK / "hatstand-oracle" if RAM_DISK.is_dir() else tmp_path / "oracle"
    yield folder
    shutil.rmtree(folder)


def open_parts(folder: Path, layers: int) -> tuple[Base, dict[str, Path]]:
    """A base of so many layers, and adapters of every kind."""
    shape = {**MISTRAL_7B, "num_hidden_layers": layers}
    base = open_unhashed(write_nf4_base(folder / "base", shape))
    adapters = {
        f"r{rank}": write_random_adapter(folder / f"r{rank}", base.record, rank=rank)
        for rank in (8, 16, 64)
    }
    few = ("q_proj", "v_proj")
    adapters["qv"] = write_random_adapter(folder / "qv", base.record, rank=4, targets=few)
    torch.cuda.empty_cache()
    return base, adapters


def start(base: Base, adapters: Mapping[str, Path]) -> Engine:
    settings = EngineSettings(
        device="cuda",
        weights="nf4",
        block_size=32,
        max_batch=16,
        max_slots=4,
        chunk=256,
        kv_memory=1 << 30,
        host_memory=1 << 30,
    )
    return build_engine(base, FolderSource(adapters, base), settings)


def prompts() -> list[list[int]]:
    source = random.Random(0)
    return [[source.randrange(32000) for _ in range(40 + 23 * number)] for number in range(12)]


def ours(engine: Engine) -> tuple[list[list[int]], list[torch.Tensor]]:
    """What each prompt was answered, prefill and decoding mixed, and the logits behind it."""
    witness, driver = Witness(engine), Driver(engine)
    ids = [
        driver.submit(tokens, NAMES[number % len(NAMES)], max_tokens=TOLD, **SEEN)
        for number, tokens in enumerate(prompts())
    ]
    driver.run()
    assert not driver.errors
    engine.check_idle()
    return [driver.tokens(i) for i in ids], [witness.logits(i) for i in ids]


def theirs(oracle: Oracle, said: list[list[int]]) -> list[torch.Tensor]:
    """The oracle's logits of the same texts, each in one pass."""
    found = []
    for number, (tokens, answer) in enumerate(zip(prompts(), said, strict=True)):
        logits = oracle.logits(NAMES[number % len(NAMES)], tokens + answer)
        found.append(logits[len(tokens) - 1 : -1])
    return found


@pytest.mark.parametrize("layers", TOLERANCE)
def test_logits_are_the_libraries_own(layers: int, ram_disk: Path) -> None:
    base, adapters = open_parts(ram_disk, layers)
    engine = start(base, adapters)
    assert engine.weight_bytes < WEIGHT_LIMIT
    said, found = ours(engine)
    engine.adapters.stop()
    del engine
    torch.cuda.empty_cache()
    oracle = Oracle(base.folder, adapters, dtype=torch.bfloat16, nf4=True, device="cuda")
    expected = theirs(oracle, said)
    oracle.compute_in_fp32()
    exact = theirs(oracle, said)

    apart = Distance.of(found, expected)
    own, of_theirs = Distance.of(found, exact), Distance.of(expected, exact)
    print(
        f"\n7B shape, {layers} layers, log-probabilities of 12 sequences, 4 adapters and the base"
        f"\n  hatstand from the libraries:  {apart}"
        f"\n  hatstand from fp32:           {own}"
        f"\n  the libraries from fp32:      {of_theirs}"
    )
    worst, mean = TOLERANCE[layers]
    assert apart.worst < worst
    assert apart.mean < mean
    assert own.mean < NO_WORSE * of_theirs.mean
    assert own.kl < NO_WORSE**2 * of_theirs.kl
    unadapted = Distance.of(found[1:2], [_without_adapter(oracle, said[1])])
    assert unadapted.mean > 5 * apart.mean  # another adapter's logits would not have passed


def _without_adapter(oracle: Oracle, said: list[int]) -> torch.Tensor:
    tokens = prompts()[1]
    return oracle.logits(None, tokens + said)[len(tokens) - 1 : -1]
