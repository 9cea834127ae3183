"""Says why a run stands where it stands, from what the store, the queues and the workers' heartbeats show.

Two parts: `Inquiry` collects the facts, and `verdict` says what they come to, in words. What names workers and queues
is an operator's alone, and is left out before anything is said. It changes nothing.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import msgspec

from agentkit.core.events import PendingItem
from agentkit.core.messages import Json
from agentkit.core.record import RunRecord, RunState, Status, Step
from agentkit.core.why import WaitsFor, Why, WhyChild, WhyError, WhyItem, WhyQueue, WhyStep
from agentkit.core.words import counted
from agentkit.core.workers import Worker
from agentkit.runtime.commit import Committer
from agentkit.runtime.remedies import start_worker
from agentkit.store.protocol import StepLease

__all__ = ["Inquiry", "verdict"]

_EVENTS = 300
"""How many of the last events are searched for errors."""
_ERRORS = 5
_TEXT = 500

AnsweredBy = Literal["anyone", "owner", "may"]


@dataclass(frozen=True)
class Inquiry:
    """Asks about runs. `knows_agents`: whether this process has the application, and so knows the queues of its steps.

    `answered_by`: who may answer items. `may_answer`: whether the caller may answer one. `operator`: whether the caller
    may see which workers and queues there are.
    """

    committer: Committer
    knows_agents: bool
    answered_by: AnsweredBy
    may_answer: Callable[[PendingItem], bool] | None = None
    operator: bool = True

    def why(self, run_id: str) -> Why:
        """Explain a run. Raises RunNotFoundError."""
        store = self.committer.store
        state = store.load(run_id)
        record, now = state.record, store.now()
        workers = [] if record.terminal else store.about_workers()
        leases = {lease.step: lease for lease in store.step_leases(run_id, [step.number for step in record.steps])}
        steps = [self._step(state, step, leases.get(step.number), workers, now) for step in record.steps]
        found = Why(
            run_id=run_id,
            agent=record.agent,
            status=record.status,
            since=record.updated_at,
            checked_at=now,
            waits_for="nothing",
            summary="",
            todo="",
            owner=record.owner,
            error=record.error,
            steps=steps,
            items=[] if record.abort else [self._item(item) for item in record.pending],
            children=[] if record.terminal else self._children(record),
            errors=self._errors(state),
            next_check_at=None if record.terminal else store.next_check(run_id),
            queues=self._queues({step.queue for step in steps if step.queue is not None}, workers),
        )
        return verdict(found, is_aborted=record.abort is not None, has_workers=bool(workers), operator=self.operator)

    def _step(
        self, state: RunState, step: Step, lease: StepLease | None, workers: Sequence[Worker], now: int
    ) -> WhyStep:
        record = state.record
        until = None if lease is None else lease.until
        kind: Literal["delayed", "held_back"] = "held_back" if step.number in state.waits else "delayed"
        due = state.waits.get(step.number, step.at)
        is_delayed = until is None and due is not None and due > now
        holder = None if lease is None else lease.worker
        return WhyStep(
            number=step.number,
            kind=step.kind,
            attempt=0 if lease is None else lease.attempt,
            state="leased" if until is not None else kind if is_delayed else "due",
            tool_name=None if step.call is None else record.call(step.call).name,
            lease_until=until,
            due_at=due if is_delayed else None,
            tries=step.tries or None,
            queue=self._queue(record, step),
            worker=holder,
            worker_alive=None if holder is None else any(worker.name == holder for worker in workers),
        )

    def _queue(self, record: RunRecord, step: Step) -> str | None:
        if not self.knows_agents:
            return None
        return self.committer.queue.name(step.kind, self.committer.queue_of(record, step)) or None

    def _queues(self, names: set[str], workers: Sequence[Worker]) -> list[WhyQueue]:
        served = self.committer.store.served(sorted(names)) if workers else []
        return [
            WhyQueue(
                name=name,
                served=name in served,
                messages=self.committer.queue.queued(name),
                workers=[worker.name for worker in workers if name in worker.queues],
            )
            for name in sorted(names)
        ]

    def _item(self, item: PendingItem) -> WhyItem:
        may_answer = None if self.may_answer is None else self.may_answer(item)
        return WhyItem(item=item, answered_by=self.answered_by, may_answer=may_answer)

    def _children(self, record: RunRecord) -> list[WhyChild]:
        calls = [call for call in record.calls if call.state == "waiting" and call.child is not None]
        states = self.committer.store.loads([str(call.child) for call in calls])
        return [
            WhyChild(
                run_id=str(call.child),
                tool_name=call.name,
                status=state.record.status if isinstance(state, RunState) else None,
                agent=state.record.agent if isinstance(state, RunState) else None,
            )
            for call, state in zip(calls, states, strict=True)
        ]

    def _errors(self, state: RunState) -> list[WhyError]:
        page = self.committer.store.events(state.record.id, max(0, state.last_seq - _EVENTS), _EVENTS)
        found = [error for event in reversed(page.events) if (error := _error(json.loads(event.data))) is not None]
        return found[:_ERRORS]


def _error(event: Json) -> WhyError | None:
    """Read what an event says has gone wrong."""
    kind = event["type"]
    text: Any = None
    if kind in ("model_retry", "message_discard", "model_wait"):
        text = event.get("error") or event.get("reason")
    elif kind == "agent_pause":
        text = event.get("reason")
    elif kind == "agent_end" and event.get("error"):
        text = f"{event['error']['code']}: {event['error']['message']}"
    elif kind == "tool_execution_end" and event["isError"]:
        texts = [block["text"] for block in event["result"]["content"] if block["type"] == "text"]
        text = f"{event['toolName']}: {' '.join(texts)}"
    return None if not text else WhyError(at=event["timestamp"], event=kind, message=str(text)[:_TEXT])


# -- what the facts come to


def verdict(found: Why, *, is_aborted: bool, has_workers: bool, operator: bool) -> Why:
    """Say what a run waits for, and what to do, from the rest of what is known of it.

    `is_aborted`: somebody has asked for its end. `has_workers`: any send heartbeats. Without `operator` nothing that
    names a worker or a queue is left, and no words about them.
    """
    waits_for = _waits_for(found, is_aborted, has_workers)
    if not operator:
        steps = [msgspec.structs.replace(step, queue=None, worker=None, worker_alive=None) for step in found.steps]
        found = msgspec.structs.replace(found, steps=steps, queues=None, next_check_at=None)
    summary, todo = _WORDS[waits_for](found)
    return msgspec.structs.replace(found, waits_for=waits_for, summary=summary, todo=todo)


def _waits_for(found: Why, is_aborted: bool, has_workers: bool) -> WaitsFor:
    states = {step.state for step in found.steps}
    if found.status in (Status.COMPLETED, Status.FAILED, Status.ABORTED):
        return "nothing"
    if is_aborted:
        return "abort"
    if "leased" in states:
        leased = [step for step in found.steps if step.state == "leased"]
        is_dead = all(step.worker_alive is False or (step.worker is None and not has_workers) for step in leased)
        return "lease" if is_dead else "execution"
    if "due" in states:
        served = {queue.name: queue.served for queue in found.queues or ()}
        queues = {step.queue for step in found.steps if step.state == "due"}
        is_served = any(served.get(queue, True) for queue in queues if queue is not None) or None in queues
        return "worker" if has_workers and is_served else "queue"
    if "held_back" in states or "delayed" in states:
        return "rate" if "held_back" in states else "retry"
    if found.items:
        return "people"
    return "sub_agents" if found.children else "worker"


def _nothing(found: Why) -> tuple[str, str]:
    if found.error is None:
        return f"The run is {found.status}: it waits for nothing.", "Nothing."
    todo = f"Look at its errors; agentkit runs retry {found.run_id} goes on from its last whole turn, as a new run."
    return f"The run has {_ended(found)}: {found.error.code}: {found.error.message}", todo


def _ended(found: Why) -> str:
    return "failed" if found.status is Status.FAILED else "been aborted"


def _people(found: Why) -> tuple[str, str]:
    count, first = len(found.items), found.items[0]
    item = first.item
    what = {"decision": "a decision", "client_execute": "its execution by a client", "in_doubt": "a verdict"}[item.kind]
    more = f", and {count - 1} more" if count > 1 else ""
    expiry = "" if item.expires_at is None else f"; it expires in {_time(item.expires_at - found.checked_at)}"
    who = {
        "anyone": "Anyone who reaches the server may answer",
        "owner": f"The run's owner, {found.owner!r}, may answer" if found.owner else "Nobody owns the run; answer it",
        "may": "Those whom the application's `may` allows may answer",
    }[first.answered_by]
    if item.approvals is not None:
        who += f"; it needs {item.approvals} principals, of whom {len(item.votes or ())} have decided"
    age = _time(found.checked_at - item.created_at)
    summary = f"The run waits for people: {item.tool_name} needs {what} for {age} now{expiry}{more}."
    return summary, f"{who}: agentkit decisions answer {item.decision_id}"


def _execution(found: Why) -> tuple[str, str]:
    step = _first(found, "leased")
    by = f" by worker {step.worker}" if step.worker else ""
    return (
        f"{_named(step)} is being executed{by}; its lease, which is renewed, runs until {_left(step, found)} from now.",
        "Wait. If it takes too long, look at the worker's log, or abort the run.",
    )


def _lease(found: Why) -> tuple[str, str]:
    step = _first(found, "leased")
    by = f"worker {step.worker}, which" if step.worker else "a worker that"
    return (
        f"{_named(step)} is held by {by} sends no heartbeat any more; its lease ends in {_left(step, found)}.",
        "Wait: when the lease has ended, another worker takes the step. See that one runs: agentkit doctor",
    )


def _worker(found: Why) -> tuple[str, str]:
    if not found.steps:
        return "Nothing of the run is due, and it waits for nobody.", "Wait for its next check by a worker."
    step = _first(found, "due")
    again = f", after {counted(step.attempt, 'attempt', 'attempts')}" if step.attempt else ""
    depth = [
        f"; {counted(queue.messages, 'message waits', 'messages wait')} in queue {queue.name}"
        for queue in found.queues or ()
        if queue.messages
    ]
    return (
        f"{_named(step)} is due{again}, and the next free worker takes it{depth[0] if depth else ''}.",
        "Wait. If many runs do, start more workers, or give them more threads.",
    )


def _queue(found: Why) -> tuple[str, str]:
    step = _first(found, "due")
    if step.queue is None:
        return f"{_named(step)} is due, and no worker takes it.", "Start workers: agentkit doctor says which are there."
    return (
        f"{_named(step)} is due in queue {step.queue}, which no worker serves.",
        f"Start a worker that does (see agentkit doctor): {start_worker(f'-Q {step.queue}')}",
    )


def _retry(found: Why) -> tuple[str, str]:
    step = _first(found, "delayed")
    error = f": {found.errors[0].message}" if found.errors else ""
    tries = f"after {counted(step.tries, 'try', 'tries')} in vain" if step.tries else "later"
    return (
        f"{_named(step)} is tried again in {_time((step.due_at or 0) - found.checked_at)}, {tries}{error}",
        "Wait, or see what its vendor says of its state. Many runs at once: the vendor is down.",
    )


def _rate(found: Why) -> tuple[str, str]:
    step = _first(found, "held_back")
    reason = next((f": {error.message}" for error in found.errors if error.event == "model_wait"), "")
    at_most = _time((step.due_at or 0) - found.checked_at)
    summary = f"{_named(step)} waits for its share of what all workers may ask, {at_most} at the most{reason}"
    return summary, "Wait, or raise the rates of the application, if the vendor allows more."


def _sub_agents(found: Why) -> tuple[str, str]:
    child = found.children[0]
    more = f", and {len(found.children) - 1} more" if len(found.children) > 1 else ""
    is_there = f"which is {child.status}" if child.status else "which is not there yet"
    return (
        f"{child.tool_name} waits for the run of a sub-agent, {child.run_id}, {is_there}{more}.",
        f"Ask about that one: agentkit why {child.run_id}",
    )


def _abort(found: Why) -> tuple[str, str]:
    held = [step for step in found.steps if step.state == "leased"]
    by = f" {held[0].worker}" if held and held[0].worker else ""
    return (
        f"Somebody has asked for the run's abort, and the worker{by} that holds its step is to end it.",
        "Wait: it takes a second, or a lease time where that worker is gone.",
    )


_WORDS: dict[WaitsFor, Callable[[Why], tuple[str, str]]] = {
    "nothing": _nothing,
    "people": _people,
    "worker": _worker,
    "queue": _queue,
    "lease": _lease,
    "execution": _execution,
    "retry": _retry,
    "rate": _rate,
    "sub_agents": _sub_agents,
    "abort": _abort,
}


def _first(found: Why, state: str) -> WhyStep:
    return next(step for step in found.steps if step.state == state)


def _named(step: WhyStep) -> str:
    what = "model call" if step.kind == "model" else f"tool {step.tool_name}"
    attempt = f", attempt {step.attempt}" if step.attempt else ""
    return f"Step {step.number} ({what}{attempt})"


def _left(step: WhyStep, found: Why) -> str:
    return _time((step.lease_until or 0) - found.checked_at)


def _time(ms: int) -> str:
    seconds = max(0, round(ms / 1000))
    for size, name in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds // size} {name}"
    return f"{seconds} s"
