"""One Redis subscription per process, shared by all who follow runs in it.

A channel is subscribed to when its first follower comes and let go after the last. What a follower cannot
take in time is dropped and it is asked to read the log: nobody makes the process buffer without bound,
and nobody slows the others. After a reconnection everybody is asked to read the log, since what was
published meanwhile is lost.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

import redis
import redis.exceptions

from agentkit.core.backoff import Backoff
from agentkit.errors import DecryptionError
from agentkit.store.bodies import Bodies
from agentkit.store.connection import own_connection
from agentkit.store.protocol import StoredEvent

__all__ = ["Hub"]

log = logging.getLogger(__name__)

_MAX_WAITING = 512
_MAX_WAITING_BYTES = 1_000_000
_AT_ONCE = 64
_CONFIRM_SECONDS = 1.0
_BACKOFF = Backoff(base=0.5, cap=2.0)
_LINGER_SECONDS = 30.0
"""How long the connection is kept after the last follower: the next one often comes soon, and connecting costs."""


class HubSubscription:
    """One follower's end: a bounded queue, and a flag that something did not fit.

    There are thousands of these. One lock, which is free while there are events, costs a third of what a condition
    and its waiters cost, in memory and in time.
    """

    __slots__ = ("_callback", "_guard", "_hub", "_look", "_news", "_size", "_waiting", "channel", "confirmed", "late")

    def __init__(self, hub: Hub, channel: str) -> None:
        self._hub = hub
        self._guard = hub.guard
        self.channel = channel
        self._waiting: list[StoredEvent] = []
        self._size = 0
        self._look = False
        self._news = threading.Lock()
        self._news.acquire()
        self._callback: Callable[[], None] | None = None
        self.confirmed = False
        self.late = False
        """Its maker did not wait for the server's word that it is subscribed."""

    def confirm(self) -> None:
        """From here on nothing is missed; what came before is in the log."""
        with self._guard:
            again, self.confirmed = self.late or self.confirmed, True
        if again:
            self.put([])
        else:
            self.wake()

    def wait_until_confirmed(self) -> None:
        self._news.acquire(timeout=_CONFIRM_SECONDS)
        with self._guard:
            self.late = not self.confirmed
            if self._look or self._waiting:
                self._ring()

    def put(self, events: Sequence[StoredEvent], size: int = 0) -> None:
        """Hand over events of so many bytes; none at all means that the log must be read."""
        with self._guard:
            self._size += size
            if (
                self._look
                or not events
                or self._size > _MAX_WAITING_BYTES
                or len(self._waiting) + len(events) > _MAX_WAITING
            ):
                self._waiting.clear()
                self._size = 0
                self._look = True
            else:
                self._waiting.extend(events)
            self._ring()

    def get(self, timeout: float) -> Sequence[StoredEvent] | None:
        self._news.acquire(timeout=timeout)
        with self._guard:
            if not self._look and not self._waiting:
                return None
            self._look = False
            events, self._waiting, self._size = self._waiting, [], 0
            return events

    def wake(self) -> None:
        with self._guard:
            self._ring()

    def on_ready(self, callback: Callable[[], None]) -> None:
        with self._guard:
            self._callback = callback
            if not self._news.locked():
                callback()

    def _ring(self) -> None:
        if self._news.locked():
            self._news.release()
            if self._callback is not None:
                self._callback()

    def close(self) -> None:
        self._callback = None
        self._hub.leave(self)


class Hub:
    """Reads the process's subscription in one daemon thread, which runs while somebody follows, and a little longer.

    That thread alone connects and reads. Others only send on its connection, and one who fails to sets it aside:
    two threads that restore one connection would each make a socket, and lose one.
    """

    def __init__(self, client: redis.Redis) -> None:
        self._client = client
        self.bodies = Bodies()
        """Decrypt what is published, once for all followers."""
        self._lock = threading.RLock()
        self.guard = threading.Lock()
        """Held for moments, by whoever changes what waits for a follower.

        Never waited for with `_lock` in hand: a follower may be collected as garbage, and leave, in the midst of it.
        """
        self._followers: dict[str, list[HubSubscription]] = {}
        self._connection: Any = None
        """Subscribed to what is followed, or about to be; None while there is none to send on."""
        self._unsent: deque[tuple[str, ...]] = deque()
        self._sending = False
        self._reading = False
        self._closed = False

    def subscribe(self, channel: str) -> HubSubscription:
        """A subscription that holds: what is published from now on reaches it, or it is asked to read the log."""
        follower = HubSubscription(self, channel)
        holds = False
        with self._lock:
            followers = self._followers.setdefault(channel, [])
            followers.append(follower)
            if len(followers) == 1:
                self._send("SUBSCRIBE", channel)
            else:
                holds = followers[0].confirmed
            self._closed = False
            if not self._reading:
                self._reading = True
                try:
                    threading.Thread(target=self._read, name="agentkit-hub", daemon=True).start()
                except RuntimeError:  # no thread is to be had now; whoever comes next tries again
                    self._reading = False
                    self.leave(follower)
                    raise
        if holds:
            follower.confirm()
        follower.wait_until_confirmed()
        return follower

    def leave(self, follower: HubSubscription) -> None:
        with self._lock:
            followers = self._followers.get(follower.channel, [])
            if follower in followers:
                followers.remove(follower)
            if not followers and self._followers.pop(follower.channel, None) is not None:
                self._send("UNSUBSCRIBE", follower.channel)

    def close(self) -> None:
        """Let go of all followers and of the connection; the thread ends."""
        with self._lock:
            self._followers.clear()
            self._closed = True
            self._send("UNSUBSCRIBE")  # the answer wakes the thread

    def _send(self, *command: str) -> None:
        """With `_lock` in hand. The connection that comes after one that failed is subscribed to everything."""
        self._unsent.append(command)
        if self._sending:  # garbage was collected in the midst of it: one command after the other
            return
        self._sending = True
        try:
            while self._unsent:
                command = self._unsent.popleft()
                if self._connection is not None:
                    self._connection.send_command(*command, check_health=False)
        except (redis.exceptions.RedisError, OSError):
            self._connection = None  # its socket is closed by now, which wakes the thread
        finally:
            self._unsent.clear()
            self._sending = False

    def _read(self) -> None:
        used = time.monotonic()
        failures = 0
        connection: Any = None
        while True:
            with self._lock:
                used = time.monotonic() if self._followers else used
                if not self._followers and (self._closed or time.monotonic() - used > _LINGER_SECONDS):
                    self._reading, self._connection = False, None
                    break
            try:
                if connection is None or connection is not self._connection:
                    connection = self._renew(connection)
                self._dispatch(connection)
                failures = 0
            except Exception as error:  # redis-py raises even TypeError where its socket is gone; this thread must live
                log.debug("the subscription broke off, and is made again: %r", error)
                with self._lock:
                    self._connection = None
                failures += 1
                if failures > 1:  # after the first, whoever is subscribed again is asked to read the log
                    self._pause(failures)
        if connection is not None:
            connection.disconnect()

    def _renew(self, old: Any) -> Any:
        """A connection of its own, subscribed to every channel that is followed."""
        if old is not None:
            old.disconnect()
        connection: Any = own_connection(self._client)
        connection.connect()
        with self._lock:
            self._connection = connection
            if self._followers:
                self._send("SUBSCRIBE", *self._followers)
        return connection

    def _pause(self, failures: int) -> None:
        """Wait for a server that is away: neither spin nor give up."""
        if failures == 2:
            log.warning("the store's channels cannot be subscribed to at the moment; readers poll the log instead")
        with self._lock:
            channels = list(self._followers)
        for channel in channels:
            self._deliver(channel, [])
        threading.Event().wait(_BACKOFF.delay(failures))

    def _dispatch(self, connection: Any) -> None:
        """Wait for a message, and hand over what has come with it together: a burst wakes each follower once."""
        published: dict[str, list[StoredEvent]] = {}
        reply = self._next(connection)
        for left in reversed(range(_AT_ONCE)):
            if isinstance(reply, list):  # or it is the answer to a PING without any subscription
                self._take(*reply, published=published)
            if not left or not connection.can_read(0):
                break
            reply = connection.read_response(disconnect_on_error=False)
        for channel, events in published.items():
            self._deliver(channel, events)

    def _next(self, connection: Any) -> Any:
        """What the server says next. A silent one is asked whether it is still there; raises where it is not."""
        try:
            return connection.read_response(disconnect_on_error=False)
        except redis.exceptions.TimeoutError:
            with self._lock:
                self._send("PING")
            return connection.read_response(disconnect_on_error=False)

    def _take(self, kind: bytes, about: bytes, data: Any = None, *, published: dict[str, list[StoredEvent]]) -> None:
        channel = about.decode()
        if kind == b"subscribe":
            with self._lock:
                followers = list(self._followers.get(channel, ()))
            for follower in followers:
                follower.confirm()
        elif kind == b"message":
            if events := self._parse(data, channel):
                published.setdefault(channel, []).extend(events)
            else:
                published.pop(channel, None)
                self._deliver(channel, [])

    def _parse(self, data: bytes, channel: str) -> list[StoredEvent]:
        """Read `seq\\njson\\njson…` as the scripts publish it; nothing for a run that is gone, or cannot be decrypted.

        Its followers then read the log, and get the error there.
        """
        if not data:
            return []
        first, *rows = data.split(b"\n")
        try:
            return [StoredEvent(int(first) + i, self.bodies.decrypt(row, channel)) for i, row in enumerate(rows)]
        except DecryptionError:
            return []

    def _deliver(self, channel: str, events: Sequence[StoredEvent]) -> None:
        with self._lock:
            followers = list(self._followers.get(channel, ()))
        size = sum(len(event.data) for event in events)
        for follower in followers:
            follower.put(events, size)
