"""Thin senders, sync and async, around the values of `clients.messages`."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Unpack

import httpx

from . import messages
from .errors import ConnectionFailed, HatstandError, RequestTimedOut, StreamFailed, api_error
from .messages import Answer, Conversation, Event, Model, Request, SamplingOptions

DEFAULT_URL = "http://127.0.0.1:8000"
DEFAULT_TIMEOUT = 600.0  # seconds between two bytes of an answer


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

    `transport` is httpx's: tests pass `httpx.MockTransport`.
    """

    def __init__(
        self,
        url: str = DEFAULT_URL,
        *,
        api_key: str | None = None,
        timeout: float = DEFAULT_TIMEOUT,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        self.url = url.rstrip("/")
        self._http = httpx.Client(
            base_url=self.url,
            headers=_headers(api_key),
            timeout=_timeout(timeout),
            transport=transport,
        )

    def __repr__(self) -> str:
        return f"Hatstand({self.url!r})"

    def __enter__(self) -> Hatstand:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._http.close()

    def chat(
        self, model: str, conversation: Conversation, **options: Unpack[SamplingOptions]
    ) -> Answer:
        """Ask, and wait for the whole answer."""
        reply = self._send(messages.chat_request(model, conversation, options))
        return messages.parse_answer(reply.json(), reply.headers)

    @contextlib.contextmanager
    def stream(
        self, model: str, conversation: Conversation, **options: Unpack[SamplingOptions]
    ) -> Iterator[ChatStream]:
        """Ask, and read the answer as it is made. Leaving the block early stops the server."""
        request = messages.chat_request(model, conversation, options, stream=True)
        with (
            _translated(self.url),
            self._http.stream(request.method, request.path, json=request.body) as reply,
        ):
            if reply.is_error:
                reply.read()
                _check(reply)
            yield ChatStream(**_who(reply), _events=_events(reply))

    def complete(
        self, model: str, prompt: str | Sequence[int], **options: Unpack[SamplingOptions]
    ) -> Answer:
        """Continue a prompt, given as text or as token ids."""
        reply = self._send(messages.completion_request(model, prompt, options))
        return messages.parse_answer(reply.json(), reply.headers)

    def models(self) -> list[Model]:
        """What `model` may name: the base first."""
        return messages.parse_models(self._send(Request("GET", "/v1/models")).json())

    def load(self, name: str, *, pin: bool = False) -> str:
        """Load an adapter before it is asked for (admin). Returns what the server says."""
        return self._send(messages.load_request(name, pin=pin)).text

    def unload(self, name: str) -> str:
        """Unload an adapter (admin). Returns what the server says."""
        return self._send(messages.unload_request(name)).text

    def _send(self, request: Request) -> httpx.Response:
        with _translated(self.url):
            reply = self._http.request(request.method, request.path, json=request.body)
        return _check(reply)


class AsyncHatstand:
    """The same calls, to be awaited."""

    def __init__(
        self,
        url: str = DEFAULT_URL,
        *,
        api_key: str | None = None,
        timeout: float = DEFAULT_TIMEOUT,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self.url = url.rstrip("/")
        self._http = httpx.AsyncClient(
            base_url=self.url,
            headers=_headers(api_key),
            timeout=_timeout(timeout),
            transport=transport,
        )

    def __repr__(self) -> str:
        return f"AsyncHatstand({self.url!r})"

    async def __aenter__(self) -> AsyncHatstand:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        await self._http.aclose()

    async def chat(
        self, model: str, conversation: Conversation, **options: Unpack[SamplingOptions]
    ) -> Answer:
        """Ask, and wait for the whole answer."""
        reply = await self._send(messages.chat_request(model, conversation, options))
        return messages.parse_answer(reply.json(), reply.headers)

    @contextlib.asynccontextmanager
    async def stream(
        self, model: str, conversation: Conversation, **options: Unpack[SamplingOptions]
    ) -> AsyncIterator[AsyncChatStream]:
        """Ask, and read the answer as it is made. Leaving the block early stops the server."""
        request = messages.chat_request(model, conversation, options, stream=True)
        with _translated(self.url):
            async with self._http.stream(request.method, request.path, json=request.body) as reply:
                if reply.is_error:
                    await reply.aread()
                    _check(reply)
                yield AsyncChatStream(**_who(reply), _events=_async_events(reply))

    async def complete(
        self, model: str, prompt: str | Sequence[int], **options: Unpack[SamplingOptions]
    ) -> Answer:
        """Continue a prompt, given as text or as token ids."""
        reply = await self._send(messages.completion_request(model, prompt, options))
        return messages.parse_answer(reply.json(), reply.headers)

    async def models(self) -> list[Model]:
        """What `model` may name: the base first."""
        return messages.parse_models((await self._send(Request("GET", "/v1/models"))).json())

    async def load(self, name: str, *, pin: bool = False) -> str:
        """Load an adapter before it is asked for (admin). Returns what the server says."""
        return (await self._send(messages.load_request(name, pin=pin))).text

    async def unload(self, name: str) -> str:
        """Unload an adapter (admin). Returns what the server says."""
        return (await self._send(messages.unload_request(name))).text

    async def _send(self, request: Request) -> httpx.Response:
        with _translated(self.url):
            reply = await self._http.request(request.method, request.path, json=request.body)
        return _check(reply)


def _headers(api_key: str | None) -> dict[str, str]:
    return {} if api_key is None else {"Authorization": f"Bearer {api_key}"}


def _timeout(seconds: float) -> httpx.Timeout:
    return httpx.Timeout(seconds, connect=min(seconds, 10.0))


def _check(reply: httpx.Response) -> httpx.Response:
    """Return a good reply; raise the ApiError that a bad one stands for."""
    if not reply.is_error:
        return reply
    try:
        body: Any = reply.json()
    except ValueError:
        body = reply.text  # something in front of the server answered
    raise api_error(reply.status_code, body, reply.headers)


def _who(reply: httpx.Response) -> Mapping[str, str]:
    return {
        "adapter": reply.headers.get("x-hatstand-adapter", ""),
        "digest": reply.headers.get("x-hatstand-digest", ""),
    }


def _events(reply: httpx.Response) -> Iterator[Event]:
    for line in reply.iter_lines():
        if (event := messages.parse_event(line)) is not None:
            yield event


async def _async_events(reply: httpx.Response) -> AsyncIterator[Event]:
    async for line in reply.aiter_lines():
        if (event := messages.parse_event(line)) is not None:
            yield event


@contextlib.contextmanager
def _translated(url: str) -> Iterator[None]:
    """httpx's errors as ours."""
    try:
        yield
    except HatstandError:
        raise
    except httpx.ConnectError as error:
        raise ConnectionFailed(
            f"No server answers at {url}. Start one with `hatstand serve --base …`, or name "
            "another address."
        ) from error
    except httpx.TimeoutException as error:
        raise RequestTimedOut(f"{url} took too long to answer.") from error
    except httpx.TransportError as error:
        raise StreamFailed(f"The connection to {url} broke: {error}.") from error
