"""How records, messages and events are written down, the same in every store.

Stores keep bytes, also the one in memory, so that every test exercises this.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from agentkit.core.events import Event
from agentkit.core.record import Change, RunRecord, RunState
from agentkit.store.protocol import StoredResolution

__all__ = ["EncodedChange", "decode_resolution", "decode_state", "encode_change", "lines"]


@dataclass(frozen=True, slots=True)
class EncodedChange:
    """A change as text. `opened`: (step, first message that it reads, when it is due, events of its first claim)."""

    fixed: str
    state: str
    status: str
    turn_from: int
    ended: bool
    messages: list[str]
    events: list[str]
    on_claim: str
    opened: list[tuple[int, int, int, str]]
    closed: tuple[int, ...]
    resolutions: list[tuple[str, str, int, str]]
    """(decision id, tool call id, index among the events, JSON)"""


def lines(events: Iterable[Event]) -> str:
    """Events, one JSON a line: JSON text holds no line feed."""
    return "\n".join(dumps(event) for event in events)


def encode_change(change: Change, *, new: bool = False) -> EncodedChange:
    record = change.record
    return EncodedChange(
        fixed=record.encode_fixed() if new else "",
        state=record.encode_state(),
        status=str(record.status),
        turn_from=record.turn_from,
        ended=record.terminal,
        messages=[dumps(message) for message in change.messages],
        events=[dumps(event) for event in change.events],
        on_claim=lines(change.on_claim),
        opened=[
            (
                step.number,
                0 if step.kind == "model" else record.turn_from,
                step.at or 0,
                lines(change.on_first_claim.get(step.number, ())),
            )
            for step in change.opened
        ],
        closed=change.closed,
        resolutions=[
            (
                r.decision_id,
                r.tool_call_id,
                r.event,
                dumps([r.tool_call_id, r.outcome, r.answer, r.decided_at, r.decided_by]),
            )
            for r in change.resolutions
        ],
    )


def decode_state(now: int, fields: Mapping[bytes, bytes], messages: Iterable[bytes]) -> RunState:
    """A run's state from the fields of its hash (store/scripts/common.lua) and the messages read with it."""
    record = RunRecord.decode(fields[b"fixed"], fields[b"state"], fields[b"status"].decode())
    claimed: set[int] = set()
    live: dict[int, int] = {}
    for key, value in fields.items():
        if key.startswith(b"s:"):
            token, until, attempt, *_ = value.split(b" ")
            if int(attempt):
                claimed.add(int(key[2:]))
            if int(until) > now and token != b"0":
                live[int(key[2:])] = int(until)
    return RunState(
        record=record,
        version=int(fields[b"v"]),
        last_seq=int(fields[b"seq"]),
        turn=tuple(json.loads(message) for message in messages),
        claimed=frozenset(claimed),
        live=live,
    )


def decode_resolution(decision_id: str, stored: bytes) -> StoredResolution:
    seq, _, text = stored.partition(b" ")
    tool_call_id, outcome, answer, *who_and_when = json.loads(text)  # at first nothing came after the answer
    return StoredResolution(decision_id, tool_call_id, outcome, answer, int(seq), *who_and_when)
