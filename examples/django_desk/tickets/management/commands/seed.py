"""`python manage.py seed`: two users and three tickets. Leaves alone what is there."""

from __future__ import annotations

import os
from typing import Any

from django.contrib.auth import get_user_model
from django.core.management import BaseCommand, CommandError

from tickets.models import Ticket

_TICKETS = [
    ("ada@example.com", "The engine came without a manual", "How do I start it?"),
    ("grace@example.com", "A moth in the relay", "May I open the case?"),
    ("alan@example.com", "The tape is too short", "I was told that it is endless."),
]


class Command(BaseCommand):
    help = "Create the users clerk and manager (staff), and three tickets."

    def handle(self, *args: Any, **options: Any) -> None:
        users = get_user_model().objects
        for name, is_staff in (("clerk", False), ("manager", True)):
            password = os.environ.get(f"DESK_{name.upper()}_PASSWORD")
            if not password:
                raise CommandError(f"DESK_{name.upper()}_PASSWORD is not set")
            if not users.filter(username=name).exists():
                users.create_user(name, password=password, is_staff=is_staff, is_superuser=is_staff)
        if not Ticket.objects.exists():
            Ticket.objects.bulk_create(
                Ticket(customer=who, subject=subject, text=text) for who, subject, text in _TICKETS
            )
        self.stdout.write("The users clerk and manager and the tickets are there.")
