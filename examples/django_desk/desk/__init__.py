"""A help desk as a team has it: a Django project with logins and Celery, and with agentkit as its guest."""

from __future__ import annotations

from desk.celery import app as celery_app

__all__ = ["celery_app"]
