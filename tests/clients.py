"""Clients of both kinds with one face, and what a server answers them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from typing import Any

import httpx

from agentkit.client import AsyncClient

__all__ = ["Blocking", "Broken", "frame", "stream"]


class Blocking:
    """An AsyncClient with the face of a Client."""

    def __init__(self, url: str, **options: Any) -> None:
        self._runner = asyncio.Runner()
        self._client = AsyncClient(url, **options)

    def __enter__(self) -> Blocking:
        return self

    def __exit__(self, *exc: object) -> None:
        self._runner.run(self._client.aclose())
        self._runner.close()

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._client, name)

        def call(*args: Any, **kwargs: Any) -> Any:
            result = method(*args, **kwargs)
            return self._iterate(result) if name in ("events", "runs", "decisions") else self._runner.run(result)

        return call

    def _iterate(self, items: Any) -> Iterator[Any]:
        async def following() -> Any:
            return await anext(items)

        try:
            while True:
                yield self._runner.run(following())
        except StopAsyncIteration:
            return
        finally:
            self._runner.run(items.aclose())


class Broken(httpx.SyncByteStream, httpx.AsyncByteStream):
    """A body that breaks after its pieces."""

    def __init__(self, *pieces: bytes) -> None:
        self._pieces = pieces

    def __iter__(self) -> Iterator[bytes]:
        yield from self._pieces
        raise httpx.ReadError("gone")

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for piece in self:
            yield piece


def frame(seq: int, kind: str = "turn_start", **more: Any) -> bytes:
    event = {"seq": seq, "type": kind, **more}
    return f"id: {seq}\ndata: {json.dumps(event, ensure_ascii=False)}\n\n".encode()


def stream(*frames: bytes, broken: bool = False) -> httpx.Response:
    headers = {"content-type": "text/event-stream"}
    if broken:
        return httpx.Response(200, headers=headers, stream=Broken(*frames))
    return httpx.Response(200, headers=headers, content=b"".join(frames))
