"""Waiting for what another thread or process does. The only place in the tests with a sleep."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

__all__ = ["wait_until"]


def wait_until(predicate: Callable[[], T], timeout: float = 10, what: str = "the condition", every: float = 0.01) -> T:
    """Ask `predicate` until it answers with something true, and return that.

    Times are in seconds. Raises AssertionError after `timeout`, with `what` and the last answer.
    """
    deadline = time.monotonic() + timeout
    while True:
        answer = predicate()
        if answer:
            return answer
        if time.monotonic() >= deadline:
            raise AssertionError(f"waited {timeout:g} s for {what}; the last answer was {answer!r}")
        time.sleep(every)
