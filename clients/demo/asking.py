"""Put the same held-out questions to base and adapters, all at once."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import httpx

from clients.client import AsyncHatstand
from clients.messages import Answer, Conversation

from .tasks import Row, Task

MAX_TOKENS = 64  # what the adapters' hats allow too


@dataclass(frozen=True)
class Exchange:
    """One question, what the base said to it and what the adapter said."""

    task: Task
    row: Row
    base: Answer
    adapter: Answer

    @property
    def base_is_right(self) -> bool:
        return self.base.text.strip() == self.row.answer

    @property
    def adapter_is_right(self) -> bool:
        return self.adapter.text.strip() == self.row.answer


@dataclass(frozen=True)
class Round:
    """All exchanges, how long they took together, and which adapters shared a step."""

    exchanges: Sequence[Exchange]
    seconds: float
    mixed: Mapping[str, int]  # tokens by adapter in the most mixed step
    num_mixed: int  # steps with more than one adapter, or an adapter and the base
    num_steps: int

    @property
    def completion_tokens(self) -> int:
        answers = [a for exchange in self.exchanges for a in (exchange.base, exchange.adapter)]
        return sum(answer.usage.completion for answer in answers)


async def ask_all(
    url: str, base: str, questions: Mapping[Task, Sequence[Row]], instructions: Mapping[Task, str]
) -> Round:
    """Ask everything concurrently. The base gets the hat's system prompt too: a fair chance."""
    async with AsyncHatstand(url) as client:
        jobs = [
            _exchange(client, base, task, row, instructions[task])
            for task, rows in questions.items()
            for row in rows
        ]
        started = time.perf_counter()
        exchanges = await asyncio.gather(*jobs)
        seconds = time.perf_counter() - started
    batches = httpx.get(f"{url}/debug/batches").json()["batches"]
    mixed = [batch for batch in batches if len(batch) > 1]
    return Round(
        exchanges,
        seconds,
        max(batches, key=lambda batch: (len(batch), sum(batch.values())), default={}),
        len(mixed),
        len(batches),
    )


async def _exchange(
    client: AsyncHatstand, base: str, task: Task, row: Row, instruction: str
) -> Exchange:
    question = {"role": "user", "content": row.question}
    instructed: Conversation = [{"role": "system", "content": instruction}, question]
    from_base, from_adapter = await asyncio.gather(
        client.chat(base, instructed, temperature=0, max_tokens=MAX_TOKENS),
        client.chat(task.name, [question]),
    )
    return Exchange(task, row, from_base, from_adapter)
