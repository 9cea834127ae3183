"""Why a run stands where it stands: the answer of `GET /runs/{id}/why`, `kit.why` and `agentkit why`."""

from __future__ import annotations

from typing import Literal

from agentkit.core.events import PendingItem, RunError
from agentkit.core.record import Status, StepKind
from agentkit.core.struct import Wire

__all__ = ["WaitsFor", "Why", "WhyChild", "WhyError", "WhyItem", "WhyQueue", "WhyStep"]

WaitsFor = Literal["nothing", "people", "worker", "queue", "lease", "execution", "retry", "rate", "sub_agents", "abort"]
"""What a run waits for.

nothing: it has ended. people: answers to its items. worker: a step is due, and a worker that serves its queue takes it.
queue: a step is due, and no worker serves its queue. lease: the worker that holds a step sends no heartbeat. execution:
a worker executes a step. retry: the next try of a model call. rate: a model that all workers share. sub_agents: runs
that it started. abort: it is to be aborted, and the holder of its step ends it.
"""


class WhyStep(Wire):
    """An open step. Times are ms since the Unix epoch.

    `attempt`: how often it was begun. `state`: leased, as long as `lease_until` says; delayed, to be tried
    again at `due_at`; held_back by a rate, until then at the most; due.
    `tries`: how often its model was called in vain. `queue`: where it is sent, None where this process does not know
    the agent. `worker`: who holds it, where that is known, and `worker_alive` whether that one sends heartbeats; these
    two are for operators.
    """

    number: int
    kind: StepKind
    attempt: int
    state: Literal["leased", "delayed", "held_back", "due"]
    tool_name: str | None = None
    lease_until: int | None = None
    due_at: int | None = None
    tries: int | None = None
    queue: str | None = None
    worker: str | None = None
    worker_alive: bool | None = None


class WhyItem(Wire):
    """A pending item, and who may answer it.

    `answered_by`: anyone, where the server asks nobody who they are; the run's owner alone; or those that the
    application's `may` allows. `may_answer`: whether the caller may, where somebody calls.
    """

    item: PendingItem
    answered_by: Literal["anyone", "owner", "may"]
    may_answer: bool | None = None


class WhyChild(Wire):
    """The run of a sub-agent that a call waits for. `status` is None where it is not there yet, or no more."""

    run_id: str
    tool_name: str
    status: Status | None = None
    agent: str | None = None


class WhyError(Wire):
    """Something that went wrong lately. `event`: the type of the event that says so."""

    at: int
    event: str
    message: str


class WhyQueue(Wire):
    """A queue that open steps are sent to; for operators. `served`: whether something of it was executed lately.

    `messages`: how many wait in it. `workers`: those that consume it.
    """

    name: str
    served: bool
    messages: int
    workers: list[str]


class Why(Wire):
    """What a run waits for, since when, who can act, and what to do next. Times are ms since the Unix epoch.

    `summary` and `todo` say it in words. `since`: when the run last changed. `next_check_at`: when a worker looks at it
    again, whatever happens. `errors`: the last of them, the newest first. Operators alone see `next_check_at` and
    `queues`.
    """

    run_id: str
    agent: str
    status: Status
    since: int
    checked_at: int
    waits_for: WaitsFor
    summary: str
    todo: str
    steps: list[WhyStep]
    items: list[WhyItem]
    children: list[WhyChild]
    errors: list[WhyError]
    owner: str | None = None
    error: RunError | None = None
    next_check_at: int | None = None
    queues: list[WhyQueue] | None = None
