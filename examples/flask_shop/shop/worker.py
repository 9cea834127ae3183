"""What Celery is started with: `celery -A shop.worker worker`, `celery -A shop.worker beat`."""

from __future__ import annotations

from shop import create_app

celery_app = create_app().extensions["celery"]
