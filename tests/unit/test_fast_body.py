"""A body behind the fast transport rests between reads, never longer than it may, and gives on what came meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import httpx
import pytest

aiohttp = pytest.importorskip("aiohttp")

from aiohttp.base_protocol import BaseProtocol  # noqa: E402

from agentkit.providers.fast_transport import _Body, _Rests  # noqa: E402

FOR_EVER = 1000.0


class Transport:
    """Where the body comes from, and the connection that has it."""

    def __init__(self) -> None:
        self.transport = self.protocol = self
        self.read_timeout: float | None = 1.0
        self.reading = True
        self.resumed = asyncio.Event()
        self.closing = False

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        assert not self.closing
        self.reading = True
        self.resumed.set()

    def is_closing(self) -> bool:
        return self.closing


class Response:
    """What the body needs of aiohttp's."""

    def __init__(self) -> None:
        loop = asyncio.get_running_loop()
        protocol = BaseProtocol(loop)
        self.content = aiohttp.StreamReader(protocol, 2**16, loop=loop)
        self.connection: Transport | None = Transport()
        protocol.transport = asyncio.Transport()  # so that it counts as connected

    def release(self) -> None: ...


class Collects:
    """Lets every piece rest for some seconds; has room for the first `room` of them."""

    def __init__(self, seconds: float, room: int) -> None:
        self.seconds = seconds
        self.room = room
        self.pieces: list[bytes] = []
        self._more = asyncio.Event()

    def rest_seconds(self) -> float:
        return self.seconds

    def put(self, piece: bytes) -> bool:
        self.pieces.append(piece)
        self._more.set()
        return len(self.pieces) < self.room

    async def has(self, count: int) -> None:
        while len(self.pieces) < count:
            self._more.clear()
            await self._more.wait()


def run(test: Callable[..., Awaitable[None]], rest: float, room: int = 0) -> None:
    async def main() -> None:
        response: Any = Response()
        collector = Collects(rest, room)
        async with asyncio.timeout(10):
            body = _Body(response, _Rests(), collector)
            await test(response, aiter(body), *((collector,) if room else ()))

    asyncio.run(main())


async def settled(task: asyncio.Future[bytes]) -> bool:
    """Whether a task is done when all that can be done now was."""
    for _ in range(20):
        await asyncio.sleep(0)
    return task.done()


def next_piece(pieces: AsyncIterator[bytes]) -> asyncio.Task[bytes]:
    async def piece() -> bytes:
        return await anext(pieces, b"")

    return asyncio.create_task(piece())


def test_what_comes_in_a_rest_is_read_together_and_the_end_ends_the_rest() -> None:
    async def test(response: Any, pieces: AsyncIterator[bytes]) -> None:
        response.content.feed_data(b"1")
        assert await anext(pieces) == b"1"
        following = next_piece(pieces)
        assert not await settled(following)
        assert not response.connection.reading
        response.content.feed_data(b"2")
        response.content.feed_data(b"3")
        assert not await settled(following)
        response.content.feed_eof()
        assert await following == b"23"
        assert await anext(pieces, None) is None

    run(test, FOR_EVER)


def test_a_rest_without_anything_ends_by_itself_and_what_comes_then_is_read_at_once() -> None:
    async def test(response: Any, pieces: AsyncIterator[bytes], collector: Collects) -> None:
        response.content.feed_data(b"1")
        assert await anext(pieces) == b"1"
        following = next_piece(pieces)
        assert not await settled(following)
        await response.connection.resumed.wait()
        assert not await settled(following)
        response.content.feed_data(b"2")
        assert await following == b"2"
        assert collector.pieces == []

    run(test, 0.001, room=9)


def test_what_came_in_a_rest_is_collected_and_the_next_rest_begins_until_there_is_no_room() -> None:
    async def test(response: Any, pieces: AsyncIterator[bytes], collector: Collects) -> None:
        response.content.feed_data(b"1")
        assert await anext(pieces) == b"1"
        following = next_piece(pieces)
        assert not await settled(following)
        for count, piece in enumerate((b"2", b"3", b"4"), 1):
            assert not response.connection.reading
            response.content.feed_data(piece)
            await collector.has(count)
        assert response.connection.reading
        response.content.feed_data(b"5")
        assert await following == b"5"
        assert collector.pieces == [b"2", b"3", b"4"]

    run(test, 0.01, room=3)


def test_a_failure_of_the_connection_in_a_rest_comes_after_what_was_collected() -> None:
    async def test(response: Any, pieces: AsyncIterator[bytes], collector: Collects) -> None:
        response.content.feed_data(b"1")
        assert await anext(pieces) == b"1"
        following = next_piece(pieces)
        assert not await settled(following)
        response.content.feed_data(b"2")
        await collector.has(1)
        response.content.set_exception(aiohttp.ClientPayloadError("cut"))
        with pytest.raises(httpx.RemoteProtocolError, match="peer closed"):
            await following

    run(test, 0.01, room=9)


def test_what_the_collector_fails_by_ends_the_iteration() -> None:
    async def test(response: Any, pieces: AsyncIterator[bytes], collector: Collects) -> None:
        response.content.feed_data(b"1")
        assert await anext(pieces) == b"1"
        following = next_piece(pieces)
        assert not await settled(following)
        del collector.pieces
        response.content.feed_data(b"2")
        with pytest.raises(AttributeError):
            await following

    run(test, 0.01, room=9)


def test_a_rest_that_was_given_up_does_not_read_on_for_whoever_has_the_connection_then() -> None:
    async def test(response: Any, pieces: AsyncIterator[bytes], collector: Collects) -> None:
        response.content.feed_data(b"1")
        assert await anext(pieces) == b"1"
        following = next_piece(pieces)
        assert not await settled(following)
        following.cancel()
        await asyncio.wait([following])
        response.connection.reading = False
        await asyncio.sleep(0.1)
        assert not response.connection.reading

    run(test, 0.02, room=9)


def test_there_is_no_rest_while_much_comes() -> None:
    async def test(response: Any, pieces: AsyncIterator[bytes]) -> None:
        response.content.feed_data(b"x" * 20_000)
        assert await anext(pieces) == b"x" * 20_000
        response.content.feed_data(b"1")
        assert await anext(pieces) == b"1"

    run(test, FOR_EVER)


def test_a_rest_is_given_up_when_its_task_is_cancelled() -> None:
    async def test(response: Any, pieces: AsyncIterator[bytes]) -> None:
        response.content.feed_data(b"1")
        assert await anext(pieces) == b"1"
        following = next_piece(pieces)
        assert not await settled(following)
        following.cancel()
        with pytest.raises(asyncio.CancelledError):
            await following
        assert response.connection.reading

    run(test, FOR_EVER)


def test_a_connection_that_is_closed_in_a_rest_is_not_read_again() -> None:
    async def test(response: Any, pieces: AsyncIterator[bytes]) -> None:
        response.content.feed_data(b"1")
        assert await anext(pieces) == b"1"
        following = next_piece(pieces)
        assert not await settled(following)
        response.connection.closing = True
        response.content.feed_eof()
        assert await following == b""

    run(test, FOR_EVER)


def test_there_is_no_rest_on_a_connection_that_was_given_back() -> None:
    async def test(response: Any, pieces: AsyncIterator[bytes]) -> None:
        response.content.feed_data(b"1")
        assert await anext(pieces) == b"1"
        response.connection = None
        response.content.feed_data(b"2")
        assert await anext(pieces) == b"2"

    run(test, FOR_EVER)
