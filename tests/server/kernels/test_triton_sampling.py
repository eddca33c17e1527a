"""Sampling on the device against its twin, under Triton's interpreter, and the twin by itself."""

from __future__ import annotations

import pytest
import torch

pytest.importorskip("triton", reason="triton is not installed")
if torch.cuda.is_available():
    pytest.skip("tests/gpu holds the kernels on the device", allow_module_level=True)

from server.kernels.triton import sampling, tokens
from server.kernels.triton.twins import sampling as twin
from server.kernels.triton.twins import tokens as tokens_twin
from tests.support.kernel_cases import make_sampling, normal

ROWS = [
    (0.0, 0, 1.0, 0.0),
    (1.0, 0, 1.0, 0.0),
    (0.7, 5, 1.0, 0.0),
    (1.3, 0, 0.8, 0.0),
    (0.9, 0, 1.0, 0.2),
    (1.5, 40, 0.9, 0.01),
    (1.0, 1, 1.0, 0.0),
]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("vocab", [50, 300, 9000])
def test_sampling_equals_the_twin(dtype: torch.dtype, vocab: int) -> None:
    logits = normal(len(ROWS), vocab, dtype=dtype, std=3.0)
    parameters, positions = make_sampling(ROWS), torch.arange(len(ROWS)) * 1000
    result = sampling.sample(logits, parameters, positions)
    assert result.tolist() == twin.sample(logits, parameters, positions).tolist()


def test_greedy_takes_the_first_of_equals() -> None:
    logits = torch.tensor([[1.0, 7.0, 7.0, 0.0], [-3.0, -2.0, -5.0, -2.0]])
    assert sampling.argmax(logits).tolist() == [1, 1]
    assert twin.argmax(logits).tolist() == [1, 1]


def test_nothing_is_chosen_of_logits_that_are_not_finite() -> None:
    logits = normal(5, 300)
    logits[0, 299], logits[1, 7], logits[2, :] = torch.nan, torch.inf, -torch.inf
    logits[3, 0] = -torch.inf
    out = torch.full((5,), 99)
    best = logits.argmax(-1).tolist()
    assert sampling.argmax(logits, out=out) is out
    assert out.tolist() == [-1, -1, -1, best[3], best[4]]
    assert twin.argmax(logits).tolist() == out.tolist()


def test_tokens_come_from_the_host_or_the_step_before() -> None:
    token_ids, chosen = torch.tensor([5, ~2, ~0, 0, ~1]), torch.tensor([7, -1, 9])
    assert tokens.known_tokens(token_ids, chosen).tolist() == [5, 9, 7, 0, 0]
    assert tokens_twin.known_tokens(token_ids, chosen).tolist() == [5, 9, 7, 0, 0]


def test_philox_gives_the_published_words() -> None:
    """Known answers of Random123's kat_vectors for philox4x32-10."""
    zero = torch.zeros(1, dtype=torch.int64)
    assert int(twin.philox(zero, zero, zero)) == 0x6627E8D5


def draws(count: int, row: tuple[float, int, float, float], logits: torch.Tensor) -> torch.Tensor:
    """How often each token is drawn at `count` positions, by the twin."""
    parameters = make_sampling([row] * count)
    tokens = twin.sample(logits.expand(count, -1), parameters, torch.arange(count))
    return torch.bincount(tokens, minlength=logits.shape[-1]) / count


def test_draws_follow_the_distribution() -> None:
    logits = torch.tensor([2.0, 1.0, 0.0, -1.0])
    observed = draws(20_000, (1.0, 0, 1.0, 0.0), logits)
    assert (observed - logits.softmax(-1)).abs().max() < 0.015


@pytest.mark.parametrize(
    ("row", "kept"),
    [((1.0, 2, 1.0, 0.0), 2), ((1.0, 0, 0.6, 0.0), 1), ((1.0, 0, 1.0, 0.3), 2)],
)
def test_filters_leave_the_best(row: tuple[float, int, float, float], kept: int) -> None:
    logits = torch.tensor([2.0, 1.0, 0.0, -1.0])  # 0.64, 0.24, 0.09, 0.03
    observed = draws(2_000, row, logits)
    assert (observed > 0).tolist() == [True] * kept + [False] * (4 - kept)
