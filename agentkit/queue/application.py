"""The Celery application for a broker: its configuration, and which pool a worker runs.

A process that only sends loads this without what a worker is made of: that is named here, and imported by Celery.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import click
from celery import Celery
from celery.concurrency import get_implementation
from click.core import ParameterSource
from kombu.connection import Connection

from agentkit.core.masking import mask_url
from agentkit.core.record import StepKind
from agentkit.core.urls import SentinelUrl
from agentkit.queue.tls import checked
from agentkit.settings import Settings

__all__ = [
    "NOTIFY",
    "PROBE",
    "START",
    "TASKS",
    "TIMEOUT",
    "argsrepr",
    "celery_app",
    "configured_by",
    "differing_brokers",
    "is_redis",
]

TASKS: dict[StepKind, str] = {"model": "agentkit.model_call", "tool": "agentkit.tool_call"}
PROBE = "agentkit.probe"
START = "agentkit.start"
NOTIFY = "agentkit.notify"
TIMEOUT = 2.0
"""Seconds for a connection to the broker, and for its answers to who sends."""

_THREADS = 32
_DEFAULT_PREFIX = "agentkit:"


def celery_app(settings: Settings) -> Celery:
    """Make the Celery application of an installation, once for each broker, queue and prefix."""
    return _app(settings.redis_url, settings.broker_url, settings.queue, settings.key_prefix)


@functools.cache
def _app(redis_url: str, broker_url: str, queue: str, key_prefix: str) -> Celery:
    settings = Settings(redis_url=redis_url, broker_url=broker_url, queue=queue, key_prefix=key_prefix)
    return configured_by(lambda: settings)


def configured_by(settings: Callable[[], Settings]) -> Celery:
    """Make a Celery application that reads `settings` when its configuration is first needed."""
    app = Celery("agentkit", amqp="agentkit.queue.transport:AMQP", set_as_current=False)
    app.add_defaults(lambda: _configuration(settings()))
    app.user_options["worker"].add(
        click.Option(
            ["--agentkit-defaults"], is_flag=True, hidden=True, expose_value=False, callback=_threads_unless_typed
        )
    )
    return app


def _threads_unless_typed(context: click.Context, _: click.Parameter, value: object) -> object:
    """Run 32 threads where the command line names no pool.

    Not by `worker_pool`: where that is set, Celery takes a `-P prefork` for its own default and runs what is set.
    """
    if context.obj.app.conf.worker_pool == "prefork" and not _is_typed(context, "pool"):
        context.params["pool"] = get_implementation("threads")
    is_open = not _is_typed(context, "concurrency") and not context.obj.app.conf.worker_concurrency
    if is_open and context.params["pool"] not in (get_implementation("prefork"), get_implementation("solo")):
        context.params["concurrency"] = _THREADS
    return value


def _is_typed(context: click.Context, name: str) -> bool:
    return context.get_parameter_source(name) in (ParameterSource.COMMANDLINE, ParameterSource.ENVIRONMENT)


def _configuration(settings: Settings) -> dict[str, Any]:
    """JSON only, no results, nothing that a step's message does not need.

    A message is acknowledged when its step begins, since the store and not the broker delivers again. It is
    acknowledged at all because only then does the broker keep to the prefetch count, and spread messages.
    """
    url = settings.broker_url
    sentinel = SentinelUrl.read(url)
    configuration = {
        **_COMMON,
        "broker_url": _SecretUrl(_url_for_kombu(url, sentinel)),
        "task_default_queue": settings.queue,
    }
    if settings.key_prefix != _DEFAULT_PREFIX:
        # Else `celery control` and Flower would reach the workers of other installations on the same broker.
        configuration["control_exchange"] = f"{settings.key_prefix}celery"
        configuration["event_exchange"] = f"{settings.key_prefix}celeryev"
    if is_redis(url):
        configuration |= _REDIS
        if sentinel:
            asking = {"socket_timeout": TIMEOUT, "socket_connect_timeout": TIMEOUT, **sentinel.sentinel_options()}
            options = {"master_name": sentinel.service, "sentinel_kwargs": asking}
            configuration["broker_transport_options"] = {**_REDIS["broker_transport_options"], **options}
            if sentinel.tls is not None:
                configuration["broker_use_ssl"] = {"ssl_cert_reqs": "required", **sentinel.tls}
    elif _is_amqp(url):
        configuration |= _AMQP
    return configuration


def argsrepr(run_id: str, step: int) -> str:
    """Write a step's arguments as Flower shows them."""
    return f"('{run_id}', {step})"


def differing_brokers(app: Celery, settings: Settings) -> tuple[str, str] | None:
    """Where a worker of `app` listens and where `settings` send, without passwords; None where that is the same."""
    listens = _broker_names(app.conf.broker_read_url)
    sends = _broker_names(_url_for_kombu(settings.broker_url, SentinelUrl.read(settings.broker_url)))
    return None if listens == sends else (listens, sends)


def _broker_names(urls: str | list[str]) -> str:
    names = []
    for url in urls.split(";") if isinstance(urls, str) else urls:
        connection = Connection(url)  # type: ignore[no-untyped-call]  # untyped in kombu
        host = connection.virtual_host or "/"
        if is_redis(url) or url.startswith("redis+socket://"):
            host = host.strip("/") or "0"
        names.append(f"{connection.as_uri().partition('?')[0].rstrip('/').removesuffix('/' + host)}/{host}")
    return ";".join(names)


def _url_for_kombu(url: str, sentinel: SentinelUrl | None) -> str:
    """Write a broker's URL as kombu does, where redis-py writes it in another way."""
    if sentinel is not None:
        return sentinel.broker_url()
    if url.startswith("rediss://") and "ssl_cert_reqs=" not in url:  # the store's client checks certificates by itself
        return f"{url}{'&' if '?' in url else '?'}ssl_cert_reqs=required"
    if url.startswith("unix://"):
        return "redis+socket" + url.removeprefix("unix").replace("?db=", "?virtual_host=")
    return checked(url)


class _SecretUrl(str):
    """A URL whose repr, and so that of Celery's configuration, shows no password."""

    __slots__ = ()

    def __repr__(self) -> str:
        return repr(";".join(map(mask_url, self.split(";"))))


_COMMON: dict[str, Any] = {
    "accept_content": ["json"],
    "task_serializer": "json",
    "task_ignore_result": True,
    "task_store_errors_even_if_ignored": False,
    "task_acks_late": False,
    "worker_consumer": "agentkit.queue.consumer:Listener",
    "worker_prefetch_multiplier": 1,
    "worker_hijack_root_logger": False,
    "worker_enable_remote_control": True,
    "worker_cancel_long_running_tasks_on_connection_loss": False,
    "task_publish_retry": False,
    "broker_connection_retry_on_startup": True,
    "broker_connection_max_retries": None,
    "broker_connection_timeout": TIMEOUT,
    "broker_pool_acquire_timeout": TIMEOUT,
    "event_queue_ttl": 60.0,
    "event_queue_expires": 120.0,
}

_REDIS: dict[str, Any] = {
    "broker_transport_options": {
        "priority_steps": [0],  # a worker's blocking read asks one key instead of four
        # What is not acknowledged is noted in the worker only. Noted in Redis it costs a fifth of a hop, and kombu's
        # way to give it back ends a worker whose broker dies between a message and its acknowledgement.
        "ack_emulation": False,
        "socket_connect_timeout": TIMEOUT,
        "socket_timeout": 10.0,
        "health_check_interval": 30,
    },
    # Else a worker ends when the server is read-only or full for a moment (celery/celery#7946).
    "broker_channel_error_retry": True,
}

_AMQP: dict[str, Any] = {
    "task_default_queue_type": "quorum",
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


def is_redis(url: str) -> bool:
    """Whether a broker's URL names a Redis."""
    return url.startswith(("redis://", "rediss://", "unix://")) or SentinelUrl.names(url)


def _is_amqp(url: str) -> bool:
    return url.startswith(("amqp://", "amqps://", "pyamqp://"))
