"""What a process reports of its work, to whoever counts, logs or traces it: steps that ended, and changes of runs.

The one place at which "this step ended so, after so many seconds" is known. Logs, metrics and traces are observers, so
that they say the same; none of them can harm a run. It knows nothing of any of them.

    Engine.observers.add(observer)  ─►  observer.step_ended(StepReport)   after each execution of a step
                                        observer.changed(Change, …)       after each change of a run that became true
                                        observer.recovered(…)             after each step that recovery enqueued
"""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass, field
from typing import Literal

from agentkit.core.events import RunError
from agentkit.core.messages import Usage
from agentkit.core.record import Change, Status, StepKind

__all__ = ["FailedCall", "Observer", "Observers", "RecoveryReason", "StepNotes", "StepOutcome", "StepReport"]

log = logging.getLogger(__name__)

StepOutcome = Literal[
    "done",
    "error",
    "failed",
    "aborted",
    "in_doubt",
    "postponed",
    "waits",
    "crashed",
    "handed_back",
    "returned",
    "lost",
    "unavailable",
]
"""How one execution of a step ended.

"done": what it came to is committed. "error": so is a tool's error result; the run goes on. "failed", "aborted": it
ended the run so. "in_doubt": a `once` tool was begun by a worker that is gone, and a person is asked. "postponed": a
model call failed, and is made again after a wait that keeps no worker. "waits": a model call was not made, since what
all workers may ask of its model is used up, and is made when its turn has come. "crashed": the attempt failed by an
error that was not expected, and the step is executed again. "handed_back": the worker stops, and another goes on.
"returned": this worker cannot execute it, say for an agent that it does not know. "lost": the step went to another
worker, or its run has ended or was deleted. "unavailable": the store was away for longer than a step waits.
"""


RecoveryReason = Literal["worker", "message"]
"""Why recovery enqueued a step. "worker": it was begun and not finished, since its worker is gone, or its attempt
failed. "message": nobody has begun it, since its message was lost, or is late."""


@dataclass(frozen=True, slots=True)
class FailedCall:
    """A call of a model that failed, whether it is made again or not. `model`: its full name, `provider:model`.

    `status`: the HTTP status, None where there was none. `error`: the class of what was raised.
    """

    provider: str
    model: str
    error: str
    status: int | None = None


@dataclass(frozen=True, slots=True)
class StepReport:
    """One execution of a step by one worker, once it has ended.

    `number` counts the steps of a run from 1, `attempt` the executions of the step, `turn` the turns of the run.
    `tool` and `tool_call_id` are a tool step's, `model` (`provider:model`) a model step's: the one that was asked last.
    `seconds`: from the claim to here. `wait_seconds`: from when it became due to the claim, at least; it became due by
    the run's last change before. `usage`: what the answer and the failed calls of the step used. `exception`: what the
    tool, the model call or the attempt failed by, for tracebacks; its text may hold what users wrote. `error_code` and
    `error_text` are fit to be shown: the run's error where the step ended it as failed, else of what failed. `status`:
    the run's after the commit, None where nothing was committed.
    """

    run_id: str
    number: int
    kind: StepKind
    agent: str
    attempt: int
    turn: int
    outcome: StepOutcome
    seconds: float
    wait_seconds: float
    owner: str | None = None
    parent_run_id: str | None = None
    tool: str | None = None
    tool_call_id: str | None = None
    model: str | None = None
    usage: Usage | None = None
    failed_calls: tuple[FailedCall, ...] = ()
    error_code: str | None = None
    error_text: str | None = None
    exception: BaseException | None = None
    status: Status | None = None


@dataclass(slots=True)
class StepNotes:
    """What is noted of a step while it is executed; the report is made of it.

    `began` and `claimed_at` (ms, the store's clock): when it was claimed. `outcome`: set by who knows it; a commit that
    ends the run has the last word.
    """

    began: float = field(default_factory=time.monotonic)
    claimed_at: int = 0
    outcome: StepOutcome | None = None
    model: str | None = None
    usage: Usage | None = None
    failed_calls: list[FailedCall] = field(default_factory=list)
    error_code: str | None = None
    error_text: str | None = None
    exception: BaseException | None = None
    status: Status | None = None

    def failed_by(self, exception: BaseException | None, code: str, text: str) -> None:
        """Note what the tool, the model call or the attempt failed by."""
        self.exception, self.error_code, self.error_text = exception, code, text

    def committed(self, change: Change) -> None:
        """Note what a commit of the step made of its run."""
        record = change.record
        self.status = record.status
        if record.status is Status.FAILED:
            error = record.error or RunError("step_failed", "")
            self.outcome, self.error_code, self.error_text = "failed", error.code, error.message
        elif record.status is Status.ABORTED:
            self.outcome = "aborted"
        elif self.outcome is None:
            self.outcome = "done"


class Observer:
    """Is told what this process did. Methods return at once, and may be called by any thread.

    What one raises is logged, and changes nothing. Subclasses have the methods that they need.
    """

    def step_ended(self, report: StepReport) -> None:
        """Take note of an execution of a step that has ended, however it did."""

    def changed(self, change: Change, *, in_step: bool) -> None:
        """Take note of a change of a run that this process made true: of a new run where `change.before` is None.

        `in_step`: by a step's commit, whose report follows. Results of tools that end beside others come with
        `step_ended` alone.
        """

    def recovered(self, run_id: str, number: int, kind: StepKind, reason: RecoveryReason) -> None:
        """Take note of a step that was due, that nobody had, and that recovery has enqueued."""


class Observers:
    """The observers of one process."""

    def __init__(self) -> None:
        self._observers: tuple[Observer, ...] = ()

    def add(self, observer: Observer) -> None:
        """Have `observer` told from now on."""
        self._observers = (*self._observers, observer)

    def step_ended(self, report: StepReport) -> None:
        for observer in self._observers:
            try:
                observer.step_ended(report)
            except Exception:
                log.exception("run %s: an observer failed at the end of step %s", report.run_id, report.number)

    def changed(self, change: Change, *, in_step: bool) -> None:
        for observer in self._observers:
            try:
                observer.changed(change, in_step=in_step)
            except Exception:
                log.exception("run %s: an observer failed at a change of it", change.record.id)

    def recovered(self, run_id: str, number: int, kind: StepKind, reason: RecoveryReason) -> None:
        for observer in self._observers:
            try:
                observer.recovered(run_id, number, kind, reason)
            except Exception:
                log.exception("run %s: an observer failed at the recovery of step %s", run_id, number)
