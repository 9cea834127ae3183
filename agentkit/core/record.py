"""The run record: what a run is between two steps, its statuses, and how it is written down.

Rules that this module alone knows:

1. Which status may follow which (`TRANSITIONS`).
2. The two halves of a stored record: `fixed` is written once, `state` with every commit. Neither holds
   messages or events, which are lists beside it, so a commit's size does not grow with the conversation.
3. What `schemaVersion` means: older records are read, newer ones refused.

Records are values: a transition (agentkit.loop) takes a `RunState` and returns a `Change`; the store
makes the change true, whole or not at all. Nothing here does I/O.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any, Literal

from agentkit.core.events import Event
from agentkit.core.messages import Json, Message, Usage, zero_usage
from agentkit.errors import UnsupportedSchemaVersionError

__all__ = [
    "SCHEMA_VERSION",
    "TERMINAL",
    "TRANSITIONS",
    "Call",
    "CallState",
    "Change",
    "Lease",
    "Resolution",
    "RunRecord",
    "RunState",
    "Status",
    "Step",
    "StepKind",
    "dumps",
]

SCHEMA_VERSION = 1


class Status(StrEnum):
    QUEUED = "queued"
    RUNNING = "running"
    PAUSED = "paused"
    COMPLETED = "completed"
    FAILED = "failed"
    ABORTED = "aborted"


TERMINAL = frozenset({Status.COMPLETED, Status.FAILED, Status.ABORTED})

TRANSITIONS: Mapping[Status, frozenset[Status]] = {
    Status.QUEUED: frozenset({Status.RUNNING, Status.ABORTED}),
    Status.RUNNING: frozenset({Status.PAUSED, *TERMINAL}),
    Status.PAUSED: frozenset({Status.QUEUED, Status.ABORTED}),
    Status.COMPLETED: frozenset(),
    Status.FAILED: frozenset(),
    Status.ABORTED: frozenset(),
}

StepKind = Literal["model", "tool"]
CallState = Literal["ready", "pending", "answered", "waiting", "done"]


@dataclass(frozen=True, slots=True)
class Step:
    """An open step: `call` is the index of the tool call that a tool step executes.

    A model step that waits for another try is due at `at` (ms), after `tries` calls of the agent's model number
    `choice` since the first of them failed at `since` (ms). Its turn has begun, and it has no open message.
    """

    number: int
    kind: StepKind
    call: int | None = None
    at: int | None = None
    choice: int = 0
    tries: int = 0
    since: int | None = None


@dataclass(frozen=True, slots=True)
class Call:
    """A tool call of the open turn.

    ready: to be executed. pending: waits for an answer to `item`. answered: has its `answer`, and waits
    until no other call is pending. waiting: its sub-agent's run works on it. done: has its `result`, until
    that is a message.
    """

    id: str
    name: str
    args: Json
    state: CallState
    item: Json | None = None
    """The pending item, as the protocol shows it."""
    on_expire: Any = None
    answer: Json | None = None
    started: bool = False
    """Its tool_execution_start is in the log from an earlier step of this call."""
    child: str | None = None
    """The id of the run in which a sub-agent answers this call."""
    child_pending: tuple[Json, ...] = ()
    """What that run waits for, each item with its `runId`; none while it works."""
    result: Json | None = None
    """{content, isError, details?}, held until the calls before it have their messages too."""


@dataclass(frozen=True, slots=True)
class RunRecord:
    """A run between two steps. Times are milliseconds since the Unix epoch."""

    # fixed
    id: str
    agent: str
    model: str
    metadata: Json
    limits: Json
    created_at: int
    parent: Json | None = None
    """{runId, toolCallId, depth}: the call of another run that this run answers."""
    owner: str | None = None
    """The principal that started it; None where nobody was named."""
    # state
    status: Status = Status.QUEUED
    updated_at: int = 0
    ended_at: int | None = None
    turn: int = 0
    usage: Usage = field(default_factory=zero_usage)
    error: Json | None = None
    messages: int = 0
    """How many messages the run has."""
    turn_from: int = 0
    """The index of the first message of the open turn."""
    flushed: int = 0
    """How many calls of the open turn have their tool result message."""
    calls: tuple[Call, ...] = ()
    steps: tuple[Step, ...] = ()
    next_step: int = 1
    steers: tuple[Json, ...] = ()
    follow_ups: tuple[Json, ...] = ()
    abort: Json | None = None
    """{reason}: somebody wants the run to end; whoever holds a lease ends it."""
    active_ms: int = 0
    active_since: int | None = None
    schema_version: int = SCHEMA_VERSION

    @property
    def terminal(self) -> bool:
        return self.status in TERMINAL

    @property
    def pending(self) -> list[Json]:
        """The pending items, in the order of their tool calls, those of sub-agents' runs among them."""
        items: list[Json] = []
        for call in self.calls:
            items += [call.item] if call.state == "pending" and call.item else call.child_pending
        return items

    @property
    def asks(self) -> bool:
        """Whether an item of this very run is pending."""
        return any(call.state == "pending" for call in self.calls)

    def step(self, number: int) -> Step | None:
        return next((step for step in self.steps if step.number == number), None)

    # -- stored form

    def encode_fixed(self) -> str:
        return dumps({key: getattr(self, name) for key, name in _FIXED.items()})

    def encode_state(self) -> str:
        """Everything else but the status, which the store keeps beside it."""
        state = {key: getattr(self, name) for key, name in _STATE.items()}
        state = {key: value for key, value in state.items() if value not in (None, (), 0)}
        if self.calls:
            state["calls"] = [_encode_call(call) for call in self.calls]
        if self.steps:
            state["steps"] = [_encode_step(step) for step in self.steps]
        return dumps(state)

    @classmethod
    def decode(cls, fixed: bytes | str, state: bytes | str, status: str) -> RunRecord:
        """Read a stored record, of this version or an older one."""
        once = json.loads(fixed)
        version = once.get("schemaVersion")
        if type(version) is not int or version < 1:
            raise UnsupportedSchemaVersionError(
                f"run {once.get('id')} has the schemaVersion {version!r}, which no agentkit has written "
                "(the record is untouched)"
            )
        if version > SCHEMA_VERSION:
            raise UnsupportedSchemaVersionError(
                f"run {once.get('id')} has schemaVersion {version}, this agentkit reads up to {SCHEMA_VERSION}: "
                "upgrade this process (the record is untouched)"
            )
        now = json.loads(state)
        values: dict[str, Any] = {name: once[key] for key, name in _FIXED.items() if key in once}
        values.update({name: now[key] for key, name in _STATE.items() if key in now})
        values["calls"] = tuple(_decode_call(call) for call in now.get("calls", ()))
        values["steps"] = tuple(Step(*step) for step in now.get("steps", ()))
        for name in ("steers", "follow_ups"):
            values[name] = tuple(values.get(name, ()))
        return cls(**values, status=Status(status))


_FIXED = {
    "id": "id",
    "agent": "agent",
    "model": "model",
    "metadata": "metadata",
    "limits": "limits",
    "createdAt": "created_at",
    "parent": "parent",
    "owner": "owner",
    "schemaVersion": "schema_version",
}
_STATE = {
    "updatedAt": "updated_at",
    "endedAt": "ended_at",
    "turn": "turn",
    "usage": "usage",
    "error": "error",
    "messages": "messages",
    "turnFrom": "turn_from",
    "flushed": "flushed",
    "nextStep": "next_step",
    "steers": "steers",
    "followUps": "follow_ups",
    "abort": "abort",
    "activeMs": "active_ms",
    "activeSince": "active_since",
}
_CALL = {
    "id": "id",
    "name": "name",
    "args": "args",
    "state": "state",
    "item": "item",
    "onExpire": "on_expire",
    "answer": "answer",
    "started": "started",
    "child": "child",
    "childPending": "child_pending",
    "result": "result",
}


def _encode_step(step: Step) -> list[Any]:
    first = [step.number, step.kind, step.call]
    return first if step.at is None else [*first, step.at, step.choice, step.tries, step.since]


def _encode_call(call: Call) -> Json:
    values = {key: getattr(call, name) for key, name in _CALL.items()}
    return {key: value for key, value in values.items() if value not in (None, ()) and (key != "started" or value)}


def _decode_call(stored: Json) -> Call:
    values = {name: stored[key] for key, name in _CALL.items() if key in stored}
    values["child_pending"] = tuple(values.get("child_pending", ()))
    return Call(**values)


def dumps(value: Any) -> str:
    """Compact JSON, the only form in which agentkit writes."""
    text = _encoder.encode(value)
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError:  # half a surrogate pair, which JSON can say and UTF-8 cannot
            return json.dumps(value, separators=(",", ":"), allow_nan=False)
    return text


_encoder = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), allow_nan=False)


@dataclass(frozen=True, slots=True)
class Lease:
    """The right to execute one step. `token` is the fencing token; `attempt` counts from 1."""

    run_id: str
    step: int
    token: int
    attempt: int


@dataclass(frozen=True, slots=True)
class RunState:
    """What the store knows of a run at one moment.

    `version` changes with every change of the record or of who holds its steps. `turn`: the messages of
    the open turn, or the whole conversation in the state that a claimed model step gets. `claimed`: open
    steps that a worker has begun, now or before. `live`: those whose lease still runs, and until when (ms).
    """

    record: RunRecord
    version: int
    last_seq: int
    turn: tuple[Message, ...] = ()
    claimed: frozenset[int] = frozenset()
    live: Mapping[int, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Resolution:
    """An answered item, kept as long as its run so that the same answer can be told from another.

    `answer` is what was given, `event` the index of its tool_decision_resolved among the change's events.
    `decided_at` is in milliseconds; `decided_by` is None where nobody was named.
    """

    decision_id: str
    tool_call_id: str
    outcome: str
    answer: Json | None
    event: int
    decided_at: int | None = None
    decided_by: str | None = None


@dataclass(frozen=True, slots=True)
class Change:
    """What a transition wants to become true, in one atomic act."""

    record: RunRecord
    messages: tuple[Message, ...] = ()
    events: tuple[Event, ...] = ()
    opened: tuple[Step, ...] = ()
    closed: tuple[int, ...] = ()
    resolutions: tuple[Resolution, ...] = ()
    on_claim: tuple[Event, ...] = ()
    """Events that the store appends when the next step of the run is claimed."""
    orphans: tuple[str, ...] = ()
    """Runs of sub-agents that nobody waits for any more: they are to be aborted."""
    on_first_claim: Mapping[int, tuple[Event, ...]] = field(default_factory=dict)
    """By step: events that the store appends when that step is claimed for the first time."""

    def with_events(self, events: tuple[Event, ...]) -> Change:
        """The same change with `events` before its own."""
        moved = tuple(replace(r, event=r.event + len(events)) for r in self.resolutions)
        return replace(self, events=events + self.events, resolutions=moved)
