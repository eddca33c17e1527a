"""What the HTTP layer needs of the rest: narrow doors to engine, base and registry.

The real ones are `server.engine.EngineWorker`, `server.bases.Base` and `registry.Registry`;
tests come in through the same doors with fakes.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from typing import Protocol

from registry.bases import BaseRecord
from registry.canary.record import Route
from registry.hats import Hat
from registry.lock import Lock
from registry.references import Reference
from registry.snapshot import Snapshot
from registry.versions import Version
from server.canary.keeper import Reporting
from server.engine.request import AdapterRef, EngineStats, GenerationDelta, GenerationRequest
from server.proof import rendering


class Engine(Protocol):
    """Sequences in, deltas out. Every method is called on the event loop."""

    def generate(self, request: GenerationRequest) -> AsyncGenerator[GenerationDelta, None]:
        """Stream one sequence; closing the generator aborts it.

        Raises QueueFull, ContextLengthExceeded or AdapterLoadError before the first delta.
        """
        ...

    def stats(self) -> EngineStats: ...

    async def load_adapter(self, adapter: AdapterRef, *, pin: bool = False) -> None:
        """Bring an adapter into host memory and a slot. Raises AdapterLoadError."""
        ...

    async def unload_adapter(self, digest: str) -> bool:
        """Let its sequences finish, then free slot and host copy. False: it was not loaded."""
        ...

    @property
    def is_healthy(self) -> bool:
        """False once the engine's thread has died."""
        ...

    async def drain(self, timeout: float) -> None:
        """Wait up to `timeout` seconds until no sequence is left."""
        ...

    def stop(self) -> None: ...


class Tokenizer(rendering.Tokenizer, Protocol):
    """The base's tokenizer, as far as requests need it.

    `encode` gives the ids of a text as it stands: nothing is added before or after.
    """

    @property
    def vocab_size(self) -> int: ...

    @property
    def eos_token_ids(self) -> frozenset[int]: ...

    def special_token_id(self, word: str) -> int | None:
        """The id of a special token by its text; None if there is none."""
        ...

    def serialized(self) -> str:
        """The text of a tokenizer.json, added tokens included."""
        ...

    def encode_plain(self, text: str) -> list[int]:
        """Token ids of `text`, with the BOS that the tokenizer puts before text, if it does."""
        ...

    def decode(self, ids: list[int]) -> str: ...

    def verbatim(self, ids: list[int]) -> str:
        """The text of the ids, special tokens included."""
        ...

    def token_text(self, token_id: int) -> str:
        """One token's own text, special tokens included."""
        ...


class Base(Protocol):
    """The resident model, as far as requests see it."""

    @property
    def name(self) -> str: ...

    @property
    def record(self) -> BaseRecord: ...

    @property
    def tokenizer(self) -> Tokenizer: ...

    @property
    def max_context(self) -> int: ...


class Named(Protocol):
    """An adapter: a named line of versions."""

    @property
    def name(self) -> str: ...


class AdapterRegistry(Protocol):
    """Where adapters live. Its methods read or write the catalog: keep them off the loop."""

    @property
    def canaries(self) -> Reporting: ...

    def resolve(self, reference: Reference) -> Version: ...

    def route(self, reference: Reference) -> Route: ...

    def snapshot(self, name: str) -> Snapshot: ...

    def hat(self, version: Version) -> Hat: ...

    def lock(self, version: Version) -> Lock: ...

    def adapters(self) -> Sequence[Named]: ...

    def aliases(self, name: str) -> Mapping[str, Version]: ...

    def lease(self, digest: str, holder: str, seconds: float) -> object: ...
