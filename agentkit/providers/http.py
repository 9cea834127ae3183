"""One streamed POST, read as an ordinary iterator by the step's thread.

The request runs as a task on the process's event loop, because only a task can be cancelled while the vendor is silent:
closing a response from another thread waits for its next chunk. The task (`agentkit.providers.transfer`) puts what it
reads into a queue; the thread takes it out, and measures how long there was no content. This module must not know any
vendor's format.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterable, AsyncIterator, Callable, Container, Generator, Iterable, Iterator
from contextlib import closing
from queue import Empty
from typing import Generic, Self, TypeVar

from httpx_sse import ServerSentEvent

from agentkit.core.cancellation import Cancellation
from agentkit.core.event_loop import event_loop, submit
from agentkit.errors import AgentKitError, ProviderError
from agentkit.providers.framing import NotAStreamError, json_lines, sse_events, text_of_body
from agentkit.providers.protocol import BlockEnd, Finish, Part, TextDelta, ThinkingDelta, ToolCallDelta
from agentkit.providers.transfer import CREDIT, HttpRequest, Reader, Transfer

__all__ = ["Answer", "HttpRequest", "answer_parts", "stream_binary", "stream_lines", "stream_sse"]

T = TypeVar("T")

_LINGER_SECONDS = 0.05
_UNAUTHORIZED = 401


def answer_parts(
    request: HttpRequest,
    cancel: Cancellation,
    answer: Answer[T],
    decode: Callable[[Iterable[T], str], Iterator[Part]],
) -> Generator[Part, None, None]:
    """Yield the parts that `decode` makes of an answer's items, as `Provider.stream` has it.

    The answer is closed at the end. Each part is content: what a vendor sends without any is silence. Whatever fails is
    a ProviderError with the vendor's name, without the secrets.
    """
    try:
        with closing(answer):
            for part in decode(answer, request.vendor):
                _check_texts(part)
                answer.content_came()
                yield part
    except ProviderError as error:
        if cancel.cancelled:
            return
        if error.status == _UNAUTHORIZED:
            request.endpoint.forget_key()
        error.args = (request.redact(error.message),)
        raise
    except AgentKitError:
        raise
    except Exception as error:
        raise ProviderError(f"{request.vendor} sent an answer of an unknown shape", vendor=request.vendor) from error


def _check_texts(part: Part) -> None:
    """Raise TypeError where a vendor sent something else for a text."""
    match part:
        case TextDelta(text):
            texts = [text]
        case ThinkingDelta(text, signature):
            texts = [text, signature or ""]
        case BlockEnd():
            texts = []
        case ToolCallDelta(_, call_id, name, arguments):
            texts = [call_id, name, arguments]
        case Finish(_, _, model):
            texts = [model or ""]
    for text in texts:
        if not isinstance(text, str):
            raise TypeError(f"a text is {type(text).__name__}")


def stream_sse(
    request: HttpRequest,
    cancel: Cancellation,
    *,
    is_last: Callable[[str], bool] = lambda _: False,
    last_events: Container[str] = (),
) -> Answer[ServerSentEvent]:
    """Iterate over the answer's server-sent events; one of `last_events`, or of whose data `is_last`, is the last."""

    def ends(event: ServerSentEvent) -> bool:
        return event.event in last_events or is_last(event.data)

    return Answer(request, cancel, "text/event-stream", sse_events, ends)


def stream_lines(request: HttpRequest, cancel: Cancellation, *, content_type: str) -> Answer[str]:
    """Iterate over the lines of an answer of `content_type`. Only a line feed ends a line, and none is empty."""
    return Answer(request, cancel, content_type, json_lines, lambda _: False)


def stream_binary(
    request: HttpRequest,
    cancel: Cancellation,
    *,
    content_type: str,
    read: Callable[[AsyncIterable[bytes]], AsyncIterator[T]],
    is_last: Callable[[T], bool],
) -> Answer[T]:
    """Iterate over what `read` makes of an answer that is no text. What its pieces may be is for `read` to bound."""

    async def read_labelled(body: AsyncIterable[bytes], labelled: bool) -> AsyncIterator[T]:
        if not labelled:
            raise NotAStreamError(await text_of_body(body))
        async for item in read(body):
            yield item

    return Answer(request, cancel, content_type, read_labelled, is_last, has_lines=False)


class Answer(Generic[T]):
    """The items of a vendor's answer, read while they are iterated over, once.

    Raises ProviderError for whatever the vendor or the network does wrong, and beyond the request's bounds; the time
    that the reader takes between two items does not count as the vendor's silence. Ends at once when `cancel` fires;
    that, or `close`, closes the connection.
    """

    def __init__(
        self,
        request: HttpRequest,
        cancel: Cancellation,
        content_type: str,
        read: Reader[T],
        is_last: Callable[[T], bool],
        *,
        has_lines: bool = True,
    ) -> None:
        self._request = request
        self._cancel = cancel
        self._transfer = Transfer(request, content_type, read, is_last, has_lines)
        self._items = self._iterate()
        self._waited = 0.0

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> T:
        return next(self._items)

    def close(self) -> None:
        """Read no more."""
        self._items.close()

    def content_came(self) -> None:
        """Count the silence from here."""
        self._waited = 0.0

    def _iterate(self) -> Generator[T, None, None]:
        """Yield what the transfer puts into the inbox; None is the end, an exception is raised here."""
        transfer, inbox = self._transfer, self._transfer.inbox
        task = submit(transfer.run())

        def stop() -> None:
            task.cancel()
            inbox.put(None)

        remove_callback = self._cancel.on_cancel(stop)
        taken, ended = 0, False
        try:
            while True:
                batch = self._take()
                if batch is None:
                    ended = True
                    return
                if isinstance(batch, Exception):
                    if self._cancel.cancelled:
                        return
                    raise batch
                for item in batch:
                    if self._cancel.cancelled:
                        return
                    yield item
                    taken += 1
                    if taken % CREDIT == 0:
                        event_loop().call_soon_threadsafe(transfer.widen)
        finally:
            remove_callback()
            if not ended:  # after the end, the task may still tidy the connection for its next use
                # It has a moment for that here too: who has read all that matters need not wait for the end.
                event_loop().call_soon_threadsafe(event_loop().call_later, _LINGER_SECONDS, task.cancel)

    def _take(self) -> list[T] | Exception | None:
        """Take the next batch out of the inbox; a ProviderError where there was no content for too long."""
        request, began = self._request, time.monotonic()
        while True:
            # Until the headers have come, the connection's own timeouts say better what is wrong.
            limit = request.silence_seconds + (0.0 if self._transfer.answered else request.connect_timeout)
            waited = self._waited + time.monotonic() - began
            try:
                item = self._transfer.inbox.get(timeout=max(0.0, limit - waited))
            except Empty:
                if self._transfer.answered and limit > request.silence_seconds:
                    continue  # the headers came meanwhile
                return ProviderError(
                    f"{request.vendor}: silent for {request.silence_seconds:g} s (keepalives are no content)",
                    retryable=True,
                    vendor=request.vendor,
                    internal="the bound is AGENTKIT_MODEL_SILENCE_SECONDS, or the agent's read_timeout",
                )
            self._waited += time.monotonic() - began
            return item
