"""Celery's side: two tasks, a model call and a tool call, and a worker's recovery timer.

    celery -A agentkit.tasks worker -P threads -c 32

A task's arguments are the run id and the step number; it returns None and raises nothing that names a
prompt, so neither Flower nor a result backend learns what a run is about.
"""

from __future__ import annotations

import functools
import logging
from typing import TYPE_CHECKING, Any

from celery import Task, signals

from agentkit.application import load_kit
from agentkit.errors import AgentKitError, StoreUnavailableError
from agentkit.faults import fault
from agentkit.nudge import TASKS, celery_app
from agentkit.settings import Settings

if TYPE_CHECKING:
    from agentkit.runtime.recovery import Recovery

__all__ = ["app", "model_call", "tool_call"]

log = logging.getLogger(__name__)

app = celery_app(Settings.from_env().broker_url)


class StepTask(Task):
    """The one base of all tasks: what a step raises is logged here and shown to Celery without its text."""

    typing = True
    ignore_result = True

    def __call__(self, run_id: str, step: int) -> None:
        fault("before step")
        try:
            _kit().execute(run_id, step)
        except StoreUnavailableError as error:
            log.warning("step %s of run %s waits for the store: %s", step, run_id, error)
        except AgentKitError as error:
            log.error("step %s of run %s: %s", step, run_id, error)
        except Exception:
            log.exception("step %s of run %s failed and will be executed again", step, run_id)
            raise StepError(run_id, step) from None
        fault("after step")


class StepError(Exception):
    """A step failed; the worker's log says how."""


@app.task(base=StepTask, name=TASKS["model"])
def model_call(run_id: str, step: int) -> None:
    """One model call of a run."""


@app.task(base=StepTask, name=TASKS["tool"])
def tool_call(run_id: str, step: int) -> None:
    """One tool call of a run."""


@functools.cache
def _kit() -> Any:
    return load_kit(Settings.from_env().app)


_recovery: list[Recovery] = []


@signals.worker_init.connect
def _load(**_: Any) -> None:
    """A worker without its application must not start: it would take nudges and drop them."""
    try:
        _kit()
    except AgentKitError as error:
        raise SystemExit(f"agentkit: {error}") from error


@signals.worker_ready.connect
def _start(**_: Any) -> None:
    recovery = _kit().recovery()
    recovery.start()
    _recovery.append(recovery)


@signals.worker_shutting_down.connect
def _stop(**_: Any) -> None:
    """Hand unfinished model calls to other workers instead of making the deploy wait for them."""
    for recovery in _recovery:
        recovery.stop()
    _kit().runner.keeper.stop_model_calls()
