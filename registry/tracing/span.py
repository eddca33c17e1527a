"""What the code says about a request, whoever writes it down, or nobody.

Nothing here needs OpenTelemetry. Where no trace is kept, every call lands in `NO_SPAN`.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from contextvars import ContextVar
from typing import Literal, Protocol

Kind = Literal["server", "client", "internal"]
Value = str | bool | int | float | Sequence[str]
Attributes = Mapping[str, Value]


class Span(Protocol):
    """A part of a request. Times are `time.monotonic()` seconds; None is now."""

    @property
    def trace_id(self) -> str:
        """32 hex digits; "" where there is no trace."""
        ...

    @property
    def is_recorded(self) -> bool:
        """Whether anybody will read it: no need to put together what it would say otherwise."""
        ...

    def begin(
        self,
        name: str,
        *,
        kind: Kind = "internal",
        at: float | None = None,
        attributes: Attributes | None = None,
    ) -> Span:
        """A part of this part, which its beginner ends."""
        ...

    def rename(self, name: str) -> None: ...
    def add(self, attributes: Attributes) -> None: ...
    def event(self, name: str, at: float | None = None) -> None: ...

    def fail(self, kind: str, message: str = "") -> None:
        """Say that it went wrong: `kind` is for programs, `message` for people."""
        ...

    def end(self, at: float | None = None) -> None:
        """The last that is said of it; a second time means nothing."""
        ...

    def headers(self) -> dict[str, str]:
        """What tells another process that its work is part of this (W3C Trace Context)."""
        ...


class Tracing(Protocol):
    """Where spans go."""

    def begin(self, name: str, headers: Mapping[str, str], attributes: Attributes) -> Span:
        """A request that comes in; `headers` say of which trace it is part, if of any."""
        ...

    def close(self) -> None:
        """Hand over what is still here, and stop."""
        ...


class _NoSpan:
    """Of a request that nobody traces."""

    trace_id = ""
    is_recorded = False

    def begin(
        self,
        name: str,  # noqa: ARG002
        *,
        kind: Kind = "internal",  # noqa: ARG002
        at: float | None = None,  # noqa: ARG002
        attributes: Attributes | None = None,  # noqa: ARG002
    ) -> Span:
        return self

    def rename(self, name: str) -> None: ...
    def add(self, attributes: Attributes) -> None: ...
    def event(self, name: str, at: float | None = None) -> None: ...
    def fail(self, kind: str, message: str = "") -> None: ...
    def end(self, at: float | None = None) -> None: ...

    def headers(self) -> dict[str, str]:
        return {}


NO_SPAN: Span = _NoSpan()
_current: ContextVar[Span] = ContextVar("current_span", default=NO_SPAN)


def current_span() -> Span:
    """The part that this task or thread works on."""
    return _current.get()


@contextlib.contextmanager
def entered(span: Span) -> Iterator[None]:
    """Work on a span while the context lasts."""
    token = _current.set(span)
    try:
        yield
    finally:
        _current.reset(token)


@contextlib.contextmanager
def ended(span: Span) -> Iterator[Span]:
    """A span lasts as long as the context, and fails with it."""
    try:
        yield span
    except Exception as error:
        span.fail(type(error).__qualname__, str(error))
        raise
    finally:
        span.end()


@contextlib.contextmanager
def within(parent: Span, name: str, attributes: Attributes) -> Iterator[Span]:
    """Work on a part of `parent` that lasts as long as the context, and fails with it."""
    span = parent.begin(name, attributes=attributes)
    with ended(span), entered(span):
        yield span
