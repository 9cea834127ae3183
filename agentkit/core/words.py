"""Numbers in sentences that people read."""

from __future__ import annotations

__all__ = ["counted"]


def counted(count: int, one: str, many: str) -> str:
    """Write a count before what is counted: "1 run waits", "0 runs wait", "1,200 runs wait"."""
    return f"{count:,} {one if count == 1 else many}"
