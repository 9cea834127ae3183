"""Ids: UUID version 7 (RFC 9562), so that ids sort by creation time, within one process strictly."""

from __future__ import annotations

import os
import threading
import time
import uuid

__all__ = ["new_id", "now_ms"]

_lock = threading.Lock()
_last = 0


def _after_fork() -> None:
    """A lock that another thread held at the fork would stay held in the child."""
    global _lock
    _lock = threading.Lock()


os.register_at_fork(after_in_child=_after_fork)


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
