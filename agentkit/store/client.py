"""redis-py's client, with a shorter way for what a step sends: commands one at a time, and pipelines of a few.

What redis-py does beside sending commands and reading their replies (it copies the arguments, asks a connection whether
it is still there, and times and counts each use of it for its telemetry) takes twice as much processor time again.
"""

from __future__ import annotations

import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from queue import Empty, Full
from typing import Any, TypeVar

import hiredis
import redis
import redis.client
import redis.exceptions

__all__ = ["Client", "Pool"]

T = TypeVar("T")


class Client(redis.Redis):
    """Sends by connections of its pool, and tries again, as `redis.Redis` does."""

    def execute_command(self, *args: Any, **options: Any) -> Any:
        """Send a command and return its reply. `args`: its name, which may be several words, and its arguments."""
        name = args[0]

        def read(connection: redis.Connection) -> Any:
            return self.parse_response(connection, name, **options)  # type: ignore[no-untyped-call]

        return _converse(self.connection_pool, _packed(args), read)

    def pipeline(self, transaction: bool = True, shard_hint: Any = None) -> redis.client.Pipeline:
        return _Pipeline(self.connection_pool, self.response_callbacks, transaction, shard_hint)


class _Pipeline(redis.client.Pipeline):
    def __init__(self, pool: redis.ConnectionPool, callbacks: Any, transaction: bool, shard_hint: Any) -> None:
        super().__init__(pool, callbacks, transaction, shard_hint)
        self._is_transaction = transaction

    def execute(self, raise_on_error: bool = True) -> list[Any]:
        """Send all commands together and return their replies; with `raise_on_error`, raise the first refusal."""
        commands = self.command_stack
        if self._is_transaction or not commands:
            return list(super().execute(raise_on_error))

        def read(connection: redis.Connection) -> list[Any]:
            return [self._reply(connection, args[0], options) for args, options in commands]

        try:
            packed = b"".join([_packed(args) for args, _ in commands])
            replies = _converse(self.connection_pool, packed, read)
            if raise_on_error:
                self.raise_first_error(commands, replies)  # type: ignore[no-untyped-call]
            return replies
        finally:
            self.reset()

    def _reply(self, connection: redis.Connection, name: str, options: dict[str, Any]) -> Any:
        try:
            return self.parse_response(connection, name, **options)  # type: ignore[no-untyped-call]
        except redis.exceptions.ResponseError as error:
            return error

    def reset(self) -> None:  # type: ignore[override]
        """Give the connection back; closed, where something came between sending and reading, as in `_converse`."""
        error = sys.exc_info()[1]
        if self.connection is not None and error is not None and not isinstance(error, redis.RedisError):
            self.connection.disconnect()  # type: ignore[no-untyped-call]
        super().reset()


def _packed(args: Sequence[Any]) -> bytes:
    name = args[0]
    packed: bytes = hiredis.pack_command((*name.split(), *args[1:]) if " " in name else tuple(args))
    return packed


def _converse(pool: redis.ConnectionPool, commands: bytes, read: Callable[[redis.Connection], T]) -> T:
    """Send commands by a connection of a pool, and have `read` read their replies; again, where it breaks."""
    connection = pool.get_connection()
    sent = (commands,)

    def send_and_read() -> T:
        connection.send_packed_command(sent)  # type: ignore[no-untyped-call]
        return read(connection)

    def disconnect(_: Exception) -> None:
        connection.disconnect()  # type: ignore[no-untyped-call]

    try:
        return connection.retry.call_with_retry(send_and_read, disconnect)
    except redis.RedisError:
        raise  # it was the reply, or has closed the connection
    except BaseException:  # a time limit, or a stop, may come between sending and reading
        connection.disconnect()  # type: ignore[no-untyped-call]
        raise
    finally:
        pool.release(connection)


class Pool(redis.BlockingConnectionPool):
    """Lends each connection to one caller at a time, the one first that was used last, and has the others wait.

    A connection that the server has closed meanwhile is found out by the command that is sent by it, which is then
    sent again.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(queue_class=_Idle, **options)  # type: ignore[no-untyped-call]

    def get_connection(self, command_name: str | None = None, *keys: Any, **options: Any) -> Any:
        self._checkpid()
        try:
            connection = self.pool.get(block=True, timeout=self.timeout)
        except Empty:
            raise redis.exceptions.ConnectionError("No connection available.") from None
        if connection is None:
            connection = self.make_connection()  # type: ignore[no-untyped-call]
        try:
            connection.connect()
        except BaseException:
            self.release(connection)
            raise
        return connection

    def release(self, connection: Any) -> None:
        self._checkpid()
        if not self.owns_connection(connection):  # but the process that this one was forked from
            connection.disconnect()
            connection = None
        self.pool.put_nowait(connection)


class _Idle:
    """The connections that nobody has, as `queue.LifoQueue` would keep them, which takes locks where nobody waits.

    Of one process: the pool makes another in a child.
    """

    def __init__(self, size: int) -> None:
        self.queue: deque[Any] = deque()
        self._size = size
        self._added = threading.Condition()
        self._waiting = 0

    def get(self, block: bool = True, timeout: float | None = None) -> Any:
        try:
            return self.queue.pop()
        except IndexError:
            return self._wait(timeout)

    def _wait(self, timeout: float | None) -> Any:
        until = None if timeout is None else time.monotonic() + timeout
        with self._added:
            self._waiting += 1  # before it is looked again: what is added from here on wakes somebody
            try:
                while True:
                    try:
                        return self.queue.pop()
                    except IndexError:  # or somebody who did not wait was faster
                        if not self._added.wait(None if until is None else until - time.monotonic()):
                            raise Empty from None
            finally:
                self._waiting -= 1

    def put_nowait(self, item: Any) -> None:
        if len(self.queue) >= self._size:
            raise Full
        self.queue.append(item)
        if self._waiting:
            with self._added:
                self._added.notify()
