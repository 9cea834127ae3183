"""Where one item of a streamed answer ends and the next begins: server-sent events, and lines of JSON.

Many servers send other framing than their content type says, or than the format's standard: JSON in place of a stream,
`error:` lines, a byte order mark, no empty line between or after events. What can be read without doubt is read. It
knows no vendor's fields, and does no I/O: it is fed the body in pieces, which may be cut anywhere.
"""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Callable, Iterable, Iterator
from typing import Protocol, TypeVar

from httpx_sse import ServerSentEvent

from agentkit.providers.json_events import is_done

__all__ = ["Framing", "JsonLines", "NoFraming", "NotAStreamError", "SseEvents"]

T_co = TypeVar("T_co", covariant=True)

_TEXT_LIMIT = 64 * 1024  # characters of an answer that is no stream
_FIELD = re.compile(r"(data|event|id|retry|error)?:|(data|event|id|retry)$", re.IGNORECASE)
_LINE_END = re.compile(r"\r\n|\n|\r")


class NotAStreamError(Exception):
    """The answer is no stream of this kind. `text`: its beginning."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.text = text


class Framing(Protocol[T_co]):
    """Splits one body into items.

    `refused`: it is no stream of this kind; a little more is read to quote it, then NotAStreamError is raised.
    """

    @property
    def refused(self) -> bool: ...

    def feed(self, piece: bytes) -> Iterable[T_co]:
        """Yield the items that a piece of the body ends. Raises NotAStreamError."""
        ...

    def end(self) -> Iterable[T_co]:
        """Yield what the end of the body ends. Raises NotAStreamError."""
        ...


class _Text:
    """The beginning of an answer that is no stream."""

    def __init__(self) -> None:
        self._lines: list[str] = []
        self._size = 0

    def add(self, lines: list[str]) -> None:
        """Keep lines. Raises NotAStreamError when there are enough."""
        self._lines += lines
        self._size += sum(map(len, lines))
        if self._size > _TEXT_LIMIT:
            raise self.error()

    def error(self) -> NotAStreamError:
        return NotAStreamError("\n".join(self._lines)[:_TEXT_LIMIT])


class SseEvents:
    """The server-sent events of a body.

    JSON in place of a stream is one event, or one for each line that is an object. An `error:` line is an event of that
    name. An event without an empty line after it counts where its data is whole. `labelled`: the content type says that
    it is a stream; otherwise its first line must look like one.
    """

    def __init__(self, labelled: bool) -> None:
        self._labelled = labelled
        self._lines = _Lines()
        self._read: Callable[[list[str]], Iterator[ServerSentEvent]] = self._begin
        self._decoder = _EventDecoder()
        self._text: _Text | None = None
        self._json: list[str] = []

    @property
    def refused(self) -> bool:
        return self._text is not None

    def feed(self, piece: bytes) -> Iterator[ServerSentEvent]:
        return self._read(self._lines.feed(piece))

    def end(self) -> Iterator[ServerSentEvent]:
        yield from self._read(self._lines.end())
        if self._text is not None:
            raise self._text.error()
        if self._json:
            yield ServerSentEvent(data="\n".join(self._json))
        yield from self._decoder.end()

    def _begin(self, lines: list[str]) -> Iterator[ServerSentEvent]:
        first, rest = _begun(lines)
        if not first:
            return
        if first.startswith(("{", "[")) and not is_done(first):
            self._read = self._json_values if _is_json(first) else self._json_text
        elif first.startswith("<") or (not self._labelled and not _FIELD.match(first)):
            self._text = _Text()
            self._read = self._quote
        else:
            self._read = self._decoder.feed
        yield from self._read([first, *rest])

    def _quote(self, lines: list[str]) -> Iterator[ServerSentEvent]:
        assert self._text is not None
        self._text.add(lines)
        yield from ()

    def _json_values(self, lines: list[str]) -> Iterator[ServerSentEvent]:
        """Each line is JSON by itself."""
        for line in lines:
            if line.strip():
                yield ServerSentEvent(data=line)

    def _json_text(self, lines: list[str]) -> Iterator[ServerSentEvent]:
        """The whole is JSON."""
        self._json += lines
        yield from ()


class JsonLines:
    """The lines of a body, of which only a line feed ends one, and none is empty.

    Lines that are framed as server-sent events are taken out of that frame. `labelled`: as for SseEvents.
    """

    def __init__(self, labelled: bool) -> None:
        self._labelled = labelled
        self._lines = _Lines(by_feeds=True)
        self._text: _Text | None = None
        self._has_begun = False

    @property
    def refused(self) -> bool:
        return self._text is not None

    def feed(self, piece: bytes) -> Iterator[str]:
        yield from self._read(self._lines.feed(piece))

    def end(self) -> Iterator[str]:
        yield from self._read(self._lines.end())
        if self._text is not None:
            raise self._text.error()

    def _read(self, lines: list[str]) -> Iterator[str]:
        if not self._has_begun:
            first, rest = _begun(lines)
            if not first:
                return
            self._has_begun, lines = True, [first, *rest]
            if first.startswith("<") or (not self._labelled and not first.startswith(("{", "data:"))):
                self._text = _Text()
        if self._text is not None:
            self._text.add(lines)
            return
        for line in lines:
            if unframed := _unframed(line):
                yield unframed


class NoFraming:
    """A body of another content type than was asked for, which is to be quoted as a text."""

    def __init__(self) -> None:
        self._lines = _Lines(by_feeds=True)
        self._text = _Text()
        self.refused = True

    def feed(self, piece: bytes) -> Iterable[ServerSentEvent]:
        self._text.add(self._lines.feed(piece))
        return ()

    def end(self) -> Iterable[ServerSentEvent]:
        self._text.add(self._lines.end())
        raise self._text.error()


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

    def feed(self, lines: list[str]) -> Iterator[ServerSentEvent]:
        """Add lines; yield the events that they end, or are."""
        for line in lines:
            if line.startswith("data: ") and not self._data:  # almost all are that, or empty
                self._data.append(line[6:])
            elif line:
                yield from self._field(line)
            elif self._data or self._name:
                yield from self._dispatch()

    def _field(self, line: str) -> list[ServerSentEvent]:
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
        return bool(data) and (is_done(data) or _is_json(data))

    def _dispatch(self) -> list[ServerSentEvent]:
        data, name = self._data, self._name
        self._data, self._name, self._goes_on = [], "", False
        return [ServerSentEvent(event=name or "message", data="\n".join(data))] if data else []


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True


def _begun(lines: list[str]) -> tuple[str, list[str]]:
    """Find the first line that is not empty, without a byte order mark and blanks before it, and those after it."""
    for place, line in enumerate(lines):
        if text := line.lstrip("\ufeff \t"):
            return text, lines[place + 1 :]
    return "", []


class _Lines:
    """The lines of a body, which is UTF-8 whatever the header says. `by_feeds`: only a line feed ends one.

    Not httpx's lines: those also end at U+2028 and others, which JSON allows inside strings.
    """

    def __init__(self, *, by_feeds: bool = False) -> None:
        self._by_feeds = by_feeds
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        self._begun: list[str] = []  # the pieces of the line so far: adding up each time takes long where lines are
        self._after_return = False

    def feed(self, piece: bytes) -> list[str]:
        """Return the lines that a piece ends."""
        text = self._decoder.decode(piece)
        if not text:
            return []
        if self._by_feeds or ("\r" not in text and not self._after_return):
            *whole, last = text.split("\n")
        else:
            if self._after_return and text.startswith("\n"):
                text = text[1:]
            self._after_return = text.endswith("\r")
            *whole, last = _LINE_END.split(text)
        if whole and self._begun:
            whole[0] = "".join([*self._begun, whole[0]])
            self._begun = []
        if last:
            self._begun.append(last)
        return whole

    def end(self) -> list[str]:
        """Return the last line, which nothing ended."""
        rest, self._begun = "".join([*self._begun, self._decoder.decode(b"", final=True)]), []
        return [rest] if rest else []
