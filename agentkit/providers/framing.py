"""Where one item of a streamed answer ends and the next begins: server-sent events, and lines of JSON.

Many servers send other framing than their content type says, or than the format's standard: JSON in place of a stream,
`error:` lines, a byte order mark, no empty line between or after events. What can be read without doubt is read. It
knows no vendor's fields.
"""

from __future__ import annotations

import asyncio
import codecs
import json
import re
from collections.abc import AsyncIterable, AsyncIterator
from contextlib import suppress

from httpx_sse import ServerSentEvent

from agentkit.providers.json_events import is_done

__all__ = ["NotAStreamError", "json_lines", "sse_events", "text_of_body"]

_TEXT_LIMIT = 64 * 1024  # characters of an answer that is no stream
_TEXT_SECONDS = 10.0
_FIELD = re.compile(r"(data|event|id|retry|error)?:|(data|event|id|retry)$", re.IGNORECASE)
_LINE_END = re.compile(r"\r\n|\n|\r")


class NotAStreamError(Exception):
    """The answer is no stream of this kind. `text`: its beginning."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.text = text


async def sse_events(body: AsyncIterable[bytes], labelled: bool) -> AsyncIterator[ServerSentEvent]:
    """Yield the server-sent events of a body.

    JSON in place of a stream is one event, or one for each line that is an object. An `error:` line is an event of that
    name. An event without an empty line after it counts where its data is whole. `labelled`: the content type says that
    it is a stream; otherwise its first line must look like one. Raises NotAStreamError.
    """
    pieces = _split(body, _LINE_END)
    decoder = _EventDecoder()
    first = ""
    rest: list[str] = []
    async for piece in pieces:
        first, rest = _begun(piece)
        if first:
            break
    lines = _joined(rest, pieces)
    if first.startswith(("{", "[")) and not is_done(first):
        async for data in _json_values(first, lines):
            yield ServerSentEvent(data=data)
        return
    if first.startswith("<") or (first and not labelled and not _FIELD.match(first)):
        raise NotAStreamError(await _text(first, lines))
    for line in (first, *rest):
        for event in decoder.feed(line):
            yield event
    async for piece in pieces:  # and not `lines`: here every layer is passed for each token
        for line in piece:
            for event in decoder.feed(line):
                yield event
    for event in decoder.end():
        yield event


async def json_lines(body: AsyncIterable[bytes], labelled: bool) -> AsyncIterator[str]:
    """Yield the lines of a body, of which only a line feed ends one, and none is empty.

    Lines that are framed as server-sent events are taken out of that frame. Raises NotAStreamError where it is neither.
    """
    lines = _lines(body, re.compile("\n"))
    first = await _first(lines)
    if first and not labelled and not first.startswith(("{", "data:")):
        raise NotAStreamError(await _text(first, lines))
    if first.startswith("<"):
        raise NotAStreamError(await _text(first, lines))
    if line := _unframed(first):
        yield line
    async for following in lines:
        if line := _unframed(following):
            yield line


def _unframed(line: str) -> str:
    line = line.strip()
    line = line.removeprefix("data:").strip() if line.startswith("data:") else line
    return "" if is_done(line) or line.startswith(":") else line


class _EventDecoder:
    """Puts lines together to events."""

    def __init__(self) -> None:
        self._name = ""
        self._data: list[str] = []
        self._goes_on = False

    def feed(self, line: str) -> list[ServerSentEvent]:
        """Add a line; return the events that it ends, or is."""
        if not line:
            return self._dispatch()
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        match name.lower():
            case "data":
                ended = self._end_before(value)
                self._data.append(value)
                return ended
            case "event":
                ended = self._dispatch() if self._is_whole() else []
                self._name = value
                return ended
            case "error":
                return [*self._end_before("{"), ServerSentEvent(event="error", data=value)]
        return []

    def end(self) -> list[ServerSentEvent]:
        """Return the last event, which nothing ended, where its data is whole."""
        return self._dispatch() if self._is_whole() else []

    def _end_before(self, value: str) -> list[ServerSentEvent]:
        """End the event where another follows without an empty line: looked at once, since data may have many lines."""
        if not self._data or self._goes_on or not (value.startswith("{") or is_done(value)):
            return []
        if self._is_whole():
            return self._dispatch()
        self._goes_on = True
        return []

    def _is_whole(self) -> bool:
        data = "\n".join(self._data)
        if not data or is_done(data):
            return bool(data)
        try:
            json.loads(data)
        except (ValueError, RecursionError):
            return False
        return True

    def _dispatch(self) -> list[ServerSentEvent]:
        data, name = self._data, self._name
        self._data, self._name, self._goes_on = [], "", False
        return [ServerSentEvent(event=name or "message", data="\n".join(data))] if data else []


async def _json_values(first: str, lines: AsyncIterator[str]) -> AsyncIterator[str]:
    """Yield each line where the first is JSON by itself, else the whole."""
    try:
        json.loads(first)
    except (ValueError, RecursionError):
        rest = [line async for line in lines]
        yield "\n".join([first, *rest])
        return
    yield first
    async for line in lines:
        if line.strip():
            yield line


async def _first(lines: AsyncIterator[str]) -> str:
    """Return the first line that is not empty, without a byte order mark and blanks before it."""
    async for line in lines:
        if text := _begun([line])[0]:
            return text
    return ""


def _begun(lines: list[str]) -> tuple[str, list[str]]:
    """Find the first line that is not empty, without a byte order mark and blanks before it, and those after it."""
    for place, line in enumerate(lines):
        if text := line.lstrip("\ufeff \t"):
            return text, lines[place + 1 :]
    return "", []


async def _joined(lines: list[str], pieces: AsyncIterator[list[str]]) -> AsyncIterator[str]:
    for line in lines:
        yield line
    async for piece in pieces:
        for line in piece:
            yield line


async def text_of_body(body: AsyncIterable[bytes]) -> str:
    """Return the beginning of a body that should be read as a text."""
    return await _text("", _lines(body, re.compile("\n")))


async def _text(first: str, lines: AsyncIterator[str]) -> str:
    """Return the beginning of an answer that is no stream."""
    found, size = [first], len(first)
    with suppress(TimeoutError):
        async with asyncio.timeout(_TEXT_SECONDS):
            async for line in lines:
                found.append(line)
                size += len(line)
                if size > _TEXT_LIMIT:
                    break
    return "\n".join(found)[:_TEXT_LIMIT]


def _lines(body: AsyncIterable[bytes], end: re.Pattern[str]) -> AsyncIterator[str]:
    return _joined([], _split(body, end))


async def _split(body: AsyncIterable[bytes], end: re.Pattern[str]) -> AsyncIterator[list[str]]:
    """Yield the lines that each piece of a body ends, and the last. The body is UTF-8, whatever the header says.

    Not httpx's lines: those also end at U+2028 and others, which JSON allows inside strings.
    """
    decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
    begun: list[str] = []  # the pieces of the line so far: adding them up each time takes long where lines are
    after_return = False
    async for piece in body:
        text = decoder.decode(piece)
        if not text:
            continue
        if after_return and text.startswith("\n") and end is _LINE_END:
            text = text[1:]
        after_return = text.endswith("\r") if text else False
        *whole, last = end.split(text)
        if whole and begun:
            whole[0] = "".join([*begun, whole[0]])
            begun = []
        if last:
            begun.append(last)
        if whole:
            yield whole
    if rest := "".join([*begun, decoder.decode(b"", final=True)]):
        yield [rest]
