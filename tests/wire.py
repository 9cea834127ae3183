"""Reads what is on the wire, for tests: messages as JSON, which Python users are given too."""

from __future__ import annotations

from collections.abc import Iterable
from typing import cast

from agentkit.core import events
from agentkit.core.struct import Json, check, to_json

__all__ = ["fold"]


def fold(log: Iterable[Json]) -> list[Json]:
    """The messages that a log folds into."""
    return cast(list[Json], to_json(events.fold(check(list(log), list[events.Event]))))
