"""agentkit in a Django project: `path("agents/", include(urls(kit)))`. Needs the extra `[django]`.

docs/how-to/django.md shows all of it. Nothing outside this package knows Django.
"""

from __future__ import annotations

from agentkit.errors import ConfigurationError

try:
    from agentkit.django.connections import around_step
    from agentkit.django.views import sse_response, urls
except ModuleNotFoundError as error:
    if (error.name or "").partition(".")[0] != "django":
        raise
    raise ConfigurationError("agentkit.django needs Django: pip install 'agentkit-celery[django]'") from error

__all__ = ["around_step", "sse_response", "urls"]
