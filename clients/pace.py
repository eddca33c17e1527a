"""One line about an answer: who gave it, and how fast."""

from __future__ import annotations

from .messages import Usage


def facts(
    adapter: str, digest: str, usage: Usage | None, first: float | None, seconds: float
) -> str:
    """`first` and `seconds` are seconds from the question to the first and to the last token."""
    known = [adapter, digest.removeprefix("sha256:")[:12]]
    if first is not None:
        known.append(f"first token {first * 1000:.0f} ms")
    if usage is not None:
        known.append(f"{usage.completion} tokens")
        if usage.completion > 1 and first is not None and seconds > first:
            known.append(f"{(usage.completion - 1) / (seconds - first):.1f} tok/s")
    return " · ".join(known)
