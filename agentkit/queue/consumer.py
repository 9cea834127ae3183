"""The part of a Celery worker that consumes from the broker, without what no step needs.

Stands beside agentkit/queue/celery.py, and is named by it instead of imported: a web process loads no worker.
"""

from __future__ import annotations

from typing import ClassVar

from celery.worker.consumer import Consumer

__all__ = ["Listener"]

_DELAYED = "celery.worker.consumer.delayed_delivery:DelayedDelivery"


class Listener(Consumer):
    """Celery's consumer, which would declare 28 queues for `countdown` and `eta` beside a quorum queue."""

    class Blueprint(Consumer.Blueprint):
        default_steps: ClassVar = [step for step in Consumer.Blueprint.default_steps if step != _DELAYED]
