"""The desk's own tasks. Nothing in here knows of agents."""

from __future__ import annotations

from celery import shared_task
from django.db.models import F
from django.utils import timezone

from tickets.models import Day, Mail, Reply, Ticket

__all__ = ["count_open", "send_reply"]

RETRIES = {"autoretry_for": (Exception,), "retry_backoff": True, "max_retries": 5}


@shared_task(name="tickets.send_reply", **RETRIES)
def send_reply(key: str) -> None:
    """Mail a reply to its customer, once however often this is called."""
    reply = Reply.objects.select_related("ticket").get(key=key)
    Mail.objects.get_or_create(reply=reply, defaults={"to": reply.ticket.customer, "text": reply.text})


@shared_task(name="tickets.count_open", **RETRIES)
def count_open() -> None:
    """Write down how many tickets are open today."""
    count = Ticket.objects.filter(is_open=True).count()
    today = timezone.now().date()
    Day.objects.update_or_create(
        day=today, defaults={"open": count, "counted": F("counted") + 1}, create_defaults={"open": count, "counted": 1}
    )
