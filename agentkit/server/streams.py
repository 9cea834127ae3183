"""Event streams: their headers, how many this process serves, and how they end when it stops.

An open stream would hold a gunicorn worker for its whole graceful timeout. So a stream asks at every event
whether its worker is stopping, and one thread asks for all that are silent. That thread also hangs up on clients
that read nothing: what sends to them would wait as long as they please.
"""

from __future__ import annotations

import logging
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, cast

from flask import Response, current_app, request

from agentkit.errors import StoreUnavailableError, TooManyWatchersError
from agentkit.runs import KEEPALIVE_SECONDS, RunHandle
from agentkit.runtime.follow import Wakeup
from agentkit.server.frames import STALL_SECONDS
from agentkit.server.state import EXTENSION

__all__ = [
    "HEADERS",
    "StreamSlot",
    "gunicorn_worker",
    "open_streams",
    "ring_at_the_end",
    "ring_no_more",
    "sse_response",
    "stopping",
    "wants_sse",
    "warn_of_sync_workers",
]

log = logging.getLogger(__name__)

HEADERS = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}

_lock = threading.RLock()  # a slot may be collected as garbage, and left, by the very thread that holds it
_open = 0


class StreamSlot:
    """One watcher's place in this process, to be had before anything is done for it.

    Raises TooManyWatchersError where `limit` are taken, or as many as leave gunicorn something for other requests.
    """

    def __init__(self, limit: int | None = None) -> None:
        global _open
        limit = limit or _server_limit()
        self._taken = False
        with _lock:
            if limit is not None and _open >= limit:
                raise TooManyWatchersError(f"this server process serves {limit} event streams, as many as it may")
            _open += 1
            self._taken = True

    def leave(self) -> None:
        """Let the next one in. Does nothing twice."""
        global _open
        with _lock:
            _open -= self._taken
            self._taken = False

    __del__ = leave  # a response that was made, but that nobody ever read


def open_streams() -> int:
    """How many event streams and WebSockets this process serves now."""
    return _open


def wants_sse() -> bool:
    """Whether the current request names text/event-stream, and prefers nothing to it. `*/*` means JSON."""
    wanted = {kind.partition(";")[0].strip().lower(): quality for kind, quality in request.accept_mimetypes}
    return wanted.get("text/event-stream", 0) > 0 and wanted["text/event-stream"] >= wanted.get("application/json", 0)


def sse_response(
    handle: RunHandle, after: int | None = None, until_pause: bool = True, *, slot: StreamSlot | None = None
) -> Response:
    """The run's events as a streaming response: after the seq `after`, or from where `handle` began.

    It ends after agent_end, and with `until_pause` after agent_pause. Closing it closes the subscription.
    Raises TooManyWatchersError where it comes without a `slot` and there is none.
    """
    if request.method == "HEAD":
        return Response(headers=HEADERS, content_type="text/event-stream")
    known = current_app.extensions.get(EXTENSION)
    slot = slot or StreamSlot(known.settings.max_watchers if known else None)
    keepalive = known.settings.keepalive_seconds if known else KEEPALIVE_SECONDS
    wakeup = Wakeup()
    chunks = handle.sse(after, until_pause=until_pause, keepalive=keepalive, stopped=stopping, wakeup=wakeup)
    # Passed on as it is: werkzeug must not touch the chunks, and the server closes the generator itself.
    return Response(
        _with_slot(handle.id, chunks, slot, wakeup, request.environ.get("gunicorn.socket")),
        headers=HEADERS,
        content_type="text/event-stream",
        direct_passthrough=True,
    )


def _with_slot(
    run_id: str, chunks: Iterator[bytes], slot: StreamSlot, wakeup: Wakeup, sock: socket.socket | None
) -> Iterator[bytes]:
    ring_at_the_end(wakeup)
    try:
        for chunk in chunks:
            for start in range(0, len(chunk), _PIECE):
                if sock is not None:
                    _sending[wakeup] = time.monotonic(), sock
                yield chunk[start : start + _PIECE]
                _sending.pop(wakeup, None)
            if stopping():
                return
    except StoreUnavailableError as error:  # too late for a 503: the client comes again after its last seq
        log.warning("the stream of run %s ends: %s", run_id, error)
    finally:
        cast(Callable[[], None], getattr(chunks, "close", lambda: None))()
        _sending.pop(wakeup, None)
        ring_no_more(wakeup)
        slot.leave()


# -- clients that read nothing

_PIECE = 131_072
"""A client that has not read so much within the time that it has counts as one that reads nothing."""
_sending: dict[Wakeup, tuple[float, socket.socket]] = {}
"""The streams of which something is being sent: since when, and where to."""


def _hang_up(seconds: float) -> None:
    """End the connections of those who have not taken what has been sent to them for so long."""
    now = time.monotonic()
    for since, sock in _sending.copy().values():
        if now - since > seconds:
            try:
                # A copy's: of its own, gevent tells the sender that it was closed, and gunicorn logs that as an error.
                with socket.fromfd(sock.fileno(), sock.family, sock.type) as same:
                    same.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass  # it has gone


# -- the end of the process

_ASK_SECONDS = 0.25
_STALL_AT_THE_END_SECONDS = 1.0
_bells: set[Wakeup] = set()
_asking_in = 0
"""The process whose thread asks: a thread does not survive a fork."""


def ring_at_the_end(wakeup: Wakeup) -> None:
    """Ring it, again and again, once this process is stopping."""
    global _asking_in
    _bells.add(wakeup)
    if _asking_in != os.getpid() and gunicorn_worker() is not None:
        _asking_in = os.getpid()
        threading.Thread(target=_ask, name="agentkit-stopping", daemon=True).start()


def ring_no_more(wakeup: Wakeup) -> None:
    _bells.discard(wakeup)


def _ask() -> None:
    pause = threading.Event()
    while True:
        pause.wait(_ASK_SECONDS)
        ending = stopping()
        if ending:
            for wakeup in list(_bells):
                wakeup.wake()
        _hang_up(_STALL_AT_THE_END_SECONDS if ending else STALL_SECONDS)


# -- gunicorn

_worker: Any = None


def gunicorn_worker() -> Any:
    """The gunicorn worker that this process is, or None.

    Its SIGTERM handler is a method of it. A handler of ours would be replaced where the application is
    preloaded, gunicorn's own hooks would have to be configured, and neither hears of `max_requests`.
    """
    global _worker
    if _worker is None:
        owner = getattr(signal.getsignal(signal.SIGTERM), "__self__", None)
        bases = {base.__module__.partition(".")[0] for base in type(owner).__mro__}
        if "gunicorn" in bases and hasattr(owner, "alive"):  # the arbiter of a preloaded application has no `alive`
            _worker = owner
    return _worker


def _server_limit() -> int | None:
    """Seven eighths of what the gunicorn worker handles at once: the rest is for requests that end."""
    worker = gunicorn_worker()
    kind = type(worker).__module__.rpartition(".")[2]
    at_once = {"gthread": "threads", "ggevent": "worker_connections"}.get(kind)
    return max(1, int(getattr(worker.cfg, at_once)) * 7 // 8) if at_once else None


def stopping() -> bool:
    """Whether the server is about to end this process: streams should end, their clients come again."""
    worker = gunicorn_worker()
    return worker is not None and not worker.alive


def warn_of_sync_workers() -> bool:
    """Say it once where a stream would block everything else. Returns whether there was something to say."""
    worker = gunicorn_worker()
    if worker is None or type(worker).__module__ != "gunicorn.workers.sync":
        return False
    log.warning(
        "gunicorn runs sync workers: each serves one request at a time, so one open event stream blocks it. "
        "Start it with `-k gthread --threads 64` or `-k gevent`."
    )
    return True
