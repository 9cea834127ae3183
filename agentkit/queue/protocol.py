"""How a due step is made known. The store holds the truth; a nudge only saves waiting for the next sweep."""

from __future__ import annotations

from collections import deque
from typing import Protocol

from agentkit.core.record import StepKind
from agentkit.store.protocol import Push

__all__ = ["InlineQueue", "StepQueue"]


class StepQueue(Protocol):
    def enqueue(self, run_id: str, step: int, kind: StepKind) -> None:
        """Tell some worker that `step` is due. Never raises: a nudge may be lost, late or doubled."""
        ...

    def push(self, run_id: str, step: int, kind: StepKind) -> Push | None:
        """The nudge as a message that the store can put into the queue, in the very act that makes the step due.

        None where the queue is not on the store's server: `nudge` is called after that act then.
        """
        ...

    def queued(self) -> int:
        """How many nudges wait in the queue; 0 where that cannot be told. Never raises."""
        ...

    def reachable(self) -> bool:
        """Whether nudges reach the queue at the moment."""
        ...


class InlineQueue:
    """Collects nudges for a caller that executes the steps itself."""

    def __init__(self) -> None:
        self.waiting: deque[tuple[str, int]] = deque()

    def enqueue(self, run_id: str, step: int, kind: StepKind) -> None:
        self.waiting.append((run_id, step))

    def push(self, run_id: str, step: int, kind: StepKind) -> Push | None:
        return None

    def queued(self) -> int:
        return len(self.waiting)

    def reachable(self) -> bool:
        return True
