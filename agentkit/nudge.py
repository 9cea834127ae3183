"""The way to Celery: the application object, and nudges as its messages.

What stands beside agentkit/tasks.py and imports Celery: the tasks execute, this sends. Messages carry a run
id and a step number, never a prompt, and may be lost, late or doubled: the store decides (docs/design).
"""

from __future__ import annotations

import functools
import logging
import threading
import time
from typing import Any

from celery import Celery
from kombu.exceptions import KombuError

from agentkit.record import StepKind
from agentkit.settings import Settings

__all__ = ["QUEUE", "TASKS", "CeleryNudger", "celery_app"]

log = logging.getLogger(__name__)

QUEUE = "agentkit"
TASKS: dict[StepKind, str] = {"model": "agentkit.model_call", "tool": "agentkit.tool_call"}
_QUIET_SECONDS = 2.0


@functools.cache
def celery_app(broker_url: str) -> Celery:
    """The Celery application for a broker: JSON only, no results, nothing that a nudge does not need."""
    app = Celery("agentkit", broker=broker_url, set_as_current=False)
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
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,
        broker_connection_timeout=2.0,
        broker_transport_options=_transport_options(broker_url),
        event_queue_ttl=60.0,
        event_queue_expires=120.0,
    )
    return app


def _transport_options(broker_url: str) -> dict[str, Any]:
    if not broker_url.startswith(("redis", "rediss", "unix")):
        return {}
    # One priority: a worker's blocking read asks one key instead of four.
    return {"priority_steps": [0], "socket_connect_timeout": 2.0, "socket_timeout": 10.0, "health_check_interval": 30}


class CeleryNudger:
    """Sends nudges. A broker that is down is asked again after a moment; the store's sweep makes up for it."""

    def __init__(self, settings: Settings) -> None:
        self.app = celery_app(settings.broker_url)
        self._lock = threading.Lock()
        self._down_until = 0.0

    def nudge(self, run_id: str, step: int, kind: StepKind) -> None:
        if time.monotonic() < self._down_until:
            return
        try:
            self.app.send_task(
                TASKS[kind],
                args=(run_id, step),
                queue=QUEUE,
                argsrepr=f"('{run_id}', {step})",
                kwargsrepr="{}",
                ignore_result=True,
                retry=False,
            )
        except (KombuError, OSError) as error:
            self._failed(error)
        except Exception as error:  # a broker's driver has its own errors; a nudge must not fail for any
            self._failed(error)

    def _failed(self, error: Exception) -> None:
        with self._lock:
            self._down_until = time.monotonic() + _QUIET_SECONDS
        log.warning("the broker took no nudge (%s); the store's sweep will make up for it", type(error).__name__)

    def reachable(self, timeout: float = 1.0) -> bool:
        """Whether the broker answers."""
        try:
            with self.app.connection_for_write(connect_timeout=timeout) as connection:
                connection.ensure_connection(max_retries=1, interval_start=0, timeout=timeout)
        except Exception:
            return False
        return True
