"""How the steps of a process outlast a store that is away.

What a step has done may have cost money or had effects: it is not thrown away because the store restarts or
fails over. While the store is away nobody else can take the step, and a call that is made again with the same
name (`act`) answers as the first time. So the step waits, and goes on or learns that its lease is gone.
"""

from __future__ import annotations

import functools
import logging
import random
import threading
import time
from collections.abc import Callable
from typing import Any, TypeVar, cast

from agentkit.core.ids import new_id
from agentkit.errors import StoreUnavailableError
from agentkit.store.protocol import Store

__all__ = ["StoreRetry", "retrying"]

log = logging.getLogger(__name__)

T = TypeVar("T")

_FIRST_WAIT = 0.1
_LONGEST_WAIT = 1.0
_NAMED = ("claim", "commit", "create")


class StoreRetry:
    """Repeats what an outage of the store has kept from being done, for `seconds` at most.

    `stopping`: whether the process is to stop, which leaves it `stopping_seconds` only.
    """

    def __init__(
        self, stopping: Callable[[], bool] = lambda: False, seconds: float = 600.0, stopping_seconds: float = 5.0
    ) -> None:
        self._stopping = stopping
        self._seconds = seconds
        self._stopping_seconds = stopping_seconds

    def attempt(self, act: Callable[[], T]) -> T:
        """`act`'s result. Raises its StoreUnavailableError where retry ends, and every other error at once."""
        began, wait = time.monotonic(), _FIRST_WAIT
        while True:
            try:
                return act()
            except StoreUnavailableError as error:
                if wait == _FIRST_WAIT:
                    log.warning("a step waits for the store: %s", error)
                if time.monotonic() - began > (self._stopping_seconds if self._stopping() else self._seconds):
                    raise
                threading.Event().wait(random.uniform(wait / 2, wait))
                wait = min(2 * wait, _LONGEST_WAIT)


def retrying(store: Store, retry: StoreRetry) -> Store:
    """`store`, each of whose methods is repeated as `patience` has it."""
    return cast(Store, _RetryingStore(store, retry))


class _RetryingStore:
    def __init__(self, store: Any, retry: StoreRetry) -> None:
        self._store = store
        self._retry = retry

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._store, name)
        if not callable(method):
            return method

        @functools.wraps(method)
        def call(*args: Any, **kwargs: Any) -> Any:
            if name in _NAMED:
                kwargs["act"] = new_id()
            return self._retry.attempt(lambda: method(*args, **kwargs))

        return call
