"""Logs one line for each step that has ended and for each run: for people, for log systems, and for error trackers.

The fields of a record (`extra`) are ids, names and numbers; no line holds what users, models or tools wrote, but for
the texts of errors that are made to be read. An exception goes with the line that is about it.

What somebody is to act upon is an error, logged once: a tool that failed, and a run that failed, by the line of the
step in which it did, if it was one. What is tried again is a warning: an error tracker is not told of what then works.
"""

from __future__ import annotations

import logging

from agentkit.core.record import Change, Status
from agentkit.runtime.reports import Observer, StepOutcome, StepReport

__all__ = ["StepLog"]

log = logging.getLogger("agentkit.steps")
run_log = logging.getLogger("agentkit.runs")

_LEVELS: dict[StepOutcome, int] = {
    "error": logging.ERROR,
    "failed": logging.ERROR,
    "crashed": logging.WARNING,
    "unavailable": logging.WARNING,
    "in_doubt": logging.WARNING,
}
_MESSAGES: dict[StepOutcome, str] = {
    "error": "run %s: {what} failed in step %d, attempt %d, and the model reads that: %s",
    "failed": "run %s: the run failed by the {what} in step %d, attempt %d: %s",
    "crashed": "run %s: the {what} in step %d, attempt %d, crashed, and is executed again: %s",
    "unavailable": "run %s: the {what} in step %d, attempt %d, is executed again when the store is back: %s",
    "in_doubt": "run %s: {what} in step %d was begun by a worker that is gone, and a person is asked (attempt %d)%s",
}
"""The tool's name stands in the message itself, by which error trackers group what has no exception."""


class StepLog(Observer):
    """Writes the lines of one process."""

    def step_ended(self, report: StepReport) -> None:
        """Write the line of a step: at INFO where nothing is wrong."""
        level = _LEVELS.get(report.outcome, logging.INFO)
        if not log.isEnabledFor(level):
            return
        what = f"tool {report.tool}" if report.kind == "tool" else "model call"
        if level == logging.INFO:
            message = "run %s, step %d: %s %s after %.3f s"
            log.info(message, report.run_id, report.number, what, report.outcome, report.seconds, extra=_fields(report))
            return
        message = _MESSAGES[report.outcome].format(what=what)
        values = (report.run_id, report.number, report.attempt, _error(report))
        log.log(level, message, *values, exc_info=report.exception, extra=_fields(report))

    def changed(self, change: Change, *, in_step: bool) -> None:
        """Write the line of a run that has ended: at ERROR where it failed in no step, which would have said so."""
        record, before = change.record, change.before
        if not record.terminal or (before is not None and before.terminal):
            return
        failed = record.status is Status.FAILED
        level = logging.ERROR if failed and not in_step else logging.INFO
        if not run_log.isEnabledFor(level):
            return
        fields = {
            "run_id": record.id,
            "agent": record.agent,
            "owner": record.owner,
            "parent_run_id": None if record.parent is None else record.parent.run_id,
            "turn": record.turn,
            "status": str(record.status),
            "code": None if record.error is None else record.error.code,
            "tokens": record.spent.total_tokens,
            "cost": record.spent.cost.total,
        }
        if failed:
            error = record.error
            text = "" if error is None else f"{error.code}: {error.message}"
            run_log.log(level, "run %s failed: %s", record.id, text, extra=fields)
        else:
            run_log.info("run %s has ended: %s", record.id, record.status, extra=fields)


def _error(report: StepReport) -> str:
    """Say by what a step failed; nothing that a tool's result holds."""
    if report.outcome == "in_doubt":
        return ""
    if report.outcome == "unavailable":
        return str(report.exception)
    if report.outcome == "failed":
        return f"{report.error_code}: {report.error_text}"
    return report.error_text or "it returned an error result"


def _fields(report: StepReport) -> dict[str, object]:
    usage = report.usage
    return {
        "run_id": report.run_id,
        "step": report.number,
        "kind": report.kind,
        "agent": report.agent,
        "attempt": report.attempt,
        "turn": report.turn,
        "tool": report.tool,
        "tool_call_id": report.tool_call_id,
        "model": report.model,
        "owner": report.owner,
        "parent_run_id": report.parent_run_id,
        "seconds": round(report.seconds, 3),
        "wait_seconds": round(report.wait_seconds, 3),
        "tokens": None if usage is None else usage.total_tokens,
        "cost": None if usage is None else usage.cost.total,
        "retries": len(report.failed_calls),
        "outcome": report.outcome,
        "error": report.error_code,
    }
