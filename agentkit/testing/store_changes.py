"""Runs and changes made by hand, for tests of stores: they do not depend on the loop."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from msgspec import structs

from agentkit.core.calls import Call, ItemAnswer
from agentkit.core.events import Event
from agentkit.core.ids import new_id, now_ms
from agentkit.core.messages import TextBlock, ToolResultMessage, UserMessage
from agentkit.core.record import SCHEMA_VERSION, Change, Lease, Resolution, RunRecord, Status, Step
from agentkit.errors import LeaseLostError, StoreError
from agentkit.store.protocol import Append, Claim, Commit, LastCall, LeaseStatus, NextClaim, Store

__all__ = [
    "append",
    "LEASE_MS",
    "TIMESTAMP",
    "MakeStore",
    "calls_of",
    "claimed",
    "committed",
    "ended",
    "event",
    "first_change",
    "log_of",
    "new_run",
    "next_turn",
    "result_of",
    "snapshot",
    "step_done",
    "types_of",
    "wait_for",
]

T = TypeVar("T")

MakeStore = Callable[..., Store]
"""Makes a store on empty ground; takes `retention_seconds` and `max_events`."""

LEASE_MS = 60_000
TIMESTAMP = 1_700_000_000_000


def append(store: Store, lease: Lease, events: Sequence[Event], flush: int) -> LeaseStatus:
    """Append events under one lease. Raises LeaseLostError where it is gone, and what the store raises."""
    (outcome,) = store.append([Append(lease, events, flush)])
    if isinstance(outcome, StoreError):
        raise outcome
    if outcome.status is LeaseStatus.LOST:
        raise LeaseLostError
    return outcome.status


def event(kind: str, **fields: Any) -> Any:
    """Make an event of any type: to a store it is JSON with a type."""
    return {"type": kind, **fields}


def new_run(store: Store, *, schema_version: int = SCHEMA_VERSION) -> str:
    """A queued run with one message, two events and the model step 1 open."""
    run_id = new_id()
    assert store.create(first_change(run_id, schema_version=schema_version))
    return run_id


def first_change(run_id: str, *, schema_version: int = SCHEMA_VERSION, owner: str | None = None) -> Change:
    step = Step(1, "model")
    record = RunRecord(
        id=run_id,
        agent="a",
        model="m:x",
        metadata={"k": "ü"},
        limits={},
        created_at=TIMESTAMP,
        updated_at=TIMESTAMP,
        messages=1,
        turn=1,
        turn_from=1,
        steps=(step,),
        next_step=2,
        schema_version=schema_version,
        owner=owner,
    )
    return Change(
        record=record,
        messages=(UserMessage("hallo, Welt ☃", TIMESTAMP),),
        events=(event("agent_start", runId=run_id), event("hello", text='a "quoted"\nline, ☃')),
        opened=(step,),
        on_first_claim={1: (event("turn_start", turn=1), event("message_start", n=1))},
    )


def claimed(store: Store, run_id: str, step: int = 1, lease_ms: int = LEASE_MS) -> Claim:
    claim = store.claim(run_id, step, lease_ms)
    assert claim is not None
    return claim


def step_done(claim: Claim, *, opens: tuple[Step, ...] = (), **more: Any) -> Change:
    """The commit of a claimed step: one message, one event, and steps that it opens."""
    record = claim.state.record
    left = tuple(step for step in record.steps if step.number != claim.lease.step)
    return Change(
        before=record,
        record=structs.replace(
            record,
            status=more.pop("status", record.status),
            messages=record.messages + 1,
            steps=(*left, *opens),
            next_step=record.next_step + len(opens),
            calls=tuple(Call(f"c{step.call}", "t", {}, "ready") for step in opens if step.kind == "tool"),
            ended_at=more.pop("ended_at", None),
        ),
        messages=(UserMessage("more", TIMESTAMP + 1),),
        events=more.pop("events", (event("done", step=claim.lease.step),)),
        opened=opens,
        closed=(claim.lease.step,),
        **more,
    )


def committed(store: Store, change: Change, version: int, lease: Lease | None = None, **options: Any) -> Commit:
    """Commit a change that meets no other."""
    outcome = store.commit(change, version, lease, **options)
    assert isinstance(outcome, Commit)
    return outcome


def calls_of(store: Store, count: int, lease_ms: int = LEASE_MS) -> tuple[str, list[Claim]]:
    """A run whose model step has asked for `count` tools, and the claims of their steps."""
    run_id = new_run(store)
    claim = claimed(store, run_id)
    opens = tuple(Step(2 + n, "tool", n) for n in range(count))
    committed(store, step_done(claim, opens=opens), claim.state.version, claim.lease)
    return run_id, [claimed(store, run_id, step.number, lease_ms) for step in opens]


def next_turn(claim: Claim, *, lends: bool = False, **fields: Any) -> LastCall:
    """What follows from the end of a call, which was claimed alone, if it is the last one."""
    state, before = claim.state, claim.state.record
    assert before.others is not None
    step, messages = Step(before.next_step, "model"), before.turn_from + 2 + before.others.count
    values = {"messages": messages, "turn_from": messages, "flushed": 0, "steps": (step,), "calls": (), "others": None}
    values |= {"first_call": 0, "turn": 2, "next_step": step.number + 1} | fields
    change = Change(
        structs.replace(before, **values),
        before,
        events=(event("turn_end"),),
        opened=(step,),
        closed=(claim.lease.step,),
        on_first_claim={step.number: (event("turn_start", turn=2),)},
    )
    next_claim = NextClaim(step, LEASE_MS, state) if lends else None
    return LastCall(change, state.version, next_claim=next_claim)


def result_of(n: int) -> ToolResultMessage:
    return ToolResultMessage(f"c{n}", "t", [TextBlock(f"result {n}")], False, TIMESTAMP)


def ended(store: Store) -> str:
    """A completed run with an answered item."""
    run_id = new_run(store)
    claim = claimed(store, run_id)
    change = step_done(
        claim,
        status=Status.COMPLETED,
        ended_at=now_ms(),
        resolutions=(Resolution("d1", "t1", "decided", ItemAnswer(decision=1), 0),),
    )
    store.commit(change, claim.state.version, claim.lease)
    return run_id


def log_of(store: Store, run_id: str) -> list[dict[str, Any]]:
    return [json.loads(entry.data) for entry in store.events(run_id, 0, 1000).events]


def types_of(store: Store, run_id: str) -> list[str]:
    return [entry["type"] for entry in log_of(store, run_id)]


def snapshot(store: Store, run_id: str) -> tuple[Any, ...]:
    """All that an outsider can see of a run."""
    state, messages = store.messages(run_id)
    return state.record, state.version, state.last_seq, messages, log_of(store, run_id)


def wait_for(predicate: Callable[[], T], what: str, timeout: float = 10) -> T:
    """Ask `predicate` until it answers with something true, and return that.

    Raises AssertionError after `timeout` seconds, with `what` and the last answer.
    """
    deadline = time.monotonic() + timeout
    while not (answer := predicate()):
        if time.monotonic() >= deadline:
            raise AssertionError(f"waited {timeout:g} s for {what}; the last answer was {answer!r}")
        time.sleep(0.01)
    return answer
