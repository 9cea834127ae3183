"""Event streams: their headers, how many this process serves, and how they end when it stops.

An open stream would hold a gunicorn worker for its whole graceful timeout. So a stream checks at every event whether
its worker is stopping, and one thread checks for all streams that have nothing to send. That thread also closes the
connections of clients that read nothing: sending to them would block without a limit.
"""

from __future__ import annotations

import logging
import os
import socket
import threading
import time
from collections import Counter
from collections.abc import AsyncGenerator, Generator, Iterator
from contextlib import aclosing, closing, contextmanager
from typing import Any

from flask import Response, request

from agentkit.core.forks import ForkSafeLock
from agentkit.core.sse import Render, StreamEncoder
from agentkit.errors import StoreUnavailableError, TooManyWatchersError
from agentkit.runs import KEEPALIVE_SECONDS, RunHandle
from agentkit.runtime.follow import Opening, Wakeup
from agentkit.runtime.web_server import gunicorn_worker, is_served, stopping, uvicorn_server
from agentkit.server.access import principal
from agentkit.server.frames import STALL_SECONDS
from agentkit.server.state import state_or_none

__all__ = [
    "HEADERS",
    "EventStream",
    "StreamSlot",
    "forget_wakeup",
    "open_streams",
    "sse_response",
    "wake_on_shutdown",
    "wants_sse",
    "warn_of_sync_workers",
]

log = logging.getLogger(__name__)

HEADERS = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}

_lock = ForkSafeLock(reentrant=True)  # the garbage collector may release a slot in the very thread that holds the lock
_open: Counter[str | None] = Counter()
"""The slots that are taken, by the principal that each is for; None where nobody is named."""


class StreamSlot:
    """One of the streams that this process serves at once; taken before any work is done for the stream.

    `limit`: how many there are; None for seven eighths of what the server process handles at once. `share`: how many
    of them one principal may hold; None for half of them. Raises TooManyWatchersError where they are taken.
    """

    def __init__(self, limit: int | None = None, *, principal: str | None = None, share: int | None = None) -> None:
        limit = limit or _server_limit()
        share = share or (None if limit is None else max(1, limit // 2))
        self._principal = principal
        self._taken = False
        with _lock:
            if limit is not None and _open.total() >= limit:
                raise TooManyWatchersError(
                    f"this server process serves {limit} event streams already, its limit (AGENTKIT_MAX_WATCHERS): "
                    "try again later"
                )
            if principal is not None and share is not None and _open[principal] >= share:
                raise TooManyWatchersError(
                    f"this server process serves {share} event streams of yours already, the share of one principal "
                    "(AGENTKIT_MAX_WATCHERS_PER_PRINCIPAL): close one, or try again later"
                )
            _open[principal] += 1
            self._taken = True

    @classmethod
    def of_request(cls) -> StreamSlot:
        """Take a slot for the current request's caller. Raises TooManyWatchersError."""
        web_state = state_or_none()
        if web_state is None:  # a route of an application that is not ours
            return cls()
        settings = web_state.settings
        return cls(settings.max_watchers, principal=principal(), share=settings.max_watchers_per_principal)

    def release(self) -> None:
        """Free the slot. Does nothing when it is free already."""
        with _lock:
            if self._taken:
                self._taken = False
                _open[self._principal] -= 1
                if not _open[self._principal]:
                    del _open[self._principal]

    __del__ = release  # for a response that was made and never read


def open_streams() -> int:
    """Count the event streams and WebSockets that this process serves now."""
    with _lock:
        return _open.total()


def wants_sse() -> bool:
    """Return whether the current request names text/event-stream and prefers nothing to it. `*/*` means JSON."""
    wanted = {kind.partition(";")[0].strip().lower(): quality for kind, quality in request.accept_mimetypes}
    return wanted.get("text/event-stream", 0) > 0 and wanted["text/event-stream"] >= wanted.get("application/json", 0)


def sse_response(
    handle: RunHandle,
    after: int | None = None,
    until_pause: bool = True,
    *,
    render: Render | None = None,
    names: bool = False,
    keepalive: float | None = None,
    slot: StreamSlot | None = None,
    opening: Opening | None = None,
    encoder: StreamEncoder | None = None,
    pauses_after: int = 0,
) -> Response:
    """Make a streaming response of the run's events: after the seq `after`, or from where `handle` began.

    `render`: a function that makes an event (a dict) into what is sent in place of its JSON, say HTML for htmx's
    sse-ext, or into None, which leaves it out. `names`: whether each frame has an `event:` field, the event's type.
    `keepalive`: seconds without an event after which a comment is sent, at which a client is found to have left; by
    default AGENTKIT_KEEPALIVE_SECONDS.

    It ends after agent_end, and with `until_pause` after agent_pause. Closing it closes the subscription. `slot`: the
    slot that it takes over; without one it takes a new one, and raises TooManyWatchersError where none is free.
    `opening`: from `handle.open(after)`; it is taken over too. `encoder`, `pauses_after`: of `RunHandle.sse`.
    """
    if request.method == "HEAD":
        if opening:
            opening.close()
        return Response(headers=HEADERS, content_type="text/event-stream")
    web_state = state_or_none()
    slot = slot or StreamSlot.of_request()
    if keepalive is None:
        keepalive = web_state.settings.keepalive_seconds if web_state else KEEPALIVE_SECONDS
    stream = EventStream(
        handle,
        slot,
        sock=request.environ.get("gunicorn.socket"),
        after=after,
        until_pause=until_pause,
        keepalive=keepalive,
        opening=opening,
        render=render,
        names=names,
        encoder=encoder,
        pauses_after=pauses_after,
    )
    # Passed on as it is: werkzeug must not touch the chunks, and the server closes it itself.
    return Response(stream, headers=HEADERS, content_type="text/event-stream", direct_passthrough=True)


class EventStream:
    """The body of a response that streams a run, iterated either by a thread or in an event loop.

    It takes over the slot and the opening, and lets go of them when it has been iterated or closed. `sock`: the
    client's connection, where the web server shows it. `options`: of `RunHandle.sse`.
    """

    def __init__(
        self, handle: RunHandle, slot: StreamSlot, *, sock: socket.socket | None = None, **options: Any
    ) -> None:
        self._handle = handle
        self._slot = slot
        self._sock = sock
        self._wakeup = Wakeup()
        self._options = {**options, "stopped": stopping, "wakeup": self._wakeup}
        self._chunks = self._send()

    def close(self) -> None:
        """Free the slot and the subscription. Does nothing twice."""
        self._chunks.close()
        if self._options["opening"]:
            self._options["opening"].close()
        self._slot.release()

    def __iter__(self) -> EventStream:
        return self

    def __next__(self) -> bytes:
        return next(self._chunks)

    def _send(self) -> Generator[bytes, None, None]:
        with self._in_slot(), closing(self._handle.sse(**self._options)) as chunks:
            for chunk in chunks:
                for piece in _pieces(chunk):
                    if self._sock is not None:
                        _sending[self._wakeup] = time.monotonic(), self._sock
                    yield piece
                    _sending.pop(self._wakeup, None)
                if stopping():
                    break
            yield from self._cut()

    async def __aiter__(self) -> AsyncGenerator[bytes, None]:
        with self._in_slot():
            async with aclosing(self._handle.asse(**self._options)) as chunks:
                async for chunk in chunks:
                    for piece in _pieces(chunk):
                        yield piece
                    if stopping():
                        break
                for piece in self._cut():
                    yield piece

    def _cut(self) -> Iterator[bytes]:
        """Say that the stream is cut, where this process stops and the wire has words for it."""
        encoder: StreamEncoder | None = self._options.get("encoder")
        if encoder is not None and stopping() and (ending := encoder.cut()):
            yield ending

    @contextmanager
    def _in_slot(self) -> Iterator[None]:
        wake_on_shutdown(self._wakeup)
        try:
            yield
        except StoreUnavailableError as error:  # too late for a 503: the client reconnects after its last seq
            log.warning(
                "ending an event stream of run %s, its client reconnects: the store is unavailable: %s",
                self._handle.id,
                error,
            )
        finally:
            _sending.pop(self._wakeup, None)
            forget_wakeup(self._wakeup)
            self._slot.release()


def _pieces(chunk: bytes) -> Iterator[bytes]:
    return (chunk[start : start + _CHUNK_BYTES] for start in range(0, len(chunk), _CHUNK_BYTES))


# -- clients that read nothing

_CHUNK_BYTES = 131_072
"""A client that has not read so many bytes within the time limit counts as one that reads nothing."""
_sending: dict[Wakeup, tuple[float, socket.socket]] = {}
"""The streams that are sending a chunk: since when (monotonic seconds), and on which socket."""


def _close_stalled(seconds: float) -> None:
    """Shut down the connections whose clients have not read a chunk for `seconds`."""
    now = time.monotonic()
    for since, sock in _sending.copy().values():
        if now - since > seconds:
            try:
                # A duplicate: shut down itself, gevent's socket raises in the sender, and gunicorn logs an error.
                with socket.fromfd(sock.fileno(), sock.family, sock.type) as duplicate:
                    duplicate.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass  # it is closed already


# -- shutdown of the process

_POLL_SECONDS = 0.25
_SHUTDOWN_STALL_SECONDS = 1.0
_wakeups: set[Wakeup] = set()
_poller_pid = 0
"""The pid of the process whose thread polls: a thread does not survive a fork."""


def wake_on_shutdown(wakeup: Wakeup) -> None:
    """Wake `wakeup` at every poll once this process is stopping, until `forget_wakeup`."""
    global _poller_pid
    _wakeups.add(wakeup)
    if _poller_pid != os.getpid() and is_served():
        _poller_pid = os.getpid()
        threading.Thread(target=_poll, name="agentkit-shutdown", daemon=True).start()


def forget_wakeup(wakeup: Wakeup) -> None:
    """Undo `wake_on_shutdown`. Does nothing where it was not called."""
    _wakeups.discard(wakeup)


def _poll() -> None:
    pause = threading.Event()
    while True:
        pause.wait(_POLL_SECONDS)
        is_stopping = stopping()
        if is_stopping:
            for wakeup in list(_wakeups):
                wakeup.wake()
        _close_stalled(_SHUTDOWN_STALL_SECONDS if is_stopping else STALL_SECONDS)


# -- the web server


def _server_limit() -> int | None:
    """Return seven eighths of what the server process handles at once: the rest is for requests that end.

    None where it has no limit that is known.
    """
    server = uvicorn_server()
    if server is not None:
        limit = server.config.limit_concurrency
        return None if limit is None else max(1, int(limit) * 7 // 8)
    worker = gunicorn_worker()
    kind = type(worker).__module__.rpartition(".")[2]
    at_once = {"gthread": "threads", "ggevent": "worker_connections"}.get(kind)
    return max(1, int(getattr(worker.cfg, at_once)) * 7 // 8) if at_once else None


def warn_of_sync_workers() -> bool:
    """Log a warning where gunicorn runs sync workers. Returns whether it does."""
    worker = gunicorn_worker()
    if worker is None or type(worker).__module__ != "gunicorn.workers.sync":
        return False
    log.warning(
        "gunicorn runs sync workers: each serves one request at a time, so one open event stream blocks it. "
        "Start it with `-k gthread --threads 64` or `-k gevent`."
    )
    return True
