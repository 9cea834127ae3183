"""What the routes of one application share: the kit, the settings and the counters of this process."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from typing import Any, cast

from flask import Response, current_app

from agentkit.core.forks import ForkSafeLock
from agentkit.core.struct import dumps
from agentkit.kit import AgentKit
from agentkit.settings import Settings

__all__ = ["EXTENSION", "RequestCounter", "WebState", "json_response", "package_version", "state"]

EXTENSION = "agentkit"
"""The key of the state in `app.extensions`."""

_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


class RequestCounter:
    """Counts answered requests by method and status. Thread-safe; one per application and process."""

    def __init__(self) -> None:
        self._lock = ForkSafeLock()
        self._counts: Counter[tuple[str, int]] = Counter()

    def add(self, method: str, status: int) -> None:
        with self._lock:  # a client can invent methods: unknown ones share one label
            self._counts[method if method in _METHODS else "other", status] += 1

    def items(self) -> list[tuple[tuple[str, int], int]]:
        with self._lock:
            return sorted(self._counts.items())


@dataclass(frozen=True)
class WebState:
    """The state of one Flask application."""

    kit: AgentKit
    settings: Settings
    requests: RequestCounter = field(default_factory=RequestCounter)


def state() -> WebState:
    """Return the state of the application that serves the current request."""
    return cast(WebState, current_app.extensions[EXTENSION])


def json_response(body: Any, status: int = 200) -> Response:
    """Make a response of `body` as JSON in UTF-8, which no cache may keep: it may be a conversation, or a secret."""
    return Response(dumps(body), status, {"Cache-Control": "no-store"}, content_type="application/json")


def package_version() -> str:
    """Return the installed version of agentkit."""
    try:
        return version("agentkit-celery")
    except PackageNotFoundError:  # run from a source tree that nobody installed
        return "0"
