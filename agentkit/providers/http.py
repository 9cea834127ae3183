"""One streamed POST, read as an ordinary iterator by the step's thread.

The request runs as a task on the process's event loop, because only a task can be cancelled while the vendor is silent:
closing a response from another thread waits for its next chunk. The task (`agentkit.providers.transfer`) puts what
comes into a queue; the thread takes it out, splits it into items, and measures how long there was no content. This
module must not know any vendor's format.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Generator, Iterable, Iterator, Sequence
from contextlib import closing
from itertools import chain
from queue import Empty
from typing import Generic, TypeVar

from httpx_sse import ServerSentEvent

from agentkit.core.cancellation import Cancellation
from agentkit.core.event_loop import event_loop, submit
from agentkit.errors import AgentKitError, ProviderError
from agentkit.providers.body import BoundedBody
from agentkit.providers.counts import usage_of_failure
from agentkit.providers.decoding import Decoder, joined
from agentkit.providers.failures import vendor_message
from agentkit.providers.framing import Framing, JsonLines, NoFraming, NotAStreamError, SseEvents
from agentkit.providers.protocol import NOTHING, BlockEnd, Finish, Part, TextDelta, ThinkingDelta, ToolCallDelta
from agentkit.providers.transfer import Head, HttpRequest, Transfer

__all__ = ["Answer", "HttpRequest", "answer_parts", "stream_binary", "stream_lines", "stream_sse"]

T = TypeVar("T")

_LINGER_SECONDS = 0.05
_DRAIN_SECONDS = 1.0
_QUOTE_SECONDS = 10.0  # for the text of an answer that is no stream
_UNAUTHORIZED = 401


def answer_parts(
    request: HttpRequest, cancel: Cancellation, answer: Answer[T], decoder: Decoder[T]
) -> Generator[Part, None, None]:
    """Yield the parts that `decoder` makes of an answer's items, as `Provider.stream` has it.

    Texts that came together are joined, where the request has a pace. The answer is closed at the end. Each part is
    content: what a vendor sends without any is silence. Whatever fails is a ProviderError with the vendor's name,
    without the secrets.
    """
    try:
        with closing(answer), usage_of_failure(decoder.usage):
            for items in answer.batches():
                if not items:
                    yield NOTHING
                    continue
                parts = _checked_parts(items, decoder)
                for part in joined(parts) if request.pace() else parts:
                    answer.content_came()
                    yield part
                if decoder.complete:
                    break
            for part in decoder.finish():
                _check_texts(part)
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


def _checked_parts(items: Iterable[T], decoder: Decoder[T]) -> Iterator[Part]:
    for item in items:
        for part in decoder.read(item):
            _check_texts(part)
            yield part
        if decoder.complete:
            return


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
    last_events: Collection[str] = (),
    last_marks: Sequence[bytes] = (),
) -> Answer[ServerSentEvent]:
    """Iterate over the answer's server-sent events; one of `last_events`, or of whose data `is_last`, is the last.

    `last_marks`: what stands in the last event, so that it is read at once.
    """

    def ends(event: ServerSentEvent) -> bool:
        return event.event in last_events or is_last(event.data)

    marks = [*last_marks, *(name.encode() for name in last_events)]
    return Answer(Transfer(request, "text/event-stream", marks), request, cancel, SseEvents, ends)


def stream_lines(
    request: HttpRequest, cancel: Cancellation, *, content_type: str, last_marks: Sequence[bytes] = ()
) -> Answer[str]:
    """Iterate over the lines of an answer of `content_type`. Only a line feed ends a line, and none is empty."""
    return Answer(Transfer(request, content_type, last_marks), request, cancel, JsonLines, lambda _: False)


def stream_binary(
    request: HttpRequest,
    cancel: Cancellation,
    *,
    content_type: str,
    framing: Callable[[], Framing[ServerSentEvent]],
    is_last: Callable[[ServerSentEvent], bool],
) -> Answer[ServerSentEvent]:
    """Iterate over what `framing` makes of an answer that is no text. What its pieces may be is for it to bound."""

    def read_labelled(labelled: bool) -> Framing[ServerSentEvent]:
        return framing() if labelled else NoFraming()

    return Answer(Transfer(request, content_type), request, cancel, read_labelled, is_last, has_lines=False)


class Answer(Generic[T]):
    """The items of a vendor's answer, read while they are iterated over, once: by `batches`, or one by one.

    Raises ProviderError for whatever the vendor or the network does wrong, and beyond the request's bounds; the time
    that the reader takes between two items does not count as the vendor's silence. Ends at once when `cancel` fires;
    that, or `close`, closes the connection. `framing`: makes what splits the body, told whether the answer has the
    content type that was asked for.
    """

    def __init__(
        self,
        transfer: Transfer,
        request: HttpRequest,
        cancel: Cancellation,
        framing: Callable[[bool], Framing[T]],
        is_last: Callable[[T], bool],
        *,
        has_lines: bool = True,
    ) -> None:
        self._transfer = transfer
        self._request = request
        self._cancel = cancel
        self._new_framing = framing
        self._is_last = is_last
        self._has_lines = has_lines
        self._batches = self._iterate()
        self._waited = 0.0
        self._quoted_until: float | None = None

    def __iter__(self) -> Iterator[T]:
        return chain.from_iterable(self._batches)

    def batches(self) -> Iterator[list[T]]:
        """Iterate over lists of what came together; an empty one, where the request has a reader, before it waits."""
        return self._batches

    def close(self) -> None:
        """Read no more."""
        self._batches.close()

    def content_came(self) -> None:
        """Count the silence from here."""
        self._waited = 0.0

    def _iterate(self) -> Generator[list[T], None, None]:
        """Yield what the transfer puts into the inbox; None is the end, an exception is raised here."""
        transfer, loop = self._transfer, event_loop()
        task = submit(transfer.run())

        def stop() -> None:
            task.cancel()
            transfer.inbox.put(None)
            if self._request.reader is not None:
                self._request.reader.wake()

        remove_callback = self._cancel.on_cancel(stop)
        linger = _LINGER_SECONDS
        try:
            head = self._take()
            if isinstance(head, Head):
                yield from self._read(head)
                linger = _DRAIN_SECONDS
                loop.call_soon_threadsafe(transfer.drain)
            elif isinstance(head, Exception) and not self._cancel.cancelled:
                raise head
        finally:
            remove_callback()
            # The task has a moment to tidy the connection for its next use.
            loop.call_soon_threadsafe(loop.call_later, linger, task.cancel)

    def _read(self, head: Head) -> Generator[list[T], None, None]:
        """Yield the items of the body, up to the last or the end."""
        bounds = self._request.bounds
        line_bytes = bounds.model_line_bytes if self._has_lines else None
        body = BoundedBody(
            head.encoding, self._request.vendor, answer_bytes=bounds.model_answer_bytes, line_bytes=line_bytes
        )
        framing = self._new_framing(head.content_type == self._transfer.content_type)
        while not self._cancel.cancelled:
            yield from self._wait(quoted=framing.refused)
            received = self._take_quoted() if framing.refused else self._take()
            if isinstance(received, Exception) and not self._cancel.cancelled:
                raise received
            if self._cancel.cancelled or not isinstance(received, bytes | None):
                return
            taken_at = time.monotonic()
            items: list[T] = []
            failure: ProviderError | None = None
            is_over = received is None
            try:
                for item in framing.end() if received is None else _framed(body.feed(received), framing):
                    items.append(item)
                    if self._is_last(item):
                        is_over = True
                        break
            except NotAStreamError as error:
                failure = self._not_a_stream(head, error)
            except ProviderError as error:
                failure = error
            if items:
                yield items
            else:  # nothing for the reader: no more than silence
                self._waited += time.monotonic() - taken_at
            if failure is not None:
                raise failure
            if is_over:
                return

    def _wait(self, *, quoted: bool) -> Generator[list[T], None, None]:
        """Yield nothing until something has come, or is to be there by now, where the reader is not to be held."""
        reader = self._request.reader
        while reader is not None and self._transfer.inbox.empty() and not self._cancel.cancelled:
            began = time.monotonic()
            left = self._quote_left(began) if quoted else self._request.silence_seconds - self._waited
            if left <= 0:
                return
            reader.idle(left)
            yield []
            self._waited += time.monotonic() - began

    def _take(self) -> Head | bytes | Exception | None:
        """Take what comes next; a ProviderError where there was no content for too long."""
        request, began = self._request, time.monotonic()
        while True:
            # Until the headers have come, the connection's own timeouts say better what is wrong.
            limit = request.silence_seconds + (0.0 if self._transfer.answered else request.connect_timeout)
            waited = self._waited + time.monotonic() - began
            try:
                item = self._transfer.take(max(0.0, limit - waited))
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

    def _take_quoted(self) -> Head | bytes | Exception | None:
        """Take more of an answer that is no stream; None, as at its end, where it goes on for too long."""
        try:
            return self._transfer.take(max(0.0, self._quote_left(time.monotonic())))
        except Empty:
            return None

    def _quote_left(self, now: float) -> float:
        """Return for how many seconds more of such an answer may be read."""
        self._quoted_until = self._quoted_until or now + _QUOTE_SECONDS
        return self._quoted_until - now

    def _not_a_stream(self, head: Head, error: NotAStreamError) -> ProviderError:
        request = self._request
        error_text = vendor_message(request.redact(error.text)) or "nothing"
        return ProviderError(
            f"{request.vendor} answered with {head.content_type or 'no content type'} instead of "
            f"{self._transfer.content_type}: {error_text}",
            status=head.status,
            vendor=request.vendor,
            internal=f"check {request.endpoint.url_setting}",
        )


def _framed(pieces: Iterable[bytes], framing: Framing[T]) -> Iterator[T]:
    for piece in pieces:
        yield from framing.feed(piece)
