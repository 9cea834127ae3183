"""Where every process of the project, web and worker alike, learns of the agents."""

from __future__ import annotations

from django.apps import AppConfig


class TicketsConfig(AppConfig):
    name = "tickets"

    def ready(self) -> None:
        from agentkit.tasks import install
        from desk.celery import app
        from tickets.agents import kit

        install(app, kit)
