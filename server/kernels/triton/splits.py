"""Into how many parts decode attention divides each row's context."""

from __future__ import annotations

PROGRAMS = 528  # four for each multiprocessor of an H100 or H200
MOST_SPLITS = 16


def splits_for(rows: int, kv_heads: int) -> int:
    """So many that few rows fill the device too; a power of two."""
    wanted = PROGRAMS // (rows * kv_heads)
    return min(MOST_SPLITS, 1 << max(0, wanted.bit_length() - 1))
