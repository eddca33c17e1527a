"""What a caller asks for in headers, beside the body."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from starlette.datastructures import Headers

from server.errors import InvalidRequest

ColdPolicy = Literal["wait", "reject", "stale", "base"]
POLICIES: tuple[ColdPolicy, ...] = get_args(ColdPolicy)

ADAPTER = "x-hatstand-adapter"
COLD = "x-hatstand-cold"
SESSION = "x-hatstand-session"


@dataclass(frozen=True)
class Wishes:
    """`adapter` ("": none) is what a gateway chose; requests of one `session` stay on one side of
    a canary; `cold` says what to do when the adapter is not in a slot.
    """

    adapter: str = ""
    session: str = ""
    cold: ColdPolicy = "wait"

    @classmethod
    def read(cls, headers: Headers) -> Wishes:
        """Raises InvalidRequest, which names the header."""
        cold = headers.get(COLD, "wait")
        if cold not in POLICIES:
            raise InvalidRequest(
                f"The header {COLD} takes {', '.join(POLICIES)}, not {cold[:64]!r}.", param=COLD
            )
        return cls(headers.get(ADAPTER, ""), headers.get(SESSION, ""), cold)
