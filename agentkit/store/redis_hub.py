"""One Redis subscription per process, shared by all who follow runs in it.

A channel is subscribed to when its first follower comes and let go after the last. What a follower cannot
take in time is dropped and it is told to look at the log: nobody makes the process buffer without bound,
and nobody slows the others. After a reconnection everybody is told to look at the log, since what was
published meanwhile is lost.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Sequence
from typing import Any

import redis
import redis.exceptions

from agentkit.store.base import StoredEvent

__all__ = ["Hub"]

log = logging.getLogger(__name__)

_MAX_WAITING = 512
_AT_ONCE = 64
_POLL_SECONDS = 1.0
_LINGER_SECONDS = 30.0
"""How long the connection is kept after the last follower: the next one often comes soon, and connecting costs."""


class HubSubscription:
    """One follower's end: a bounded queue, and a flag that something did not fit.

    There are thousands of these. One lock, which is free while there is news, costs a third of what a condition
    and its waiters cost, in memory and in time.
    """

    __slots__ = ("_guard", "_hub", "_look", "_news", "_waiting", "channel", "confirmed", "late")

    def __init__(self, hub: Hub, channel: str) -> None:
        self._hub = hub
        self._guard = hub.guard
        self.channel = channel
        self._waiting: list[StoredEvent] = []
        self._look = False
        self._news = threading.Lock()
        self._news.acquire()
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
        self._news.acquire(timeout=_POLL_SECONDS)
        with self._guard:
            self.late = not self.confirmed
            if self._look or self._waiting:
                self._ring()

    def put(self, events: Sequence[StoredEvent]) -> None:
        """Hand over events; none at all means that the log must be looked at."""
        with self._guard:
            if self._look or not events or len(self._waiting) + len(events) > _MAX_WAITING:
                self._waiting.clear()
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
            events, self._waiting = self._waiting, []
            return events

    def wake(self) -> None:
        with self._guard:
            self._ring()

    def _ring(self) -> None:
        if self._news.locked():
            self._news.release()

    def close(self) -> None:
        self._hub.leave(self)


class Hub:
    """Reads the process's subscription in one daemon thread, which runs while somebody follows, and a little longer."""

    def __init__(self, client: redis.Redis) -> None:
        self._client = client
        self._lock = threading.RLock()
        self.guard = threading.Lock()
        """Held for moments, by whoever changes what waits for a follower.

        Never waited for with `_lock` in hand: a follower may be collected as garbage, and leave, in the midst of it.
        """
        self._followers: dict[str, list[HubSubscription]] = {}
        self._pubsub: Any = None
        self._broken = False
        self._closed = False

    def subscribe(self, channel: str) -> HubSubscription:
        """A subscription that holds: what is published from now on reaches it, or it is told to look at the log."""
        follower = HubSubscription(self, channel)
        holds = False
        with self._lock:
            followers = self._followers.setdefault(channel, [])
            followers.append(follower)
            if self._pubsub is None:
                self._closed = False
                self._connect()
                threading.Thread(target=self._read, name="agentkit-hub", daemon=True).start()
            elif len(followers) == 1:
                self._attempt("subscribe", channel)
            else:
                holds = followers[0].confirmed
        if holds:
            follower.confirm()
        follower.wait_until_confirmed()
        return follower

    def leave(self, follower: HubSubscription) -> None:
        with self._lock:
            followers = self._followers.get(follower.channel, [])
            if follower in followers:
                followers.remove(follower)
            if not followers and self._followers.pop(follower.channel, None) is not None and self._pubsub:
                self._attempt("unsubscribe", follower.channel)

    def close(self) -> None:
        with self._lock:
            self._followers.clear()
            self._closed = True

    def _connect(self) -> None:
        """A subscription of its own to every channel that is followed."""
        if self._pubsub is not None:
            self._pubsub.close()
        self._pubsub = self._client.pubsub()  # type: ignore[no-untyped-call]  # untyped in redis-py
        self._broken = False
        if self._followers:
            self._attempt("subscribe", *self._followers)

    def _attempt(self, act: str, *channels: str) -> None:
        """Subscribe or unsubscribe; what fails is made good by connecting anew."""
        try:
            getattr(self._pubsub, act)(*channels)
        except (redis.exceptions.RedisError, OSError):
            log.warning("the store's news cannot be followed at the moment; readers look at the log instead")
            self._broken = True

    def _read(self) -> None:
        used = time.monotonic()
        while True:
            with self._lock:
                used = time.monotonic() if self._followers else used
                if time.monotonic() - used > _LINGER_SECONDS or self._closed:
                    self._pubsub.close()
                    self._pubsub = None
                    return
                if self._broken:
                    self._connect()
                pubsub = self._pubsub
            try:
                if not self._broken:
                    self._dispatch(pubsub)
                    continue
            except Exception as error:  # redis-py raises even TypeError where its socket is gone; this thread must live
                log.debug("the store's news broke off: %r", error)
                self._broken = True
            self._tell_all()
            threading.Event().wait(_POLL_SECONDS)  # the server is away: neither spin nor give up

    def _dispatch(self, pubsub: Any) -> None:
        """Wait for a message, and hand over what has come with it together: a burst wakes each follower once."""
        news: dict[str, list[StoredEvent]] = {}
        try:
            # Without a timeout it reads at once, up to the socket's own: to poll first costs more than all else here.
            message = pubsub.get_message(timeout=None if pubsub.subscribed else _POLL_SECONDS)
        except redis.exceptions.TimeoutError:
            return  # nothing came
        left = _AT_ONCE
        while message is not None:
            left -= 1
            channel = message["channel"].decode()
            if message["type"] == "subscribe":
                with self._lock:
                    followers = list(self._followers.get(channel, ()))
                for follower in followers:
                    follower.confirm()
            elif message["type"] == "message":
                if events := _parse(message["data"]):
                    news.setdefault(channel, []).extend(events)
                else:
                    news.pop(channel, None)
                    self._tell(channel, [])
            message = pubsub.get_message(timeout=0) if left else None
        for channel, events in news.items():
            self._tell(channel, events)

    def _tell(self, channel: str, events: Sequence[StoredEvent]) -> None:
        with self._lock:
            followers = list(self._followers.get(channel, ()))
        for follower in followers:
            follower.put(events)

    def _tell_all(self) -> None:
        with self._lock:
            channels = list(self._followers)
        for channel in channels:
            self._tell(channel, [])


def _parse(data: bytes) -> list[StoredEvent]:
    """`seq\\njson\\njson…` as the scripts publish it; nothing for a run that is gone."""
    if not data:
        return []
    first, *rows = data.split(b"\n")
    return [StoredEvent(int(first) + i, row) for i, row in enumerate(rows)]
