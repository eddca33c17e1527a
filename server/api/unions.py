"""Which variant of a union a value means, so that an error speaks of that one.

Tags stand in angle brackets, which is how `bodies.parameter_name` knows to leave them out.
"""

from __future__ import annotations

from typing import Any


def text_or_list(value: Any) -> str:
    """For fields that take a text, or a list of parts."""
    return "<list>" if isinstance(value, list) else "<text>"
