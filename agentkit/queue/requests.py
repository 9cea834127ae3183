"""How a worker executes the messages of steps: by Celery's own means, and more than one step for a message.

The steps that follow the one of the message are tasks like any other: with an id of their own, the worker's signals
(`task_received`, `task_prerun`, `task_postrun` …) and, where task events are on, those of Celery, so that Flower shows
each. Named by the tasks' `Strategy`: only workers load this.
"""

from __future__ import annotations

import functools
import logging
import time
import weakref
from collections.abc import Callable, Mapping
from types import SimpleNamespace
from typing import Any

from celery import Celery, current_app, signals
from celery.app import trace
from celery.concurrency import prefork, solo, thread
from celery.exceptions import TaskRevokedError
from celery.utils.functional import noop
from celery.worker import state as worker_state
from celery.worker import strategy
from celery.worker.request import Request

from agentkit.queue.series import NextTask, Series, note_waiting, others_wait, others_wait_in_parent

__all__ = ["StepRequest", "step_strategy"]

log = logging.getLogger(__name__)


def step_strategy(task: Any, app: Celery, consumer: Any) -> Callable[..., Any]:
    """Make what handles the messages of a task, as Celery's `default` strategy does.

    Messages with an eta, an expiry or of another protocol, and tasks with a rate limit, are left to that one.
    """
    by_celery = strategy.default(task, app, consumer)
    make = functools.partial(
        StepRequest,
        app=app,
        hostname=consumer.hostname,
        eventer=consumer.event_dispatcher,
        task=task,
        connection_errors=consumer.connection_errors,
    )

    def handle(message: Any, body: Any, ack: Any, reject: Any, callbacks: Any, **options: Any) -> Any:
        headers = message.headers
        if body is not None or headers.get("eta") or headers.get("expires") or consumer.task_buckets[task.name]:
            return by_celery(message, body, ack, reject, callbacks, **options)
        request = make(message, on_ack=ack, on_reject=reject)
        if request.revoked():
            return None
        request.announce(consumer)
        for callback in callbacks or ():
            callback(request)
        note_waiting(consumer.pool)
        return consumer.on_task_request(request)

    return handle


class StepRequest(Request):
    """One task of a step in a worker: of a message, or of a step that follows it here."""

    def announce(self, consumer: Any) -> None:
        """Say that the worker has the task, as Celery does when it has received one."""
        self.consumer = consumer
        shown = {"id": self.id, "name": self.name, "args": self.argsrepr, "kwargs": self.kwargsrepr, "eta": None}
        strategy.logger.info(trace.LOG_RECEIVED, shown, extra={"data": shown})
        signals.task_received.send(sender=consumer, request=self)
        self.send_event("task-received", **_received(self.request_dict, self.name))
        worker_state.task_reserved(self)

    def execute_using_pool(self, pool: Any, **options: Any) -> Any:
        """Have the pool execute the task, and those that follow from it."""
        limit, soft_limit = self.time_limits
        limits = {"timeout": limit or self.task.time_limit, "soft_timeout": soft_limit or self.task.soft_time_limit}
        if any(limits.values()) or not _is_known(pool):
            return super().execute_using_pool(pool, **options)  # a limit is for one task
        if self.revoked():
            raise TaskRevokedError(self.id)
        if isinstance(pool, prefork.TaskPool):
            execution: Any = self
            target, args = execute_in_child, self._for_child()
        else:
            execution = _Execution(self, pool)
            target, args = execution.execute, ()
        result = pool.apply_async(
            target,
            args=args,
            accept_callback=self.on_accepted,
            timeout_callback=self.on_timeout,
            callback=execution.on_success,
            error_callback=execution.on_failure,
            correlation_id=self.id,
            **limits,
        )
        self._apply_result = None if result is None else weakref.ref(result)
        return result

    def on_accepted(self, pid: Any, time_accepted: float) -> None:
        super().on_accepted(pid, time_accepted)
        note_waiting(self.consumer.pool)

    def on_success(self, failed__retval__runtime: Any, **options: Any) -> Any:
        """Note the end of a task; a process of the pool that went on to other steps has sent the events already."""
        failed, value, runtime, *sent = failed__retval__runtime
        if not sent:
            return super().on_success((failed, value, runtime), **options)
        worker_state.task_ready(self, successful=True)
        if self.task.acks_late:
            self.acknowledge()
        return None

    def following(self, task: NextTask) -> StepRequest:
        """Make the request of a task that follows this one: no message brought it, and none is to be acknowledged."""
        message = SimpleNamespace(
            headers=task.headers,
            properties={**self.message.properties, "correlation_id": task.id},
            delivery_info=self.message.delivery_info,
        )
        return StepRequest(
            message,
            on_ack=noop,
            on_reject=noop,
            app=self.app,
            hostname=self.hostname,
            eventer=self.eventer,
            task=self.app.tasks[task.name],
            connection_errors=self.connection_errors,
            headers=task.headers,
            body=task.body,
            decoded=True,
        )

    def _for_child(self) -> tuple[Any, ...]:
        """List what a process of a prefork pool needs to execute the task and those that follow."""
        eventer = self.eventer
        sends = eventer is not None and eventer.enabled and (not eventer.groups or "task" in eventer.groups)
        clock = self.app.clock.value if sends and self.task.send_events else None
        return (
            (self.type, self.id, self.request_dict, self.body, self.content_type, self.content_encoding),
            self.hostname,
            clock,
        )


def _is_known(pool: Any) -> bool:
    """Whether a pool is one of Celery's, of which it is known where a task is executed and what waits meanwhile."""
    return isinstance(pool, prefork.TaskPool | solo.TaskPool | thread.TaskPool) or getattr(pool, "is_green", False)


def _received(headers: Mapping[str, Any], name: str) -> dict[str, Any]:
    """List the fields of a task-received event, but for the task's id."""
    return {
        "name": name,
        "args": headers.get("argsrepr", ""),
        "kwargs": headers.get("kwargsrepr", ""),
        "root_id": headers.get("root_id"),
        "parent_id": headers.get("parent_id"),
        "retries": headers.get("retries", 0),
        "eta": None,
        "expires": None,
    }


class _Execution:
    """What the pool executes for a message in a thread or greenlet of the worker itself.

    `request`: of the task that is being executed. The pool calls `on_success` or `on_failure` with how the last ended.
    """

    def __init__(self, request: StepRequest, pool: Any) -> None:
        self.request = request
        self._pool = pool

    def execute(self) -> Any:
        series = Series(functools.partial(others_wait, self._pool), self._is_deaf)
        with series.executing():
            while True:
                request = self.request
                outcome = self._trace(request)
                task = series.advance()
                if task is None:
                    return outcome
                request.on_success(outcome)
                self.request = request.following(task)
                self.request.announce(request.consumer)
                self.request.on_accepted(request.worker_pid, time.monotonic())

    def _is_deaf(self) -> bool:
        """Whether the worker receives nothing: solo executes where it would, and a full gevent pool holds it up."""
        if isinstance(self._pool, thread.TaskPool):
            return False
        return bool(len(worker_state.active_requests) >= self._pool.limit)

    @staticmethod
    def _trace(request: StepRequest) -> Any:
        # The payload was decoded when the message was received.
        args = (request.type, request.id, request.request_dict, request._payload, None, None)
        if request.app.use_fast_trace_task:
            return trace.fast_trace_task(*args)
        return trace.trace_task_ret(*args, app=request.app)

    def on_success(self, *args: Any, **options: Any) -> Any:
        return self.request.on_success(*args, **options)

    def on_failure(self, *args: Any, **options: Any) -> Any:
        return self.request.on_failure(*args, **options)


def execute_in_child(message: tuple[Any, ...], hostname: str, clock: int | None) -> Any:
    """Execute a task in a process of a prefork pool, and those that follow from it.

    `clock`: that of the parent's events; None where it sends none of tasks. Returns what Celery's own function would
    for the task of the message, with True behind it where others followed: then its end was shown by an event here, and
    so was all of the others, of which the parent knows nothing.
    """
    trace_one = trace.fast_trace_task if current_app.use_fast_trace_task else trace.trace_task_ret
    series = Series(others_wait_in_parent)
    with series.executing():
        outcome = first = trace_one(*message)
        request, task_id = message[2], message[1]
        while (task := series.advance()) is not None:
            _send_events(
                hostname,
                clock,
                _ended(task_id, outcome),
                ("task-received", {"uuid": task.id, **_received(task.headers, task.name)}),
                ("task-started", {"uuid": task.id}),
            )
            headers = {
                **task.headers,
                **{name: request[name] for name in ("properties", "reply_to", "hostname", "delivery_info")},
                "correlation_id": task.id,
            }
            task_id = task.id
            outcome = trace_one(task.name, task_id, headers, task.body, None, None)
        if task_id == message[1]:
            return first
        _send_events(hostname, clock, _ended(task_id, outcome))
        return (*first, True)


def _ended(task_id: str, outcome: tuple[int, Any, Any]) -> tuple[str, dict[str, Any]]:
    """Make the event of a task's end."""
    failed, value, runtime = outcome
    if failed:
        return "task-failed", {"uuid": task_id, "exception": repr(value.exception), "traceback": value.traceback}
    return "task-succeeded", {"uuid": task_id, "result": value, "runtime": runtime}


def _send_events(hostname: str, clock: int | None, *events: tuple[str, dict[str, Any]]) -> None:
    """Send events of tasks as the worker whose process this is; they are lost where the broker is away."""
    if clock is None:
        return
    app = current_app
    app.clock.adjust(clock)
    try:
        with app.events.default_dispatcher(hostname) as dispatcher:
            for kind, fields in events:
                dispatcher.send(kind, **fields)
    except Exception as error:  # each broker's driver has errors of its own
        log.warning("events of tasks were not sent: %s", type(error).__name__)
