"""Google's generateContent, as the Gemini API and Vertex AI stream it.

`build_request` (of `google_request`) and `ChunkDecoder` are pure; `GoogleProvider` joins them to HTTP.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import quote, urlsplit, urlunsplit

from httpx_sse import ServerSentEvent

from agentkit.core.cancellation import Cancellation
from agentkit.core.messages import Json, StopReason, Usage
from agentkit.errors import ProviderError
from agentkit.providers.connection import Endpoint
from agentkit.providers.counts import token_count
from agentkit.providers.decoding import decoded
from agentkit.providers.failures import stream_error
from agentkit.providers.finish_reasons import End, end_of
from agentkit.providers.google_request import API, TIMEOUTS, build_request
from agentkit.providers.http import HttpRequest, answer_parts, stream_sse
from agentkit.providers.json_events import DONE_MARKS, is_done, json_objects
from agentkit.providers.protocol import BlockEnd, Finish, ModelRequest, Part, TextDelta, ThinkingDelta, ToolCallDelta

__all__ = ["ChunkDecoder", "GoogleProvider", "build_request", "decode"]

_DEFAULT_URL = "https://generativelanguage.googleapis.com"
_KEY_SETTING = "GEMINI_API_KEY"
_OTHER_KEY_SETTING = "GOOGLE_API_KEY"
_VERSION = re.compile(r"/v\d\w*(/|$)")
_DEFAULT_VERSION = "v1beta"
_ACCESS_TOKEN = "ya29."
"""Begins the access tokens of Google Cloud; API keys have other beginnings."""


class GoogleProvider:
    """Models of Google's, by the Gemini API or by a server that speaks its wire.

    `name`: the part before the colon of its models' names. `url`: the base URL, where the environment variable
    `url_setting` has none; where it names no version of the API, `v1beta` is added. `key_setting`: the environment
    variable that holds the API key; in front of GEMINI_API_KEY stands GOOGLE_API_KEY, as in Google's own libraries.
    They are read at each call, unless the agent declares its own. An access token of Google Cloud does for a key.

    The model options `connect_timeout` and `read_timeout` (seconds) are ours; the others are described with
    `build_request`.
    """

    api = API

    def __init__(
        self,
        name: str = "google",
        *,
        url: str = _DEFAULT_URL,
        key_setting: str = _KEY_SETTING,
        url_setting: str = "GOOGLE_GEMINI_BASE_URL",
    ) -> None:
        self.name = name
        self._url = url
        self._key_setting = key_setting
        self._url_setting = url_setting

    def stream(self, request: ModelRequest, cancel: Cancellation) -> Iterator[Part]:
        """Call the model, as `Provider.stream` has it."""
        call = self._call(request)
        answer = stream_sse(call, cancel, is_last=is_done, last_marks=DONE_MARKS)
        yield from answer_parts(call, cancel, answer, ChunkDecoder(self.name))

    def _call(self, request: ModelRequest) -> HttpRequest:
        key_setting = self._key_setting
        if key_setting == _KEY_SETTING and os.environ.get(_OTHER_KEY_SETTING, "").strip():
            key_setting = _OTHER_KEY_SETTING
        endpoint = request.connection.endpoint(
            self.name, url=self._url, url_setting=self._url_setting, key_setting=key_setting
        )
        if endpoint.url.rstrip("/") == _DEFAULT_URL:
            endpoint.require_key(self.name)
        return self._request(request, endpoint, endpoint.url, _credential(endpoint))

    def _request(self, request: ModelRequest, endpoint: Endpoint, url: str, headers: dict[str, str]) -> HttpRequest:
        """Make the HTTP request. `url`: below which the models are."""
        timeouts = {name: request.options[name] for name in TIMEOUTS if name in request.options}
        return HttpRequest(
            vendor=self.name,
            url=_with_method(url, request.model),
            body=build_request(request, self.name),
            headers=headers,
            endpoint=endpoint,
            bounds=request.bounds,
            pace=request.pace,
            reader=request.reader,
            **timeouts,
        )


def _with_method(base: str, model: str) -> str:
    """Return the URL of the model's streaming method. A model with a slash, say of tunedModels, has its own path."""
    try:
        url = urlsplit(base)
    except ValueError:
        return base  # the HTTP client says what is wrong with it
    path = url.path.rstrip("/")
    if not _VERSION.search(path):
        path += f"/{_DEFAULT_VERSION}"
    name = quote(model if "/" in model else f"models/{model}", safe="/-._~@")
    query = "&".join(filter(None, [url.query, "alt=sse"]))
    return urlunsplit(url._replace(path=f"{path}/{name}:streamGenerateContent", query=query))


def _credential(endpoint: Endpoint) -> dict[str, str]:
    """Return the header that carries the key, or an access token of Google Cloud."""
    if endpoint.key.startswith(_ACCESS_TOKEN):
        return {"authorization": f"Bearer {endpoint.key}"}
    return {"x-goog-api-key": endpoint.key} if endpoint.key else {}


# -- the answer

_ENDS: dict[str, End] = {
    "CONTINUATION": "length",
    "ESCALATION": "filtered",
    "MODEL_ARMOR": "filtered",
    "PUP_LIMITED_DISABLED": "filtered",  # the account is limited for what it asked before
}
"""Finish reasons whose words do not show what they mean."""
_NO_REASON = "FINISH_REASON_UNSPECIFIED"
_MISSING_SIGNATURE = "MISSING_THOUGHT_SIGNATURE"
_SHOWN = ("citationMetadata", "groundingMetadata", "urlContextMetadata")
"""What Google adds to an answer for people to see."""
_OF_TEXT = ("text", "thought", "thoughtSignature", "partMetadata")
"""The fields of a part that is a text, or a signature alone."""


def decode(events: Iterable[ServerSentEvent], vendor: str) -> Iterator[Part]:
    """Yield the parts of a whole event stream. Raises ProviderError for an error in it, and where it is cut short."""
    return decoded(events, ChunkDecoder(vendor))


class ChunkDecoder:
    """Turns the chunks of one answer into parts. `finish()` is due when there are no more chunks.

    Any part of Google's may be signed, and wants to go back as it came: not joined to others, and in its place. So the
    data of a text block names the signed pieces of its text, `signed: [[start, end, signature]]` in characters, and
    parts that are neither text nor calls, say of tools that Google runs, are the data of a text block without text,
    `parts`. Both are known when the block ends.
    """

    complete = False  # the end of the stream says when all was read

    def __init__(self, vendor: str = "google") -> None:
        self._vendor = vendor
        self._model: str | None = None
        self._usage: Json = {}
        self._reason: str | None = None
        self._reason_message = ""
        self._calls = 0
        self._has_content = False
        self._in_text = False
        self._length = 0  # characters of the text block that is open
        self._signed: list[list[Any]] = []
        self._others: list[Json] = []
        self._data: Json = {}

    def read(self, event: ServerSentEvent) -> Iterator[Part]:
        """Yield the parts of one event."""
        for name, chunk in json_objects(event, self._vendor):
            if name == "error":
                raise stream_error(self._vendor, chunk.get("error", chunk))
            yield from self.feed(chunk)

    def feed(self, chunk: Json) -> list[Part]:
        """Return the parts of one chunk. Raises ProviderError where it carries an error, or the prompt was blocked."""
        if problem := chunk.get("error"):
            raise stream_error(self._vendor, problem)
        with self._known_shapes():
            return self._chunk(chunk)

    def usage(self) -> Usage:
        """Return what the vendor has counted so far."""
        return _usage(self._usage)

    def finish(self) -> list[Part]:
        """Return the last parts. Raises ProviderError where the answer is not complete, failed, or was filtered."""
        whole: StopReason = "toolUse" if self._calls else "stop"  # Google says STOP after calls too
        stop_reason: StopReason = "length" if self._end() == "length" else whole
        if not self._is_answer():
            return [Finish(stop_reason, self.usage(), self._model)]  # a signature alone says nothing
        return [*self._settled(), Finish(stop_reason, self.usage(), self._model, self._data or None)]

    def _is_answer(self) -> bool:
        """Whether there is a text, a call, or what a tool of Google's did."""
        return self._has_content or self._calls > 0

    @contextmanager
    def _known_shapes(self) -> Iterator[None]:
        try:
            yield
        except (AttributeError, TypeError) as error:
            message = f"{self._vendor} sent a chunk of an unknown shape: {error}"
            raise ProviderError(message, vendor=self._vendor) from error

    def _end(self) -> End:
        """Return what the finish reason means. Raises ProviderError where it is no end of an answer."""
        if self._reason is None:
            message = f"{self._vendor}: the stream ended before the answer was complete"
            raise ProviderError(message, retryable=True, vendor=self._vendor)
        end = _ENDS.get(self._reason) or end_of(self._reason)
        named = f"finish reason {self._reason[:100]!r}" + (f": {self._reason_message}" if self._reason_message else "")
        if end == "filtered":
            message = f"{self._vendor}: the answer was content filtered ({named})"
            raise ProviderError(message[:1000], vendor=self._vendor)
        if end == "failed" or (end == "unknown" and not self._is_answer()):
            failure = stream_error(self._vendor, named)
            failure.retryable = failure.retryable and self._reason != _MISSING_SIGNATURE
            raise failure
        return end

    def _chunk(self, chunk: Json) -> list[Part]:
        model = chunk.get("modelVersion")
        self._model = model if isinstance(model, str) and model else self._model
        self._count(chunk.get("usageMetadata"))
        feedback = chunk.get("promptFeedback") or {}
        if reason := feedback.get("blockReason"):
            raise self._blocked(str(reason), feedback.get("blockReasonMessage"))
        parts: list[Part] = []
        for candidate in chunk.get("candidates") or ():
            if candidate.get("index") not in (None, 0, "0"):
                continue  # another of several answers (`candidateCount`): only the first is ours
            self._note_end(candidate)
            for name in _SHOWN:
                if isinstance(shown := candidate.get(name), dict) and shown:
                    self._data[name] = {**self._data.get(name, {}), **shown}
            content = candidate.get("content") or {}
            for part in content.get("parts") or ():
                parts += self._part(part)
        return parts

    def _blocked(self, reason: str, message: Any) -> ProviderError:
        detail = f": {message}" if isinstance(message, str) and message else ""
        text = f"{self._vendor}: the prompt was content filtered (block reason {reason[:100]!r}{detail})"
        return ProviderError(text[:1000], vendor=self._vendor)

    def _count(self, usage: Any) -> None:
        """Note counts, which grow from chunk to chunk; some chunks leave out or repeat as 0 what others have."""
        if isinstance(usage, dict):
            self._usage |= {name: count for name, count in usage.items() if count or name not in self._usage}

    def _note_end(self, candidate: Json) -> None:
        """Note the finish reason, which some servers send with each chunk: it is not the end of the stream."""
        reason = candidate.get("finishReason")
        if isinstance(reason, str) and reason and reason != _NO_REASON and self._reason in (None, "STOP"):
            self._reason = reason
            message = candidate.get("finishMessage")
            self._reason_message = message[:500] if isinstance(message, str) else ""

    def _part(self, part: Json) -> list[Part]:
        text, signature = part.get("text"), part.get("thoughtSignature")
        signature = signature if isinstance(signature, str) and signature else None
        if call := part.get("functionCall"):
            return [*self._settled(), self._call(call, signature)]
        if any(value is not None and name not in _OF_TEXT for name, value in part.items()):
            ended = [] if self._others else self._settled()
            self._has_content = True
            self._others.append(part)
            return ended
        if not text and signature is None:
            return []
        if part.get("thought") is True:
            return [*self._settled(), ThinkingDelta(text or "", signature)]
        return self._text(text or "", signature)

    def _text(self, text: str, signature: str | None) -> list[Part]:
        ended = [] if self._in_text else self._settled()
        self._in_text = True
        start, self._length = self._length, self._length + len(text)
        if signature:
            self._signed.append([start, self._length, signature])
        self._has_content = self._has_content or bool(text)
        return [*ended, TextDelta(text)] if text else ended

    def _settled(self) -> list[Part]:
        """Return what the text block that ends here carries, or the block that stands for parts without text."""
        parts: list[Part] = []
        if self._signed:
            parts = [TextDelta("", {"signed": self._signed})]
        if self._others:
            parts = [BlockEnd(), TextDelta("", {"parts": self._others}), BlockEnd()]
        self._in_text, self._length, self._signed, self._others = False, 0, [], []
        return parts

    def _call(self, call: Json, signature: str | None) -> ToolCallDelta:
        if call.get("partialArgs") or call.get("willContinue"):
            raise ProviderError(
                f"{self._vendor} sends the arguments of a call in pieces, which are not read",
                vendor=self._vendor,
                internal="leave streamFunctionCallArguments out of the model options",
            )
        arguments, call_id = call.get("args"), str(call.get("id") or "")
        if not isinstance(arguments, str):
            arguments = json.dumps({} if arguments is None else arguments, ensure_ascii=False)
        data: Json = {"id": call_id} if call_id else {}
        if signature:
            data["thoughtSignature"] = signature
        index, self._calls = self._calls, self._calls + 1
        return ToolCallDelta(index, call_id, str(call.get("name") or ""), arguments, data or None)


def _usage(counts: Json) -> Usage:
    """Convert the counts: Google's prompt count includes what was read from a cache, ours does not.

    Thoughts are counted beside the answer, and are a part of what it costs; so is what only the total has.
    """
    prompt = token_count(counts.get("promptTokenCount")) + token_count(counts.get("toolUsePromptTokenCount"))
    cached = min(token_count(counts.get("cachedContentTokenCount")), prompt)
    answer = token_count(counts.get("candidatesTokenCount")) + token_count(counts.get("thoughtsTokenCount"))
    beyond = token_count(counts.get("totalTokenCount")) - prompt - answer
    return Usage.of(
        input=prompt - cached, output=answer + (max(0, beyond) if prompt else 0), cache_read=cached, cache_write=0
    )
