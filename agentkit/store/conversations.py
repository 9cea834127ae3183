"""The messages of runs that a process has read, so that its next model step of such a run reads only what is new.

Without it a run of n turns moves and decodes its conversation n times. What is kept is never trusted by itself: a
reader asks the store for the messages from the last kept one on, and takes what is kept only where that one is still
the same. So a server that has lost its last writes is noticed.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field

from agentkit.core.forks import ForkSafeLock
from agentkit.core.message_list import MessageList
from agentkit.core.messages import Message

__all__ = ["Conversation", "Conversations"]

_MAX_BYTES = 8_000_000
"""As they are stored; decoded they take about five times as much."""


@dataclass(frozen=True, slots=True)
class Conversation:
    """The first messages of a run, what the last of them is stored as, and how many bytes they are there."""

    messages: MessageList = field(default_factory=MessageList)
    last: bytes = b""
    size: int = 0

    @property
    def first_wanted(self) -> int:
        """The number of the first message to read: the last of these."""
        return max(0, len(self.messages) - 1)

    def is_before(self, stored: Sequence[bytes]) -> bool:
        """Whether messages that were read from `first_wanted` on go on from these."""
        return not self.messages or (bool(stored) and stored[0] == self.last)

    def extended(self, stored: Sequence[bytes], decoded: Sequence[Message]) -> Conversation:
        """Add messages, as they are stored and decoded."""
        if not decoded:
            return self
        return Conversation(self.messages.extended(decoded), stored[-1], self.size + sum(map(len, stored)))


class Conversations:
    """Those that were used last, up to so many bytes. May be used by several threads."""

    def __init__(self, max_bytes: int = _MAX_BYTES) -> None:
        self._max_bytes = max_bytes
        self._kept: OrderedDict[str, Conversation] = OrderedDict()
        self._size = 0
        self._lock = ForkSafeLock()

    def get(self, run_id: str) -> Conversation:
        with self._lock:
            return self._kept.get(run_id) or Conversation()

    def keep(self, run_id: str, conversation: Conversation) -> None:
        """Keep it, and forget those that were used least lately beyond the bound; one that is beyond it alone, too."""
        with self._lock:
            self._forget(run_id)
            self._kept[run_id] = conversation
            self._size += conversation.size
            while self._size > self._max_bytes:
                self._forget(next(iter(self._kept)))

    def forget(self, run_id: str) -> None:
        """Forget a run that has ended. Does nothing where it is not kept."""
        with self._lock:
            self._forget(run_id)

    def _forget(self, run_id: str) -> None:
        gone = self._kept.pop(run_id, None)
        self._size -= gone.size if gone else 0
