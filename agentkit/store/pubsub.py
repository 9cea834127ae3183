"""One Redis subscription per process, shared by all who follow runs in it; of a cluster one for each of its masters.

A channel is subscribed to when its first follower comes and let go after the last. What a follower cannot
take in time is dropped and it is asked to read the log: nobody makes the process buffer without bound,
and nobody slows the others. After a reconnection everybody is asked to read the log, since what was
published meanwhile is lost.

In a cluster the channels are sharded: what is published is known to the nodes of its slot alone, and each channel is
subscribed to where its slot is. A slot that moves takes its followers along to another connection.
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
from agentkit.core.forks import ForkSafeLock
from agentkit.errors import DecryptionError
from agentkit.store.bodies import Bodies
from agentkit.store.cluster import is_cluster
from agentkit.store.connection import own_connection
from agentkit.store.protocol import StoredEvent

__all__ = ["ClusterHub", "Hub", "HubSubscription", "Server", "hub_of"]

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

    __slots__ = (
        "_callback",
        "_guard",
        "_look",
        "_news",
        "_size",
        "_waiting",
        "channel",
        "closed",
        "confirmed",
        "hub",
        "late",
    )

    def __init__(self, hub: Hub, channel: str) -> None:
        self.hub = hub
        """Where it follows now."""
        self._guard = hub.guard
        self.closed = False
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
        self.closed = True
        while True:  # until it was not taken to another hub meanwhile
            hub = self.hub
            hub.leave(self)
            if hub is self.hub:
                return


class Server:
    """What a hub reads: the one server of a store that is no cluster."""

    subscribe, unsubscribe = "SUBSCRIBE", "UNSUBSCRIBE"
    at_once = 1000
    """How many channels one command may name."""

    def __init__(self, client: redis.Redis) -> None:
        self._client = client

    def connect(self) -> Any:
        """Make a connection that is the caller's own."""
        connection: Any = own_connection(self._client)
        connection.connect()
        return connection

    def has_changed(self) -> bool:
        """Whether channels may have moved since this was asked last."""
        return False

    def settle(self, hub: Hub, *, refresh: bool) -> None:
        """Take the channels from a hub that have moved. `refresh`: it has just met such a one, or lost its server."""


class Hub:
    """Reads the process's subscription in one daemon thread, which runs while somebody follows, and a little longer.

    That thread alone connects and reads. Others only send on its connection, and one who fails to sets it aside:
    two threads that restore one connection would each make a socket, and lose one.
    """

    def __init__(self, server: Server) -> None:
        self._server = server
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
        self._dropped: list[str] = []
        """Channels that the server has unsubscribed from by itself."""

    def subscribe(self, channel: str) -> HubSubscription:
        """A subscription that holds: what is published from now on reaches it, or it is asked to read the log."""
        follower = HubSubscription(self, channel)
        self._add(follower)
        follower.wait_until_confirmed()
        return follower

    def adopt(self, follower: HubSubscription) -> None:
        """Take over a follower of another hub, who is asked to read the log once it is subscribed here."""
        follower.late = True
        follower.hub = self
        if not follower.closed:
            self._add(follower)

    def _add(self, follower: HubSubscription) -> None:
        holds = False
        with self._lock:
            if follower.closed:
                return
            followers = self._followers.setdefault(follower.channel, [])
            followers.append(follower)
            if len(followers) == 1:
                self._send(self._server.subscribe, follower.channel)
            else:
                holds = followers[0].confirmed
            self._closed = False
            must_start, self._reading = not self._reading, True
        if must_start:
            self._start_reading(follower)
        if holds:
            follower.confirm()

    def _start_reading(self, follower: HubSubscription) -> None:
        """Start the thread, without `_lock`: before it runs, garbage may be collected in it, and a follower leave."""
        try:
            threading.Thread(target=self._read, name="agentkit-hub", daemon=True).start()
        except RuntimeError:  # no thread is to be had now; whoever comes next tries again
            with self._lock:
                self._reading = False
                self.leave(follower)
            raise

    def channels(self) -> list[str]:
        """List what is followed."""
        with self._lock:
            return list(self._followers)

    def release(self, channel: str) -> list[HubSubscription]:
        """Let go of all who follow a channel, for another hub to adopt them."""
        with self._lock:
            followers = self._followers.pop(channel, [])
            if followers:
                self._send(self._server.unsubscribe, channel)
        return followers

    def leave(self, follower: HubSubscription) -> None:
        with self._lock:
            followers = self._followers.get(follower.channel, [])
            if follower in followers:
                followers.remove(follower)
            if not followers and self._followers.pop(follower.channel, None) is not None:
                self._send(self._server.unsubscribe, follower.channel)

    def close(self) -> None:
        """Let go of all followers and of the connection; the thread ends."""
        with self._lock:
            self._followers.clear()
            self._closed = True
            self._send(self._server.unsubscribe)  # the answer wakes the thread

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
                over = self._closed or failures > 0 or time.monotonic() - used > _LINGER_SECONDS
                if not self._followers and over:
                    self._reading, self._connection = False, None
                    break
                dropped, self._dropped = self._dropped, []
            try:
                is_lost = failures > 0 or bool(dropped)
                if is_lost or self._server.has_changed():
                    self._server.settle(self, refresh=is_lost)
                    self._subscribe_again(dropped)
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
        connection = self._server.connect()
        with self._lock:
            self._connection = connection
            channels = list(self._followers)
            for first in range(0, len(channels), self._server.at_once):
                self._send(self._server.subscribe, *channels[first : first + self._server.at_once])
        return connection

    def _subscribe_again(self, channels: Sequence[str]) -> None:
        """Subscribe to what is followed here all the same: an answer, or an error, says whether it still can be."""
        with self._lock:
            for channel in channels:
                if channel in self._followers:
                    self._send(self._server.subscribe, channel)

    def _pause(self, failures: int) -> None:
        """Wait for a server that is away: neither spin nor give up."""
        if failures == 2:
            log.warning("the store's channels cannot be subscribed to at the moment; readers poll the log instead")
        for channel in self.channels():
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
        if kind in (b"subscribe", b"ssubscribe"):
            with self._lock:
                followers = list(self._followers.get(channel, ()))
            for follower in followers:
                follower.confirm()
        elif kind == b"sunsubscribe":
            with self._lock:
                if channel in self._followers:  # the server says so since the slot has gone to another
                    self._dropped.append(channel)
        elif kind in (b"message", b"smessage"):
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


class _Node(Server):
    """What a hub of a cluster reads: the master `name`, by host and port."""

    subscribe, unsubscribe = "SSUBSCRIBE", "SUNSUBSCRIBE"
    at_once = 1  # several must be of one slot

    def __init__(self, client: Any, name: str, hubs: ClusterHub) -> None:
        super().__init__(client)
        self._name = name
        self._hubs = hubs
        self._known: Any = None
        """Which node has which slot, when it was last looked at."""

    def connect(self) -> Any:
        client: Any = self._client
        node = client.get_node(node_name=self._name)
        if node is None:
            raise redis.exceptions.ConnectionError(f"{self._name} is no node of the cluster any more")
        connection: Any = own_connection(client.get_redis_connection(node))
        connection.connect()
        return connection

    def has_changed(self) -> bool:
        client: Any = self._client
        known, self._known = (
            self._known,
            client.nodes_manager.slots_cache,
        )  # which is made anew by whoever meets a change
        return known is not self._known

    def settle(self, hub: Hub, *, refresh: bool) -> None:
        client: Any = self._client
        if refresh:
            client.nodes_manager.initialize()
        for channel in hub.channels():
            name = self._hubs.where(channel)
            if name != self._name:
                for follower in hub.release(channel):
                    self._hubs.hub_of(name).adopt(follower)


class ClusterHub:
    """A hub for each master of a cluster that has the channel of somebody."""

    def __init__(self, client: Any) -> None:
        self._client = client
        self._bodies = Bodies()
        self._lock = ForkSafeLock()
        self._hubs: dict[str, Hub] = {}

    @property
    def bodies(self) -> Bodies:
        return self._bodies

    @bodies.setter
    def bodies(self, bodies: Bodies) -> None:
        self._bodies = bodies
        for hub in list(self._hubs.values()):
            hub.bodies = bodies

    def subscribe(self, channel: str) -> HubSubscription:
        return self.hub_of(self.where(channel)).subscribe(channel)

    def close(self) -> None:
        for hub in list(self._hubs.values()):
            hub.close()

    def where(self, channel: str) -> str:
        """Name the master that has the slot of a channel, as this process knows; "" where none has it now.

        Of that one there is a hub as well, which cannot connect: its followers read the log until there is a master.
        """
        try:
            return str(self._client.get_node_from_key(channel).name)
        except (redis.exceptions.RedisError, redis.exceptions.RedisClusterException):
            return ""

    def hub_of(self, name: str) -> Hub:
        """Return the hub of a master."""
        with self._lock:
            if name not in self._hubs:
                self._hubs[name] = Hub(_Node(self._client, name, self))
                self._hubs[name].bodies = self._bodies
            return self._hubs[name]


def hub_of(client: Any) -> Hub | ClusterHub:
    """Make the hub of a process for a client, as `connect` makes it."""
    return ClusterHub(client) if is_cluster(client) else Hub(Server(client))
