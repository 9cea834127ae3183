"""The tool calls of one answer of an OpenAI-compatible server, however it marks which piece belongs to which.

As a rule by `index`. Some servers leave it out, some give all calls the same one, with ids that differ, repeat or are
missing. Pure.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

from agentkit.core.messages import Json
from agentkit.providers.protocol import ToolCallDelta

__all__ = ["ECHOED", "ToolCalls"]

ECHOED = ("extra_content", "provider_specific_fields")
"""What servers put beside a call and want to see there again: Gemini's thought signatures, and LiteLLM's copy."""

_NAMESPACE = "functions."
"""What models of OpenAI's put before the names of tools, and some servers leave there."""


@dataclass(slots=True)
class _Call:
    """A call as far as it has come. `pieces`: of its arguments."""

    id: str
    name: str
    pieces: list[str] = field(default_factory=list)

    @property
    def arguments(self) -> str:
        return "".join(self.pieces)

    @property
    def whole(self) -> bool:
        """Whether its arguments are a whole object with something in it. An empty one may be followed by the real."""
        if not self.pieces or not self.pieces[-1].rstrip().endswith("}"):
            return False
        try:
            value = json.loads(self.arguments)
        except (ValueError, RecursionError):
            return False
        return isinstance(value, dict) and bool(value)


class ToolCalls:
    """Turns the entries of `tool_calls` into parts that have one index for each call."""

    def __init__(self) -> None:
        self._calls: list[_Call] = []
        self._at: dict[int | None, int] = {}

    @property
    def any(self) -> bool:
        return bool(self._calls)

    @property
    def whole(self) -> bool:
        """Whether there are calls, and all have whole arguments."""
        return self.any and all(call.whole or not call.arguments.strip(" {}\n") for call in self._calls)

    def feed(self, piece: Json) -> list[ToolCallDelta]:
        """Return the part that an entry of `tool_calls` makes; none where it says nothing new."""
        function = piece.get("function") or {}
        call_id, name = str(piece.get("id") or ""), str(function.get("name") or "").strip().removeprefix(_NAMESPACE)
        arguments = _text(function.get("arguments"))
        data = {key: piece[key] for key in ECHOED if piece.get(key)}
        at, is_new = self._find(_index(piece.get("index")), call_id, name, arguments)
        call = self._calls[at]
        if arguments and call.whole and arguments == call.arguments:
            arguments = ""  # some servers send the whole call again when it is complete
        if arguments:
            call.pieces.append(arguments)
        if not call.arguments and not is_new and name != call.name:
            call.name += name
        if not (is_new or call_id or name or arguments or data):
            return []
        return [ToolCallDelta(at, call_id, name, arguments, data or None)]

    def _find(self, index: int | None, call_id: str, name: str, arguments: str) -> tuple[int, bool]:
        """Find the number of the call that a piece belongs to, and whether the piece begins it."""
        at = self._at.get(index)
        if index is None and call_id:
            at = next((number for number, call in enumerate(self._calls) if call.id == call_id), at)
        if at is None or _begins_another(self._calls[at], index, call_id, name, arguments):
            self._at[index] = len(self._calls)
            self._calls.append(_Call(call_id, name))
            return self._at[index], True
        self._calls[at].id = self._calls[at].id or call_id
        return at, False


def _begins_another(call: _Call, index: int | None, call_id: str, name: str, arguments: str) -> bool:
    """Whether a piece for the place of `call` begins another call.

    It needs a name: without one it goes on, whatever its id, since some servers send a fresh id with each piece.
    """
    if not name:
        return False
    if call_id and call.id and call_id != call.id:
        return True
    if index is None and name != call.name:
        return True
    if not call.arguments:
        return False  # the name comes in pieces, or again
    if not call.whole:
        return name != call.name and call.arguments.strip() == "{}"
    if name != call.name:
        return True
    if not arguments.lstrip().startswith("{"):
        return False
    return arguments != call.arguments or not call_id


def _index(value: Any) -> int | None:
    """Read an index, which some servers send as a text; None where there is none."""
    if isinstance(value, str) and value.isdecimal():
        return int(value[:9])
    return int(value) if isinstance(value, int | float) and 0 <= value < 2**31 else None


def _text(arguments: Any) -> str:
    """Return the arguments as JSON text, also those of servers that send the object itself."""
    if arguments is None:
        return ""
    return arguments if isinstance(arguments, str) else json.dumps(arguments, ensure_ascii=False)
