"""The service's own Celery application and its business task. Nothing in here knows of agents."""

from __future__ import annotations

import os

from celery import Celery

from service.db import Credit, Customer, Letter, Session

__all__ = ["celery_app", "write_letter"]

celery_app = Celery("service", broker=os.environ.get("SERVICE_BROKER_URL", "redis://localhost:6379/1"))
celery_app.conf.task_ignore_result = True


@celery_app.task(name="service.write_letter", autoretry_for=(Exception,), retry_backoff=True, max_retries=5)
def write_letter(key: str) -> None:
    """Write the letter of a credit, once however often this is called."""
    with Session.begin() as session:
        credit = session.get(Credit, key)
        if credit is None or session.get(Letter, key) is not None:
            return
        customer = session.get_one(Customer, credit.customer_id)
        session.add(Letter(key=key, text=f"Dear {customer.name}, we have credited you {credit.cents} cents."))
