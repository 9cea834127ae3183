"""A run over a WebSocket: its events out, answers, messages and aborts in (docs/web.md).

What can be refused is refused before the handshake, as an HTTP problem. After it, each message of a client is answered
with a frame, in the order of the messages.
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from typing import Any

from flask import Blueprint, current_app, g, request
from flask_sock import Sock
from msgspec.structs import asdict
from simple_websocket import Server

from agentkit.core.forks import ForkSafeLock
from agentkit.core.messages import Json
from agentkit.core.requests import AbortFrame, MessageFrame, RequestBody, ResumeFrame, or_none
from agentkit.core.sse import event_type
from agentkit.core.struct import check, decode, dumps
from agentkit.errors import InvalidRequestError, StoreUnavailableError
from agentkit.runtime.follow import Opening, Wakeup
from agentkit.runtime.gunicorn import stopping
from agentkit.server import access, bodies, problems
from agentkit.server.answers import Problem, SocketError, SocketOk
from agentkit.server.frames import CloseReason, Peer, PeerGoneError
from agentkit.server.read_watcher import ReadWatcher
from agentkit.server.runs import known_parameters, open_log, resume
from agentkit.server.state import endpoint, state
from agentkit.server.streams import StreamSlot, forget_wakeup, wake_on_shutdown

__all__ = ["blueprint"]

log = logging.getLogger(__name__)

blueprint = Blueprint("ws", __name__)
_sock = Sock()
_KEY = re.compile(r"[A-Za-z0-9+/]{22}==")
"""16 bytes in Base64."""


_OPTIONS = "SOCK_SERVER_OPTIONS"


class _ServerOptions(Mapping[str, Any]):
    """What flask-sock makes a WebSocket's server with: ours for our routes, the application's for its own."""

    def __init__(self, of_application: Mapping[str, Any]) -> None:
        self._of_application = of_application

    def _current(self) -> Mapping[str, Any]:
        return {"thread_class": _NoThread} if endpoint() else self._of_application

    def __getitem__(self, name: str) -> Any:
        return self._current()[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._current())

    def __len__(self) -> int:
        return len(self._current())


class _NoThread:
    """Stands in for simple-websocket's reader thread; frames.py reads instead."""

    name = ""

    def __init__(self, target: Callable[[], None]) -> None:
        pass

    def start(self) -> None:
        pass


@blueprint.before_request
def _before_handshake() -> None:
    """Refuse what can be refused while the answer can still be an HTTP problem."""
    known_parameters(("after", "token"))
    if (
        request.method != "GET"
        or request.environ["SERVER_PROTOCOL"] == "HTTP/1.0"
        or request.headers.get("Sec-WebSocket-Version") != "13"
        or not _KEY.fullmatch(request.headers.get("Sec-WebSocket-Key", ""))
    ):
        raise InvalidRequestError("this is not a WebSocket handshake of version 13 (RFC 6455)")
    config = current_app.config
    if not isinstance(config.get(_OPTIONS), _ServerOptions):
        config[_OPTIONS] = _ServerOptions(config.get(_OPTIONS, {}))
    slot = StreamSlot.of_request()
    g.agentkit_socket = open_log((request.view_args or {})["run_id"]), slot
    # A compressor would cost each watcher some 300 kB, for events that are mostly a few words long.
    request.environ.pop("HTTP_SEC_WEBSOCKET_EXTENSIONS", None)


@_sock.route("/runs/<run_id>/ws", bp=blueprint)
def run_socket(server: Server, run_id: str) -> None:
    opening, slot = g.pop("agentkit_socket")
    limit = state().settings.max_body_bytes
    peer = Peer(server.sock, server.ws, lambda text: _reply_to(run_id, text), max_bytes=limit, stopping=stopping)
    wakeup = Wakeup()
    wake_on_shutdown(wakeup)
    try:
        code = _serve(run_id, opening, peer, wakeup, server)
        peer.close(code)
    except PeerGoneError:
        pass
    finally:
        forget_wakeup(wakeup)
        _read_watcher().forget(server.sock)
        slot.release()
        server.connected = False  # for flask-sock: there is nothing left to close


def _serve(run_id: str, opening: Opening, peer: Peer, wakeup: Wakeup, server: Server) -> CloseReason:
    """Send the run's events and answer the client's messages until either ends. Returns the close code."""
    watcher = _read_watcher()
    watcher.watch(server.sock, wakeup.wake)
    tick = state().settings.keepalive_seconds
    ended = False
    try:
        handle = state().kit.handle(run_id)
        events = handle.stored(opening.after, tick=tick, stopped=stopping, wakeup=wakeup, opening=opening)
        with closing(events):
            for event in events:
                # In this order: in a process that stops, a wake-up need not mean that the client has sent something.
                requested, is_stopping = wakeup.requested, stopping()
                if is_stopping and event is None:
                    break
                if requested and not is_stopping:
                    wakeup.requested = False
                    peer.receive()
                    watcher.watch(server.sock, wakeup.wake)
                elif event is None:
                    peer.ping()
                if event is not None:
                    peer.send(event.data.decode())
                    ended = event_type(event.data) == "agent_end"
                if stopping() and not ended:
                    break
    except StoreUnavailableError as error:
        log.warning("closing a WebSocket of run %s, its client reconnects: the store is unavailable: %s", run_id, error)
        return CloseReason.TRY_AGAIN_LATER
    except PeerGoneError:
        raise
    except Exception:  # after the handshake there is no HTTP response for a problem
        log.exception("closing a WebSocket of run %s: unexpected error; the run itself goes on", run_id)
        return CloseReason.INTERNAL_ERROR
    return CloseReason.GOING_AWAY if stopping() and not ended else CloseReason.NORMAL_CLOSURE


# -- messages of the client


def _reply_to(run_id: str, text: str | None) -> str:
    """Carry a message out and return the frame that answers it. `text` None stands for a binary message."""
    try:
        if text is None:
            raise InvalidRequestError("this frame is binary: send text frames")
        _dispatch(run_id, bodies.parse(text.encode()))
    except Exception as error:
        problem = decode(problems.from_error(error).data, Problem)
        return dumps(SocketError(**asdict(problem)))
    return dumps(SocketOk())


def _dispatch(run_id: str, message: Json) -> None:
    kind = message.get("type")
    frame_type = _FRAMES.get(kind) if isinstance(kind, str) else None
    if frame_type is None:
        raise InvalidRequestError(f"type must be one of {', '.join(_FRAMES)}")
    access.check(run_id, str(kind))
    match check(message, frame_type):
        case ResumeFrame() as frame:
            resume(run_id, frame)
        case AbortFrame() as frame:
            state().kit.abort(run_id, or_none(frame.reason), by=access.principal())
        case MessageFrame() as frame:
            state().kit.send(run_id, frame.message, frame.when, by=access.principal())


_FRAMES: Mapping[str, type[RequestBody]] = {"resume": ResumeFrame, "abort": AbortFrame, "message": MessageFrame}


# -- one ReadWatcher per process

_lock = ForkSafeLock()
_instance: tuple[int, ReadWatcher] | None = None


def _read_watcher() -> ReadWatcher:
    global _instance
    with _lock:
        if _instance is None or _instance[0] != os.getpid():
            _instance = (os.getpid(), ReadWatcher())
        return _instance[1]
