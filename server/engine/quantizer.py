"""bitsandbytes, imported without torch's compiler.

On import it hands four spare functions, for devices that it has no kernels for, to `torch.compile`,
which brings Dynamo and Inductor: two of the four seconds in which a server starts. Here they are
compiled once they are called. Its other functions it registers with torch, which wraps each so that
Dynamo leaves it alone, and brings Dynamo for that at the first call: here they stay as they are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache, partial
from typing import Any

import torch

__all__ = ["bitsandbytes"]

Function = Callable[..., Any]


def _compiled_when_called(function: Function | None = None, **options: Any) -> Function:
    """What `torch.compile` returns, before it has compiled anything."""
    if function is None:
        return partial(_compiled_when_called, **options)

    @cache
    def compiled() -> Function:
        return torch.compile(function, **options)

    return lambda *arguments, **named: compiled()(*arguments, **named)


@contextmanager
def _compiling_later() -> Iterator[None]:
    compile_now, keep_off = torch.compile, torch._disable_dynamo  # type: ignore[attr-defined]
    torch.compile = _compiled_when_called  # type: ignore[assignment]
    torch._disable_dynamo = _as_it_is  # type: ignore[attr-defined, assignment]
    try:
        yield
    finally:
        torch.compile = compile_now
        torch._disable_dynamo = keep_off  # type: ignore[attr-defined]


def _as_it_is(function: Function) -> Function:
    """What keeps Dynamo off a function, where there is no Dynamo."""
    return function


with _compiling_later():
    import bitsandbytes.functional as bitsandbytes
