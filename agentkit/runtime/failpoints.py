"""Fault points: places at which a test has this process die, to see that nothing is lost there.

Off, which is everywhere but in tests of crashes, a point is a call that reads one constant. It is on where
`AGENTKIT_FAILPOINT` names a file when the process starts. The file then says at which point to die: `after commit 3`
is SIGKILL for the process that is the third to pass `after commit`. The file is emptied first, so that nobody
else dies of it; an empty or missing file arms nothing.
"""

from __future__ import annotations

import fcntl
import functools
import os
import signal
from typing import Any, TypeVar, cast

__all__ = ["failpoint", "with_failpoints"]

T = TypeVar("T")

_FILE = os.environ.get("AGENTKIT_FAILPOINT")


def failpoint(point: str) -> None:
    """Die here, if this point is armed and it is its time."""
    if _FILE is not None:
        _pass(_FILE, point)


def with_failpoints(thing: T) -> T:
    """`thing` with the points `before METHOD` and `after METHOD` around each method; itself where all is off."""
    return thing if _FILE is None else cast(T, _Guarded(thing))


class _Guarded:
    def __init__(self, thing: Any) -> None:
        self._thing = thing

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._thing, name)
        if not callable(method):
            return method

        @functools.wraps(method)
        def call(*args: Any, **kwargs: Any) -> Any:
            failpoint(f"before {name}")
            result = method(*args, **kwargs)
            failpoint(f"after {name}")
            return result

        return call


def _pass(path: str, point: str) -> None:
    """Count this passing in the file, which all processes share, and die if it was the one."""
    if not os.path.exists(path):
        return
    with open(path, "r+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        try:
            armed, _, left = file.read().rpartition(" ")
            if armed != point:
                return
            file.seek(0)
            file.write(f"{point} {int(left) - 1}" if int(left) > 1 else "")  # in place: never empty before its time
            file.truncate()
            file.flush()
        finally:
            # Not by closing it: a process that was forked meanwhile has the file open too, and would keep the lock.
            fcntl.flock(file, fcntl.LOCK_UN)
    if int(left) == 1:
        os.kill(os.getpid(), signal.SIGKILL)
