"""The desk's tables. Nothing in here knows of agents."""

from __future__ import annotations

from django.db import models, transaction

__all__ = ["Day", "Mail", "Reply", "Ticket"]


class Ticket(models.Model):
    """What a customer wants."""

    customer = models.EmailField()
    subject = models.CharField(max_length=200)
    text = models.TextField()
    is_open = models.BooleanField(default=True)

    def __str__(self) -> str:
        return f"#{self.pk} {self.subject}"


class Reply(models.Model):
    """What a customer was answered. `key`: of the tool call, the same in each attempt, so that none replies twice."""

    key = models.CharField(max_length=100, primary_key=True)
    ticket = models.ForeignKey(Ticket, models.CASCADE, related_name="replies")
    text = models.TextField()
    approved_by = models.CharField(max_length=150)

    @classmethod
    def write(cls, key: str, number: int, text: str, approved_by: str) -> Reply:
        """Write the reply and close the ticket, both or neither, once for each `key`."""
        with transaction.atomic():
            values = {"ticket_id": number, "text": text, "approved_by": approved_by}
            reply, is_new = cls.objects.get_or_create(key=key, defaults=values)
            if is_new:
                Ticket.objects.filter(pk=number).update(is_open=False)
        return reply


class Mail(models.Model):
    """The outbox: a mail for each reply."""

    reply = models.OneToOneField(Reply, models.CASCADE, primary_key=True)
    to = models.EmailField()
    text = models.TextField()


class Day(models.Model):
    """How many tickets were open at the end of a day. `counted`: how often that was looked up."""

    day = models.DateField(primary_key=True)
    open = models.PositiveIntegerField()
    counted = models.PositiveIntegerField()
