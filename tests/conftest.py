"""Fixtures for every tier of tests."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator

import pytest
import redis

from agentkit.settings import Settings
from tests.rabbitmq import RabbitServer, rabbitmq_script
from tests.servers import DATABASES, ValkeyServer

_databases = itertools.cycle(range(DATABASES))


@pytest.fixture(scope="session")
def valkey_server() -> Iterator[ValkeyServer]:
    """One real Valkey server for the whole session, without persistence. Do not kill this one: start your own."""
    with ValkeyServer() as server:
        yield server


@pytest.fixture(scope="session")
def rabbitmq() -> Iterator[RabbitServer]:
    """One RabbitMQ for the session, with a virtual host for each that uses it. A test may kill it."""
    if rabbitmq_script() is None:
        if os.environ.get("CI"):
            pytest.fail("CI needs RabbitMQ, which .ci/run installs: Debian's package rabbitmq-server", pytrace=False)
        pytest.skip("RabbitMQ is not installed (Debian: rabbitmq-server)")
    server = RabbitServer(("stack", "crashes", "messages", "fair"), Settings().queue, bare="new")
    try:
        server.start()
        yield server
    finally:
        server.stop()


@pytest.fixture
def redis_url(valkey_server: ValkeyServer) -> str:
    """The URL of an empty logical database that no other test uses. Channels are shared by all databases."""
    url = valkey_server.database(next(_databases))
    with redis.Redis.from_url(url) as client:
        client.flushdb()
    return url
