"""Fixtures that several files of fast tests share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import httpx
import pytest

from agentkit.client import Client
from agentkit.core import ids
from tests.clients import Blocking


@pytest.fixture(autouse=True)
def ids_of_now(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have ids begin at the present time: a test that moved its clock ahead leaves those of its process there."""
    monkeypatch.setattr(ids, "_last", 0)


@pytest.fixture(params=[Client, Blocking], ids=["sync", "async"])
def client_of(request: pytest.FixtureRequest) -> Callable[..., Any]:
    def make(handler: Callable[[httpx.Request], httpx.Response], retry_seconds: float = 5.0, **options: Any) -> Any:
        transport = httpx.MockTransport(handler)
        return request.param("http://server.test", retry_seconds=retry_seconds, transport=transport, **options)

    return make
