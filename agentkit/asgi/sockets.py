"""A run over a WebSocket in an event loop, holding no thread: frames and pings are the ASGI server's.

As under WSGI, the answer to a message comes before the events that it caused, and messages of a client that reads
nothing are carried out all the same.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Iterator
from contextlib import aclosing
from itertools import chain
from typing import Any

import anyio
from starlette.types import Receive, Send

from agentkit.core.sse import event_type
from agentkit.errors import StoreUnavailableError
from agentkit.runtime.follow import Wakeup
from agentkit.runtime.threads import in_thread
from agentkit.runtime.web_server import stopping
from agentkit.server.frames import STALL_SECONDS, CloseReason, PeerGoneError
from agentkit.server.streams import forget_wakeup, wake_on_shutdown
from agentkit.server.websocket import RunSocket

__all__ = ["serve"]

log = logging.getLogger(__name__)

_CLOSE_SECONDS = 2.0
_MAX_ANSWER_BYTES = 1_000_000
"""A client with so many bytes of unread answers is not read from until it has read them."""


async def serve(run_socket: RunSocket, receive: Receive, send: Send) -> None:
    """Shake hands, and serve the socket until either side ends it."""
    socket = _Socket(run_socket, receive, send)
    wake_on_shutdown(socket.wakeup)
    try:
        await socket.serve()
    except PeerGoneError:
        pass
    finally:
        forget_wakeup(socket.wakeup)
        run_socket.close()


class _Socket:
    def __init__(self, run_socket: RunSocket, receive: Receive, send: Send) -> None:
        self._run = run_socket
        self._receive = receive
        self._server_send = send
        self._sending = asyncio.Lock()
        self._answers: deque[str] = deque()
        """Sent by whoever sends now or next, before anything else."""
        self._answer_bytes = 0
        self._has_answers = asyncio.Event()
        self._is_idle = asyncio.Event()
        """No message is being carried out. Else no event is sent: it may be one that the message caused."""
        self._is_idle.set()
        self._close_code: CloseReason | None = None
        self.wakeup = Wakeup()

    async def serve(self) -> None:
        await self._send({"type": "websocket.accept"})
        async with anyio.create_task_group() as tasks:
            for part in (self._send_events, self._take_messages, self._send_answers):
                tasks.start_soon(self._end_with, part, tasks.cancel_scope)
        if self._close_code is not None:
            await self._send({"type": "websocket.close", "code": int(self._close_code), "reason": ""}, _CLOSE_SECONDS)

    async def _end_with(self, part: Callable[[], Awaitable[CloseReason]], scope: anyio.CancelScope) -> None:
        """Execute a part; with its end the others end. It returns the close code, or finds that the client is gone."""
        try:
            code = await part()
            await self._is_idle.wait()
            await self._send_texts()
            self._close_code = code
        except PeerGoneError:
            pass
        scope.cancel()

    async def _send_events(self) -> CloseReason:
        """Send the run's events until it or this process ends; return the close code."""
        try:
            async with aclosing(self._run.events_async(self.wakeup)) as batches:
                async for batch in batches:
                    for event in batch:
                        await self._is_idle.wait()
                        await self._send_texts(event.data.decode())
                        if event_type(event.data) == "agent_end":
                            return CloseReason.NORMAL_CLOSURE
                    if stopping():
                        return CloseReason.GOING_AWAY
        except StoreUnavailableError as error:
            log.warning(
                "closing a WebSocket of run %s, its client reconnects: the store is unavailable: %s",
                self._run.run_id,
                error,
            )
            return CloseReason.TRY_AGAIN_LATER
        except PeerGoneError:
            raise
        except Exception:  # after the handshake there is no HTTP response for a problem
            log.exception("closing a WebSocket of run %s: unexpected error; the run itself goes on", self._run.run_id)
            return CloseReason.INTERNAL_ERROR
        return CloseReason.GOING_AWAY if stopping() else CloseReason.NORMAL_CLOSURE

    async def _take_messages(self) -> CloseReason:
        """Carry out the client's messages, one after the other; return the close code where one is refused.

        Raises PeerGoneError when the client is gone.
        """
        while True:
            message = await self._receive()
            if message["type"] == "websocket.disconnect":
                raise PeerGoneError
            text: str | None = message.get("text")
            size = len(message.get("bytes") or b"") if text is None else len(text.encode("utf-8", "surrogatepass"))
            if size > self._run.max_message_bytes:
                return CloseReason.MESSAGE_TOO_BIG
            self._is_idle.clear()
            try:
                answer = await in_thread(self._run.reply, text)
                self._answers.append(answer)
                self._answer_bytes += len(answer)
            finally:
                self._is_idle.set()
            self._has_answers.set()
            if self._answer_bytes > _MAX_ANSWER_BYTES:
                await self._send_texts()

    async def _send_answers(self) -> CloseReason:
        """Send answers as they come. Does not end by itself: who carries messages out does not wait for the client."""
        while True:
            await self._has_answers.wait()
            self._has_answers.clear()
            await self._send_texts()

    async def _send_texts(self, *texts: str) -> None:
        """Send the answers that wait, then texts, then the answers that have come meanwhile."""
        async with self._sending:
            for text in chain(self._take_answers(), texts, self._take_answers()):
                await self._send({"type": "websocket.send", "text": text})

    def _take_answers(self) -> Iterator[str]:
        while self._answers:
            self._answer_bytes -= len(self._answers[0])
            yield self._answers.popleft()

    async def _send(self, message: dict[str, Any], seconds: float = STALL_SECONDS) -> None:
        """Send a message. Raises PeerGoneError where the client is gone or reads nothing for so long."""
        try:
            async with asyncio.timeout(seconds):
                await self._server_send(message)
        except (OSError, RuntimeError, TimeoutError) as error:  # servers have no one error for a client that is gone
            raise PeerGoneError from error
