"""Celery's side: the tasks of steps and of probes, and what a worker does beside them from its start to its stop.

    celery -A agentkit.tasks worker -P threads -c 32

A task's arguments are the run id and the step number; it returns None and raises nothing that names a
prompt, so neither Flower nor a result backend learns what a run is about.
"""

from __future__ import annotations

import functools
import logging
import os
import signal
import threading
from typing import TYPE_CHECKING, Any

from celery import Task, signals
from celery.concurrency import prefork, solo, thread
from celery.worker import state as worker_state

from agentkit.core.record import StepKind
from agentkit.errors import AgentKitError, ConfigurationError, StoreUnavailableError
from agentkit.kit import AgentKit, load_app
from agentkit.queue.application import PROBE, TASKS, configured_by, differing_brokers
from agentkit.queue.transport import stop_reading
from agentkit.runtime.failpoints import failpoint
from agentkit.runtime.shutdown import StopFlag
from agentkit.runtime.store_warnings import warn_of_store
from agentkit.settings import Settings

if TYPE_CHECKING:
    from agentkit.runtime.readiness import Prober
    from agentkit.runtime.recovery import Recovery

__all__ = ["app", "model_call", "probe", "tool_call"]

log = logging.getLogger(__name__)

try:
    _environment = Settings.from_env()
except ConfigurationError as error:  # Celery would show it with a traceback
    raise SystemExit(f"agentkit: {error}") from None
_KINDS: dict[str, StepKind] = {name: kind for kind, name in TASKS.items()}


@functools.cache
def _kit() -> AgentKit:
    return load_app(Settings.from_env().app)


def _settings() -> Settings:
    """The settings of the application, which may have others than the environment says."""
    try:
        return _kit().settings
    except Exception:  # a worker says what is wrong when it starts, and Flower needs none
        return _environment


app = configured_by(_settings)


class StepTask(Task):
    """The one base of all tasks: what a step raises is logged here and shown to Celery without its text."""

    typing = True
    ignore_result = True

    def __call__(self, run_id: str, step: int) -> None:
        if not _is_step(run_id, step):
            log.error("a message of task %s names no step of a run, and was dropped", self.name)
            return
        failpoint("before step")
        try:
            _kit().execute(run_id, step, _KINDS[self.name])
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


@app.task(name=PROBE, ignore_result=True)
def probe(queue: str) -> None:
    """Shows that a worker serves a queue: `/readyz`."""
    if isinstance(queue, str) and queue in _kit().queues:
        _kit().probed(queue)


def _is_step(run_id: object, step: object) -> bool:
    is_id = isinstance(run_id, str) and 0 < len(run_id) <= 64 and run_id.isascii() and run_id.isprintable()
    return is_id and isinstance(step, int) and not isinstance(step, bool) and 0 < step < 2**31


_background: list[Recovery | Prober] = []
_BLOCKING_POOLS = (prefork.TaskPool, solo.TaskPool, thread.TaskPool)
_consumers: list[Any] = []
_stopping = StopFlag()


@signals.worker_init.connect
def _load(**_: Any) -> None:
    """A worker without its application must not start: it would take steps' messages and drop them."""
    try:
        _check_broker(_kit())
    except AgentKitError as error:
        raise SystemExit(f"agentkit: {error}") from error
    os.register_at_fork(after_in_child=_forget_signals)


def _check_broker(kit: AgentKit) -> None:
    """A worker that listens elsewhere would beat and check runs, and nothing would be executed."""
    if not kit.queues:
        return  # a queue of the kit's own, which reaches this worker in its own way
    names = differing_brokers(app, kit.settings)
    if names is not None:
        raise ConfigurationError(
            "this worker would listen on {}, and its application sends steps to {}: start it without another broker "
            "(-b, CELERY_BROKER_URL), or give AGENTKIT_BROKER_URL or Settings(broker_url=…) the same one".format(*names)
        )


@signals.worker_process_init.connect
def _join(**_: Any) -> None:
    """A process of a prefork pool stops when its worker does."""
    _kit().join_worker()


@signals.worker_ready.connect
def _start(sender: Any, **_: Any) -> None:
    _consumers.append(sender)
    warn_of_store(_kit().store)
    for part in (_kit().recovery(), _kit().prober()):
        part.start()
        _background.append(part)
    # Not by the signal handler: it may have interrupted whoever holds the locks that this needs.
    threading.Thread(target=_pass_on_reserved, name="agentkit-stop", daemon=True).start()
    _listen()


# -- stopping


@signals.worker_shutting_down.connect
def _stop(how: str = "Warm", **_: Any) -> None:
    """Hand unfinished model calls to other workers instead of making the deploy wait for them."""
    for consumer in _consumers:
        if consumer.task_consumer is not None:
            # gevent's signal handlers run where nothing may block.
            stop_reading(consumer.task_consumer.channel, may_block=isinstance(consumer.pool, _BLOCKING_POOLS))
    grace = app.conf.worker_soft_shutdown_timeout if how == "Cold" else float("inf")
    _kit().stop(at_once=grace <= _kit().settings.stop_grace_seconds)
    for part in _background:
        part.stop()
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
        if request in worker_state.active_requests or request.name not in _KINDS:
            continue
        try:
            run_id, step = request.args
            if _is_step(run_id, step):
                _kit().execute(run_id, step, _KINDS[request.name])
        except Exception as error:  # the message may be malformed; the others are passed on
            log.warning("a step that waits in this worker is left to recovery: %s", error)


# -- what a worker forks


def _forget_signals() -> None:
    """Let a process that a tool forks die of its signals, instead of doing with them what a worker does.

    A process of Celery's own pool sets its handlers after this.
    """
    for number in (signal.SIGTERM, signal.SIGQUIT, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2):
        handler = signal.getsignal(number)
        if _is_workers(handler):
            signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)


def _is_workers(handler: Any) -> bool:
    function = handler.func if isinstance(handler, functools.partial) else handler
    module = getattr(function, "__module__", None) or ""
    return module.partition(".")[0] in ("agentkit", "billiard", "celery")
