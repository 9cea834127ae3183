"""The steps that a worker executes for one message: how many, for how long, and when it leaves off for others.

Each is a Celery task of its own (agentkit/queue/requests.py). A task of the series says here which is to come next, and
what it has claimed for that. This module is loaded before a pool forks: its processes share a byte with their parent.
"""

from __future__ import annotations

import mmap
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from celery import Celery, signals
from celery.worker import state as worker_state

from agentkit.queue.application import argsrepr

__all__ = [
    "SECONDS",
    "NextTask",
    "Series",
    "current_series",
    "next_task",
    "note_waiting",
    "others_wait",
    "others_wait_in_parent",
]

SECONDS = 10.0
"""How long a series may go on to a further step: then one goes through the broker, which anybody may take."""

_waiting = mmap.mmap(-1, 1)
_here = threading.local()


def others_wait(pool: Any) -> bool:
    """Whether this worker has taken more tasks from its queues than its pool has slots: some wait for a free one.

    A task that was just taken, and is about to begin in a slot of its own, takes none from anybody.
    """
    return bool(len(worker_state.reserved_requests) > pool.num_processes)


def note_waiting(pool: Any) -> None:
    """Have the processes of a prefork pool know whether others wait, as their parent sees it."""
    _waiting[0] = others_wait(pool)


def others_wait_in_parent() -> bool:
    """Whether others wait, in a process of a prefork pool. One that was spawned and not forked learns of none."""
    return _waiting[0] != 0


@dataclass(frozen=True, slots=True)
class NextTask:
    """A step to execute next, as the task that `headers` describe. `claim`: where the step has been claimed for it."""

    headers: dict[str, Any]
    run_id: str
    step: int
    claim: Any = None

    @property
    def name(self) -> str:
        return str(self.headers["task"])

    @property
    def id(self) -> str:
        return str(self.headers["id"])

    @property
    def body(self) -> tuple[tuple[str, int], dict[str, Any], dict[str, Any]]:
        """What a message of the task would have as its body: arguments, keywords and what follows from its end."""
        return (self.run_id, self.step), {}, {"callbacks": None, "errbacks": None, "chain": None, "chord": None}


class Series:
    """The steps of one message. `wait`: whether other tasks wait for the slot that it takes.

    `is_deaf`: whether the worker takes no message from its queues at the moment, which alone know then what waits.
    """

    def __init__(self, wait: Callable[[], bool], is_deaf: Callable[[], bool] = lambda: False) -> None:
        self.is_deaf = is_deaf
        self.claim: Any = None
        """What was claimed for the step that is being executed, by the one before it."""
        self._wait = wait
        self._began = time.monotonic()
        self._steps = 1
        self._next: NextTask | None = None

    def may_follow(self, most: int) -> bool:
        """Whether another step may follow the one that is being executed; `most`: steps of a series."""
        return self._steps < most and time.monotonic() - self._began < SECONDS and not self._wait()

    def follow(self, task: NextTask) -> None:
        """Have a step executed when the task that calls this has ended."""
        self._next = task

    def advance(self) -> NextTask | None:
        """Go on to the task that is to come; None where none is."""
        task, self._next = self._next, None
        if task is not None:
            self.claim = task.claim
            self._steps += 1
        return task

    @contextmanager
    def executing(self) -> Iterator[None]:
        """Let tasks of this thread find the series that they are of."""
        _here.series = self
        try:
            yield
        finally:
            _here.series = None


def current_series() -> Series | None:
    """Find the series of the task that this thread executes; None where nobody executes what it would have follow."""
    series: Series | None = getattr(_here, "series", None)
    return series


def next_task(app: Celery, name: str, run_id: str, step: int, *, claim: Any = None) -> NextTask:
    """Describe a step as the task that follows the current one, as a message that this one sends would.

    What is connected to Celery's `before_task_publish` and `after_task_publish` is called as for that message.
    """
    request = app.current_worker_task.request
    task_id = str(uuid.uuid4())
    message = app.amqp.as_task_v2(
        task_id,
        name,
        (run_id, step),
        root_id=request.root_id or request.id,
        parent_id=request.id,
        argsrepr=argsrepr(run_id, step),
        kwargsrepr="{}",
        ignore_result=True,
    )
    _call_handlers(name, message, request.delivery_info or {})
    return NextTask(message.headers, run_id, step, claim)


def _call_handlers(name: str, message: Any, delivery: Mapping[str, Any]) -> None:
    place = {"exchange": delivery.get("exchange"), "routing_key": delivery.get("routing_key")}
    if signals.before_task_publish.receivers:
        signals.before_task_publish.send(
            sender=name,
            body=message.body,
            headers=message.headers,
            properties=message.properties,
            declare=[],
            retry_policy={},
            **place,
        )
    if signals.after_task_publish.receivers:
        signals.after_task_publish.send(sender=name, body=message.body, headers=message.headers, **place)
