"""Several adapters added up, each with a weight: an adapter of its own in all that follows."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from server.engine.request import AdapterRef, WeightedAdapter

PREFIX = "composition:"  # of digests; a version's begins with the name of its hash


def compose(parts: Sequence[WeightedAdapter]) -> AdapterRef:
    """The sum of the parts' updates, in whatever order they come.

    Its digest is of the sorted lines `digest*scale`, so that slots, prefixes and answers of equal
    sums are shared, and those of others never. Its label is "pirate@2*0.3+sql@7*0.7", sorted too.
    One adapter with a weight of 1 is that adapter.
    """
    if len(parts) == 1 and parts[0].scale == 1:
        return parts[0].adapter
    lines = sorted(f"{part.adapter.digest}*{part.scale!r}" for part in parts)
    digest = hashlib.sha256("\n".join(lines).encode()).hexdigest()
    label = "+".join(sorted(f"{part.adapter.label}*{part.scale!r}" for part in parts))
    ordered = sorted(parts, key=lambda part: (part.adapter.digest, part.scale))
    asked_in = parts[0].adapter.asked_in
    return AdapterRef(PREFIX + digest, label, asked_in=asked_in, parts=tuple(ordered))


def is_composed(digest: str) -> bool:
    """Whether the digest is a composition's: nothing in the registry, and no name of a `model`."""
    return digest.startswith(PREFIX)


def members(label: str) -> list[str]:
    """The labels of the adapters in a label: "sql@7" is in "sql@7", and in "sql@7*0.7+a@1*0.3"."""
    return [part.partition("*")[0] for part in label.split("+")]
