"""What agentkit's streams are measured against: two relays of the same log, in their most direct form.

Both subscribe to the run's channel for each client, read the log after the client's seq, follow, drop what they
had, and read the log again where a seq is missing: the same promise, the same bytes on the wire, the same
keepalive. `asgi` is for uvicorn, `wsgi` for gunicorn's gevent worker, `kit` for agentkit's own web process.
"""

from __future__ import annotations

import gc
import os
import signal
from collections.abc import AsyncIterator, Iterator
from typing import Any

from agentkit import Agent, AgentKit, ScriptedModel
from agentkit.core import sse

KEEPALIVE_SECONDS = 15.0
URL = os.environ.get("AGENTKIT_REDIS_URL", "redis://127.0.0.1:6379/0")
LOG_CONNECTIONS = 32
SUBSCRIPTIONS = 12_000
HEADERS = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}

# The bench asks for a collection before it measures memory.
signal.signal(signal.SIGRTMIN, lambda *_: gc.collect())


def stream_of(run_id: str) -> str:
    """Return the key of a run's events, which names its channel too (agentkit/store/scripts/common.lua)."""
    return f"agentkit:{{{run_id}}}:e"


class Position:
    """The position of one client in a log; makes the frames of the events after it."""

    def __init__(self, after: int) -> None:
        self.after = after

    def published(self, data: bytes) -> bytes | None:
        """Return the frames of a message; None where an event is missing before it, so that the log must be read."""
        first, *rows = data.split(b"\n")
        seq = int(first)
        if seq > self.after + 1:
            return None
        new = [(seq + i, row) for i, row in enumerate(rows) if seq + i > self.after]
        return self._frames(new)

    def logged(self, entries: list[Any]) -> bytes:
        return self._frames([(int(entry[0].partition(b"-")[0]), entry[1][b"d"]) for entry in entries])

    def _frames(self, events: list[tuple[int, bytes]]) -> bytes:
        if events:
            self.after = events[-1][0]
        return b"".join(sse.frame(seq, data) for seq, data in events)


def asgi() -> Any:
    import redis.asyncio
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import StreamingResponse
    from starlette.routing import Route

    client: Any = redis.asyncio.Redis.from_pool(
        redis.asyncio.BlockingConnectionPool.from_url(URL, protocol=2, max_connections=LOG_CONNECTIONS)
    )
    subscriber: Any = redis.asyncio.Redis.from_url(URL, protocol=2, max_connections=SUBSCRIPTIONS)

    async def events(request: Request) -> StreamingResponse:
        after = int(request.query_params.get("after", "0"))
        body = relay(stream_of(request.path_params["run_id"]), after)
        return StreamingResponse(body, media_type="text/event-stream", headers=HEADERS)

    async def relay(stream: str, after: int) -> AsyncIterator[bytes]:
        position = Position(after)
        yield sse.retry(1000)
        async with subscriber.pubsub(ignore_subscribe_messages=True) as pubsub:
            await pubsub.subscribe(stream)
            is_behind = True
            while True:
                while is_behind:
                    entries = await client.xrange(stream, f"{position.after + 1}-0", "+", count=500)
                    is_behind = len(entries) == 500
                    if entries:
                        yield position.logged(entries)
                message = await pubsub.get_message(timeout=KEEPALIVE_SECONDS)
                if message is None:
                    yield sse.KEEPALIVE
                    continue
                frames = position.published(message["data"])
                is_behind = frames is None
                if frames:
                    yield frames

    return Starlette(routes=[Route("/runs/{run_id}/events", events)])


def wsgi() -> Any:
    import redis
    from flask import Flask, Response, request

    app = Flask("relay")
    pool = redis.BlockingConnectionPool.from_url(URL, protocol=2, max_connections=LOG_CONNECTIONS)
    client: Any = redis.Redis.from_pool(pool)
    subscriber: Any = redis.Redis.from_url(URL, protocol=2, max_connections=SUBSCRIPTIONS)

    @app.get("/runs/<run_id>/events")
    def events(run_id: str) -> Response:
        after = int(request.args.get("after", "0"))
        return Response(relay(stream_of(run_id), after), content_type="text/event-stream", headers=HEADERS)

    def relay(stream: str, after: int) -> Iterator[bytes]:
        position = Position(after)
        yield sse.retry(1000)
        with subscriber.pubsub(ignore_subscribe_messages=True) as pubsub:
            pubsub.subscribe(stream)
            is_behind = True
            while True:
                while is_behind:
                    entries = client.xrange(stream, f"{position.after + 1}-0", "+", count=500)
                    is_behind = len(entries) == 500
                    if entries:
                        yield position.logged(entries)
                message = pubsub.get_message(timeout=KEEPALIVE_SECONDS)
                if message is None:
                    yield sse.KEEPALIVE
                    continue
                frames = position.published(message["data"])
                is_behind = frames is None
                if frames:
                    yield frames

    return app


kit = AgentKit([Agent("bench", ScriptedModel(["0123456789" * 1000], chunk_size=20), "You are a benchmark.")])
