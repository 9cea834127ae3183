"""Django's admin: tickets."""

from __future__ import annotations

from django.contrib import admin

from tickets.models import Ticket

admin.site.register(Ticket)
