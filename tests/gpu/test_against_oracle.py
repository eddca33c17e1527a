"""Logits of the 7B shape: ours, transformers + peft + bitsandbytes', and what bf16 costs anybody.

Both sides multiply with the same NF4 weights. A third run of the libraries, in fp32, tells how far
their own bf16 lies from the weights' exact result; ours has to be as near to it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
if not torch.cuda.is_available():
    pytest.skip("no CUDA device", allow_module_level=True)

from server.bases import Base  # noqa: E402
from server.engine.engine import Engine  # noqa: E402
from tests.gpu.seven_b import NAMES, prompt, running, write_parts  # noqa: E402
from tests.support.distance import Distance  # noqa: E402
from tests.support.oracle import Oracle  # noqa: E402
from tests.support.serving import Driver  # noqa: E402
from tests.support.witness import SEEN, Witness  # noqa: E402

pytestmark = pytest.mark.gpu

WEIGHT_LIMIT = 4.3e9  # bytes of the whole shape
TOLD = 10  # tokens that each sequence says
Jobs = Sequence[tuple[str | None, list[int]]]
JOBS = [(NAMES[n % len(NAMES)], prompt(n, 40 + 23 * n)) for n in range(12)]
LONE = [(name, prompt(50 + n, 450 + 71 * n)) for n, name in enumerate(NAMES)]
"""Long enough for products that unpack their weights, each in a pass of its own."""
NO_WORSE = 1.15  # times the libraries' own distance from fp32
TOLERANCE = {1: (0.12, 0.015), 4: (0.22, 0.03), 32: (0.8, 0.1)}
"""By layers: nats between our log-probabilities and the libraries', at most and on average.

Measured on one H200: 0.078 and 0.011, 0.15 and 0.022, 0.55 and 0.071, each less than what bf16
costs the libraries themselves (0.12 and 0.016, 0.20 and 0.029, 0.71 and 0.087 from fp32).
"""


def ours(engine: Engine, jobs: Jobs, *, at_once: int) -> tuple[list[list[int]], list[torch.Tensor]]:
    """What each prompt was answered, so many of them mixed, and the logits behind it."""
    witness, driver, ids = Witness(engine), Driver(engine), []
    for start in range(0, len(jobs), at_once):
        together = jobs[start : start + at_once]
        ids += [driver.submit(tokens, name, max_tokens=TOLD, **SEEN) for name, tokens in together]
        driver.run()
    assert not driver.errors
    engine.check_idle()
    return [driver.tokens(i) for i in ids], [witness.logits(i) for i in ids]


def theirs(oracle: Oracle, jobs: Jobs, said: list[list[int]]) -> list[torch.Tensor]:
    """The oracle's logits of the same texts, each in one pass."""
    return [
        oracle.logits(name, tokens + answer)[len(tokens) - 1 : -1]
        for (name, tokens), answer in zip(jobs, said, strict=True)
    ]


@pytest.mark.parametrize("layers", TOLERANCE)
def test_logits_are_the_libraries_own(layers: int, ram_disk: Path) -> None:
    base, adapters = write_parts(ram_disk / f"{layers}", layers)
    with running(base, adapters) as engine:
        assert engine.weight_bytes < WEIGHT_LIMIT
        said, found = ours(engine, JOBS, at_once=len(JOBS))
    compare(base, adapters, JOBS, said, found, layers)


@pytest.mark.parametrize("layers", [1, 4])
def test_so_they_are_of_long_prompts_each_in_a_pass_of_its_own(layers: int, ram_disk: Path) -> None:
    base, adapters = write_parts(ram_disk / f"lone-{layers}", layers)
    with running(base, adapters, chunk=1024) as engine:
        said, found = ours(engine, LONE, at_once=1)
    compare(base, adapters, LONE, said, found, layers)


def compare(
    base: Base,
    adapters: Mapping[str, Path],
    jobs: Jobs,
    said: list[list[int]],
    found: list[torch.Tensor],
    layers: int,
) -> None:
    """What was found with the libraries' logits of the same texts, in bf16 and in fp32."""
    oracle = Oracle(base.folder, adapters, dtype=torch.bfloat16, nf4=True, device="cuda")
    expected = theirs(oracle, jobs, said)
    oracle.compute_in_fp32()
    exact = theirs(oracle, jobs, said)

    apart = Distance.of(found, expected)
    own, of_theirs = Distance.of(found, exact), Distance.of(expected, exact)
    print(
        f"\n7B shape, {layers} layers: log-probabilities of {len(jobs)} sequences"
        "\n  of 4 adapters and the base"
        f"\n  hatstand from the libraries:  {apart}"
        f"\n  hatstand from fp32:           {own}"
        f"\n  the libraries from fp32:      {of_theirs}"
    )
    worst, mean = TOLERANCE[layers]
    assert apart.worst < worst
    assert apart.mean < mean
    assert own.mean < NO_WORSE * of_theirs.mean
    assert own.kl < NO_WORSE**2 * of_theirs.kl
    tokens = jobs[1][1]
    unadapted = oracle.logits(None, tokens + said[1])[len(tokens) - 1 : -1]
    wrong = Distance.of(found[1:2], [unadapted])
    assert wrong.mean > 3 * apart.mean  # another adapter's logits would not have passed
