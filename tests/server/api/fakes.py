"""A fake engine, base and registry behind the doors that the real ones use."""

from __future__ import annotations

import asyncio
import math
import threading
import time
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime

import anyio
import httpx
import uvicorn
from starlette.applications import Starlette

from registry.bases import BaseRecord
from registry.canary.record import Route, Split
from registry.canary.reports import Report
from registry.errors import AdapterNotFound, AliasNotFound, VersionNotFound
from registry.hats import Hat, Sampling
from registry.lock import GoldenPrompt, Lock
from registry.references import Reference
from registry.snapshot import Snapshot
from registry.tracing import Tracing
from server.api.app import create_app
from server.api.readiness import Readiness
from server.api.responses import ResponseStore
from server.engine.load_times import LoadTimes
from server.engine.request import (
    AdapterMove,
    AdapterRef,
    EngineStats,
    FinishReason,
    GenerationDelta,
    GenerationRequest,
    ResidentAdapter,
    SequenceTimes,
    TokenLogprob,
)
from server.errors import AdapterLoadError, ServingError
from server.settings import ApiSettings
from tests.support.bytes import byte_tokenizer

BASE_FINGERPRINT = "sha256:" + "ba5e" * 16
TEMPLATE = (
    "{% for m in messages %}"
    "<{{ m['role'] }}>{{ m['content'] }}"
    "{% endfor %}{% if add_generation_prompt %}<answer>{% endif %}"
)


class FakeEngine:
    """Answers every sequence with `words`, one token each; remembers what it was asked."""

    def __init__(self, words: Sequence[str] = ("Hello", " wor", "ld", "!")) -> None:
        self.words = tuple(words)
        self.requests: list[GenerationRequest] = []
        self.aborted: list[str] = []
        self.loaded: dict[str, ResidentAdapter] = {}
        self.loading: list[AdapterRef] = []
        self.admission_error: ServingError | None = None
        self.load_error = ""
        self.error_after: tuple[int, Exception] | None = None
        self.delay = 0.0  # seconds before each token
        self.gate: asyncio.Event | None = None  # held before the second token until set
        self.ending: FinishReason = "stop"
        self.scores = (-0.5,)  # each token's probability, by the sequence's place in its request
        self.max_context = 64
        self.num_running = 0
        self.is_healthy = True
        self.is_stopped = False

    async def generate(self, request: GenerationRequest) -> AsyncGenerator[GenerationDelta, None]:
        if self.admission_error is not None:
            raise self.admission_error
        self.requests.append(request)
        self.num_running += 1
        finished = False
        try:
            if request.pooling is not None:
                await asyncio.sleep(self.delay)
                finished = True
                yield _embedded(request)
                return
            words = self.words[: request.params.max_tokens]
            for index, word in enumerate(words):
                await asyncio.sleep(self.delay)
                if index == 1 and self.gate is not None:
                    await self.gate.wait()
                if self.error_after is not None and index == self.error_after[0]:
                    raise self.error_after[1]
                is_last = index == len(words) - 1
                finished = is_last
                yield self._delta(request, index, word, is_last)
        finally:
            self.num_running -= 1
            if not finished:
                self.aborted.append(request.request_id)

    def _delta(
        self, request: GenerationRequest, index: int, word: str, is_last: bool
    ) -> GenerationDelta:
        logprobs: tuple[TokenLogprob, ...] = ()
        if request.params.logprobs is not None:
            others = ((9, "?", -2.0), (8, "\ufffd", float("-inf")))[: request.params.logprobs]
            place = int(request.request_id.rpartition("-")[2]) % len(self.scores)
            logprobs = (TokenLogprob(index, word, self.scores[place], others),)
        cut = len(self.words) > request.params.max_tokens
        ending: FinishReason = "length" if cut else self.ending
        return GenerationDelta(
            text=word,
            token_ids=(index,),
            logprobs=logprobs,
            prompt_logprobs=_scored(request) if index == 0 else (),
            finish_reason=ending if is_last else None,
            num_prompt_tokens=len(request.prompt_token_ids),
            num_cached_tokens=2,
            num_completion_tokens=index + 1,
            times=_times() if index == 0 else None,
        )

    def stats(self) -> EngineStats:
        return EngineStats(
            num_running=self.num_running,
            num_waiting=3,
            max_waiting=10,
            num_blocks=100,
            num_free_blocks=75,
            max_slots=4,
            max_context=self.max_context,
            resident=tuple(self.loaded.values()),
            loading=(AdapterRef("sha256:late", "late@1"), *self.loading),
            load_times=LoadTimes().plus(0.2).plus(0.4),
            num_steps=7,
            num_generated_tokens=42,
            num_adapter_evictions=1,
            recent_moves=(AdapterMove(1_767_000_000.0, "sql@2", "slot"),),
            recent_batches=({"base": 1, "sql@2": 3},),
        )

    async def load_adapter(self, adapter: AdapterRef, *, pin: bool = False) -> None:
        if self.load_error:
            raise AdapterLoadError(self.load_error)
        self.loaded[adapter.digest] = ResidentAdapter(
            adapter.digest, adapter.label, level="slot", rank=8, pinned=pin, num_running=0
        )

    async def unload_adapter(self, digest: str) -> bool:
        return self.loaded.pop(digest, None) is not None

    async def drain(self, timeout: float) -> None:
        with anyio.move_on_after(timeout):
            while self.num_running:
                await asyncio.sleep(0.01)

    def stop(self) -> None:
        self.is_stopped = True


def _times() -> SequenceTimes:
    """As of a sequence that waited a millisecond for its adapter, then was admitted."""
    now = time.monotonic()
    return SequenceTimes(now - 0.002, now - 0.0015, now - 0.0005, now - 0.0005, slot=3)


def _embedded(request: GenerationRequest) -> GenerationDelta:
    """A vector of length 1 that tells the first token and the pooling."""
    assert request.pooling is not None
    angle = request.prompt_token_ids[0] / 1000
    pair = (math.cos(angle), math.sin(angle))
    vector = (*(pair if request.pooling == "mean" else reversed(pair)), *[0.0] * 6)
    return GenerationDelta(
        text="",
        token_ids=(),
        finish_reason="stop",
        num_prompt_tokens=len(request.prompt_token_ids),
        embedding=vector,
    )


def _scored(request: GenerationRequest) -> tuple[TokenLogprob, ...]:
    if request.params.prompt_logprobs is None:
        return ()
    return tuple(TokenLogprob(t, chr(t), -1.0) for t in request.prompt_token_ids[1:])


class FakeTokenizer:
    """One token per character, and `bos` before plain text if it is set."""

    bos: int | None = None

    def __init__(self) -> None:
        self.special: dict[str, int] = {}

    chat_template: str | None = TEMPLATE
    bos_token: str | None = None
    eos_token: str | None = "<end>"
    eos_token_ids = frozenset({257})
    vocab_size = 1000

    def encode(self, text: str) -> list[int]:
        return [ord(character) % self.vocab_size for character in text]

    def encode_plain(self, text: str) -> list[int]:
        return [*([] if self.bos is None else [self.bos]), *self.encode(text)]

    def decode(self, ids: list[int]) -> str:
        return "".join(map(chr, ids))

    def verbatim(self, ids: list[int]) -> str:
        return self.decode(ids)

    def token_text(self, token_id: int) -> str:
        return chr(token_id)

    def special_token_id(self, word: str) -> int | None:
        return self.special.get(word)

    def serialized(self) -> str:
        """Another vocabulary, one token per byte: enough to make grammars from."""
        text: str = byte_tokenizer().to_str()
        return text


class FakeBase:
    name = "tiny-mistral"
    max_context = 128

    def __init__(self) -> None:
        self.tokenizer = FakeTokenizer()
        self.record = BaseRecord(
            name=self.name,
            source="test",
            fingerprint=BASE_FINGERPRINT,
            quantization={},
            config={
                "vocab_size": 1000,
                "hidden_size": 8,
                "intermediate_size": 8,
                "num_hidden_layers": 1,
                "num_attention_heads": 1,
            },
        )


@dataclass(frozen=True)
class FakeVersion:
    name: str
    number: int
    hat: Hat = field(default_factory=Hat)
    base_fingerprint: str = BASE_FINGERPRINT
    created_at: datetime = datetime(2026, 1, 2, tzinfo=UTC)

    @property
    def ref(self) -> str:
        return f"{self.name}@{self.number}"

    @property
    def digest(self) -> str:
        return "sha256:" + f"{sum(self.name.encode()) * 100 + self.number:064x}"


@dataclass(frozen=True)
class FakeAdapter:
    name: str


class FakeCanaries:
    """Keeps what servers report."""

    def __init__(self) -> None:
        self.reports: list[Report] = []

    def report(self, name: str, alias: str, report: Report) -> None:
        assert name
        assert alias
        self.reports.append(report)


class FakeRegistry:
    """Versions and aliases in dictionaries."""

    def __init__(self) -> None:
        self.canaries = FakeCanaries()
        self.running: dict[tuple[str, str], Split] = {}
        self.lines: dict[str, list[FakeVersion]] = {}
        self.targets: dict[tuple[str, str], FakeVersion] = {}
        self.leases: list[tuple[str, str, float]] = []
        self.golden: dict[str, tuple[GoldenPrompt, ...]] = {}  # by "sql@1"

    def push(self, name: str, hat: Hat | None = None, *, base: str = BASE_FINGERPRINT) -> None:
        line = self.lines.setdefault(name, [])
        line.append(FakeVersion(name, len(line) + 1, hat or Hat(), base))

    def set_alias(self, name: str, alias: str, number: int) -> None:
        self.targets[name, alias] = self.lines[name][number - 1]

    def resolve(self, reference: Reference) -> FakeVersion:
        line = self.lines.get(reference.name)
        if line is None:
            raise AdapterNotFound(f"no adapter {reference.name}")
        if reference.alias is not None:
            if (reference.name, reference.alias) not in self.targets:
                raise AliasNotFound(f"{reference.name} has no alias {reference.alias}")
            return self.targets[reference.name, reference.alias]
        wanted = reference.number or reference.digest
        if wanted is None:
            return self.targets.get((reference.name, "prod"), line[-1])
        for version in line:
            if version.number == wanted or version.digest.startswith(str(wanted)):
                return version
        raise VersionNotFound(f"{reference.name} has no version {wanted}")

    def route(self, reference: Reference) -> Route:
        is_movable = reference.number is None and reference.digest is None
        alias = reference.alias or "prod"
        split = self.running.get((reference.name, alias)) if is_movable else None
        return Route(self.resolve(reference), split)  # type: ignore[arg-type]

    def snapshot(self, name: str) -> Snapshot:
        self.resolve(Reference(name))
        splits = tuple(split for (owner, _), split in self.running.items() if owner == name)
        return Snapshot(self.lines[name][-1], self.aliases(name), splits)  # type: ignore[arg-type]

    def hat(self, version: FakeVersion) -> Hat:
        return version.hat

    def lock(self, version: FakeVersion) -> Lock:
        return Lock(
            base=FakeBase().record,
            adapter_dtype="float32",
            rank=8,
            target_modules=("q_proj",),
            golden=self.golden.get(version.ref, ()),
        )

    def adapters(self) -> list[FakeAdapter]:
        return [FakeAdapter(name) for name in self.lines]

    def aliases(self, name: str) -> dict[str, FakeVersion]:
        return {alias: to for (owner, alias), to in self.targets.items() if owner == name}

    def lease(self, digest: str, holder: str, seconds: float) -> None:
        self.leases.append((digest, holder, seconds))


@dataclass
class Site:
    """One server's parts, to look into and to change."""

    engine: FakeEngine
    registry: FakeRegistry
    base: FakeBase
    readiness: Readiness
    app: Starlette


def make_site(
    settings: ApiSettings | None = None,
    engine: FakeEngine | None = None,
    responses: ResponseStore | None = None,
    tracing: Tracing | None = None,
) -> Site:
    """A server with two versions of `sql` (prod → 1), one `pirate`, and another base's `odd`."""
    registry = FakeRegistry()
    registry.push("sql", Hat(system_prompt="Write SQL.", stop=(";",)))
    registry.push("sql", Hat(sampling=Sampling(temperature=0.2, max_tokens=3)))
    registry.push("pirate")
    registry.push("odd", base="sha256:" + "0dd" * 21 + "0")
    registry.set_alias("sql", "prod", 1)
    engine, base = engine or FakeEngine(), FakeBase()
    settings = settings or ApiSettings()
    readiness = Readiness(engine, settings.pins)
    app = create_app(
        engine,
        registry,
        base,
        settings,
        readiness=readiness,
        responses=responses,
        tracing=tracing,
    )
    return Site(engine, registry, base, readiness, app)


@asynccontextmanager
async def open_client(
    app: Starlette, headers: dict[str, str] | None = None
) -> AsyncIterator[httpx.AsyncClient]:
    """A client straight into the app, inside its lifespan."""
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(app.router.lifespan_context(app))
        transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)
        client = httpx.AsyncClient(transport=transport, base_url="http://test", headers=headers)
        yield await stack.enter_async_context(client)


class LiveServer:
    """The app behind a real uvicorn on a free port, in its own thread."""

    def __init__(self, site: Site) -> None:
        self.site = site
        config = uvicorn.Config(site.app, port=0, log_level="warning", lifespan="on", ws="none")
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run, daemon=True)

    @property
    def port(self) -> int:
        port: int = self._server.servers[0].sockets[0].getsockname()[1]
        return port

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def __enter__(self) -> LiveServer:
        self._thread.start()
        while not self._server.started:
            self._thread.join(0.01)
        return self

    def __exit__(self, *_: object) -> None:
        self._server.should_exit = True
        self._thread.join(10)
