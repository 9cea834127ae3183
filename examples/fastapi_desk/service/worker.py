"""What Celery is started with: `celery -A service.worker worker`."""

from __future__ import annotations

from service import agents
from service.tasks import celery_app

__all__ = ["agents", "celery_app"]
