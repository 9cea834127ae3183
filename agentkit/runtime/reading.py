"""Reads a model's answer: by the step's thread, or by another that has just time for what was collected.

Waking a thread for a few tokens costs more than reading them. So the step's thread sleeps while its answer streams, and
the flusher reads what came for all steps of the process, one after the other, just before it writes it. The step's
thread is woken for what is in a hurry: the first text after a quiet time, the end, a failure, an abort.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator

from agentkit.providers.protocol import NOTHING, Part

__all__ = ["AnswerReader"]


class AnswerReader:
    """Of one answer. `take`: takes a part, and says whether there is use for more.

    `on_collected`: has somebody call `read_collected` soon.
    """

    def __init__(self, take: Callable[[Part], bool], on_collected: Callable[[], None]) -> None:
        self._take = take
        self._on_collected = on_collected
        self._parts: Iterator[Part] = iter(())
        self._reading = threading.Lock()
        self._woken = threading.Event()
        self._idle_seconds: float | None = None
        self._is_left = False
        self._has_ended = True  # or not begun
        self._failure: BaseException | None = None

    def read(self, parts: Iterator[Part]) -> None:
        """Read all parts, in the step's thread. Raises what they fail by, or `take` does, whoever has met it."""
        try:
            with self._reading:  # another thread reads only what has come, after the first time that there was nothing
                self._parts, self._has_ended = parts, False
                self._advance()
            while not self._has_ended:
                if not self._is_left:
                    self._woken.wait(self._idle_seconds)
                self._woken.clear()
                with self._reading:
                    self._is_left = False
                    self._advance()
        finally:
            with self._reading:
                self._has_ended, self._parts = True, iter(())  # what is left of them is closed here
        if self._failure is not None:
            raise self._failure

    def read_collected(self) -> None:
        """Read what has come, in another thread. Where the step's own is at it, it reads that as well."""
        self._is_left = True
        if self._reading.acquire(blocking=False):
            try:
                self._is_left = False
                self._advance()
            finally:
                self._reading.release()
            if self._has_ended:
                self._woken.set()

    def _advance(self) -> None:
        if self._has_ended:
            return
        try:
            for part in self._parts:
                if part is NOTHING:
                    return
                if not self._take(part):
                    break
        except BaseException as error:
            self._failure = error
        self._has_ended = True

    # -- what a provider says (`providers.protocol.Reader`)

    def idle(self, seconds: float) -> None:
        self._idle_seconds = seconds

    def collected(self) -> None:
        self._on_collected()

    def wake(self) -> None:
        self._woken.set()
