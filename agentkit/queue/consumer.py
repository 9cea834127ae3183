"""The part of a Celery worker that consumes from the broker, without what no step needs.

Stands beside agentkit/queue/celery.py, and is named by the configuration instead of imported: a web process loads no
worker.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, ClassVar

from celery.worker.consumer import Consumer

from agentkit.queue.transport import MALFORMED

__all__ = ["Listener"]

log = logging.getLogger(__name__)

_DELAYED = "celery.worker.consumer.delayed_delivery:DelayedDelivery"


class Listener(Consumer):
    """Celery's consumer, which would end with its worker for some messages that it cannot use.

    And which would declare 28 queues for `countdown` and `eta` beside a quorum queue.
    """

    class Blueprint(Consumer.Blueprint):
        default_steps: ClassVar = [step for step in Consumer.Blueprint.default_steps if step != _DELAYED]

    def create_task_handler(self, *args: Any, **options: Any) -> Callable[[Any], None]:
        """Make what handles each message: one that cannot be handled is dropped and logged."""
        handle = super().create_task_handler(*args, **options)

        def on_task_received(message: Any) -> None:
            problem = _problem_of(message.headers)
            if problem is None:
                try:
                    handle(message)
                    return
                except MALFORMED as error:
                    problem = f"{type(error).__name__}: {str(error)[:200]}"
            queue = (message.delivery_info or {}).get("routing_key")
            log.error("a message of queue %s cannot be used and was dropped: %s", queue, problem)
            if not message.acknowledged:
                message.reject_log_error(log, self.connection_errors)

        return on_task_received


_NUMBER = (int, float, type(None))
_HEADERS: dict[str, tuple[type, ...]] = {
    **dict.fromkeys(("task", "id"), (str,)),
    **dict.fromkeys(("lang", "root_id", "parent_id", "group", "shadow", "eta", "origin"), (str, type(None))),
    **dict.fromkeys(("argsrepr", "kwargsrepr", "compression"), (str, type(None))),
    **dict.fromkeys(("retries", "group_index", "replaced_task_nesting"), (int, type(None))),
    **dict.fromkeys(("stamped_headers", "timelimit"), (list, tuple, type(None))),
    "stamps": (dict, type(None)),
    "expires": (str, *_NUMBER),
    "ignore_result": (bool, type(None)),
}
"""What Celery sends in a message's headers: of other types they would fail where a prefork pool has taken a slot."""


def _problem_of(headers: Any) -> str | None:
    """Find which header of a message is not one that Celery sends; None where all are."""
    if not isinstance(headers, dict) or not headers.get("id") or "task" not in headers:
        return "it has no task, or no id"
    for name, types in _HEADERS.items():
        if name in headers and not isinstance(headers[name], types):
            return f"its header {name} is of type {type(headers[name]).__name__}"
    limits = headers.get("timelimit") or (None, None)
    if len(limits) != 2 or not all(isinstance(limit, _NUMBER) for limit in limits):
        return "its header timelimit is not a pair of numbers"
    return None
