"""Counts what does not depend on the machine's pace: functions that are called, and bytes that are held at once."""

from __future__ import annotations

import sys
import tracemalloc
from collections.abc import Callable
from typing import Any

__all__ = ["memory_of", "python_calls_of"]


def python_calls_of(act: Callable[[], object]) -> int:
    """Count the functions of Python that this thread calls."""
    count = 0

    def note(frame: Any, event: str, argument: Any) -> None:
        nonlocal count
        count += event == "call"

    sys.setprofile(note)
    try:
        act()
    finally:
        sys.setprofile(None)
    return count


def memory_of(act: Callable[[], object]) -> int:
    """Measure how many bytes more than before are held at once."""
    tracemalloc.start()
    try:
        act()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
