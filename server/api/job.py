"""One HTTP request on its way through the engine."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from server.engine.request import GenerationRequest
from server.tools import Toolbox

from .models import ServedModel
from .parameters import Parameters


@dataclass(frozen=True)
class Echo:
    """A prompt as an answer repeats it; `first` is its first token's text, which has no score."""

    text: str
    first: str


@dataclass(frozen=True)
class Job:
    """One HTTP request on its way through the engine.

    sequences: for each prompt in turn, as many as the body has candidates. echoes: what each
    prompt's answers begin with, if the body asks for that. toolbox: what they may call.
    """

    id: str
    model: ServedModel
    body: Parameters
    sequences: tuple[GenerationRequest, ...]
    echoes: tuple[Echo, ...] = ()
    toolbox: Toolbox | None = None
    created: int = field(default_factory=lambda: int(time.time()))  # Unix seconds
    arrived: float = field(default_factory=time.monotonic)

    def leader_of(self, index: int) -> int:
        """The first sequence of that one's prompt."""
        return index - index % self.body.num_candidates

    def prompt_of(self, choice: int) -> tuple[int, ...]:
        """The tokens that a choice of the answer continues."""
        return self.sequences[self._first(choice)].prompt_token_ids

    def echo_of(self, choice: int) -> Echo | None:
        """What a choice of the answer begins with."""
        return self.echoes[choice // self.body.num_choices] if self.echoes else None

    def _first(self, choice: int) -> int:
        return choice // self.body.num_choices * self.body.num_candidates
