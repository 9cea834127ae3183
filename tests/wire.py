"""Reads what is on the wire, for tests: messages as JSON, which Python users are given too."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, cast

from agentkit.core import events, messages
from agentkit.core.struct import Json, check, to_json

__all__ = ["fold", "text_of"]


def fold(log: Iterable[Json]) -> list[Json]:
    """The messages that a log folds into."""
    return cast(list[Json], to_json(events.fold(check(list(log), list[events.Event]))))


def text_of(message: Any) -> str:
    """The text of a message given as JSON; the message must have a message's shape."""
    read: messages.Message = check(message, messages.Message)
    return messages.text_of(read)
