"""The answer of OpenAI's chat completions, as OpenAI and the many servers that speak the same wire send it.

What they answer differs in small ways that only this module and its helpers know, each noted where it is met. No table
of vendors is needed: the decoder takes all of it. Pure.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Literal

import msgspec
from httpx_sse import ServerSentEvent

from agentkit.core.messages import Json, StopReason, Usage
from agentkit.errors import ProviderError
from agentkit.providers.counts import token_count
from agentkit.providers.decoding import decoded
from agentkit.providers.failures import stream_error
from agentkit.providers.finish_reasons import end_of
from agentkit.providers.json_events import is_done, json_objects
from agentkit.providers.openai_calls import ToolCalls
from agentkit.providers.openai_problems import problem_of
from agentkit.providers.openai_reasoning import ReasoningDetails, thinking_of
from agentkit.providers.protocol import Finish, Part, TextDelta, ThinkingDelta

__all__ = ["ChunkDecoder", "decode"]

_SHOWN = ("citations", "search_results", "annotations", "references", "images")
"""Lists that vendors add to an answer, for people to see."""
_CONTENT = {"images", "audio"}
"""What is an answer without words. A signature, sources or encrypted reasoning alone are none."""


class _PlainDelta(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    content: str
    role: Any = None


class _PlainChoice(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    delta: _PlainDelta
    index: Literal[0]
    finish_reason: None = None
    logprobs: msgspec.Raw = msgspec.Raw()


class _PlainChunk(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    """A chunk that brings a text and nothing else, as almost all are: what else it may have says nothing."""

    choices: tuple[_PlainChoice]
    model: str
    object: Literal["chat.completion.chunk"]
    created: Any = None
    id: Any = None
    obfuscation: Any = None
    service_tier: Any = None
    system_fingerprint: Any = None
    usage: None = None


_plain_decoder = msgspec.json.Decoder(_PlainChunk)


def decode(events: Iterable[ServerSentEvent], vendor: str) -> Iterator[Part]:
    """Yield the parts of a whole event stream. Raises ProviderError for an error in it, and where it is cut short."""
    return decoded(events, ChunkDecoder(vendor))


class ChunkDecoder:
    """Turns the chunks of one answer into parts. `finish()` is due when there are no more chunks.

    `ended`: the server has said that there are no more.
    """

    complete = False  # the end of the stream says when all was read

    def __init__(self, vendor: str = "openai") -> None:
        self.ended = False
        self._vendor = vendor
        self._model: str | None = None
        self._usage: Json = {}
        self._reason: str | None = None
        self._calls = ToolCalls()
        self._texts: list[str] = []
        self._thoughts: list[str] = []
        self._message_calls: list[Any] = []
        self._details = ReasoningDetails()
        self._data: Json = {}

    def read(self, event: ServerSentEvent) -> Iterable[Part]:
        """Return the parts of one event."""
        if self._model is not None and (text := _plain_text(event, self._model)):
            return (self._text(text),)
        return self._read(event)

    def _read(self, event: ServerSentEvent) -> Iterator[Part]:
        self.ended = self.ended or is_done(event.data)
        for name, chunk in json_objects(event, self._vendor):
            if name == "error":
                raise stream_error(self._vendor, chunk.get("error", chunk))
            yield from self.feed(chunk)

    def feed(self, chunk: Json) -> list[Part]:
        """Return the parts of one chunk. Raises ProviderError where it carries an error."""
        if problem := problem_of(chunk):
            raise stream_error(self._vendor, problem)
        with self._known_shapes():
            return self._parts(chunk)

    def usage(self) -> Usage:
        """Return what the vendor has counted so far."""
        return _usage(self._usage)

    def finish(self) -> list[Part]:
        """Return the last parts. Raises ProviderError where the answer is not complete, failed, or was filtered."""
        parts: list[Part] = []
        if not self._calls.any:
            with self._known_shapes():
                parts += [part for call in self._message_calls for part in self._calls.feed(call)]
        # Tool calls count more than the reason: some servers say `stop` after them, and some `tool_calls` without any.
        whole: StopReason = "toolUse" if self._calls.any else "stop"
        stop_reason: StopReason = "length" if self._end(bool(parts)) == "length" else whole
        if self._details.blocks:
            self._data["reasoning_details"] = self._details.blocks
        shown = self._texts or self._thoughts or self._calls.any or self._data.keys() & _CONTENT
        data = self._data if shown and self._data else None
        return [*parts, Finish(stop_reason, _usage(self._usage), self._model, data)]

    @contextmanager
    def _known_shapes(self) -> Iterator[None]:
        try:
            yield
        except (AttributeError, TypeError) as error:
            message = f"{self._vendor} sent a chunk of an unknown shape: {error}"
            raise ProviderError(message, vendor=self._vendor) from error

    def _end(self, has_calls: bool) -> str:
        """Return what the finish reason means. Raises ProviderError where it is no end of an answer."""
        if self._reason is None:
            # Some servers never give a reason. The end of the stream alone would be no proof, but what counts was sent.
            if self.ended and (self._calls.whole or (self._texts and any(map(token_count, self._usage.values())))):
                return "whole"
            message = f"{self._vendor}: the stream ended before the answer was complete"
            raise ProviderError(message, retryable=True, vendor=self._vendor)
        end, named = end_of(self._reason), f"finish reason {self._reason[:100]!r}"
        if end == "filtered":
            detail = "" if self._reason == "content_filter" else f" ({named})"
            raise ProviderError(f"{self._vendor}: the answer was content filtered{detail}", vendor=self._vendor)
        if end == "failed" or (end == "unknown" and not (self._texts or self._calls.any or has_calls)):
            raise stream_error(self._vendor, named)
        return end

    def _parts(self, chunk: Json) -> list[Part]:
        model = chunk.get("model")
        self._model = model if isinstance(model, str) and model else self._model
        # Usage comes in a chunk of its own, in the finishing chunk, under x_groq (Groq) or in the choice (Moonshot).
        self._count(chunk.get("usage"))
        self._count(_object(chunk.get("x_groq")).get("usage"))
        self._show(chunk)
        parts: list[Part] = []
        for choice in chunk.get("choices") or ():  # empty in Azure's first chunk and in the one with the usage
            if choice.get("index") not in (None, 0, "0"):
                continue  # another of several answers (`n`): only the first is ours
            if problem := choice.get("error"):
                raise stream_error(self._vendor, problem)
            self._count(choice.get("usage"))
            reason = choice.get("finish_reason")
            self._reason = reason if isinstance(reason, str) and reason else self._reason
            parts += self._delta(choice.get("delta") or {})
            if message := choice.get("message"):
                parts += self._message(message)
        return parts

    def _count(self, usage: Any) -> None:
        """Note counts. Those that are nothing do not take the place of others: some servers repeat them as 0."""
        if isinstance(usage, dict):
            self._usage |= {name: count for name, count in usage.items() if count or name not in self._usage}

    def _show(self, holder: Json) -> None:
        """Keep the lists that vendors add for people. One that repeats takes the place of its beginning."""
        for name in _SHOWN:
            value = holder.get(name)
            if isinstance(value, list) and value:
                known = self._data.get(name, [])
                self._data[name] = value if value[: len(known)] == known else [*known, *value]

    def _delta(self, delta: Json) -> list[Part]:
        parts: list[Part] = []
        self._details.feed(delta.get("reasoning_details"))
        self._show(delta)
        extra = delta.get("extra_content")
        if isinstance(extra, dict) and extra:
            self._data["extra_content"] = {**self._data.get("extra_content", {}), **extra}
        if thinking := thinking_of(delta):
            parts.append(self._thinking(thinking))
        if _is_thought(extra):  # Gemini's summaries of its thoughts
            parts += [self._thinking(text) for kind, text in _content(delta.get("content")) if kind != "reference"]
        else:
            parts += self._contents(delta.get("content"))
        parts += self._spoken(delta.get("audio"))
        if refusal := delta.get("refusal"):
            parts.append(self._text(refusal))
        calls = delta.get("tool_calls") or ()
        for piece in [calls] if isinstance(calls, dict) else calls:
            parts += self._calls.feed(piece)
        if function := delta.get("function_call"):  # how calls were spelled before `tool_calls`
            parts += self._calls.feed({"index": 0, "function": function})
        return parts

    def _message(self, message: Json) -> list[Part]:
        """Read a message in place of a delta: whole where a server does not stream, or as far as it has come."""
        parts: list[Part] = []
        if not self._details.blocks:
            self._details.feed(message.get("reasoning_details"))
        self._show(message)
        if thinking := _rest(thinking_of(message), self._thoughts):
            parts.append(self._thinking(thinking))
        contents = _content(message.get("content"))
        thoughts = "".join(text for kind, text in contents if kind == "thinking")
        if thinking := _rest(thoughts, self._thoughts):
            parts.append(self._thinking(thinking))
        text = "".join(text for kind, text in contents if kind == "text") or message.get("refusal") or ""
        if rest := _rest(text, self._texts):
            parts.append(self._text(rest))
        calls = message.get("tool_calls") or [{"function": call} for call in [message.get("function_call")] if call]
        self._message_calls = calls if isinstance(calls, list) else [calls]
        return parts

    def _contents(self, content: Any) -> list[Part]:
        parts: list[Part] = []
        for kind, text in _content(content):
            parts.append(self._thinking(text) if kind == "thinking" else self._text(text))
        return parts

    def _spoken(self, audio: Any) -> list[Part]:
        """Read the sound of an answer: its words are the text, and its id names it. The sound itself is left out."""
        if not isinstance(audio, dict):
            return []
        known = {key: audio[key] for key in ("id", "expires_at") if audio.get(key)}
        if known:
            self._data["audio"] = {**self._data.get("audio", {}), **known}
        transcript = audio.get("transcript")
        return [self._text(transcript)] if isinstance(transcript, str) and transcript else []

    def _text(self, text: str) -> TextDelta:
        self._texts.append(text)
        return TextDelta(text)

    def _thinking(self, text: str) -> ThinkingDelta:
        self._thoughts.append(text)
        return ThinkingDelta(text)


def _plain_text(event: ServerSentEvent, model: str) -> str | None:
    """Return the text of a plain chunk of this model: in C, and all at once. None where there is more to read."""
    try:
        chunk = _plain_decoder.decode(event.data)
    except (msgspec.DecodeError, RecursionError):
        return None
    return chunk.choices[0].delta.content if chunk.model == model and event.event != "error" else None


def _rest(text: str, sent: list[str]) -> str:
    """Return what a message's text has beyond the pieces that came before; all of it where it does not repeat them."""
    before = "".join(sent)
    if text.startswith(before):
        return text[len(before) :]
    return "" if before.startswith(text) or before.endswith(text) else text


def _is_thought(extra: Any) -> bool:
    google = extra.get("google") if isinstance(extra, dict) else None
    return isinstance(google, dict) and google.get("thought") is True


def _content(content: Any) -> list[tuple[str, str]]:
    """Read a content: a text, or (Mistral) a list of texts and thinking. Returns each with its kind, none empty."""
    if isinstance(content, str):
        return [("text", content)] if content else []
    found: list[tuple[str, str]] = []
    for entry in [content] if isinstance(content, dict) else content or ():
        if isinstance(entry, str):
            found.append(("text", entry))
        elif entry.get("type") in ("thinking", "reasoning"):
            found.append(("thinking", thinking_of(entry) or thinking_of({"thinking": entry.get("text")})))
        elif isinstance(entry.get("text"), str):
            found.append(("text", entry["text"]))
    return [(kind, text) for kind, text in found if text]


def _usage(usage: Json) -> Usage:
    """Convert the counts: the vendor's prompt count includes what it read from and wrote to a cache, ours does not."""
    details = _object(usage.get("prompt_tokens_details") or usage.get("input_tokens_details"))
    hits = usage.get("prompt_cache_hit_tokens") or usage.get("cached_tokens")
    cache_read = token_count(details.get("cached_tokens")) or token_count(hits)
    cache_write = token_count(details.get("cache_write_tokens"))
    prompt = token_count(usage.get("prompt_tokens")) or token_count(usage.get("input_tokens"))
    answer = token_count(usage.get("completion_tokens")) or token_count(usage.get("output_tokens"))
    beyond = token_count(usage.get("total_tokens")) - prompt - answer
    thought = _object(usage.get("completion_tokens_details") or usage.get("output_tokens_details"))
    reasoning = token_count(thought.get("reasoning_tokens")) or token_count(usage.get("reasoning_tokens"))
    cached_beside = 0 < cache_read + cache_write == beyond and reasoning != beyond
    if beyond > 0 and not cached_beside:
        answer += beyond  # xAI and Gemini count reasoning beside the answer, and in the total
    elif reasoning > answer:
        answer += reasoning
    return Usage.of(
        input=prompt if cached_beside else max(0, prompt - cache_read - cache_write),
        output=answer,
        cache_read=cache_read,
        cache_write=cache_write,
    )


def _object(value: Any) -> Json:
    return value if isinstance(value, dict) else {}
