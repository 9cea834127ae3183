"""This process's clock, set wrong: what a worker or a web process on a host with a bad clock reads."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from unittest import mock

__all__ = ["shifted"]


@contextmanager
def shifted(seconds: float) -> Iterator[None]:
    """Have the wall clock run `seconds` ahead (below 0: behind). The monotonic one goes on as it was."""
    read, read_ns = time.time, time.time_ns

    def wrong() -> float:
        return read() + seconds

    def wrong_ns() -> int:
        return read_ns() + round(seconds * 1_000_000_000)

    with mock.patch("time.time", wrong), mock.patch("time.time_ns", wrong_ns):
        yield
