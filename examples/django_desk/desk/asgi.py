"""The same for a server of ASGI: `uvicorn desk.asgi:application`. WebSockets need the other."""

from __future__ import annotations

import os

from django.core.asgi import get_asgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "desk.settings")

application = get_asgi_application()
