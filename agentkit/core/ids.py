"""Ids: UUID version 7 (RFC 9562), so that ids sort by creation time, within one process strictly."""

from __future__ import annotations

import os
import time
import uuid

from agentkit.core.forks import ForkSafeLock

__all__ = ["new_id", "now_ms"]

_lock = ForkSafeLock()
_last = 0


def now_ms() -> int:
    """Milliseconds since the Unix epoch."""
    return time.time_ns() // 1_000_000


def new_id() -> str:
    """A new UUIDv7 as text. 48 bits of milliseconds and a 12-bit counter lead it; 62 bits are random."""
    global _last
    with _lock:
        # The clock and counter together, never going back: ids made in one millisecond keep their order.
        stamp = max(time.time_ns() // 1_000_000 << 12, _last + 1)
        _last = stamp
    millis, counter = stamp >> 12, stamp & 0xFFF
    tail = int.from_bytes(os.urandom(8), "big") & ((1 << 62) - 1)
    return str(uuid.UUID(int=(millis << 80) | (0x7 << 76) | (counter << 64) | (0b10 << 62) | tail))
