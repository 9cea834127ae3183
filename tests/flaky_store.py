"""A store that fails where a test says so, and keeps what was asked of it."""

from __future__ import annotations

import math
import threading
from collections import Counter, UserDict
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from agentkit.errors import StoreUnavailableError
from agentkit.store.memory import MemoryStore
from agentkit.store.protocol import Conflict, Store

__all__ = ["ALWAYS", "Call", "FlakyStore"]

ALWAYS = math.inf
"""As many times as a method is called."""

_METHODS = frozenset(name for name in dir(Store) if callable(getattr(Store, name)) and not name.startswith("_"))


class Call(NamedTuple):
    """One call that reached the store. `args` are the positional arguments, in the order of the protocol."""

    method: str
    args: tuple[Any, ...]


class Times(UserDict[str, float]):
    """How many more times each method does something. A name that the store has not is a KeyError."""

    def __setitem__(self, method: str, times: float) -> None:
        if method not in _METHODS:
            raise KeyError(f"a store has no method {method!r}")
        super().__setitem__(method, times)

    def take(self, method: str) -> bool:
        """Whether it is to happen this time; counts it."""
        left = self.get(method, 0)
        if left <= 0:
            return False
        self[method] = left - 1
        return True


class FlakyStore:
    """A `Store` around another, by default a `MemoryStore`, whose calls fail as often as a test says.

    `fail`: calls that do not reach the store, as {method: how many times}, from the next one on.
    `lose`: calls that are done and whose reply is lost, likewise. Both raise what `error` makes.
    `count`: counts the calls by their method's name, those that fail among them, and under "conflicts" the changes
    that were refused because the run had another version.

    `calls` are those that reached the store, in their order. All four may be changed between calls:
    `store.fail["append"] = 1`. Where a call is to fail and to lose its reply, it fails first.
    Attributes that are not of the protocol are those of the store within. May be used by several threads.
    """

    def __init__(
        self,
        store: Store | None = None,
        *,
        fail: Mapping[str, float] | None = None,
        lose: Mapping[str, float] | None = None,
        count: Counter[str] | None = None,
        error: Callable[[], Exception] = StoreUnavailableError,
    ) -> None:
        self.store: Store = MemoryStore() if store is None else store
        self.fail = Times(fail or {})
        self.lose = Times(lose or {})
        self.count: Counter[str] = Counter() if count is None else count
        self.error = error
        self.calls: list[Call] = []
        self._lock = threading.Lock()

    def __getattr__(self, name: str) -> Any:
        attribute = getattr(self.store, name)
        if name not in _METHODS:
            return attribute
        return lambda *args, **named: self._call(name, attribute, args, named)

    def _call(self, name: str, method: Callable[..., Any], args: tuple[Any, ...], named: Mapping[str, Any]) -> Any:
        with self._lock:
            self.count[name] += 1
            if self.fail.take(name):
                raise self.error()
            self.calls.append(Call(name, args))
        result = method(*args, **named)
        with self._lock:
            if isinstance(result, Conflict) or (name == "request_abort" and result is False):
                self.count["conflicts"] += 1
            if self.lose.take(name):
                raise self.error()
        return result
