"""The queue on Celery: the application object, and due steps as its messages.

What stands beside agentkit/tasks.py and imports Celery: the tasks execute, this sends. Messages carry a run
id and a step number, never a prompt, and may be lost, late or doubled: the store decides (docs/how-it-works.md).
"""

from __future__ import annotations

import base64
import functools
import json
import logging
import time
import uuid
from typing import Any

from celery import Celery
from kombu.connection import Connection

from agentkit.core.forks import ForkSafeLock
from agentkit.core.record import StepKind
from agentkit.core.urls import SentinelUrl
from agentkit.settings import Settings
from agentkit.store.protocol import Push

__all__ = ["QUEUE", "TASKS", "CeleryQueue", "celery_app"]

log = logging.getLogger(__name__)

QUEUE = "agentkit"
TASKS: dict[StepKind, str] = {"model": "agentkit.model_call", "tool": "agentkit.tool_call"}
_QUIET_SECONDS = 2.0
_PROBE_SECONDS = 1.0
_TIMEOUT = 2.0


@functools.cache
def celery_app(broker_url: str) -> Celery:
    """The Celery application for a broker: JSON only, no results, nothing that a step's message does not need.

    A message is acknowledged when its step begins, since the store and not the broker delivers again. It is
    acknowledged at all because only then does the broker keep to the prefetch count, and spread messages.
    """
    sentinel = SentinelUrl.read(broker_url)
    app = Celery("agentkit", broker=_celerys(broker_url, sentinel), set_as_current=False)
    app.conf.update(
        accept_content=["json"],
        task_serializer="json",
        task_default_queue=QUEUE,
        task_ignore_result=True,
        task_store_errors_even_if_ignored=False,
        task_acks_late=False,
        worker_prefetch_multiplier=1,
        worker_pool="threads",
        worker_concurrency=32,
        worker_hijack_root_logger=False,
        worker_enable_remote_control=True,
        worker_cancel_long_running_tasks_on_connection_loss=False,
        task_publish_retry=False,
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,
        broker_connection_timeout=_TIMEOUT,
        broker_pool_acquire_timeout=_TIMEOUT,
        event_queue_ttl=60.0,
        event_queue_expires=120.0,
    )
    if _is_redis(broker_url):
        app.conf.update(_REDIS)
        if sentinel:
            app.conf.broker_transport_options = {**app.conf.broker_transport_options, "master_name": sentinel.service}
    elif _is_amqp(broker_url):
        app.conf.update(_AMQP)
    return app


def _celerys(url: str, sentinel: SentinelUrl | None) -> str:
    """A broker's URL as kombu writes it, where redis-py writes it in another way."""
    if sentinel is not None:
        return sentinel.broker_url()
    if url.startswith("rediss://") and "ssl_cert_reqs=" not in url:  # the store's client checks certificates by itself
        return f"{url}{'&' if '?' in url else '?'}ssl_cert_reqs=required"
    if url.startswith("unix://"):
        return "redis+socket" + url.removeprefix("unix").replace("?db=", "?virtual_host=")
    return url


_REDIS: dict[str, Any] = {
    "broker_transport_options": {
        "priority_steps": [0],  # a worker's blocking read asks one key instead of four
        # What is not acknowledged is noted in the worker only. Noted in Redis it costs a fifth of a hop, and kombu's
        # way to give it back ends a worker whose broker dies between a message and its acknowledgement.
        "ack_emulation": False,
        "socket_connect_timeout": _TIMEOUT,
        "socket_timeout": 10.0,
        "health_check_interval": 30,
    },
    # Else a worker ends when the server is read-only or full for a moment (celery/celery#7946).
    "broker_channel_error_retry": True,
}

_AMQP: dict[str, Any] = {
    "task_default_queue_type": "quorum",
    "worker_consumer": "agentkit.queue.consumer:Listener",
    # A connection that lay in the pool while RabbitMQ was restarted is dead: made anew once, at once.
    "task_publish_retry": True,
    "task_publish_retry_policy": {"max_retries": 1, "interval_start": 0, "interval_step": 0, "interval_max": 0},
    "broker_transport_options": {"confirm_publish": True, "read_timeout": 4, "write_timeout": 4},
    "broker_heartbeat": 30,  # of the connections that workers listen on
    # Else a worker ends when its queue has no leader for a moment, or is deleted.
    "broker_channel_error_retry": True,
    # An exclusive queue stays locked by the connection that a worker lost, and the worker would not come back.
    "control_queue_exclusive": False,
    "control_queue_durable": True,
}


def _is_redis(url: str) -> bool:
    return url.startswith(("redis://", "rediss://", "unix://", "redis+sentinel://"))


def _is_amqp(url: str) -> bool:
    return url.startswith(("amqp://", "amqps://", "pyamqp://"))


class CeleryQueue:
    """Enqueues steps. A broker that is down is tried again after a moment; recovery makes up for what it missed."""

    def __init__(self, settings: Settings) -> None:
        self.app = celery_app(settings.broker_url)
        self._url = settings.broker_url
        self._lock = ForkSafeLock()
        self._down = False
        self._down_until = 0.0
        self._probe_lock = ForkSafeLock()
        self._probed_until = 0.0
        self._was_reachable = False
        shared = settings.broker_url == settings.redis_url and _is_redis(settings.broker_url)
        self._template = MessageTemplate(self.app) if shared else None

    def push(self, run_id: str, step: int, kind: StepKind) -> Push | None:
        return None if self._template is None else Push(QUEUE, self._template.render(run_id, step, kind))

    def enqueue(self, run_id: str, step: int, kind: StepKind) -> None:
        if not self._may_try():
            return
        try:
            send(self.app, run_id, step, kind)
        except Exception as error:  # each broker's driver has errors of its own, and enqueueing must not fail for any
            with self._lock:
                self._down = True
                self._down_until = time.monotonic() + _QUIET_SECONDS
            log.warning(
                "step %s of run %s was not enqueued, and recovery will do it: the broker failed with %s",
                step,
                run_id,
                type(error).__name__,
            )
        else:
            self._down = False

    def _may_try(self) -> bool:
        """Whether to ask the broker. While it is down one caller in a while does: an answer may take seconds."""
        if not self._down:
            return True
        with self._lock:
            now = time.monotonic()
            if now < self._down_until:
                return False
            self._down_until = now + _QUIET_SECONDS
            return True

    def queued(self) -> int:
        """Count the messages that wait in the queue; 0 also where there is no queue yet or the broker is away."""
        if self._down:
            return 0
        try:
            with self.app.pool.acquire(block=True, timeout=1.0) as connection, connection.channel() as channel:
                return int(channel.queue_declare(QUEUE, passive=True).message_count)
        except Exception:  # as in `enqueue`; a queue that does not exist is one of the errors
            return 0

    def reachable(self) -> bool:
        """Whether the broker answers within a second or two, as it was found within the last second.

        Anybody may ask, as often as they like, and each time would be a connection: callers that ask together get one
        answer.
        """
        with self._probe_lock:
            if time.monotonic() >= self._probed_until:
                self._was_reachable = self._probe()
                self._probed_until = time.monotonic() + _PROBE_SECONDS
            return self._was_reachable

    def _probe(self) -> bool:
        options = {"socket_timeout": 1.0} if _is_redis(self._url) else {}
        try:
            with self.app.connection_for_write(connect_timeout=1.0, transport_options=options) as connection:
                connection.ensure_connection(max_retries=1, interval_start=0, timeout=1.0)
        except Exception:
            return False
        return True


def send(app: Celery, run_id: str, step: int, kind: StepKind, **options: Any) -> None:
    """Send a step's message by Celery's own means."""
    app.send_task(
        TASKS[kind],
        args=(run_id, step),
        queue=QUEUE,
        argsrepr=_argsrepr(run_id, step),
        kwargsrepr="{}",
        ignore_result=True,
        confirm_timeout=_TIMEOUT,
        **options,
    )


def _argsrepr(run_id: str, step: int) -> str:
    return f"('{run_id}', {step})"


class MessageTemplate:
    """Messages as Celery and kombu write them on Redis, rendered once by their own code and then filled in.

    With it the commit that makes a step due puts its message into the queue as well: one round trip less,
    about 0.6 ms of CPU less than `send_task`, and no moment between the two in which a crash loses it.
    """

    def __init__(self, app: Celery) -> None:
        self._app = app
        self._made: dict[StepKind, dict[str, Any]] = {}
        self._tail = ""

    def render(self, run_id: str, step: int, kind: StepKind) -> str:
        message = self._made.get(kind) or self._make(kind)
        task_id = str(uuid.uuid4())
        current = self._app.current_worker_task
        request = current.request if current else None
        shown = _argsrepr(run_id, step)
        headers = {
            **message["headers"],
            "id": task_id,
            "root_id": request.root_id if request else task_id,
            "parent_id": request.id if request else None,
            "argsrepr": shown,
        }
        properties = {
            **message["properties"],
            "correlation_id": task_id,
            "argsrepr": shown,
            "delivery_tag": str(uuid.uuid4()),
        }
        body = base64.b64encode(f'[["{run_id}",{step}],{self._tail}'.encode()).decode()
        return json.dumps({**message, "body": body, "headers": headers, "properties": properties})

    def _make(self, kind: StepKind) -> dict[str, Any]:
        """What kombu's virtual transports, of which Redis is one, put into a queue for a step."""
        in_memory = Connection("memory://")  # type: ignore[no-untyped-call]  # untyped in kombu
        with in_memory as connection, self._app.amqp.Producer(connection) as producer:
            send(self._app, "", 0, kind, producer=producer)
            message: dict[str, Any] = connection.default_channel._get(QUEUE)
        args, tail = base64.b64decode(message["body"]).decode().split("],", 1)
        if args != '[["", 0':
            raise AssertionError("Celery writes its messages in another way than it used to")
        self._tail = tail
        self._made[kind] = message
        return message
