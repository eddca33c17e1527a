"""A request with a seed has the same answer alone and in company, on one thread and on two, and
from a server that was started again."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import httpx
import pytest

from server.settings import EngineOptions
from tests.torture.site import make_settings, server_process

pytestmark = pytest.mark.slow
ENGINE = EngineOptions(device="cpu", kv_memory=8 << 20, max_rank=8, max_slots=8, max_batch=64)
ASKED: dict[str, Any] = {
    "model": "a",
    "prompt": "Tell me of the hat that was on the stand, and of the one who wore it.",
    "max_tokens": 24,
    "temperature": 1.0,
    "seed": 11,
    "logprobs": 2,
    "return_token_ids": True,
    "ignore_eos": True,
}


@pytest.mark.parametrize("head_dim", [16, 24])
def test_a_seed_is_one_answer(head_dim: int, tmp_path: Path) -> None:
    settings = make_settings(tmp_path, ["a", "b", "c"], ENGINE, head_dim=head_dim)
    answers = []
    for threads in ("1", "2"):
        with server_process(settings, {"OMP_NUM_THREADS": threads}) as (url, _):
            answers += [answer(url, others=0), answer(url, others=63)]
    assert all(each == answers[0] for each in answers)
    assert len(answers[0]["token_ids"]) == 24


def answer(url: str, *, others: int) -> dict[str, Any]:
    """Tokens and log-probabilities of that request, amid so many others."""

    async def ask() -> dict[str, Any]:
        async with httpx.AsyncClient(base_url=url, timeout=120) as client:

            async def complete(body: dict[str, Any]) -> dict[str, Any]:
                reply = await client.post("/v1/completions", json=body)
                choice: dict[str, Any] = reply.raise_for_status().json()["choices"][0]
                return choice

            company = [asyncio.create_task(complete(other(number))) for number in range(others)]
            choice = await complete(ASKED)
            await asyncio.gather(*company)
            return choice

    return asyncio.run(ask())


def other(number: int) -> dict[str, Any]:
    """Another request: a model, a prompt, a seed and a length of its own."""
    model = ("a", "b", "c", "tiny")[number % 4]
    words = "another story " * (1 + number % 7)
    return {**ASKED, "model": model, "prompt": words, "seed": number, "max_tokens": 8 + number % 32}
