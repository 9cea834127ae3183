"""A Django project in this process: the settings of a team, and the URLs that a request brings with it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from tempfile import TemporaryDirectory
from typing import Any

import django
from django.conf import settings
from django.core.handlers.asgi import ASGIHandler
from django.core.handlers.wsgi import WSGIHandler
from django.http import HttpRequest, HttpResponseBase
from django.test import Client
from django.urls import URLPattern, URLResolver, include, path

from agentkit import AgentKit
from agentkit.django import urls
from tests.asgi import AsgiServer

__all__ = ["MIDDLEWARE", "asgi_project", "client_of", "make_django", "make_django_asgi", "project"]

_URLS = "tests.urls"
urlpatterns: list[URLPattern] = []


def use_urls(get_response: Callable[[HttpRequest], HttpResponseBase]) -> Callable[[HttpRequest], HttpResponseBase]:
    """Have a request resolved by the URLs that it brings with it."""

    def middleware(request: HttpRequest) -> HttpResponseBase:
        request.urlconf = getattr(request, "scope", request.META)[_URLS]  # patterns will do
        return get_response(request)

    return middleware


MIDDLEWARE = [
    f"{__name__}.use_urls",
    "django.middleware.security.SecurityMiddleware",
    "django.middleware.gzip.GZipMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]
"""Without CommonMiddleware, which answers by itself where the Host is none of a project's."""

_folder = TemporaryDirectory(prefix="agentkit-django-")
settings.configure(
    ALLOWED_HOSTS=["*"],
    SECRET_KEY="s" * 50,
    ROOT_URLCONF=__name__,
    USE_TZ=True,
    DATABASES={
        "default": {
            "ENGINE": "django.db.backends.sqlite3",
            "NAME": f"{_folder.name}/db.sqlite3",
            "ATOMIC_REQUESTS": True,
        }
    },
    DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
    SESSION_ENGINE="django.contrib.sessions.backends.signed_cookies",
    PASSWORD_HASHERS=["django.contrib.auth.hashers.MD5PasswordHasher"],
    INSTALLED_APPS=["django.contrib.auth", "django.contrib.contenttypes", "django.contrib.sessions"],
    MIDDLEWARE=MIDDLEWARE,
)
django.setup()

Application = Callable[[Any, Any], Any]


def project(patterns: Sequence[URLPattern | URLResolver]) -> Application:
    """Make the WSGI application of a project with these URLs, and with the middleware of the settings."""
    patterns, handler = tuple(patterns), WSGIHandler()

    def application(environ: dict[str, Any], start_response: Any) -> Any:
        return handler({**environ, _URLS: patterns}, start_response)

    return application


def asgi_project(patterns: Sequence[URLPattern | URLResolver]) -> Application:
    """Make a WSGI application that has such a project answer by ASGI."""
    urls, handler = tuple(patterns), ASGIHandler()

    async def application(scope: dict[str, Any], receive: Any, send: Any) -> None:
        await handler({**scope, _URLS: urls}, receive, send)

    return AsgiServer(application)


def make_django(kit: AgentKit, prefix: str = "", **options: Any) -> Application:
    """Make the WSGI application of a project that has agentkit below `prefix`, say "agents/"."""
    return project([path(prefix, include(urls(kit, **options)))])


def make_django_asgi(kit: AgentKit, prefix: str = "", **options: Any) -> Application:
    """Make the same application of one that answers by ASGI."""
    return asgi_project([path(prefix, include(urls(kit, **options)))])


def client_of(*patterns: URLPattern | URLResolver) -> Client:
    """Make Django's own test client of a project with these URLs."""
    return Client(**{_URLS: patterns})
