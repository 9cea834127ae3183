"""Celery's side: the tasks of steps, of starts and of probes, and what a worker does from its start to its stop.

    celery -A agentkit.tasks worker -P threads -c 32

serves the kit that `AGENTKIT_APP` names by a Celery application of our own. `install(celery_app, kit)` makes the same
tasks those of an application that is there already, and its workers ours.

A step's arguments are the run id and the step number; it returns None and raises nothing that names a prompt, so
neither Flower nor a result backend learns what a run is about.
"""

from __future__ import annotations

import functools
import logging
import os
import re
import signal
import threading
import weakref
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from celery import Celery, Task, signals
from celery.concurrency import prefork, solo, thread
from celery.local import Proxy
from celery.worker import state as worker_state

from agentkit.core.json_log import use_json
from agentkit.core.messages import Json
from agentkit.core.metrics import WORKER_SLOTS, WORKER_TASKS
from agentkit.core.record import StepKind
from agentkit.errors import (
    AgentKitError,
    AgentNotFoundError,
    ConfigurationError,
    QuotaExceededError,
    RunNotFoundError,
    StoreUnavailableError,
)
from agentkit.kit import AgentKit, load_app
from agentkit.queue.application import NOTIFY, PROBE, START, TASKS, configured_by, differing_brokers
from agentkit.queue.series import current_series, next_task
from agentkit.queue.transport import stop_reading
from agentkit.runtime.failpoints import failpoint
from agentkit.runtime.reports import StepOutcome
from agentkit.runtime.shutdown import StopFlag
from agentkit.runtime.steps import Following
from agentkit.runtime.store_warnings import warn_of_store
from agentkit.settings import Settings

if TYPE_CHECKING:
    from agentkit.runtime.readiness import Prober
    from agentkit.runtime.recovery import Recovery

__all__ = ["app", "install"]

log = logging.getLogger(__name__)

try:
    _environment = Settings.from_env()
except ConfigurationError as error:  # Celery would show it with a traceback
    raise SystemExit(f"agentkit: {error}") from None
_KINDS: dict[str, StepKind] = {name: kind for kind, name in TASKS.items()}


@functools.cache
def _named_kit() -> AgentKit:
    """Load the kit that AGENTKIT_APP names, once."""
    return load_app(Settings.from_env().app)


def _settings() -> Settings:
    """The settings of the application, which may have others than the environment says."""
    try:
        return _named_kit().settings
    except Exception:  # a worker says what is wrong when it starts, and Flower needs none
        return _environment


app = configured_by(_settings)
"""The Celery application of the kit that `AGENTKIT_APP` names."""

_installed: weakref.WeakKeyDictionary[Celery, list[AgentKit]] = weakref.WeakKeyDictionary()


def install(celery_app: Celery, kit: AgentKit) -> None:
    """Make the steps of `kit` tasks of an existing Celery application, and its workers the kit's.

    Call it in every process that has the kit: the module that makes the kit is the place. The application sends the
    messages, by its own broker, `task_routes` and handlers, to the queue AGENTKIT_QUEUE where its routes name no other.
    A worker without `-Q` serves the kit's queues beside its own. Several kits may be installed into one application,
    with a key prefix each.

    An application that a factory makes again, of the same name, takes the earlier one's place. Raises
    ConfigurationError where another application or queue sends the steps of this kit already.
    """
    if isinstance(celery_app, Proxy):  # celery.current_app, or one that is made when it is first used
        celery_app = celery_app._get_current_object()
    if not isinstance(celery_app, Celery):
        raise ConfigurationError(f"install takes a Celery application, not {celery_app!r:.80}")
    kits = _installed.setdefault(celery_app, [])
    if kit in kits:
        return
    if celery_app is app:
        raise ConfigurationError("agentkit.tasks.app serves the kit that AGENTKIT_APP names: install into your own")
    kit.send_by(celery_app)
    kits.append(kit)
    if len(kits) == 1:
        _add_tasks(celery_app)


def _kits(celery_app: Celery) -> Sequence[AgentKit]:
    """List the kits whose steps are tasks of an application."""
    return [_named_kit()] if celery_app is app else _installed.get(celery_app, ())


def _kit_of(kits: Sequence[AgentKit], run_id: str, queue: str | None) -> AgentKit:
    """Find the kit that a step's message is for: by its queue, or else by who has the run, and its agent."""
    kits = [kit for kit in kits if queue in kit.queues] or kits
    if len(kits) == 1:
        return kits[0]
    found = kits[-1]
    for kit in kits:
        try:
            name = kit.store.load(run_id, call=0).record.agent
        except RunNotFoundError:
            continue
        if any(bound.agent.name == name for bound in kit.agents):
            return kit
        found = kit
    return found


def _queue_of(celery_app: Celery, request: Any) -> str | None:
    """Return the queue from which a task's message came.

    Its routing key is the queue's name, unless the application binds its queues, or routes steps to them, by others.
    """
    delivery = request.delivery_info or {}
    key, exchange = delivery.get("routing_key"), delivery.get("exchange")
    queues = celery_app.amqp.queues
    if not isinstance(key, str) or key in queues:
        return key
    bound = [queue for queue in queues.values() if queue.exchange is not None and queue.exchange.name == exchange]
    return next((str(queue.name) for queue in bound if _matches(queue.routing_key or "", key)), key)


def _matches(pattern: str, key: str) -> bool:
    """Whether a routing key is that of a binding, in which "*" stands for one word and "#" for any number."""
    expression = re.escape(pattern).replace(r"\*", "[^.]*").replace(r"\#", ".*")
    return re.fullmatch(expression, key) is not None


class StepError(Exception):
    """A step failed; the worker's log says how."""


class StepTask(Task):
    """The one base of all steps' tasks: Celery sees that a step failed, and nothing of its text.

    Such a task is a failure to Flower, and to Celery's signals and events. Error trackers are told by the log, once:
    to them, and to Celery's own log, the exception is expected (`throws`).
    """

    typing = True
    ignore_result = True
    throws = (StepError,)
    Strategy = "agentkit.queue.requests:step_strategy"

    def __call__(self, run_id: str, step: int) -> None:
        if not _is_step(run_id, step):
            log.error("a message of task %s names no step of a run, and was dropped", self.name)
            return
        failpoint("before step")
        queue = _queue_of(self.app, self.request)
        try:
            kit = _kit_of(_kits(self.app), run_id, queue)
        except AgentKitError as error:
            log.warning("run %s: step %s is left to recovery: %s", run_id, step, error)
            return
        try:
            outcome = self._execute(kit, run_id, step, queue)
        except AgentKitError:
            return  # it is logged, and recovery has the step executed again
        except Exception:
            raise StepError(run_id, step) from None
        failpoint("after step")
        if outcome in ("error", "failed") and not self.request.is_eager:  # there the exception would be the caller's
            raise StepError(run_id, step)

    def _execute(self, kit: AgentKit, run_id: str, step: int, queue: str | None) -> StepOutcome | None:
        """Execute the step whose turn it is; another one than the message's in a task of its own, where that can be."""
        series, kind = current_series(), _KINDS[self.name]
        if series is not None and series.claim is not None:
            return self._execute_own(kit, run_id, step, queue)
        served = tuple(self.app.amqp.queues.consume_from)
        for turn, its_queue in kit.turns(run_id, step, kind, queue, served):
            if (turn.run_id, turn.number) == (run_id, step):
                outcome = self._execute_own(kit, run_id, step, queue)
            elif series is None:
                outcome = kit.execute(turn.run_id, turn.number, turn.kind, its_queue)
            elif (claim := kit.claim(turn.run_id, turn.number, turn.kind, its_queue)) is not None:
                series.follow(next_task(self.app, TASKS[turn.kind], turn.run_id, turn.number, claim=claim))
                return None
            else:
                continue
            if outcome is not None:
                return outcome
        return None

    def _execute_own(self, kit: AgentKit, run_id: str, step: int, queue: str | None) -> StepOutcome | None:
        """Execute the task's own step; what its commit has claimed follows in a task of its own, where that can be."""
        series, kind, most = current_series(), _KINDS[self.name], kit.settings.steps_per_message
        if series is None:
            return kit.execute(run_id, step, kind, queue)

        def allows() -> bool:
            return series.may_follow(most) and not (series.is_deaf() and kit.queued(queue or ""))

        following = Following(allows if most > 1 else None, series.claim)
        try:
            return kit.execute(run_id, step, kind, queue, following)
        finally:
            if (claim := following.claim) is not None:
                name = TASKS["model" if claim.call is None else "tool"]
                series.follow(next_task(self.app, name, run_id, claim.lease.step, claim=claim))


def _add_tasks(celery_app: Celery) -> None:
    """Make the tasks of an application: two of steps, one of probes, one of notifications, one that starts runs."""

    @celery_app.task(base=StepTask, name=TASKS["model"], shared=False)
    def model_call(run_id: str, step: int) -> None:
        """One model call of a run."""

    @celery_app.task(base=StepTask, name=TASKS["tool"], shared=False)
    def tool_call(run_id: str, step: int) -> None:
        """One tool call of a run."""

    @celery_app.task(name=PROBE, ignore_result=True, shared=False)
    def probe(queue: str) -> None:
        """Shows that a worker serves a queue: `/readyz`."""
        for kit in _kits(celery_app):
            if isinstance(queue, str) and queue in kit.queues:
                kit.probed(queue)

    @celery_app.task(name=NOTIFY, ignore_result=True, shared=False)
    def notify(run_id: str, entry_id: str) -> None:
        """Sends a notification to one handler or webhook."""
        if not (_is_run_id(run_id) and isinstance(entry_id, str)):
            log.error("a message of task %s names no notification of a run, and was dropped", NOTIFY)
            return
        try:
            kits = _kits(celery_app)
            any(kit.deliver(run_id, entry_id) for kit in [k for k in kits if k.has_recipient(entry_id)] or kits[-1:])
        except Exception as error:  # it stays in the run's outbox, whatever it is
            known = isinstance(error, AgentKitError)
            log.warning(
                "a notification of run %s was not sent, and is tried again: %s",
                run_id,
                error,
                exc_info=None if known else error,
            )

    # A quota that is used up is no error of the task's: Celery logs it in one line, and tries nothing again.
    @celery_app.task(
        name=START, shared=False, bind=True, max_retries=None, retry_backoff_max=60, throws=(QuotaExceededError,)
    )
    def start(
        self: Task,
        agent: str | None = None,
        input: str | list[Json] | None = None,
        metadata: Json | None = None,
        owner: str | None = None,
        idempotency_key: str | None = None,
        limits: Json | None = None,
        from_run: str | None = None,
        turn: int | None = None,
    ) -> str:
        """Start a run, for beat and for who has no agentkit; returns its id. The arguments are those of `kit.start`.

        The task's own id is the idempotency key where none is given: a message that is delivered twice starts one run.
        """
        key = idempotency_key or self.request.id
        try:
            kit = _kit_to_start(celery_app, agent, from_run)
            handle = kit.start(
                agent,
                input,
                metadata=metadata,
                limits=limits,
                from_run=from_run,
                turn=turn,
                idempotency_key=key,
                owner=owner,
            )
            return handle.id
        except StoreUnavailableError as error:
            if self.request.is_eager:  # where nothing waits between two attempts
                raise
            raise self.retry(exc=error, countdown=min(60, 2**self.request.retries)) from error


def _kit_to_start(celery_app: Celery, agent: str | None, from_run: str | None) -> AgentKit:
    """Find the kit of an application that has an agent, and the run to start from. Raises AgentNotFoundError."""
    all_kits = _kits(celery_app)
    kits = [kit for kit in all_kits if agent is None or any(bound.agent.name == agent for bound in kit.agents)]
    if not kits:
        known = ", ".join(sorted(bound.agent.name for kit in all_kits for bound in kit.agents))
        raise AgentNotFoundError(f"there is no agent {agent!r}; the agents are: {known}")
    return kits[0] if from_run is None else _kit_of(kits, from_run, None)


_add_tasks(app)


def _is_step(run_id: object, step: object) -> bool:
    return _is_run_id(run_id) and isinstance(step, int) and not isinstance(step, bool) and 0 < step < 2**31


def _is_run_id(run_id: object) -> bool:
    return isinstance(run_id, str) and 0 < len(run_id) <= 64 and run_id.isascii() and run_id.isprintable()


# -- a worker's start

_background: list[Recovery | Prober] = []
_BLOCKING_POOLS = (prefork.TaskPool, solo.TaskPool, thread.TaskPool)
_consumers: list[Any] = []
_stopping = StopFlag()
_of_worker: list[Celery] = []
"""The application whose worker this process is, or was forked by; none in other processes."""


def _worker_kits() -> Sequence[AgentKit]:
    return [kit for celery_app in _of_worker for kit in _kits(celery_app)]


@signals.celeryd_init.connect
def _prepare(instance: Any, options: dict[str, Any], **_: Any) -> None:
    """Have a worker that no -Q tells what to serve serve the kits' queues beside the application's own.

    One of our own application logs as AGENTKIT_LOG says; another's logging is its own.
    """
    if not options.get("queues"):
        _serve_queues(instance.app)
    if instance.app is app and _settings().log == "json":
        signals.after_setup_logger.connect(_log_json)
        signals.after_setup_task_logger.connect(_log_json)


def _log_json(logger: Any, **_: Any) -> None:
    use_json(logger.handlers)


def _serve_queues(celery_app: Celery) -> None:
    queues = celery_app.amqp.queues
    for name in {name: None for kit in _installed.get(celery_app, ()) for name in kit.queues}:
        if name not in queues.consume_from:  # one that a route names may be known for sending alone
            queues.select_add(queues[name] if name in queues else queues.new_missing(name))


@signals.worker_init.connect
def _load(sender: Any, **_: Any) -> None:
    """A worker without its application must not start: it would take steps' messages and drop them."""
    _of_worker[:] = [sender.app]
    try:
        kits = _worker_kits()
        for kit in kits:
            _check_worker(sender.app, kit)
    except AgentKitError as error:
        raise SystemExit(f"agentkit: {error}") from error
    if sender.app.amqp.queues._consume_from is None:  # no -Q; a worker of celery.contrib.testing sends no celeryd_init
        _serve_queues(sender.app)
    for kit in kits:
        kit.become_worker()  # what a pool forks from now on knows whose it is
    if kits:
        _guard_forks()


def _check_worker(celery_app: Celery, kit: AgentKit) -> None:
    """A worker that listens elsewhere would beat and check runs, and nothing would be executed."""
    if celery_app is not app:
        return  # it sends what it listens to
    if kit.sender is not None:
        raise ConfigurationError(
            f"the steps of this kit are tasks of the Celery application {kit.sender.main!r}: start that one's workers "
            "in place of `celery -A agentkit.tasks`"
        )
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
    for kit in _worker_kits():
        kit.join_worker()


@signals.worker_ready.connect
def _start(sender: Any, **_: Any) -> None:
    kits = _worker_kits()
    if not kits:
        return
    _consumers.append(sender)
    for kit in kits:
        kit.metrics.show_level(WORKER_SLOTS, _slots)
        kit.metrics.show_level(WORKER_TASKS, lambda: len(worker_state.reserved_requests))
        warn_of_store(kit.store)
        kit.become_worker(**_described(sender))
        for part in (kit.recovery(), kit.prober()):
            part.start()
            _background.append(part)
    # Not by the signal handler: it may have interrupted whoever holds the locks that this needs.
    threading.Thread(target=_pass_on_reserved, name="agentkit-stop", daemon=True).start()
    _listen()


def _described(consumer: Any) -> dict[str, Any]:
    """Describe a worker from its consumer, for `AgentKit.become_worker`."""
    controller = consumer.controller
    pool = getattr(controller, "pool_cls", None)
    return {
        "node": str(consumer.hostname or ""),
        "pool": getattr(pool, "__module__", "").rpartition(".")[2],
        "concurrency": getattr(controller, "concurrency", None) or 0,
        "queues": sorted(consumer.app.amqp.queues.consume_from),
    }


def _slots() -> int:
    """Count the tasks that this worker executes at once; none where it is to stop."""
    return 0 if _stopping.is_set() else sum(consumer.pool.num_processes for consumer in _consumers)


# -- stopping


@signals.worker_process_shutdown.connect
def _report_metrics(**_: Any) -> None:
    """Report what a process of a prefork pool has counted in its last second: it ends without Python's own exit."""
    for kit in _worker_kits():
        kit.metrics.close()


@signals.worker_shutting_down.connect
def _stop(how: str = "Warm", **_: Any) -> None:
    """Hand unfinished model calls to other workers instead of making the deploy wait for them."""
    for consumer in _consumers:
        if consumer.task_consumer is not None:
            # gevent's signal handlers run where nothing may block.
            stop_reading(consumer.task_consumer.channel, may_block=isinstance(consumer.pool, _BLOCKING_POOLS))
    for kit in _worker_kits():
        grace = _cold_grace() if how == "Cold" else float("inf")
        kit.stop(at_once=grace <= kit.settings.stop_grace_seconds)
    for part in _background:
        part.stop()
    _stopping.set()
    _listen()


def _cold_grace() -> float:
    """Return the seconds that the worker's cold shutdown waits for what executes."""
    return float(_of_worker[0].conf.worker_soft_shutdown_timeout)


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
                queue = _queue_of(_of_worker[0], request)
                _kit_of(_worker_kits(), run_id, queue).execute(run_id, step, _KINDS[request.name], queue)
        except Exception as error:  # the message may be malformed; the others are passed on
            log.warning("a step that waits in this worker is left to recovery: %s", error)


# -- what a worker forks


_SIGNALS = (signal.SIGTERM, signal.SIGQUIT, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)
_before_fork = threading.local()


@functools.cache
def _guard_forks() -> None:
    """Once in a process, however many workers start in it: a second hook would keep the first one's mask for ever."""
    os.register_at_fork(before=_hold_signals, after_in_parent=_let_signals_pass, after_in_child=_forget_signals)


def _hold_signals() -> None:
    """Have a signal that comes while a tool forks wait until the new process has handlers of its own.

    Without, a worker's handler would take it there, whose work Python drops after a fork: a `multiprocessing.Pool`
    that is ended as soon as it was started would wait for ever for a process that never heard of it.
    """
    _before_fork.mask = signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)


def _let_signals_pass() -> None:
    signal.pthread_sigmask(signal.SIG_SETMASK, _before_fork.mask)


def _forget_signals() -> None:
    """Let a process that a tool forks die of its signals, instead of doing with them what a worker does.

    A process of Celery's own pool sets its handlers after this.
    """
    for number in _SIGNALS:
        handler = signal.getsignal(number)
        if _is_workers(handler):
            signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
    _let_signals_pass()


def _is_workers(handler: Any) -> bool:
    function = handler.func if isinstance(handler, functools.partial) else handler
    module = getattr(function, "__module__", None) or ""
    return module.partition(".")[0] in ("agentkit", "billiard", "celery")
