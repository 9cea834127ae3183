"""Fixtures for every tier of tests."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import pytest
import redis

from tests.servers import DATABASES, ValkeyServer

_databases = itertools.cycle(range(DATABASES))


@pytest.fixture(scope="session")
def valkey_server() -> Iterator[ValkeyServer]:
    """One real Valkey server for the whole session, without persistence. Do not kill this one: start your own."""
    with ValkeyServer() as server:
        yield server


@pytest.fixture
def redis_url(valkey_server: ValkeyServer) -> str:
    """The URL of an empty logical database that no other test uses. Channels are shared by all databases."""
    url = valkey_server.database(next(_databases))
    with redis.Redis.from_url(url) as client:
        client.flushdb()
    return url
