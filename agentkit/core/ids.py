"""Ids: UUID version 7 (RFC 9562), so that ids sort by creation time, within one process strictly.

What several processes list together gets its time from the store's clock.
"""

from __future__ import annotations

import os
import time
import uuid

from agentkit.core.forks import ForkSafeLock

__all__ = ["after_ids_of", "new_id", "now_ms", "random_id"]

_lock = ForkSafeLock()
_last = 0


def now_ms() -> int:
    """Milliseconds since the Unix epoch."""
    return time.time_ns() // 1_000_000


def new_id(at: int | None = None) -> str:
    """Make a new UUIDv7. 48 bits of milliseconds and a 12-bit counter lead it; 62 bits are random.

    `at`: the time that it stands for (ms), by default that of this process's clock.
    """
    global _last
    with _lock:
        # The clock and counter together, never going back: ids made in one millisecond keep their order.
        stamp = max((now_ms() if at is None else at) << 12, _last + 1)
        _last = stamp
    millis, counter = stamp >> 12, stamp & 0xFFF
    tail = int.from_bytes(os.urandom(8), "big") & ((1 << 62) - 1)
    return str(uuid.UUID(int=(millis << 80) | (0x7 << 76) | (counter << 64) | (0b10 << 62) | tail))


def after_ids_of(at: int) -> str:
    """Make a text that sorts after all ids that stand for times up to `at` (ms), and before those of later ones."""
    digits = f"{max(0, at) + 1:012x}"
    return f"{digits[:8]}-{digits[8:]}"


def random_id() -> str:
    """Make an id that is unique and has no order."""
    return os.urandom(16).hex()
