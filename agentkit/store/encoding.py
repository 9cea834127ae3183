"""How records, messages and events are written down, the same in every store.

Stores keep bytes, also the one in memory, so that every test exercises this.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from agentkit.core.calls import Call, Extension, ItemAnswer, OtherCalls
from agentkit.core.events import Event, Outcome, PendingItem, Vote
from agentkit.core.message_list import MessageList
from agentkit.core.messages import Json, QueuedMessage
from agentkit.core.outbox import OutboxEntry
from agentkit.core.record import SCHEMA_VERSION, Change, Receipt, Resolution, RunRecord, RunState, Status
from agentkit.core.struct import decode, encode
from agentkit.store.bodies import Bodies
from agentkit.store.protocol import NextClaim, StoredResolution

__all__ = [
    "SMALL_QUEUE_BYTES",
    "EncodedChange",
    "OpenedStep",
    "count_others",
    "decode_entry",
    "decode_receipt",
    "decode_resolution",
    "decode_state",
    "encode_body",
    "encode_change",
    "encode_events",
    "expand",
    "known_messages",
    "lines",
    "result_events",
    "state_after",
]


SMALL_QUEUE_BYTES = 16_384
"""What is queued comes along with every whole state of a run up to this size; beyond it, `load` alone reads it."""

_PLAIN = Bodies()


@dataclass(frozen=True, slots=True)
class OpenedStep:
    """A step to open. `reads_from`: the first message that it reads. `due`: when it may be claimed (ms), 0 for at once.

    `call`: the index of its tool call, None for a model step. `first_claim`: events that its first claim appends.
    """

    number: int
    reads_from: int
    due: int
    call: int | None
    first_claim: bytes


@dataclass(frozen=True, slots=True)
class EncodedChange:
    """A change as bytes. `fixed` is empty where it is stored already. `version`: its `sv` (scripts/common.lua).

    `abort`: the request that a record of schemaVersion 1 has in its state, to be written beside it; else empty.
    `part`: the index of the one call that was read, where the record was read with that alone; else None. `waiting` and
    `working`: how many calls wait for an answer, and on how many a sub-agent's run works; of a part, how many more.
    `call_count`: how many calls the open turn has, where it is no part.
    `tool_steps`: (number, index of its call) of the open ones, where they are not marked with that yet.
    """

    version: str
    fixed: bytes
    abort: bytes
    state: bytes
    status: str
    turn_from: int
    flushed: int
    ended: bool
    messages: list[bytes]
    events: list[bytes]
    on_claim: bytes
    opened: list[OpenedStep]
    closed: tuple[int, ...]
    resolutions: list[tuple[str, str, int, bytes]]
    """(decision id, tool call id, index among the events, JSON)"""
    dropped_calls: int
    """How many calls, from the first, are to be forgotten before others are written."""
    calls: list[tuple[int, bytes]]
    """(index, JSON) of the calls that are new or have changed."""
    results: list[tuple[int, bytes]]
    """(index, JSON) of the tool result messages of calls that have ended; empty where the message is in the list."""
    unqueued: list[int]
    """Where the queued messages that are to be forgotten stand in the list of those that are stored."""
    queued: list[bytes]
    """JSON of the messages that are queued after those that stay."""
    receipts: list[tuple[str, int | None, bytes]]
    """(name, since, JSON)"""
    part: int | None
    waiting: int
    working: int
    call_count: int
    items: list[tuple[str, int | None]]
    """(decision id, index of its call) of the items that are new, (decision id, None) of those that are gone."""
    tool_steps: list[tuple[int, int]]
    outbox: list[tuple[str, bytes]]
    """(id, JSON)"""


def encode_body(value: Any, bodies: Bodies) -> bytes:
    """Write one body down."""
    return bodies.encrypt(encode(value))


def encode_events(events: Iterable[Event], bodies: Bodies) -> list[bytes]:
    """Write events down, without their seq and timestamp."""
    return [bodies.encrypt_event(encode(event)) for event in events]


def lines(events: Iterable[Event], bodies: Bodies) -> bytes:
    """Write events, one a line: neither JSON text nor an encrypted piece holds a line feed."""
    return b"\n".join(encode_events(events, bodies))


def encode_change(change: Change, bodies: Bodies = _PLAIN) -> EncodedChange:
    """Write a change down; of its calls and queued messages, those that differ from the ones it was computed from."""
    record, before = change.record, change.before
    stored = 0 if before is None else before.schema_version
    current = stored == SCHEMA_VERSION
    known, after = dict(before.indexed_calls) if before and stored > 1 else {}, dict(record.indexed_calls)
    dropped, calls, results = _changed_calls(known, after, bodies)
    if before is not None and before.others is not None and record.others is None:
        dropped = 1 + before.others.count
    unqueued, queued = _changed_queue(before.queued if before and stored > 2 else (), record.queued, bodies)
    counted = known.values() if record.others is not None else ()
    return EncodedChange(
        version=bodies.version(record.written_version),
        fixed=b"" if current else bodies.encrypt(record.encode_fixed()),
        abort=encode_body(before.abort, bodies) if before and stored == 1 and before.abort else b"",
        state=bodies.encrypt(record.encode_state()),
        status=str(record.status),
        turn_from=record.turn_from,
        flushed=record.flushed,
        ended=record.terminal,
        messages=[encode_body(message, bodies) for message in change.messages],
        events=encode_events(change.events, bodies),
        on_claim=lines(change.on_claim, bodies),
        opened=[
            OpenedStep(
                step.number,
                0 if step.kind == "model" else record.turn_from,
                step.at or 0,
                step.call,
                lines(change.on_first_claim.get(step.number, ()), bodies),
            )
            for step in change.opened
        ],
        closed=change.closed,
        resolutions=[_encode_resolution(resolution, bodies) for resolution in change.resolutions],
        dropped_calls=dropped,
        calls=calls,
        results=results,
        unqueued=unqueued,
        queued=queued,
        receipts=[_encode_receipt(change.receipt, bodies)] if change.receipt else [],
        part=record.first_call if record.others is not None else None,
        waiting=sum(call.waits for call in record.calls) - sum(call.waits for call in counted),
        working=sum(call.works for call in record.calls) - sum(call.works for call in counted),
        call_count=len(record.calls),
        items=_changed_items(known if stored > 3 else {}, after),
        tool_steps=[] if current else [(step.number, step.call) for step in record.steps if step.call is not None],
        outbox=[(entry.id, encode_body((entry.kind, entry.data), bodies)) for entry in change.outbox],
    )


def _changed_calls(
    before: Mapping[int, Call], after: Mapping[int, Call], bodies: Bodies
) -> tuple[int, list[tuple[int, bytes]], list[tuple[int, bytes]]]:
    """Compare the calls of a turn: how many to drop, which to write, and the results of which."""
    dropped = len(before) if len(after) < len(before) else 0
    calls: list[tuple[int, bytes]] = []
    results: list[tuple[int, bytes]] = []
    for index, call in after.items():
        if not dropped and before.get(index) is call:
            continue
        without_result = msgspec.structs.replace(call, result=None) if call.result else call
        calls.append((index, encode_body(without_result, bodies)))
        if call.state == "done":
            results.append((index, encode_body(call.result, bodies) if call.result else b""))
    return dropped, calls, results


def _changed_queue(
    before: Sequence[QueuedMessage] | None, after: Sequence[QueuedMessage] | None, bodies: Bodies
) -> tuple[list[int], list[bytes]]:
    """Compare what is queued: the places of what is taken, and what is added; nothing where it was not read."""
    if before is None or after is None:
        return [], []
    known, kept = {id(each) for each in before}, {id(each) for each in after}
    taken = [place for place, each in enumerate(before) if id(each) not in kept]
    return taken, [encode_body(each, bodies) for each in after if id(each) not in known]


def _changed_items(before: Mapping[int, Call], after: Mapping[int, Call]) -> list[tuple[str, int | None]]:
    """Compare the pending items of a turn, those of sub-agents' runs among them."""
    known = _indexed_items((index, call) for index, call in before.items() if after.get(index) is not call)
    now = _indexed_items((index, call) for index, call in after.items() if before.get(index) is not call)
    return [
        *((item, None) for item in known if item not in now),
        *((item, index) for item, index in now.items() if item not in known),
    ]


def _indexed_items(calls: Iterable[tuple[int, Call]]) -> dict[str, int]:
    return {item.decision_id: index for index, call in calls for item in call.items}


def count_others(call: Call, own_steps: int, *, calls: int, steps: int, waiting: int, working: int) -> OtherCalls:
    """Count the calls beside the one that was read, from how many there are in the turn."""
    return OtherCalls(calls - 1, steps - own_steps, waiting - call.waits, working - call.works)


def decode_state(now: int, fields: Mapping[bytes, bytes], queued: Sequence[bytes] | None) -> RunState:
    """Read a run's state, but for its messages, from its hash (store/scripts/common.lua) and what is queued.

    Without `v` the fields are those that show one call of the turn.
    """
    whole = b"v" in fields
    claimed: set[int] = set()
    live: dict[int, int] = {}
    waits: dict[int, int] = {}
    opened: dict[int, int | None] = {}
    calls: dict[int, bytes] = {}
    results: dict[int, bytes] = {}
    for key, value in fields.items():
        if key[1:2] != b":":
            continue
        match key[:1]:
            case b"s":
                number = int(key[2:])
                token, until, attempt, _, _, claim, *call = value.split(b" ")
                opened[number] = int(call[0]) if call and call[0] else None
                if int(attempt):
                    claimed.add(number)
                if int(until) > now and token != b"0":
                    live[number] = int(until)
                if token == b"0" and claim == b"=":
                    waits[number] = int(until)
            case b"k":
                calls[int(key[2:])] = value
            case b"r":
                results[int(key[2:])] = value
    record = RunRecord.decode(
        fields[b"fixed"],
        fields[b"state"],
        fields[b"status"].decode(),
        calls=[calls[index] for index in sorted(calls)],
        first_call=min(calls, default=0),
        queued=queued,
        results=results,
        open_steps=opened,
        flushed=_int(fields.get(b"fl")),
        updated_at=_int(fields.get(b"up")),
        abort=fields.get(b"abort"),
    )
    if not whole:
        steps, waiting, working = (int(fields[name]) for name in (b"open", b"wait", b"work"))
        count = int(fields.get(b"calls", 1))
        [only] = record.calls
        others = count_others(only, len(opened), calls=count, steps=steps, waiting=waiting, working=working)
        record = msgspec.structs.replace(record, others=others)
    return RunState(
        record=record,
        version=int(fields[b"v" if whole else b"w"]),
        last_seq=int(fields[b"seq"]),
        claimed=frozenset(claimed),
        live=live,
        waits=waits,
        outbox=b"ob" in fields,
    )


def state_after(
    change: Change, claim: NextClaim, *, version: int, last_seq: int, until: int, messages: MessageList
) -> RunState:
    """Make the state that `decode_state` would read after a change of a whole record, whose step `claim` was lent.

    `until`: the end of its lease (ms). `messages`: all of the run's for a model step, else none.
    """
    record, before, number = change.record, claim.state, claim.step.number
    if record.status is Status.QUEUED:
        record = msgspec.structs.replace(record, status=Status.RUNNING)
    if record.schema_version != record.written_version:
        record = msgspec.structs.replace(record, schema_version=record.written_version)
    return RunState(
        record=record,
        version=version,
        last_seq=last_seq,
        messages=messages,
        claimed=before.claimed.difference(change.closed) | {number},
        live={**{step: till for step, till in before.live.items() if step not in change.closed}, number: until},
        outbox=before.outbox or bool(change.outbox),
    )


def known_messages(change: Change, claim: NextClaim) -> MessageList:
    """List the run's first messages after a change, as far as its committer has them."""
    has_all = len(claim.messages) == change.record.messages - len(change.messages)
    return claim.messages.extended(change.messages) if has_all else claim.messages


def _int(value: bytes | None) -> int | None:
    return None if value is None else int(value)


def _encode_resolution(resolution: Resolution, bodies: Bodies) -> tuple[str, str, int, bytes]:
    stored = _StoredResolution(
        resolution.tool_call_id,
        resolution.outcome,
        resolution.answer,
        resolution.decided_at,
        resolution.decided_by,
        resolution.extensions,
        resolution.votes,
        resolution.remembered,
        resolution.item,
    )
    return resolution.decision_id, resolution.tool_call_id, resolution.event, encode_body(stored, bodies)


class _StoredResolution(msgspec.Struct, array_like=True):
    tool_call_id: str
    outcome: Outcome
    answer: ItemAnswer | None
    decided_at: int | None = None  # at first nothing came after the answer
    decided_by: str | None = None
    extensions: tuple[Extension, ...] = ()
    votes: tuple[Vote, ...] = ()
    remembered: bool = False
    item: PendingItem | None = None


def decode_resolution(decision_id: str, stored: bytes) -> StoredResolution:
    """Read how an item was answered: the seq of its event, a space, and JSON."""
    seq, _, text = stored.partition(b" ")
    read = decode(text, _StoredResolution)
    return StoredResolution(
        decision_id,
        read.tool_call_id,
        read.outcome,
        read.answer,
        int(seq),
        read.decided_at,
        read.decided_by,
        read.extensions,
        read.votes,
        read.remembered,
        read.item,
    )


def _encode_receipt(receipt: Receipt, bodies: Bodies) -> tuple[str, int | None, bytes]:
    # The digest too: it would show what a small request was.
    text = encode_body((receipt.digest, receipt.child, receipt.decision_id), bodies)
    return receipt.name, receipt.since, text


def decode_receipt(name: str, stored: bytes) -> Receipt:
    """Read what is kept of a call with an idempotency key: the seq before its reply, a space, and JSON."""
    since, _, text = stored.partition(b" ")
    digest, child, decision_id = decode(text, tuple[str, str | None, str | None])
    return Receipt(name, digest, int(since), child, decision_id)


def decode_entry(entry_id: str, stored: bytes) -> OutboxEntry:
    """Read an entry of an outbox: when it is due (ms), a space, how often it was taken, a space, and JSON."""
    at, tries, text = stored.split(b" ", 2)
    kind, data = decode(text, tuple[str, Json])
    return OutboxEntry(entry_id, kind, data, int(at), int(tries))


# -- references of events to messages (agentkit.core.events.stored_at)

_REFERENCE = re.compile(rb"\x01(\d+) (\d+)\x01")


def expand(event: bytes, messages: Callable[[int, int], Iterable[bytes]]) -> bytes:
    """Put messages in place of an event's references to them. `messages(first, count)` reads them from the list."""
    if b"\x01" not in event:
        return event
    return _REFERENCE.sub(lambda found: b",".join(messages(int(found[1]), int(found[2]))), event)


def result_events(message: int) -> list[bytes]:
    """Write the events of a tool result that becomes message number `message` of its run."""
    reference = b"\x01%d 1\x01" % message
    return [b'{"type":"message_start","message":%b}' % reference, b'{"type":"message_end","message":%b}' % reference]
