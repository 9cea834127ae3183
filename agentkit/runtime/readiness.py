"""Shows which queues are served: by what was executed lately, since a heartbeat only shows that a process is there.

A worker may be alive and execute nothing: it was told to consume nothing, serves other queues, or its pool is stuck. So
each process notes in the store when it executes: a step that begins, writes or ends, or a probe, a task that does
nothing else and takes the whole way through the broker and the pool. Every worker sends probes to the queues that the
application needs, one in a while for all workers together, whether it serves them or not.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence

from agentkit.errors import StoreError
from agentkit.queue.protocol import StepQueue
from agentkit.runtime.shutdown import StopFlag
from agentkit.store.protocol import Store

__all__ = ["Prober", "ServedQueues"]

log = logging.getLogger(__name__)

_NOTE_SECONDS = 1.0


class ServedQueues:
    """What one process notes of the queues that it executes from. `ready_seconds`: how long a note counts."""

    def __init__(self, store: Store, ready_seconds: float) -> None:
        self._store = store
        self._ttl_ms = round(ready_seconds * 1000)
        self._period = min(_NOTE_SECONDS, ready_seconds / 4)
        self._next: dict[str, float] = {}
        self._is_stuck = False

    def note(self, queue: str) -> None:
        """Note that something of `queue` was executed now, about once a second; nothing while a part is stuck."""
        now = time.monotonic()
        if self._is_stuck or now < self._next.get(queue, 0.0):
            return
        self._next[queue] = now + self._period
        try:
            self._store.mark_served(queue, self._ttl_ms)
        except StoreError as error:
            log.info("that queue %s is served could not be noted, and is noted again: %s", queue, error)

    def probed(self, queue: str, is_well: Callable[[], bool]) -> None:
        """Note a probe, if all that steps of this process need answers; until then its steps prove nothing."""
        self._is_stuck = not is_well()
        if self._is_stuck:
            log.error(
                "the event loop of this process does not answer: async tools do not end here, and it does not count "
                "as serving queue %s; restart this worker",
                queue,
            )
            return
        self.note(queue)


class Prober:
    """One worker's sending of probes, in a thread of its own."""

    def __init__(self, store: Store, queue: StepQueue, queues: Sequence[str], ready_seconds: float) -> None:
        self._store = store
        self._queue = queue
        self._queues = queues
        self._period = min(5.0, ready_seconds / 4)
        self._stop = StopFlag()

    def start(self) -> None:
        threading.Thread(target=self._run, name="agentkit-probes", daemon=True).start()

    def stop(self) -> None:
        self._stop.set()

    def _run(self) -> None:
        while not self._stop.is_set():
            for queue in self._queues:
                try:
                    if self._store.begin_probe(queue, round(self._period * 1000)):
                        self._queue.probe(queue)
                except StoreError:
                    pass  # recovery says so
                except Exception:
                    log.exception("queue %s was not probed, which is tried again", queue)
            self._stop.wait(self._period)
