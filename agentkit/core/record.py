"""The run record: what a run is between two steps, its statuses, and how it is written down.

Rules that this module alone knows:

1. Which status may follow which (`TRANSITIONS`).
2. How a record is divided in the store, so that a commit's size does not grow with the conversation, nor with what is
   queued, and that of a change of one tool call not with the number of calls beside it: `fixed` is written once,
   `state` with every commit, each tool call of the open turn by itself where it has changed, and which call an open
   step is for with the step. Messages, events and queued messages are lists beside them. A record may be read with one
   call of its turn alone: then `others` counts the rest.
3. What `schemaVersion` means: older records are read, newer ones refused.

Records are values: a transition (agentkit.loop) takes a `RunState` and returns a `Change`; the store makes the change
true, whole or not at all. Nothing here does I/O.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any, Literal, get_args

import msgspec

from agentkit.core.calls import Call, Extension, ItemAnswer, OtherCalls
from agentkit.core.events import Event, Outcome, PendingItem, RunError, Vote
from agentkit.core.message_list import MessageList
from agentkit.core.messages import ContentBlock, Json, Message, QueuedMessage, ToolResultMessage, Usage, add_usage
from agentkit.core.outbox import OutboxEntry
from agentkit.core.struct import Value, convert, decode, encode
from agentkit.errors import UnsupportedSchemaVersionError

__all__ = [
    "ABORTED_CODES",
    "ENDED_LISTS",
    "SCHEMA_VERSION",
    "STATUS_LISTS",
    "TERMINAL",
    "TRANSITIONS",
    "AbortRequest",
    "Change",
    "Lease",
    "Origin",
    "ParentCall",
    "Receipt",
    "Remembered",
    "Resolution",
    "RunRecord",
    "RunState",
    "Status",
    "StatusList",
    "Step",
    "StepKind",
    "WholeRecordNeededError",
    "check_version",
    "status_list",
]

SCHEMA_VERSION = 5
"""5: where a run began, the answers that it remembers, votes and reminders of its items, and an outbox beside it.
4: a tool step says by itself which call it is for, and one call can be read and written without the others.
3: queued messages have a key of their own. 2: so have the calls of the open turn, and events refer to messages.

All are read, and written as 5 when they change. A field that an older version does not know needs a new number, even
where its absence has a meaning: that version would fail on it, and does not touch what has a number above its own.
"""


class WholeRecordNeededError(Exception):
    """What follows from a change cannot be said from the calls, or the queued messages, that were read.

    It is to be computed from what `Store.load` reads of the whole record.
    """


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

ABORTED_CODES = frozenset({"aborted", "expired"})
"""The codes of the errors with which a run is aborted; with any other it has failed."""

StatusList = Literal["active", "paused", "completed", "failed", "aborted"]
"""Runs that are listed together by their status. `active`: queued and running ones, between which a run goes often."""

STATUS_LISTS: tuple[StatusList, ...] = get_args(StatusList)
ENDED_LISTS: tuple[StatusList, ...] = ("completed", "failed", "aborted")

StepKind = Literal["model", "tool"]


def status_list(status: Status) -> StatusList:
    """Name the list of the runs that have this status."""
    return _STATUS_LISTS[status]


_STATUS_LISTS: Mapping[Status, StatusList] = {
    Status.QUEUED: "active",
    Status.RUNNING: "active",
    Status.PAUSED: "paused",
    Status.COMPLETED: "completed",
    Status.FAILED: "failed",
    Status.ABORTED: "aborted",
}


class Step(msgspec.Struct, frozen=True, array_like=True):
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


class ParentCall(Value, frozen=True):
    """The call of another run that a sub-agent's run answers; `depth` counts from 1.

    `call`: its index in its turn; None in what versions before 4 have written.
    """

    run_id: str
    tool_call_id: str
    depth: int
    call: int | None = None


class Origin(Value, frozen=True):
    """The run whose messages a run began with, and the last of that run's turns among them; 0 where there is none."""

    run_id: str
    turn: int


class Remembered(msgspec.Struct, frozen=True, array_like=True):
    """An answer that counts for later calls of a `tool` in the run, as long as its decision has the same schema.

    `schema`: the SHA-256 of the one that was shown. `decision_id`: of the item, by which the store has the answer.
    """

    tool: str
    schema: str
    decision_id: str


class AbortRequest(Value, frozen=True):
    """Somebody wants the run to end; whoever holds a step ends it.

    `by`: who, None where nobody was named. `at`: when it was asked for (ms); earlier versions wrote no time.
    """

    reason: str | None = None
    by: str | None = None
    at: int | None = None

    def keeps(self, finished_at: int) -> bool:
        """Whether the run keeps the result of a call that finished at `finished_at` (ms): before this was asked for."""
        return self.at is None or finished_at <= self.at


class RunRecord(msgspec.Struct, frozen=True):
    """A run between two steps. Times are milliseconds since the Unix epoch.

    A structure and no dataclass, which takes sixty times as long to copy with as many fields; each step copies it.
    """

    # fixed
    id: str
    agent: str
    model: str
    metadata: Json
    limits: Json
    created_at: int
    parent: ParentCall | None = None
    owner: str | None = None
    """The principal that started it; None where nobody was named."""
    origin: Origin | None = None
    """The run that it was started from; None where it was started from none."""
    schema_version: int = SCHEMA_VERSION
    """Of the record as it was read."""
    # state
    status: Status = Status.QUEUED
    updated_at: int = 0
    ended_at: int | None = None
    turn: int = 0
    usage: Usage = msgspec.field(default_factory=Usage.of)
    error: RunError | None = None
    messages: int = 0
    """How many messages the run has."""
    turn_from: int = 0
    """The index of the first message of the open turn."""
    flushed: int = 0
    """How many calls of the open turn have their tool result message."""
    steps: tuple[Step, ...] = ()
    next_step: int = 1
    active_ms: int = 0
    active_since: int | None = None
    answered: int = 0
    """How many pending items have been answered or have expired, those of sub-agents' runs among them."""
    discarded: Usage | None = None
    """What tries of model calls used whose answers are no messages of the run, those of sub-agents' runs among them."""
    child_runs: int = 0
    """How many runs of sub-agents its calls were to start so far."""
    joined: int = 0
    """How many messages from outside have joined the turn that is due."""
    joined_bytes: int = 0
    """How many bytes these have."""
    queued_steers: int = 0
    """How many of the queued messages are steers."""
    queued_follow_ups: int = 0
    """How many are follow-ups."""
    orphans: tuple[str, ...] = ()
    """Runs of sub-agents that its end cut off, for their calls have no result to name them."""
    remembered: tuple[Remembered, ...] = ()
    """The answers that count for later calls; one for each tool and schema."""
    # beside the state
    calls: tuple[Call, ...] = ()
    first_call: int = 0
    """The index of the first of `calls` in the turn."""
    others: OtherCalls | None = None
    """Where `calls` are not all of the turn's: what is known of the rest. None: they are all."""
    queued: tuple[QueuedMessage, ...] | None = ()
    """What was sent into the run and waits, in the order of arrival; None where some does and was not read."""
    abort: AbortRequest | None = None

    @property
    def spent(self) -> Usage:
        """All that counts towards the limits: the usage and what was discarded."""
        return self.usage if self.discarded is None else add_usage(self.usage, self.discarded)

    @property
    def terminal(self) -> bool:
        return self.status in TERMINAL

    @property
    def status_list(self) -> StatusList:
        """The list that the run belongs to by its status."""
        return status_list(self.status)

    @property
    def pending(self) -> list[PendingItem]:
        """The pending items, in the order of their tool calls, those of sub-agents' runs among them.

        Raises WholeRecordNeededError where not all calls were read.
        """
        if self.others is not None:
            raise WholeRecordNeededError
        return [item for call in self.calls for item in call.items]

    @property
    def indexed_calls(self) -> Iterable[tuple[int, Call]]:
        """The calls that were read, with their indexes in the turn."""
        return enumerate(self.calls, self.first_call)

    def call(self, index: int) -> Call:
        """Return the call with this index in the turn, which must have been read."""
        return self.calls[index - self.first_call]

    @property
    def written_version(self) -> int:
        """The schema version that the record has once it is written again: an older one is brought up to date."""
        return max(self.schema_version, SCHEMA_VERSION)

    def with_queued(self, messages: Sequence[QueuedMessage]) -> RunRecord:
        """Return the record with other messages queued."""
        steers = sum(each.when == "steer" for each in messages)
        follow_ups = len(messages) - steers
        return msgspec.structs.replace(self, queued=tuple(messages), queued_steers=steers, queued_follow_ups=follow_ups)

    def step(self, number: int) -> Step | None:
        return next((step for step in self.steps if step.number == number), None)

    # -- stored form

    def encode_fixed(self) -> bytes:
        """Write what never changes, with the schema version of what is written."""
        return encode(_Fixed(**{name: getattr(self, name) for name in _FIXED}, schema_version=self.written_version))

    def encode_state(self) -> bytes:
        """Write what every commit may change, but what stands beside it: status, calls, their steps and the abort."""
        values = {name: getattr(self, name) for name in _STATE}
        values["steps"] = tuple(step for step in self.steps if step.call is None)
        return encode(_State(**values))

    @classmethod
    def decode(
        cls,
        fixed: bytes,
        state: bytes,
        status: str,
        *,
        calls: Sequence[bytes] = (),
        queued: Sequence[bytes] | None = (),
        results: Mapping[int, bytes] | None = None,
        open_steps: Mapping[int, int | None] | None = None,
        flushed: int | None = None,
        updated_at: int | None = None,
        abort: bytes | None = None,
        first_call: int = 0,
    ) -> RunRecord:
        """Read a stored record, of this version or an older one.

        `queued`: the messages that wait, None where they were not read. What has changed since `state` was written
        stands beside it, too: `calls`, those of the open turn; `results`, by the index of their calls, the tool result
        messages of those that have ended, empty where the message is among the run's; `flushed`, how many are;
        `open_steps`, the steps that are open, each with the index of its tool call, as far as it is known there;
        `updated_at`; `abort`. `first_call`: the index of the first of `calls`.
        Raises UnsupportedSchemaVersionError.
        """
        version = check_version(fixed)
        once = decode(fixed, _Fixed)
        now = decode(state, _State) if version > 1 else _read_v1(state)
        values: dict[str, Any] = {name: getattr(once, name) for name in _FIXED}
        values.update({name: getattr(now, name) for name in _STATE})
        values["usage"] = now.usage or Usage.of()
        if version > 1:
            values["calls"] = _read_calls(calls, results or {}, flushed or 0, first_call)
            if flushed is not None:
                values["messages"] += flushed - now.flushed
                values["flushed"] = flushed
            if open_steps is not None:
                values["steps"] = _read_steps(now.steps, open_steps)
            values["updated_at"] = max(now.updated_at, updated_at or 0)
        else:
            values["calls"] = now.calls
        values["abort"] = decode(abort, AbortRequest) if abort is not None else now.abort
        record = cls(**values, status=Status(status), schema_version=version, first_call=first_call)
        if version < 3:
            return record.with_queued(_queued_before(now))
        if not queued and not (now.queued_steers or now.queued_follow_ups):
            return record
        if queued is None:
            return msgspec.structs.replace(record, queued=None)
        return record.with_queued([decode(each, QueuedMessage) for each in queued])


class _Fixed(Value, frozen=True):
    id: str
    agent: str
    model: str
    metadata: Json
    limits: Json
    created_at: int
    schema_version: int
    parent: ParentCall | None = None
    owner: str | None = None
    origin: Origin | None = None


class _Waiting(Value, frozen=True):
    """A queued message up to schemaVersion 2."""

    content: str | list[ContentBlock]
    by: str | None = None


class _State(Value, frozen=True):
    """Defaults are left out, so that most states are short.

    `calls` and `abort` are of schemaVersion 1, `steers` and `follow_ups` of the versions up to 2.
    """

    updated_at: int = 0
    ended_at: int | None = None
    turn: int = 0
    usage: Usage | None = None
    error: RunError | None = None
    messages: int = 0
    turn_from: int = 0
    flushed: int = 0
    steps: tuple[Step, ...] = ()
    next_step: int = 1
    steers: tuple[_Waiting, ...] = ()
    follow_ups: tuple[_Waiting, ...] = ()
    active_ms: int = 0
    active_since: int | None = None
    answered: int = 0
    discarded: Usage | None = None
    child_runs: int = 0
    joined: int = 0
    joined_bytes: int = 0
    queued_steers: int = 0
    queued_follow_ups: int = 0
    orphans: tuple[str, ...] = ()
    remembered: tuple[Remembered, ...] = ()
    calls: tuple[Call, ...] = ()
    abort: AbortRequest | None = None


_FIXED = ("id", "agent", "model", "metadata", "limits", "created_at", "parent", "owner", "origin")
_OLD = ("calls", "abort", "steers", "follow_ups")
_STATE = tuple(name for name in _State.__struct_fields__ if name not in _OLD)


class _Version(msgspec.Struct, rename="camel"):
    id: Any = None
    schema_version: Any = None


def check_version(fixed: bytes) -> int:
    """Return the schema version of a stored record. Raises UnsupportedSchemaVersionError for one that is not read."""
    head = decode(fixed, _Version)
    version = head.schema_version
    if type(version) is not int or version < 1:
        raise UnsupportedSchemaVersionError(
            f"run {head.id} has the schemaVersion {version!r}, which no agentkit has written (the record is untouched)"
        )
    if version > SCHEMA_VERSION:
        raise UnsupportedSchemaVersionError(
            f"run {head.id} has schemaVersion {version}, this agentkit reads up to {SCHEMA_VERSION}: "
            "upgrade this process (the record is untouched)"
        )
    return int(version)


def _read_calls(
    calls: Sequence[bytes], results: Mapping[int, bytes], flushed: int, first_call: int
) -> tuple[Call, ...]:
    read = [decode(call, Call) for call in calls]
    for index, message in results.items():
        at = index - first_call
        if 0 <= at < len(read):
            done = decode(message, ToolResultMessage) if message and index >= flushed else None
            read[at] = msgspec.structs.replace(read[at], state="done", result=done)
    return tuple(read)


def _queued_before(state: _State) -> list[QueuedMessage]:
    """List the queued messages of a state up to schemaVersion 2, of which only the order of each kind is known."""
    steers = [QueuedMessage(each.content, "steer", each.by) for each in state.steers]
    return steers + [QueuedMessage(each.content, "followUp", each.by) for each in state.follow_ups]


def _read_steps(written: Iterable[Step], open_steps: Mapping[int, int | None]) -> tuple[Step, ...]:
    """Read the open steps. `written`: those of the state, up to version 3 tool steps among them."""
    steps = {number: Step(number, "tool", call) for number, call in open_steps.items() if call is not None}
    steps |= {step.number: step for step in written if step.number in open_steps}
    return tuple(steps[number] for number in sorted(steps))


def _read_v1(state: bytes) -> _State:
    """Read a state of schemaVersion 1: the calls stand in it, and a result has not the form of a message yet."""
    now: Json = decode(state, Json)
    for call in now.get("calls", ()):
        if "result" in call:
            call["result"] = {
                "role": "toolResult",
                "toolCallId": call["id"],
                "toolName": call["name"],
                "timestamp": now.get("updatedAt", 0),
                **call["result"],
            }
    return convert(now, _State)


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

    `version` changes with every change of the record or of who holds its steps; where one call of the turn alone was
    read, only with such of more than one call. `messages`: the whole conversation in the state that a claimed model
    step gets, else empty. What is queued is there in what `Store.load` reads of a whole record, and elsewhere where it
    is little. `claimed`: open steps that a worker has begun, now or before. `live`: those whose lease still runs, and
    until when (ms). `waits`: open steps that were given back until a time (ms), as `Store.release` has it. `outbox`:
    whether its outbox has entries, in the state of a whole record.
    """

    record: RunRecord
    version: int
    last_seq: int
    messages: MessageList = field(default_factory=MessageList)
    claimed: frozenset[int] = frozenset()
    live: Mapping[int, int] = field(default_factory=dict)
    waits: Mapping[int, int] = field(default_factory=dict)
    outbox: bool = False


@dataclass(frozen=True, slots=True)
class Resolution:
    """An answered item, kept as long as its run so that the same answer is known from another.

    `answer`: as it was accepted. `event`: the index of its tool_decision_resolved among the change's events.
    `decided_at` is in milliseconds; `decided_by` is None where nobody was named. `extensions`: the last times that the
    item's expiry was moved. `votes`: those that were given, where several had to decide. `remembered`: nobody was
    asked, and the answer is an earlier one's. `item`: as it was shown, None in what versions before it have written.
    """

    decision_id: str
    tool_call_id: str
    outcome: Outcome
    answer: ItemAnswer | None
    event: int
    decided_at: int | None = None
    decided_by: str | None = None
    extensions: tuple[Extension, ...] = ()
    votes: tuple[Vote, ...] = ()
    remembered: bool = False
    item: PendingItem | None = None


@dataclass(frozen=True, slots=True)
class Receipt:
    """What is kept, as long as its run, of a call that had an idempotency key.

    `name`: stands for the key, its caller and the run that was called. `digest`: of what was asked for; empty where
    another run checks it, that of the sub-agent which owns the item: then `child` is its id and `decision_id` the
    item's. `since`: the seq after which the call's reply begins; None for that before the change's own events.
    """

    name: str
    digest: str
    since: int | None = None
    child: str | None = None
    decision_id: str | None = None


@dataclass(frozen=True, slots=True)
class Change:
    """What a transition wants to become true, in one atomic act. `before`: the record that it was computed from."""

    record: RunRecord
    before: RunRecord | None = None
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
    receipt: Receipt | None = None
    outbox: tuple[OutboxEntry, ...] = ()
    """What it causes outside the run."""

    def with_events(self, events: Sequence[Event]) -> Change:
        """The same change with `events` before its own."""
        if not events:
            return self
        moved = tuple(replace(r, event=r.event + len(events)) for r in self.resolutions)
        return replace(self, events=(*events, *self.events), resolutions=moved)
