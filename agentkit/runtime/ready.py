"""Divides a worker's turns among owners, the most urgent agents first.

    commit ─► add to the queue's ready set ─► message … message ─► take the step whose turn it is ─► claim

A message says that something of its queue is due, and what a worker executes on it may be another run's step. Rules
that this module alone knows:

1. A step enters the ready set after it has become due, whether its message is under way already or not. So as many
   messages are under way as steps stand in the set. A message whose own step is not in the set goes by that step
   alone: its step entered no set, comes late into it, or was taken.
2. What was taken and cannot be claimed was executed by somebody else: then comes the next one.
3. Where a step of another queue is taken, which is more urgent, the message goes back to its own.
4. Runs without an owner enter the set only where the kit's agents have priorities. Where no queue has a set, a worker
   asks for one every `_FRESH_SECONDS`, however many steps there are.

What is taken and lost with its process is enqueued again by recovery, as any lost message is.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Sequence

from agentkit.core.forks import ForkSafeLock
from agentkit.core.ready import ReadyStep
from agentkit.errors import StoreError
from agentkit.queue.protocol import StepQueue
from agentkit.store.protocol import Store

__all__ = ["ReadySteps"]

log = logging.getLogger(__name__)

_FRESH_SECONDS = 0.25
_MOST_TAKEN = 100


class ReadySteps:
    """Of one process."""

    def __init__(self, store: Store, queue: StepQueue) -> None:
        self._store = store
        self._queue = queue
        self._lock = ForkSafeLock()
        self._shared: dict[tuple[str, ...], tuple[float, bool]] = {}

    def add(self, queue: str, steps: Sequence[ReadyStep], owner: str | None, priority: int) -> None:
        """Put due steps into the ready set of a queue. Never raises: their messages alone reach a worker, too."""
        if not queue:
            return  # there is no broker
        try:
            self._store.add_ready(queue, steps, owner or "", priority)
        except StoreError as error:
            log.info("run %s: a step that is due takes no turn, and goes by its message: %s", steps[0].run_id, error)

    def turns(
        self, step: ReadyStep, queue: str | None, served: Sequence[str], stopping: Callable[[], bool]
    ) -> Iterator[tuple[ReadyStep, str | None]]:
        """Yield the steps to execute for a message of `step` from `queue`, each with its queue, until one could be.

        `served`: the queues that this worker serves.
        """
        queues = (queue, *(name for name in served if name != queue)) if queue else ()
        if not queues or stopping() or not self._is_shared(queues):
            yield step, queue
            return
        taken = self._store.take_ready(queues, step)
        if taken == "absent":
            yield step, queue
        elif taken is not None:
            found, name = taken
            if name != queue:
                self._queue.enqueue(step.run_id, step.number, step.kind, queue)
            yield found, name
            if name != queue:
                return
        for _ in range(_MOST_TAKEN):
            taken = self._store.take_ready(queues[:1], None)
            if taken is None or taken == "absent":
                return
            yield taken

    def _is_shared(self, queues: tuple[str, ...]) -> bool:
        """Whether one of the queues has a ready set, as it was within `_FRESH_SECONDS`."""
        read_at, shared = self._shared.get(queues, (float("-inf"), False))
        if time.monotonic() < read_at + _FRESH_SECONDS:
            return shared
        with self._lock:  # who comes meanwhile waits for the answer
            read_at, shared = self._shared.get(queues, (float("-inf"), False))
            if time.monotonic() >= read_at + _FRESH_SECONDS:
                shared = self._store.has_ready(queues)
                self._shared[queues] = time.monotonic(), shared
            return shared
