"""Celery's side: two tasks, a model call and a tool call, a worker's recovery timer, and how it stops.

    celery -A agentkit.tasks worker -P threads -c 32

A task's arguments are the run id and the step number; it returns None and raises nothing that names a
prompt, so neither Flower nor a result backend learns what a run is about.
"""

from __future__ import annotations

import functools
import logging
import signal
import threading
from typing import TYPE_CHECKING, Any

from celery import Task, signals
from celery.worker import state as worker_state

from agentkit.errors import AgentKitError, StoreUnavailableError
from agentkit.kit import load_kit
from agentkit.queue.celery import TASKS, celery_app
from agentkit.runtime.failpoints import failpoint
from agentkit.runtime.store_warnings import warn_of_store
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
        failpoint("before step")
        try:
            _kit().execute(run_id, step)
        except StoreUnavailableError as error:
            log.warning("step %s of run %s waits for the store: %s", step, run_id, error)
        except AgentKitError as error:
            log.error("step %s of run %s: %s", step, run_id, error)
        except Exception:
            log.exception("step %s of run %s failed and will be executed again", step, run_id)
            raise StepError(run_id, step) from None
        failpoint("after step")


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
_stopping = threading.Event()


@signals.worker_init.connect
def _load(**_: Any) -> None:
    """A worker without its application must not start: it would take steps' messages and drop them."""
    try:
        _kit()
    except AgentKitError as error:
        raise SystemExit(f"agentkit: {error}") from error


@signals.worker_ready.connect
def _start(**_: Any) -> None:
    warn_of_store(_kit().store)
    recovery = _kit().recovery()
    recovery.start()
    _recovery.append(recovery)
    # Not by the signal handler: it may have interrupted whoever holds the locks that this needs.
    threading.Thread(target=_pass_on_reserved, name="agentkit-stop", daemon=True).start()
    _listen()


# -- stopping


@signals.worker_shutting_down.connect
def _stop(how: str = "Warm", **_: Any) -> None:
    """Hand unfinished model calls to other workers instead of making the deploy wait for them."""
    grace = app.conf.worker_soft_shutdown_timeout if how == "Cold" else float("inf")
    _kit().stop(at_once=grace <= _kit().settings.stop_grace_seconds)
    for recovery in _recovery:
        recovery.stop()
    _stopping.set()
    _listen()


def _listen() -> None:
    """Learn of a cold shutdown when it begins: Celery sends its signal when the steps were waited for and ended.

    Called again after each signal, since Celery's first handlers put others into their place.
    """
    for number in (signal.SIGTERM, signal.SIGQUIT, signal.SIGINT):
        handler = signal.getsignal(number)
        if getattr(handler, "__name__", "") == "worker_Cold":
            signal.signal(number, functools.partial(_cold, handler))


def _cold(celerys: Any, *arguments: Any) -> None:
    _stop(how="Cold")
    celerys(*arguments)


def _pass_on_reserved() -> None:
    """Steps that this worker took from the queue and will not begin: a stopping one passes on what it executes."""
    _stopping.wait()
    for request in list(worker_state.requests.values()):
        if request not in worker_state.active_requests:
            try:
                _kit().execute(*request.args)
            except AgentKitError as error:
                log.warning("a step that waits in this worker is left to recovery: %s", error)
