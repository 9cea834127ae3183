"""Anthropic's Messages API, as Anthropic and the servers and gateways that speak it send it.

`build_request` (of `anthropic_request`) and `EventDecoder` are pure; `AnthropicProvider` joins them to HTTP.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import replace

from httpx_sse import ServerSentEvent

from agentkit.core.cancellation import Cancellation
from agentkit.core.messages import Json, StopReason, Usage
from agentkit.errors import ProviderError
from agentkit.providers.anthropic_request import API, REDACTED, build_request
from agentkit.providers.connection import read_key
from agentkit.providers.counts import token_count, usage_of_failure
from agentkit.providers.failures import stream_error, vendor_message
from agentkit.providers.http import HttpRequest, answer_parts, stream_sse
from agentkit.providers.json_events import json_events
from agentkit.providers.protocol import Finish, ModelRequest, Part, TextDelta, ThinkingDelta, ToolCallDelta

__all__ = ["AnthropicProvider", "EventDecoder", "build_request", "decode"]

_DEFAULT_URL = "https://api.anthropic.com"
_KEY_SETTING = "ANTHROPIC_API_KEY"
_TOKEN_SETTING = "ANTHROPIC_AUTH_TOKEN"
_VERSION = "2023-06-01"
_TIMEOUTS = ("connect_timeout", "read_timeout")


class AnthropicProvider:
    """Models of Anthropic and of every server that speaks its Messages API.

    `name`: the part before the colon of its models' names. `url`: the base URL, where the environment variable
    `url_setting` has none. `key_setting`: the environment variable that holds the API key. Both are read at each call,
    unless the agent declares its own; so is the bearer token ANTHROPIC_AUTH_TOKEN where the key is ANTHROPIC_API_KEY.

    The model options `connect_timeout` and `read_timeout` (seconds) are ours, `betas` names the vendor's beta features;
    the others are described with `build_request`.
    """

    api = API

    def __init__(
        self,
        name: str = "anthropic",
        *,
        url: str = _DEFAULT_URL,
        key_setting: str = _KEY_SETTING,
        url_setting: str = "ANTHROPIC_BASE_URL",
    ) -> None:
        self.name = name
        self._url = url
        self._key_setting = key_setting
        self._url_setting = url_setting

    def stream(self, request: ModelRequest, cancel: Cancellation) -> Iterator[Part]:
        """Call the model, as `Provider.stream` has it."""
        call = self._call(request)
        yield from answer_parts(call, cancel, stream_sse(call, cancel, last_events=("message_stop",)), decode)

    def _call(self, request: ModelRequest) -> HttpRequest:
        endpoint = request.connection.endpoint(
            self.name, url=self._url, url_setting=self._url_setting, key_setting=self._key_setting
        )
        url = endpoint.url.rstrip("/").removesuffix("/v1")
        headers = {"anthropic-version": _VERSION}
        if endpoint.key:
            headers["x-api-key"] = endpoint.key
        if token := self._token(request):
            headers["authorization"] = f"Bearer {token}"
            endpoint = replace(endpoint, secrets=(*endpoint.secrets, token))
        elif url == _DEFAULT_URL:
            endpoint.require_key(self.name)
        if betas := request.options.get("betas"):
            headers["anthropic-beta"] = betas if isinstance(betas, str) else ",".join(betas)
        timeouts = {name: request.options[name] for name in _TIMEOUTS if name in request.options}
        return HttpRequest(
            vendor=self.name,
            url=f"{url}/v1/messages",
            body=build_request(request, provider=self.name),
            headers=headers,
            endpoint=endpoint,
            bounds=request.bounds,
            **timeouts,
        )

    def _token(self, request: ModelRequest) -> str:
        """Read the bearer token of the environment, which is sent beside a key, as Anthropic's own libraries do."""
        if self._key_setting != _KEY_SETTING or request.connection.api_key is not None:
            return ""
        return read_key(_TOKEN_SETTING, self.name)


# -- the answer


def decode(events: Iterable[ServerSentEvent], vendor: str) -> Iterator[Part]:
    """Yield the parts of a whole event stream. Raises ProviderError for an error in it, and for a stream cut short."""
    decoder = EventDecoder(vendor)
    with usage_of_failure(decoder.usage):
        for name, event in json_events(events, vendor):
            if name == "error" and event.get("type") != "error":
                raise stream_error(vendor, event)
            yield from decoder.feed(event)
        yield from decoder.finish()


_LENGTH_REASONS = {"max_tokens", "model_context_window_exceeded", "pause_turn"}
"""`pause_turn`: the vendor's own tools reached their limit. The answer is not whole, and we do not go on with them."""


class EventDecoder:
    """Turns the events of one answer into parts. `finish()` is due when there are no more events.

    Blocks, deltas and events of unknown types are passed over; so are the vendor's own tools (`server_tool_use`,
    `mcp_tool_use` and their results), which it has run itself.
    """

    def __init__(self, vendor: str = "anthropic") -> None:
        self._vendor = vendor
        self._model: str | None = None
        self._usage: Json = {}
        self._reason: str | None = None
        self._details: Json = {}
        self._stopped = False
        self._kinds: dict[int, str] = {}
        self._last = -1
        self._signature = ""
        self._inputs: dict[int, Json] = {}
        self._calls = False

    def feed(self, event: Json) -> list[Part]:
        """Return the parts of one event. Raises ProviderError where it is an error."""
        try:
            match event.get("type"):
                case "message_start":
                    self._begin(event.get("message") or {})
                case "content_block_start":
                    return self._start(event)
                case "content_block_delta":
                    return self._delta(event)
                case "content_block_stop":
                    return self._stop(event)
                case "message_delta":
                    self._end(event)
                case "message_stop":
                    self._stopped = True
                case "error":
                    raise self._failure(event)
        except (AttributeError, TypeError) as error:
            message = f"{self._vendor} sent an event of an unknown shape: {error}"
            raise ProviderError(message, vendor=self._vendor) from error
        return []

    def usage(self) -> Usage:
        """Return what the vendor has counted so far."""
        return _usage(self._usage)

    def finish(self) -> list[Part]:
        """Return the last parts. Raises ProviderError where the answer is not complete, or was refused."""
        if self._reason is None and not self._stopped:
            message = f"{self._vendor}: the stream ended before the answer was complete"
            raise ProviderError(message, retryable=True, vendor=self._vendor)
        if self._reason == "refusal":  # the vendor asks that the refused answer not stay in the conversation
            explanation = vendor_message(self._details.get("explanation") or self._details.get("category"))
            message = f"{self._vendor}: the model refused to answer" + (f": {explanation}" if explanation else "")
            raise ProviderError(f"{message} (change the request or use another model)", vendor=self._vendor)
        # As with other vendors, tool calls count more than the reason.
        whole: StopReason = "toolUse" if self._calls else "stop"
        reason: StopReason = "length" if self._reason in _LENGTH_REASONS else whole
        late = [part for at in list(self._inputs) for part in self._whole_input(at)]
        return [*self._signed(), *late, Finish(reason, _usage(self._usage), self._model)]

    def _begin(self, message: Json) -> None:
        self._model = _string(message, "model") or None
        self._count(message.get("usage") or {})

    def _end(self, event: Json) -> None:
        delta = event.get("delta") or {}
        self._reason = delta.get("stop_reason") or self._reason
        details = delta.get("stop_details")
        self._details = details if isinstance(details, dict) else self._details
        self._count(event.get("usage") or {})

    def _count(self, usage: Json) -> None:
        # Anthropic counts in the first event and again in the last; gateways in either, with null in the other.
        self._usage |= {name: count for name, count in usage.items() if isinstance(count, int)}

    def _start(self, event: Json) -> list[Part]:
        block = event.get("content_block") or {}
        at = self._last = event.get("index", self._last + 1)
        kind = self._kinds[at] = _string(block, "type")
        parts = self._signed()
        if kind == "text" and (text := _string(block, "text")):
            parts.append(TextDelta(text))
        elif kind == "thinking":
            self._signature = _string(block, "signature")
            if thinking := _string(block, "thinking"):
                parts.append(ThinkingDelta(thinking))
        elif kind == "redacted_thinking":
            parts.append(ThinkingDelta("", REDACTED + _string(block, "data")))
        elif kind == "tool_use":
            self._calls = True
            self._inputs[at] = block.get("input") or {}
            parts.append(ToolCallDelta(at, _string(block, "id"), _string(block, "name")))
        return parts

    def _delta(self, event: Json) -> list[Part]:
        delta, at = event.get("delta") or {}, event.get("index", self._last)
        match delta.get("type"), self._kinds.get(at):
            case "text_delta", "text" | None:
                return [TextDelta(text)] if (text := _string(delta, "text")) else []
            case "thinking_delta", "thinking" | None:
                return [ThinkingDelta(thinking)] if (thinking := _string(delta, "thinking")) else []
            case "signature_delta", "thinking":
                self._signature = _string(delta, "signature")
            case "input_json_delta", "tool_use":
                if piece := _string(delta, "partial_json"):
                    self._inputs.pop(at, None)
                    return [ToolCallDelta(at, arguments=piece)]
        return []

    def _stop(self, event: Json) -> list[Part]:
        return [*self._signed(), *self._whole_input(event.get("index", self._last))]

    def _signed(self) -> list[Part]:
        """Return the signature of the thinking block that ends here."""
        signature, self._signature = self._signature, ""
        return [ThinkingDelta("", signature)] if signature else []

    def _whole_input(self, at: int) -> list[Part]:
        """Return the arguments of servers that send them whole, with the block's start."""
        arguments = self._inputs.pop(at, None)
        return [ToolCallDelta(at, arguments=json.dumps(arguments))] if arguments else []

    def _failure(self, event: Json) -> ProviderError:
        error = stream_error(self._vendor, event.get("error") or event)
        error.request_id = _string(event, "request_id") or None
        return error


def _string(value: Json, key: str) -> str:
    """Return the text under a key; "" where there is none."""
    text = value.get(key)
    return text if isinstance(text, str) else ""


def _usage(usage: Json) -> Usage:
    return Usage.of(
        input=token_count(usage.get("input_tokens")),  # without what was read from the cache or written to it
        output=token_count(usage.get("output_tokens")),
        cache_read=token_count(usage.get("cache_read_input_tokens")),
        cache_write=token_count(usage.get("cache_creation_input_tokens")),
    )
