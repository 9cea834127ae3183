"""The shop's Celery application, as Flask's documentation makes one: two business tasks, and what beat does."""

from __future__ import annotations

import logging
from datetime import UTC, datetime
from typing import Any

from celery import Celery, Task, shared_task
from celery.schedules import crontab
from flask import Flask
from sqlalchemy import func, select

from shop.models import Day, Mail, Order, Refund, db

__all__ = ["close_day", "make_celery", "send_receipt"]

log = logging.getLogger(__name__)

RETRIES: dict[str, Any] = {"autoretry_for": (Exception,), "retry_backoff": True, "max_retries": 5}


def make_celery(app: Flask) -> Celery:
    """Make the Celery application whose tasks are executed in the application context of `app`."""

    class FlaskTask(Task):
        def __call__(self, *args: Any, **kwargs: Any) -> Any:
            with app.app_context():
                return self.run(*args, **kwargs)

    celery_app = Celery(app.name, broker=app.config["BROKER_URL"], task_cls=FlaskTask)
    seconds = app.config["SCHEDULE_SECONDS"]
    celery_app.conf.update(
        task_ignore_result=True,
        beat_schedule={
            "close the day": {
                "task": "shop.close_day",
                "schedule": float(seconds) if seconds else crontab(hour=23, minute=55),
            },
            "report": {
                "task": "agentkit.start",
                "schedule": float(seconds) if seconds else crontab(hour=7, minute=0),
                "args": ("reporter", "How many refunds were there?"),
                "kwargs": {"owner": "manager"},
            },
        },
    )
    celery_app.set_default()
    app.extensions["celery"] = celery_app
    return celery_app


@shared_task(name="shop.send_receipt", **RETRIES)
def send_receipt(key: str) -> None:
    """Write the receipt of a refund, once however often this is called."""
    refund = db.session.get(Refund, key)
    if refund is None or db.session.get(Mail, key) is not None:
        return
    order = db.session.get(Order, refund.order_id)
    db.session.add(Mail(key=key, text=f"Dear {order.customer}, we have paid back {refund.cents} cents."))
    db.session.commit()


@shared_task(name="shop.close_day", **RETRIES)
def close_day() -> None:
    """Write down what was paid back today."""
    today = datetime.now(UTC).date()
    midnight = datetime(today.year, today.month, today.day)  # noqa: DTZ001  # as the tables have it: UTC
    refunds, cents = db.session.execute(
        select(func.count(), func.coalesce(func.sum(Refund.cents), 0)).where(Refund.at >= midnight)
    ).one()
    day = db.session.get(Day, str(today)) or Day(day=str(today), closed=0)
    day.refunds, day.cents, day.closed = refunds, cents, day.closed + 1
    db.session.add(day)
    db.session.commit()
    log.info("closed %s: %s refunds, %s cents", today, refunds, cents)
