"""kombu's Redis transport, for a worker that outlives entries of its queue which are no messages.

Whoever reaches the broker can put anything into a queue. kombu would raise what it meets in such an entry, and Celery
would end the worker for it, and the next one that takes the entry, which is gone by then. What is a message, but not
one for Celery, is dropped by `agentkit.queue.consumer`.
"""

from __future__ import annotations

import base64
import logging
from typing import Any

from celery.app import amqp
from kombu.connection import Connection
from kombu.transport import redis

__all__ = ["AMQP", "MALFORMED", "stop_reading"]

log = logging.getLogger(__name__)

MALFORMED = (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError)
"""What kombu and Celery raise for texts and values of another shape than they expect; drivers raise none of these."""


class _Reading:
    """A channel's reading, where an entry that is no message is dropped and logged, and which can be stopped."""

    connection: Any
    _in_poll: Any
    _may_read = True

    def _brpop_read(self, **options: Any) -> Any:
        return self._guarded(super()._brpop_read, "an entry of a queue", **options)  # type: ignore[misc]

    def _receive(self) -> Any:
        return self._guarded(super()._receive, "a broadcast to workers")  # type: ignore[misc]

    def stop_reading(self, may_block: bool) -> None:
        self._may_read = False
        connection = self._in_poll
        if may_block and connection and not connection.can_read(timeout=0):  # what has come is read and put back
            connection.disconnect()

    def _brpop_start(self, *args: Any, **options: Any) -> None:
        if self._may_read:
            super()._brpop_start(*args, **options)  # type: ignore[misc]

    def _guarded(self, read: Any, what: str, **options: Any) -> Any:
        try:
            return read(**options)
        except MALFORMED as error:  # it is out of the queue already
            log.error("%s is no message and was dropped: %s: %s", what, type(error).__name__, str(error)[:200])
            return True


def stop_reading(channel: Any, *, may_block: bool) -> None:
    """Begin no further read on a channel, and take back the one that waits at the server, where that `may_block`.

    A worker that stops waits for its pool before it reads again: the read would take the messages that its steps hand
    to other workers, and keep them meanwhile.
    """
    if isinstance(channel, _Reading):
        channel.stop_reading(may_block)


class _Channel(_Reading, redis.Channel):
    pass


class _SentinelChannel(_Reading, redis.SentinelChannel):
    pass


class _Checking:
    """A transport that delivers what has a message's shape: kombu would count another as not acknowledged for ever."""

    def _deliver(self, message: Any, queue: str) -> None:
        problem = _problem_of(message)
        if problem is None:
            super()._deliver(message, queue)  # type: ignore[misc]
        else:
            log.error("an entry of queue %s is no message and was dropped: %s", queue, problem)


def _problem_of(message: Any) -> str | None:
    """Find what of a message has another shape than kombu gives it; None where nothing has."""
    if not isinstance(message, dict):
        return "it is no object"
    properties = message.get("properties")
    if not isinstance(properties, dict):
        return "it has no properties"
    if not isinstance(message.get("headers"), dict | None):
        return "its headers are no object"
    if not isinstance(properties.get("delivery_tag"), str) or not isinstance(properties.get("delivery_info"), dict):
        return "it has no delivery tag, or no delivery information"
    texts = (message.get("body"), message.get("content-type"), message.get("content-encoding"))
    if not all(isinstance(text, str | None) for text in (*texts, properties.get("body_encoding"))):
        return "its body, or what says how it is encoded, is no text"
    try:
        if properties.get("body_encoding") == "base64":
            base64.b64decode(message.get("body") or "")
    except ValueError:
        return "its body is no base64"
    return None


class _Transport(_Checking, redis.Transport):
    Channel = _Channel


class _SentinelTransport(_Checking, redis.SentinelTransport):
    Channel = _SentinelChannel


_GUARDED = {redis.Transport: _Transport, redis.SentinelTransport: _SentinelTransport}


class _Connection(Connection):
    def get_transport_cls(self) -> Any:
        transport = super().get_transport_cls()  # type: ignore[no-untyped-call]  # untyped in kombu
        return _GUARDED.get(transport, transport)


class AMQP(amqp.AMQP):
    """Celery's part that makes messages and connections, with connections whose reading is guarded."""

    Connection = _Connection
