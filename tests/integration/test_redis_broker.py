"""Celery's broker on Redis, where its URL is written in another way than kombu would write it."""

from __future__ import annotations

from pathlib import Path

import redis

from agentkit.queue.celery import CeleryQueue
from agentkit.settings import Settings
from tests.servers import ValkeyServer


def test_a_store_at_a_unix_socket_is_the_broker_too(tmp_path: Path) -> None:
    path = tmp_path / "valkey.sock"
    with ValkeyServer(options={"unixsocket": path}):
        url = f"unix://{path}?db=3"
        queue = CeleryQueue(Settings(redis_url=url))
        queue.enqueue("a-run", 1, "model")
        with redis.Redis.from_url(url) as client:
            assert client.llen(Settings().queue) == queue.queued(Settings().queue) == 1
        assert queue.reachable()
