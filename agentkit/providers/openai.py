"""OpenAI's chat completions, as OpenAI and the many servers that speak the same wire send them.

`build_request` (of `openai_request`) and `ChunkDecoder` are pure; `OpenAIProvider` joins them to HTTP. What servers
accept differs in ways that `compat` lists; what they answer differs in small ways that only this module knows, each
noted where it is met.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from httpx_sse import ServerSentEvent

from agentkit.core.cancellation import Cancellation
from agentkit.core.messages import Json, StopReason, Usage
from agentkit.errors import ProviderError
from agentkit.providers.compat import Compat, compat_for
from agentkit.providers.connection import Endpoint
from agentkit.providers.counts import token_count, usage_of_failure
from agentkit.providers.failures import stream_error
from agentkit.providers.http import HttpRequest, answer_parts, stream_sse
from agentkit.providers.json_events import DONE, json_events
from agentkit.providers.openai_request import API, OUR_OPTIONS, build_request
from agentkit.providers.protocol import Finish, ModelRequest, Part, TextDelta, ThinkingDelta, ToolCallDelta

__all__ = ["ChunkDecoder", "OpenAIProvider", "build_request", "decode"]

_DEFAULT_URL = "https://api.openai.com/v1"
_PATH = "/chat/completions"
_KEY_SETTING = "OPENAI_API_KEY"
_ACCOUNT_SETTINGS = {"openai-organization": "OPENAI_ORG_ID", "openai-project": "OPENAI_PROJECT_ID"}


class OpenAIProvider:
    """Models of OpenAI and of every server that speaks its chat completions.

    Another vendor is `register_provider(OpenAIProvider("groq", url=…, key_setting="GROQ_API_KEY"))`. `name`: the part
    before the colon of its models' names. `url`: the base URL, where the environment variable `url_setting` has none.
    `key_setting`: the environment variable that holds the API key. Both are read at each call, unless the agent
    declares its own; so are OPENAI_ORG_ID and OPENAI_PROJECT_ID where the key is OPENAI_API_KEY. `compat`: what the
    server accepts; by default what is known of the base URL's host.

    The model options `connect_timeout` and `read_timeout` (seconds) are ours; `max_output_tokens` and
    `reasoning_effort` go where the server wants them, all others to the vendor as they are.
    """

    api = API

    def __init__(
        self,
        name: str = "openai",
        *,
        url: str = _DEFAULT_URL,
        key_setting: str = _KEY_SETTING,
        url_setting: str = "OPENAI_BASE_URL",
        compat: Compat | None = None,
    ) -> None:
        self.name = name
        self._url = url
        self._key_setting = key_setting
        self._url_setting = url_setting
        self._compat = compat

    def stream(self, request: ModelRequest, cancel: Cancellation) -> Iterator[Part]:
        """Call the model, as `Provider.stream` has it."""
        call = self._call(request)
        yield from answer_parts(call, cancel, stream_sse(call, cancel, last=DONE), decode)

    def _call(self, request: ModelRequest) -> HttpRequest:
        endpoint = request.connection.endpoint(
            self.name, url=self._url, url_setting=self._url_setting, key_setting=self._key_setting
        )
        compat = self._compat or compat_for(endpoint.url)
        if endpoint.url.rstrip("/") == _DEFAULT_URL:
            endpoint.require_key(self.name)
        timeouts = {name: request.options[name] for name in OUR_OPTIONS if name in request.options}
        return HttpRequest(
            vendor=self.name,
            url=_with_path(endpoint.url),
            body=build_request(request, self.name, compat),
            headers={**self._account(), **_credential(endpoint, compat)},
            endpoint=endpoint,
            bounds=request.bounds,
            **timeouts,
        )

    def _account(self) -> dict[str, str]:
        """Return the headers that name an organisation and a project of OpenAI's; other vendors get none."""
        if self._key_setting != _KEY_SETTING:
            return {}
        values = {name: os.environ.get(setting, "").strip() for name, setting in _ACCOUNT_SETTINGS.items()}
        return {name: value for name, value in values.items() if value}


def _credential(endpoint: Endpoint, compat: Compat) -> dict[str, str]:
    """Return the header that carries the key. Azure has its own for keys, but not for the tokens of functions."""
    if not endpoint.key:
        return {}
    if compat.key_header == "api-key" and not endpoint.is_token:
        return {"api-key": endpoint.key}
    return {"authorization": f"Bearer {endpoint.key}"}


def _with_path(base: str) -> str:
    """Add the path to the base URL before its query: Azure's has `?api-version=…`."""
    try:
        url = urlsplit(base)
    except ValueError:
        return base  # the HTTP client says what is wrong with it
    path = url.path.rstrip("/").removesuffix(_PATH) + _PATH
    return urlunsplit(url._replace(path=path))


# -- the answer


def decode(events: Iterable[ServerSentEvent], vendor: str) -> Iterator[Part]:
    """Yield the parts of a whole event stream. Raises ProviderError for an error in it, and for a stream cut short."""
    decoder = ChunkDecoder(vendor)
    with usage_of_failure(decoder.usage):
        for name, chunk in json_events(events, vendor):
            if name == "error":
                raise stream_error(vendor, chunk.get("error", chunk))
            yield from decoder.feed(chunk)
        yield from decoder.finish()


_LENGTH_REASONS = {"length", "max_tokens", "model_length"}
_FAILED_REASONS = {"error", "abort", "insufficient_system_resource", "network_error"}


class ChunkDecoder:
    """Turns the chunks of one answer into parts. `finish()` is due when there are no more chunks."""

    def __init__(self, vendor: str = "openai") -> None:
        self._vendor = vendor
        self._model: str | None = None
        self._usage: Json = {}
        self._reason: str | None = None
        self._calls = _CallIndex()

    def feed(self, chunk: Json) -> list[Part]:
        """Return the parts of one chunk. Raises ProviderError where it carries an error."""
        if problem := chunk.get("error") or (chunk if chunk.get("object") == "error" else None):
            raise stream_error(self._vendor, problem)
        try:
            return self._parts(chunk)
        except (AttributeError, TypeError) as error:
            message = f"{self._vendor} sent a chunk of an unknown shape: {error}"
            raise ProviderError(message, vendor=self._vendor) from error

    def usage(self) -> Usage:
        """Return what the vendor has counted so far."""
        return _usage(self._usage)

    def finish(self) -> list[Part]:
        """Return the last part. Raises ProviderError where the answer is not complete, or was filtered."""
        if self._reason is None:
            message = f"{self._vendor}: the stream ended before the answer was complete"
            raise ProviderError(message, retryable=True, vendor=self._vendor)
        if self._reason == "content_filter":
            raise ProviderError(f"{self._vendor}: the answer was content filtered", vendor=self._vendor)
        if self._reason in _FAILED_REASONS:
            raise stream_error(self._vendor, f"finish reason {self._reason!r}")
        # Tool calls count more than the reason: some servers say `stop` after them, and some `tool_calls` without any.
        whole: StopReason = "toolUse" if self._calls.any else "stop"
        return [Finish("length" if self._reason in _LENGTH_REASONS else whole, _usage(self._usage), self._model)]

    def _parts(self, chunk: Json) -> list[Part]:
        model = chunk.get("model")
        self._model = model if isinstance(model, str) and model else self._model
        # Usage comes in a chunk of its own, in the finishing chunk, or (Groq) under x_groq.
        self._usage = chunk.get("usage") or (chunk.get("x_groq") or {}).get("usage") or self._usage
        parts: list[Part] = []
        for choice in chunk.get("choices") or ():  # empty in Azure's first chunk and in the one with the usage
            if choice.get("index"):
                continue  # another of several answers (`n`): only the first is ours
            self._reason = choice.get("finish_reason") or self._reason
            parts += self._delta(choice.get("delta") or {})
        return parts

    def _delta(self, delta: Json) -> list[Part]:
        parts: list[Part] = []
        if thinking := delta.get("reasoning_content") or delta.get("reasoning"):
            parts.append(ThinkingDelta(thinking))
        parts += _content(delta.get("content"))
        if refusal := delta.get("refusal"):
            parts.append(TextDelta(refusal))
        for piece in delta.get("tool_calls") or ():
            parts += self._tool_call(piece)
        return parts

    def _tool_call(self, piece: Json) -> list[Part]:
        function = piece.get("function") or {}
        call_id, name = str(piece.get("id") or ""), str(function.get("name") or "")
        arguments = function.get("arguments") or ""
        if not isinstance(arguments, str):
            arguments = json.dumps(arguments)  # servers that send the object itself
        index, is_new = self._calls.find(piece.get("index"), call_id, name)
        if not (is_new or call_id or name or arguments):
            return []
        return [ToolCallDelta(index, call_id, name, arguments)]


class _CallIndex:
    """Numbers the tool calls of one answer, however the vendor marks which piece belongs to which.

    As a rule by `index`. Some servers leave it out, and some give all calls the same one: a piece with a name and an id
    of its own then begins another call. An id alone does not, since some send a fresh one with each piece.
    """

    def __init__(self) -> None:
        self._at: dict[int | None, int] = {}
        self._ids: list[str] = []

    @property
    def any(self) -> bool:
        return bool(self._ids)

    def find(self, index: int | None, call_id: str, name: str) -> tuple[int, bool]:
        """Find the number of the call that a piece belongs to, and whether the piece begins it."""
        at = self._at.get(index)
        if index is None and call_id and call_id in self._ids:
            at = self._ids.index(call_id)
        elif at is not None and self._another(at, index, call_id, name):
            at = None
        if at is None:
            self._at[index] = len(self._ids)
            self._ids.append(call_id)
            return self._at[index], True
        self._ids[at] = self._ids[at] or call_id
        return at, False

    def _another(self, at: int, index: int | None, call_id: str, name: str) -> bool:
        if not name:
            return False
        return self._ids[at] not in ("", call_id) if call_id else index is None


def _content(content: Any) -> list[Part]:
    """Read a delta's content: a text, or (Mistral) a list of texts and thinking, which is a text or a list of texts."""
    if isinstance(content, str):
        return [TextDelta(content)] if content else []
    parts: list[Part] = []
    for entry in content or ():
        if entry.get("type") == "text" and entry.get("text"):
            parts.append(TextDelta(entry["text"]))
        elif entry.get("type") == "thinking":
            thinking = entry.get("thinking") or ""
            if not isinstance(thinking, str):
                thinking = "".join(inner.get("text") or "" for inner in thinking)
            parts += [ThinkingDelta(thinking)] if thinking else []
    return parts


def _usage(usage: Json) -> Usage:
    """Convert the counts: the vendor's prompt count includes what it read from and wrote to a cache, ours does not."""
    details = usage.get("prompt_tokens_details") or {}
    cache_read = token_count(details.get("cached_tokens") or usage.get("prompt_cache_hit_tokens"))
    cache_write = token_count(details.get("cache_write_tokens"))
    return Usage.of(
        input=max(0, token_count(usage.get("prompt_tokens")) - cache_read - cache_write),
        output=token_count(usage.get("completion_tokens")),
        cache_read=cache_read,
        cache_write=cache_write,
    )
