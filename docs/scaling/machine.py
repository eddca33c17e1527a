"""What one replica can do, as it was measured."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Speed:
    """Seconds. A step takes a fixed part, one for each row and one for each adapter among them.

    Prompts take a fixed part and one for each token, in a pass of their own or in that of the rows.
    A request's way over HTTP is longer the more streams run beside it.
    """

    step: float
    per_row: float
    per_adapter: float
    prompt: float  # a pass over prompts alone, whatever their length
    per_prompt_token: float
    beside: float  # what prompts add to a step of rows, whatever their length
    per_token_beside: float
    swap: float  # host memory to slot
    load: float  # disk to host memory
    request: float = 0.0  # from the socket to the engine and back, where nothing else runs
    per_stream: float = 0.0  # more of that for each stream that runs
    http_spread: float = 0.0  # standard deviation of that
    swap_stops: bool = False  # nothing else runs while a slot is written

    def of_step(self, rows: int, adapters: int, prompt_tokens: int) -> float:
        """One step of the engine: the rows that decode, and the prompts if there are."""
        if not rows:
            return self.prompt + self.per_prompt_token * prompt_tokens if prompt_tokens else 0.0
        seconds = self.step + self.per_row * rows + self.per_adapter * adapters
        if not prompt_tokens:
            return seconds
        return seconds + self.beside + self.per_token_beside * prompt_tokens

    def over_http(self, streams: int) -> float:
        """What a request takes to the engine and back beside so many streams."""
        return self.request + self.per_stream * streams


@dataclass(frozen=True)
class Machine:
    """A replica's limits; the names are those of `hatstand serve` and of the engine's settings."""

    speed: Speed
    slots: int
    max_batch: int
    chunk: int  # prompt tokens of a step beside rows that decode
    lone_chunk: int  # of a step without any
    host_adapters: int  # that host memory holds
    loaders: int = 4
    min_stay: float = 0.25  # seconds in a slot before an adapter may be asked to leave
    leaving: int = 2  # of so many slots one may be cleared at a time for adapters that wait


# docs/benchmarks.md, one H200, Mistral-7B in NF4, exact, rank 16: steps of 1/1 2.98 ms, 16/16 3.59,
# 64/1 4.68, 64/64 5.35, 128/64 7.27; first tokens of 128 and 1,024 tokens alone 7.2 and 31.6 ms;
# swap 2.06 ms; cold 8.8 ms.
H200 = Machine(
    speed=Speed(
        step=2.94e-3,
        per_row=0.027e-3,
        per_adapter=0.0106e-3,
        prompt=3.71e-3,
        per_prompt_token=0.02723e-3,
        beside=3.71e-3,
        per_token_beside=0.02723e-3,
        swap=2.06e-3,
        load=6.7e-3,
        request=1.5e-3,
    ),
    slots=64,
    max_batch=128,
    chunk=2048,
    lone_chunk=4096,
    host_adapters=1000,  # of 84 MB
)
