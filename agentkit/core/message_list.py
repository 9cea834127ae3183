"""The messages of a run as a sequence that grows at its end, for as much as is added and not for what there is.

A run of n turns has its conversation handed from step to step n times: were it copied each time, the run would take n²
of time. So all lengths of one conversation share a list, of which each shows the first so many. What is wanted of all
messages in every turn is noted when they are added.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import overload

from agentkit.core.forks import ForkSafeLock
from agentkit.core.messages import Message, TextBlock, ToolResultMessage

__all__ = ["MessageList"]

_extending = ForkSafeLock()


class _Shared:
    """What the lengths of one conversation share. It grows only, so the first so many stay what they are."""

    __slots__ = ("media", "messages")

    def __init__(self) -> None:
        self.messages: list[Message] = []
        self.media: list[int] = []

    def add(self, messages: Sequence[Message]) -> None:
        first = len(self.messages)
        self.media += [first + place for place, message in enumerate(messages) if _shows_media(message)]
        self.messages += messages


class MessageList(Sequence[Message]):
    """Messages in their order. It never changes, nor do they; may be used by several threads."""

    __slots__ = ("_count", "_shared")

    def __init__(self, messages: Sequence[Message] = ()) -> None:
        self._shared = _Shared()
        self._shared.add(messages)
        self._count = len(messages)

    @classmethod
    def of(cls, messages: Sequence[Message]) -> MessageList:
        """Return messages as such a list: themselves, if they are one."""
        return messages if isinstance(messages, MessageList) else cls(messages)

    def extended(self, messages: Sequence[Message]) -> MessageList:
        """Return a list of these and the given ones.

        It is a copy only where this one has been extended before, by others.
        """
        if not messages:
            return self
        if not self:
            return MessageList(messages)
        longer = MessageList.__new__(MessageList)
        longer._count = self._count + len(messages)
        with _extending:
            known = self._shared.messages[self._count : longer._count]
            if known == list(messages[: len(known)]):
                longer._shared = self._shared
                longer._shared.add(messages[len(known) :])
                return longer
        longer._shared = _Shared()
        longer._shared.add([*self, *messages])
        return longer

    @property
    def media(self) -> list[int]:
        """The places of the tool results that show more than text, which not every model can read."""
        media = self._shared.media
        return media[: bisect_left(media, self._count)]

    def __len__(self) -> int:
        return self._count

    @overload
    def __getitem__(self, place: int) -> Message: ...
    @overload
    def __getitem__(self, place: slice) -> list[Message]: ...
    def __getitem__(self, place: int | slice) -> Message | list[Message]:
        if isinstance(place, slice):
            return [self._shared.messages[each] for each in range(*place.indices(self._count))]
        return self._shared.messages[range(self._count)[place]]

    def __iter__(self) -> Iterator[Message]:
        return islice(self._shared.messages, self._count)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, MessageList | list | tuple):
            return NotImplemented
        return len(self) == len(other) and all(mine == theirs for mine, theirs in zip(self, other, strict=True))

    def __repr__(self) -> str:
        return f"MessageList({list(self)!r})"


def _shows_media(message: Message) -> bool:
    return isinstance(message, ToolResultMessage) and any(not isinstance(block, TextBlock) for block in message.content)
