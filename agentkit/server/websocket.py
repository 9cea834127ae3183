"""A run over a WebSocket: its events out, answers, messages and aborts in (docs/reference/http.md).

What can be refused is refused before the handshake, as an HTTP problem. The request then ends like any other, and with
it the application's context and what was taken from its pools: the WebSocket is the response's body. Each message of a
client is carried out within a request context of its own, in the order of the messages, and answered with a frame.
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping, Sequence
from contextlib import closing
from typing import Any

from flask import Blueprint, Response, current_app, request
from msgspec.structs import asdict
from simple_websocket import Server

from agentkit.core.forks import ForkSafeLock
from agentkit.core.messages import Json
from agentkit.core.requests import AbortFrame, MessageFrame, RequestBody, ResumeFrame, or_none
from agentkit.core.sse import event_type
from agentkit.core.struct import check, decode, dumps
from agentkit.errors import ForbiddenError, InvalidRequestError, StoreUnavailableError
from agentkit.runtime.follow import Opening, Wakeup
from agentkit.runtime.web_server import stopping
from agentkit.server import access, bodies, problems
from agentkit.server.answers import Problem, SocketError, SocketOk
from agentkit.server.frames import CloseReason, Peer, PeerGoneError
from agentkit.server.read_watcher import ReadWatcher
from agentkit.server.runs import known_parameters, open_log, resume
from agentkit.server.state import state
from agentkit.server.streams import StreamSlot, forget_wakeup, wake_on_shutdown
from agentkit.store.protocol import StoredEvent

__all__ = ["RunSocket", "SocketBody", "blueprint"]

log = logging.getLogger(__name__)

blueprint = Blueprint("ws", __name__)
_KEY = re.compile(r"[A-Za-z0-9+/]{22}==")
"""16 bytes in Base64."""
_SOCKETS = frozenset({"gunicorn.socket", "werkzeug.socket", "eventlet.input"})
"""Where simple-websocket finds the connection's socket; gevent's own server it knows by its name."""


@blueprint.get("/runs/<run_id>/ws", websocket=True)
def run_socket(run_id: str) -> Response:
    """Refuse what can be refused while the answer can still be an HTTP problem; give the connection to a RunSocket."""
    known_parameters(("after", "token"))
    environ = request.environ
    if (
        request.method != "GET"
        or environ["SERVER_PROTOCOL"] == "HTTP/1.0"
        or request.headers.get("Sec-WebSocket-Version") != "13"
        or not _KEY.fullmatch(request.headers.get("Sec-WebSocket-Key", ""))
    ):
        raise InvalidRequestError("this is not a WebSocket handshake of version 13 (RFC 6455)")
    if not _has_sockets(environ):
        raise InvalidRequestError(
            "this web server has no WebSockets: follow the run by GET /runs/{id}/events, and answer it by POST"
        )
    slot = StreamSlot.of_request()
    return _SocketResponse(RunSocket(run_id, open_log(run_id), slot))


def _has_sockets(environ: Mapping[str, Any]) -> bool:
    """Whether the web server lets an application have a WebSocket."""
    if "asgi.scope" in environ:
        return bool(environ["asgi.scope"]["type"] == "websocket")
    return not _SOCKETS.isdisjoint(environ) or environ.get("SERVER_SOFTWARE", "").startswith("gevent")


class _SocketResponse(Response):
    """A response whose body is a WebSocket: the web server begins to iterate it when the request has ended."""

    def __init__(self, run_socket: RunSocket) -> None:
        super().__init__(status=101)
        self.headers.clear()
        self.call_on_close(run_socket.close)
        self._socket = run_socket

    def __call__(self, environ: Any, start_response: Any) -> Any:
        return SocketBody(self, self._socket, start_response)


class SocketBody:
    """What a WSGI server iterates: the whole WebSocket passes before there is a first chunk, and there is none."""

    def __init__(self, response: Response, run_socket: RunSocket, start_response: Any) -> None:
        self.close = response.close
        self.run_socket = run_socket
        self._start_response = start_response

    def __iter__(self) -> Iterator[bytes]:
        mode = self.run_socket.serve()
        if mode == "gunicorn":
            self._start_response("101 Switching Protocols", [])  # for its access log
            raise StopIteration  # which has it close the connection and write nothing
        if mode == "werkzeug":
            self._start_response("200 OK", [])  # it writes a head, to a connection that is closed
        return iter(())


class RunSocket:
    """The WebSocket of one run and one caller, made within the request that asks for it.

    It takes the opening and the slot over, and lets go of them when it has been served or closed.
    """

    def __init__(self, run_id: str, opening: Opening, slot: StreamSlot) -> None:
        self.run_id = run_id
        self._opening = opening
        self._slot = slot
        self._web = state()
        self.max_message_bytes = self._web.settings.max_body_bytes
        self._app: Any = current_app._get_current_object()  # type: ignore[attr-defined]  # the proxy ends with the request
        self._environ = {**request.environ, access.CALLER: access.caller()}
        # A compressor would cost each watcher some 300 kB, for events that are mostly a few words long.
        self._environ.pop("HTTP_SEC_WEBSOCKET_EXTENSIONS", None)
        self._environ.pop("werkzeug.debug.preserve_context", None)

    def close(self) -> None:
        """Free the slot and the subscription. Does nothing twice."""
        self._opening.close()
        self._slot.release()

    def serve(self) -> str:
        """Shake hands, and serve the socket until either side ends it.

        Returns the kind of web server, as simple-websocket names it.
        """
        wakeup = Wakeup()
        wake_on_shutdown(wakeup)
        try:
            server = Server(self._environ, thread_class=_NoThread)
            try:
                peer = Peer(
                    server.sock,
                    server.ws,
                    self.reply,
                    max_bytes=self.max_message_bytes,
                    stopping=stopping,
                )
                peer.close(self._follow(peer, wakeup, server))
            except PeerGoneError:
                pass
            finally:
                _read_watcher().forget(server.sock)
            return str(server.mode)
        finally:
            forget_wakeup(wakeup)
            self.close()

    def _follow(self, peer: Peer, wakeup: Wakeup, server: Server) -> CloseReason:
        """Send the run's events and answer the client's messages until either ends. Returns the close code."""
        watcher = _read_watcher()
        watcher.watch(server.sock, wakeup.wake)
        ended = False
        try:
            events = self._web.kit.handle(self.run_id).stored(
                self._opening.after,
                tick=self._web.settings.keepalive_seconds,
                stopped=stopping,
                wakeup=wakeup,
                opening=self._opening,
            )
            with closing(events):
                for event in events:
                    # In this order: in a process that stops, a wake-up need not mean that the client sent something.
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
            log.warning(
                "closing a WebSocket of run %s, its client reconnects: the store is unavailable: %s",
                self.run_id,
                error,
            )
            return CloseReason.TRY_AGAIN_LATER
        except PeerGoneError:
            raise
        except Exception:  # after the handshake there is no HTTP response for a problem
            log.exception("closing a WebSocket of run %s: unexpected error; the run itself goes on", self.run_id)
            return CloseReason.INTERNAL_ERROR
        return CloseReason.GOING_AWAY if stopping() and not ended else CloseReason.NORMAL_CLOSURE

    def events_async(self, wakeup: Wakeup) -> AsyncGenerator[Sequence[StoredEvent], None]:
        """Give the run's events in an event loop, as RunHandle.astored does."""
        return self._web.kit.handle(self.run_id).astored(
            self._opening.after,
            tick=self._web.settings.keepalive_seconds,
            stopped=stopping,
            wakeup=wakeup,
            opening=self._opening,
        )

    def reply(self, text: str | None) -> str:
        """Carry a message out and return the frame that answers it. `text` None stands for a binary message.

        It is done within a request context of its own, after the application's `before_request` functions.
        """
        with self._app.request_context(dict(self._environ)):
            try:
                if self._app.preprocess_request() is not None:
                    raise ForbiddenError("the application that this server belongs to refuses the message")
                if text is None:
                    raise InvalidRequestError("this frame is binary: send text frames")
                _dispatch(self.run_id, bodies.parse(text.encode()))
            except Exception as error:
                problem = decode(problems.from_error(error).data, Problem)
                return dumps(SocketError(**asdict(problem)))
        return dumps(SocketOk())


class _NoThread:
    """Stands in for simple-websocket's reader thread; frames.py reads instead."""

    name = ""

    def __init__(self, target: Callable[[], None]) -> None:
        pass

    def start(self) -> None:
        pass


# -- messages of the client


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
