"""`If-Match` and `If-None-Match`: what the caller believes to be so."""

from __future__ import annotations

from starlette.requests import Request

from registry.aliases import ABSENT
from registry.errors import InvalidRequest, RegistryError


class PreconditionNeeded(RegistryError):
    """What others may be changing too is changed by compare-and-set only."""

    status = 428
    code = "precondition_required"


def expected_of(request: Request, *, must: bool = True) -> str | None:
    """The ETag that the caller knows, ABSENT for what is to be new, None for `If-Match: *`.

    Raises `PreconditionNeeded` where nothing is said and something `must` be.
    """
    match, none_match = request.headers.get("if-match"), request.headers.get("if-none-match")
    if none_match is not None:
        if none_match.strip() != "*":
            raise InvalidRequest("If-None-Match takes * only", param="if-none-match")
        return ABSENT
    if match is None:
        if not must:
            return None
        raise PreconditionNeeded(
            "say where the alias points now: If-Match with the ETag that GET gave, "
            "If-None-Match: * for a new alias, or If-Match: * for wherever",
            param="if-match",
        )
    expected = match.strip().strip('"')
    return None if expected == "*" else expected
