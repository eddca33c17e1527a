"""Thin senders, sync and async, around the values of `clients.calls` and `clients.messages`."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Unpack

import httpx

from . import calls, messages
from .calls import Call, T
from .embeddings import EmbeddingOptions, Embeddings
from .messages import Answer, Conversation, Event, Model
from .options import ChatOptions, CompletionOptions
from .registry_client import AsyncRegistryClient, RegistryClient
from .transport import (
    DEFAULT_RETRIES,
    DEFAULT_TIMEOUT,
    DEFAULT_URL,
    check,
    client_options,
    outcome,
    translated,
)


@dataclass(frozen=True)
class ChatStream:
    """A chat's answer as it is made. Iterate it once, inside its `with` block."""

    adapter: str
    digest: str
    _events: Iterator[Event]

    def __iter__(self) -> Iterator[Event]:
        return self._events


@dataclass(frozen=True)
class AsyncChatStream:
    """The same, for `async for`."""

    adapter: str
    digest: str
    _events: AsyncIterator[Event]

    def __aiter__(self) -> AsyncIterator[Event]:
        return self._events


class Hatstand:
    """A server, by its URL. Every call raises a HatstandError when it does not work out.

    A full queue and a server that starts or drains are asked again `retries` times, after as long
    as they say. `registry_path` is where its registry is: "" for one that stands alone. `transport`
    is httpx's: tests pass `httpx.MockTransport`.
    """

    def __init__(
        self,
        url: str = DEFAULT_URL,
        *,
        api_key: str | None = None,
        timeout: float = DEFAULT_TIMEOUT,
        retries: int = DEFAULT_RETRIES,
        registry_path: str = "/registry",
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        self.url = url.rstrip("/")
        self._registry_path = registry_path
        self._http = httpx.Client(**client_options(url, api_key, timeout, retries, transport))

    def __repr__(self) -> str:
        return f"Hatstand({self.url!r})"

    def __enter__(self) -> Hatstand:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._http.close()

    def chat(
        self, model: str, conversation: Conversation, **options: Unpack[ChatOptions]
    ) -> Answer:
        """Ask, and wait for the whole answer."""
        return self._do(calls.chat(model, conversation, options))

    @contextlib.contextmanager
    def stream(
        self, model: str, conversation: Conversation, **options: Unpack[ChatOptions]
    ) -> Iterator[ChatStream]:
        """Ask, and read the answer as it is made. Leaving the block early stops the server."""
        request = messages.chat_request(model, conversation, options, stream=True)
        with (
            translated(self.url),
            self._http.stream(request.method, request.path, json=request.body) as reply,
        ):
            if reply.is_error:
                reply.read()
                check(reply)
            yield ChatStream(**_who(reply), _events=_events(reply))

    def complete(
        self, model: str, prompt: str | Sequence[int], **options: Unpack[CompletionOptions]
    ) -> Answer:
        """Continue a prompt, given as text or as token ids."""
        return self._do(calls.complete(model, prompt, options))

    def embed(
        self, model: str, texts: str | Sequence[str], **options: Unpack[EmbeddingOptions]
    ) -> Embeddings:
        """A vector of length 1 for each text."""
        return self._do(calls.embed(model, texts, options))

    def models(self) -> list[Model]:
        """What `model` may name: the base first."""
        return self._do(calls.models())

    def model(self, name: str) -> Model:
        """What one name means now. Raises NotFound."""
        return self._do(calls.model(name))

    def load(self, name: str, *, pin: bool = False) -> str:
        """Load an adapter before it is asked for (admin). Returns what the server says."""
        return self._do(calls.load(name, pin=pin))

    def unload(self, name: str) -> str:
        """Unload an adapter (admin). Returns what the server says."""
        return self._do(calls.unload(name))

    def state(self) -> Mapping[str, Any]:
        """What the machine holds and does: queue, KV blocks, slots, tokens by adapter."""
        return self._do(calls.state())

    @property
    def registry(self) -> RegistryClient:
        """The registry that this server carries."""
        return RegistryClient(self._do, root=self._registry_path)

    def _do(self, call: Call[T]) -> T:
        request = call.request
        with translated(self.url):
            reply = self._http.request(
                request.method, request.path, json=request.body, headers=dict(request.headers)
            )
        return outcome(call, reply)


class AsyncHatstand:
    """The same calls, to be awaited."""

    def __init__(
        self,
        url: str = DEFAULT_URL,
        *,
        api_key: str | None = None,
        timeout: float = DEFAULT_TIMEOUT,
        retries: int = DEFAULT_RETRIES,
        registry_path: str = "/registry",
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self.url = url.rstrip("/")
        self._registry_path = registry_path
        self._http = httpx.AsyncClient(**client_options(url, api_key, timeout, retries, transport))

    def __repr__(self) -> str:
        return f"AsyncHatstand({self.url!r})"

    async def __aenter__(self) -> AsyncHatstand:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        await self._http.aclose()

    async def chat(
        self, model: str, conversation: Conversation, **options: Unpack[ChatOptions]
    ) -> Answer:
        """Ask, and wait for the whole answer."""
        return await self._do(calls.chat(model, conversation, options))

    @contextlib.asynccontextmanager
    async def stream(
        self, model: str, conversation: Conversation, **options: Unpack[ChatOptions]
    ) -> AsyncIterator[AsyncChatStream]:
        """Ask, and read the answer as it is made. Leaving the block early stops the server."""
        request = messages.chat_request(model, conversation, options, stream=True)
        with translated(self.url):
            async with self._http.stream(request.method, request.path, json=request.body) as reply:
                if reply.is_error:
                    await reply.aread()
                    check(reply)
                yield AsyncChatStream(**_who(reply), _events=_async_events(reply))

    async def complete(
        self, model: str, prompt: str | Sequence[int], **options: Unpack[CompletionOptions]
    ) -> Answer:
        """Continue a prompt, given as text or as token ids."""
        return await self._do(calls.complete(model, prompt, options))

    async def embed(
        self, model: str, texts: str | Sequence[str], **options: Unpack[EmbeddingOptions]
    ) -> Embeddings:
        """A vector of length 1 for each text."""
        return await self._do(calls.embed(model, texts, options))

    async def models(self) -> list[Model]:
        """What `model` may name: the base first."""
        return await self._do(calls.models())

    async def model(self, name: str) -> Model:
        """What one name means now. Raises NotFound."""
        return await self._do(calls.model(name))

    async def load(self, name: str, *, pin: bool = False) -> str:
        """Load an adapter before it is asked for (admin). Returns what the server says."""
        return await self._do(calls.load(name, pin=pin))

    async def unload(self, name: str) -> str:
        """Unload an adapter (admin). Returns what the server says."""
        return await self._do(calls.unload(name))

    async def state(self) -> Mapping[str, Any]:
        """What the machine holds and does: queue, KV blocks, slots, tokens by adapter."""
        return await self._do(calls.state())

    @property
    def registry(self) -> AsyncRegistryClient:
        """The registry that this server carries."""
        return AsyncRegistryClient(self._do, root=self._registry_path)

    async def _do(self, call: Call[T]) -> T:
        request = call.request
        with translated(self.url):
            reply = await self._http.request(
                request.method, request.path, json=request.body, headers=dict(request.headers)
            )
        return outcome(call, reply)


def _who(reply: httpx.Response) -> Mapping[str, str]:
    return {
        "adapter": reply.headers.get("x-hatstand-adapter", ""),
        "digest": reply.headers.get("x-hatstand-digest", ""),
    }


def _events(reply: httpx.Response) -> Iterator[Event]:
    for line in reply.iter_lines():
        if messages.is_end(line):
            return
        if (event := messages.parse_event(line)) is not None:
            yield event
    raise messages.broken_off()


async def _async_events(reply: httpx.Response) -> AsyncIterator[Event]:
    async for line in reply.aiter_lines():
        if messages.is_end(line):
            return
        if (event := messages.parse_event(line)) is not None:
            yield event
    raise messages.broken_off()
