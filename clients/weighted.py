"""Several adapters at once, written as the server's answers name them: "sql@7*0.7+pirate*0.3"."""

from __future__ import annotations

import re
from typing import Any

_PART = re.compile(r"(?P<name>[^*+]+)\*(?P<scale>-?\d+(?:\.\d+)?(?:e-?\d+)?)")


def parts_of(model: str) -> list[dict[str, Any]]:
    """`adapters` of a request; none where the text is an ordinary name."""
    found = [_PART.fullmatch(part) for part in model.split("+")]
    if not all(found):
        return []
    return [{"name": part["name"], "scale": float(part["scale"])} for part in found if part]


def naming(model: str) -> dict[str, Any]:
    """What a body says of its model: a name, or several adapters with the first one's hat."""
    parts = parts_of(model)
    return {"model": parts[0]["name"], "adapters": parts} if parts else {"model": model}
