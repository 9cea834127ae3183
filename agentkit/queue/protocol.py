"""How a due step reaches a worker. The store holds the truth; a message only saves waiting for recovery."""

from __future__ import annotations

import threading
from collections import deque
from typing import Protocol

from agentkit.core.record import StepKind
from agentkit.store.protocol import Push

__all__ = ["InlineQueue", "StepQueue"]


class StepQueue(Protocol):
    """`queue`: the name that an agent or a tool gives; None for the queue of those that name none."""

    def enqueue(self, run_id: str, step: int, kind: StepKind, queue: str | None = None) -> None:
        """Have some worker execute `step`. Never raises: a message may be lost, late or doubled."""
        ...

    def push(self, run_id: str, step: int, kind: StepKind, queue: str | None = None) -> Push | None:
        """Render the message for the store to put into the queue, in the very act that makes the step due.

        None where the queue is not on the store's server: `enqueue` is called after that act then.
        """
        ...

    def name(self, kind: StepKind, queue: str | None = None) -> str:
        """Return the broker's name of the queue to which steps of this kind are sent; "" where there is no broker."""
        ...

    def queued(self, name: str) -> int:
        """Count the messages that wait in the queue of this name; 0 where that is not known. Never raises."""
        ...

    def reachable(self) -> bool:
        """Whether messages reach the queue at the moment."""
        ...

    def notify(self, run_id: str, entry_id: str) -> None:
        """Have some worker send a notification: an entry of a run's outbox. Never raises, as `enqueue`."""
        ...

    def notify_queue(self) -> str:
        """Return the broker's name of the queue to which notifications are sent; "" where there is no broker."""
        ...

    def probe(self, queue: str) -> None:
        """Send a probe to `queue`, which a worker that serves it notes in the store. Never raises.

        Nothing where messages wait there: that one of them is executed shows as much.
        """
        ...


class InlineQueue:
    """Collects due steps and notifications for a caller that sees to them itself: each thread's own."""

    def __init__(self) -> None:
        self._of_thread = threading.local()

    @property
    def waiting(self) -> deque[tuple[str, int]]:
        """The steps that the calling thread has made due and not yet taken."""
        if not hasattr(self._of_thread, "steps"):
            self._of_thread.steps = deque()
        steps: deque[tuple[str, int]] = self._of_thread.steps
        return steps

    @property
    def notifications(self) -> deque[tuple[str, str]]:
        """The notifications, (run id, entry id), that the calling thread has made due and not yet taken."""
        if not hasattr(self._of_thread, "notifications"):
            self._of_thread.notifications = deque()
        notifications: deque[tuple[str, str]] = self._of_thread.notifications
        return notifications

    def enqueue(self, run_id: str, step: int, kind: StepKind, queue: str | None = None) -> None:
        self.waiting.append((run_id, step))

    def push(self, run_id: str, step: int, kind: StepKind, queue: str | None = None) -> Push | None:
        return None

    def name(self, kind: StepKind, queue: str | None = None) -> str:
        return ""

    def queued(self, name: str) -> int:
        return len(self.waiting)

    def reachable(self) -> bool:
        return True

    def notify(self, run_id: str, entry_id: str) -> None:
        self.notifications.append((run_id, entry_id))

    def notify_queue(self) -> str:
        return ""

    def probe(self, queue: str) -> None:
        """Nobody but the caller executes what is due."""
