"""Ollama's own chat API: a line of JSON for each piece of the answer.

`build_request` and `LineDecoder` are pure; `OllamaProvider` joins them to HTTP. Ollama streams text and thinking in
pieces, but each tool call whole, its arguments an object. It has no cache marks.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Iterator
from ipaddress import ip_address
from typing import Any

from agentkit.core.cancellation import Cancellation
from agentkit.core.messages import (
    AssistantMessage,
    AudioBlock,
    DocumentBlock,
    ImageBlock,
    Json,
    Message,
    ThinkingBlock,
    ToolCallBlock,
    ToolResultMessage,
    Usage,
    UserMessage,
    text_of,
    tool_calls_of,
)
from agentkit.errors import ProviderError
from agentkit.providers.counts import token_count
from agentkit.providers.decoding import decoded
from agentkit.providers.failures import stream_error
from agentkit.providers.http import HttpRequest, answer_parts, stream_lines
from agentkit.providers.protocol import NOTHING, Finish, ModelRequest, Part, TextDelta, ThinkingDelta, ToolCallDelta
from agentkit.providers.replay import prepare

__all__ = ["LineDecoder", "OllamaProvider", "build_request", "decode", "host_url"]

log = logging.getLogger(__name__)

_API = "ollama-chat"
_CONTENT_TYPE = "application/x-ndjson"
_LAST_MARKS = (b'"done":true', b'"done": true')
_PORT = "11434"
_KEY_SETTING = "OLLAMA_API_KEY"
_URL_SETTING = "OLLAMA_HOST"
_TIMEOUTS = ("connect_timeout", "read_timeout")
_OUR_OPTIONS = (*_TIMEOUTS, "compat")
_TOP_LEVEL = ("format", "keep_alive", "think", "logprobs", "top_logprobs", "truncate", "shift")


class OllamaProvider:
    """Models of an Ollama server: the one on this machine, or where `OLLAMA_HOST` says.

    `OLLAMA_API_KEY` is sent where it is set, as Ollama's cloud demands. Both are read at each call, unless the agent
    declares its own. Of the model options, `think`, `format`, `keep_alive` and such go to the request, and all others
    to its `options`: `temperature`, `num_ctx`, and so on. `max_output_tokens` is `num_predict` there, and
    `reasoning_effort` is `think`, in the levels that Ollama has. `connect_timeout` and `read_timeout` (seconds) are
    ours.
    """

    name = "ollama"
    api = _API

    def stream(self, request: ModelRequest, cancel: Cancellation) -> Iterator[Part]:
        """Call the model, as `Provider.stream` has it."""
        endpoint = request.connection.endpoint(self.name, url="", url_setting=_URL_SETTING, key_setting=_KEY_SETTING)
        declared = request.connection.base_url  # a whole URL, while a setting is a host
        url = host_url(endpoint.url) if declared is None else declared.rstrip("/")
        body = build_request(request)
        call = HttpRequest(
            vendor=self.name,
            url=f"{url}/api/chat",
            body=body,
            headers={"authorization": f"Bearer {endpoint.key}"} if endpoint.key else {},
            endpoint=endpoint,
            bounds=request.bounds,
            pace=request.pace,
            reader=request.reader,
            **{name: request.options[name] for name in _TIMEOUTS if name in request.options},
        )
        is_empty = True
        answer = stream_lines(call, cancel, content_type=_CONTENT_TYPE, last_marks=_LAST_MARKS)
        for part in answer_parts(call, cancel, answer, LineDecoder(self.name)):
            if isinstance(part, Finish):
                self._check_context(request, body, part.usage, is_empty)
            is_empty = is_empty and part is NOTHING
            yield part

    def _check_context(self, request: ModelRequest, body: Json, usage: Usage, is_empty: bool) -> None:
        """Say where Ollama has cut the prompt, which it does without a word.

        `usage`: what it has counted. Raises ProviderError where it then answered a user message with nothing.
        """
        limit = _context_that_cut(body, usage.input)
        if limit is None:
            return
        hint = f"the prompt was probably cut to a context of {limit} tokens: raise num_ctx, an option of the model"
        log.warning("%s: model %s: %s, or OLLAMA_CONTEXT_LENGTH of the server", self.name, request.model, hint)
        if is_empty and request.messages and isinstance(request.messages[-1], UserMessage):
            text = f"{self.name}: the answer is empty, and {hint}"
            raise ProviderError(text, retryable=True, vendor=self.name, usage=usage)


def host_url(setting: str) -> str:
    """Return the base URL that `OLLAMA_HOST` means, by Ollama's own rules (its envconfig package).

    `setting`: a host, `host:port` or URL, perhaps in quotes. Without a port it is 11434, or the scheme's own where
    there is a scheme. An address to listen on, such as 0.0.0.0, is called at the loopback.
    """
    value = setting.strip().strip("\"'").strip()
    scheme, separator, rest = value.partition("://")
    if not separator:
        scheme, rest = "http", value
    default = {"http": "80", "https": "443"}.get(scheme, _PORT) if separator else _PORT
    hostport, slash, path = rest.partition("/")
    host, port = _split(hostport, default)
    return f"{scheme}://{host}:{port}" + (f"/{path}".rstrip("/") if slash else "")


def _split(hostport: str, default: str) -> tuple[str, str]:
    host, colon, port = hostport.rpartition(":")
    if not colon or "]" in port or (":" in host and not host.endswith("]")):  # no port: `host`, `[::1]` or `::1`
        host, port = hostport, default
    if not (port.isascii() and port.isdecimal() and int(port) < 65536):
        port = default
    try:
        address = ip_address(host.strip("[]"))
    except ValueError:
        return host or "127.0.0.1", port
    if address.is_unspecified:
        return ("127.0.0.1" if address.version == 4 else "[::1]"), port
    return (f"[{address}]" if address.version == 6 else str(address)), port


# -- the request

_LEVELS: dict[str, bool | str] = {"none": False, "minimal": "low", "xhigh": "high", "max": "high"}
"""Efforts that Ollama has no level for: it refuses all but low, medium and high, and in newer versions max."""


def build_request(request: ModelRequest) -> Json:
    """Write the body of POST /api/chat."""
    options = {name: value for name, value in request.options.items() if name not in _OUR_OPTIONS}
    tool_choice = options.pop("tool_choice", None)  # unknown to Ollama
    options.pop("parallel_tool_calls", None)  # likewise
    effort = options.pop("reasoning_effort", None)
    body: Json = {"model": request.model, "messages": _messages(request), "stream": True}
    if effort is not None:
        body["think"] = _LEVELS.get(effort, effort) if isinstance(effort, str) else effort
    body |= {name: options.pop(name) for name in _TOP_LEVEL if name in options}
    for name in ("max_tokens", "max_output_tokens"):
        if name in options:
            options["num_predict"] = options.pop(name)
    if isinstance(options.get("stop"), str):
        options["stop"] = [options["stop"]]
    inner = options.pop("options", None) or {}
    if options or inner:
        body["options"] = {**options, **inner}
    if request.tools and tool_choice != "none":
        body["tools"] = [
            {
                "type": "function",
                "function": {"name": tool.name, "description": tool.description, "parameters": tool.parameters},
            }
            for tool in request.tools
        ]
    return body


_DEFAULT_CONTEXT = 4096
_LEAST_CHARACTERS = 4
_MOST_CHARACTERS = 6
"""Characters of one token of most texts: more are rare."""


def _context_that_cut(body: Json, counted: int) -> int | None:
    """Return the context, in tokens, to which the prompt was probably cut; None where it was not.

    Either all of the context was `counted`, or far fewer tokens than so long a prompt has: Ollama leaves out the oldest
    messages. Where no `num_ctx` is set, the context is the server's, of which only the default is known.
    """
    size = (body.get("options") or {}).get("num_ctx")
    limit = size if isinstance(size, int) and size > 0 else _DEFAULT_CONTEXT
    if not 0 < counted <= limit:
        return None
    written = len(json.dumps([*map(_without_images, body["messages"]), body.get("tools")], ensure_ascii=False))
    cut = written > limit * _LEAST_CHARACTERS and counted < written / _MOST_CHARACTERS
    return limit if cut or counted == limit else None


def _without_images(message: Json) -> Json:
    return {name: value for name, value in message.items() if name != "images"}


def _messages(request: ModelRequest) -> list[Json]:
    written: list[Json] = []
    if request.instructions:
        written.append({"role": "system", "content": request.instructions})
    images: list[str] = []  # of the tool results before: templates show only the user's
    for message in prepare(request.messages, api=_API, provider=OllamaProvider.name, model=request.model):
        if images and not isinstance(message, ToolResultMessage):
            written.append(_tool_images(images))
            images = []
        match message:
            case AssistantMessage():
                written.append(_assistant(message))
            case UserMessage():
                written.append(_user(message))
            case ToolResultMessage():
                written.append(_tool_result(message))
                images += _images(message)
    return [*written, _tool_images(images)] if images else written


def _user(message: UserMessage) -> Json:
    written: Json = {"role": "user", "content": text_of(message)}
    if images := _images(message):
        written["images"] = images
    return written


def _assistant(message: AssistantMessage) -> Json:
    written: Json = {"role": "assistant", "content": text_of(message)}
    thinking = "".join(block.thinking for block in message.content if isinstance(block, ThinkingBlock))
    if thinking:
        written["thinking"] = thinking
    if calls := tool_calls_of(message):
        written["tool_calls"] = [_call(call) for call in calls]
    return written


def _call(call: ToolCallBlock) -> Json:
    return {"id": call.id, "function": {"name": call.name, "arguments": call.arguments}}


def _tool_result(message: ToolResultMessage) -> Json:
    return {
        "role": "tool",
        "tool_name": message.tool_name,
        "tool_call_id": message.tool_call_id,
        "content": text_of(message) or ("(see the image below)" if _images(message) else "(no output)"),
    }


def _tool_images(images: list[str]) -> Json:
    return {"role": "user", "content": "The images of the tool results:", "images": images}


def _images(message: Message) -> list[str]:
    """List the images of a message, each as base64. Raises ProviderError for what Ollama does not take."""
    if isinstance(message.content, str):
        return []
    images = []
    for block in message.content:
        if isinstance(block, ImageBlock):
            if block.data is None:
                raise ProviderError("Ollama takes no images by URL: send the image's data")
            images.append(block.data)
        elif isinstance(block, DocumentBlock | AudioBlock):
            raise ProviderError("Ollama takes no documents and no audio")
    return images


# -- the answer


def decode(lines: Iterable[str], vendor: str = "ollama") -> Iterator[Part]:
    """Yield the parts of a whole answer. Raises ProviderError for an error in it, and for one that is cut short."""
    return decoded(lines, LineDecoder(vendor))


class LineDecoder:
    """Turns the lines of one answer into parts. `finish()` is due when there are no more lines."""

    complete = False  # the end of the stream says when all was read

    def __init__(self, vendor: str = "ollama") -> None:
        self._vendor = vendor
        self._last: Json | None = None
        self._calls = 0

    def read(self, line: str) -> list[Part]:
        """Return the parts of one line, as it was sent."""
        try:
            value = json.loads(line)
        except (ValueError, RecursionError):
            value = None
        if not isinstance(value, dict):
            message = f"{self._vendor} sent a line that is no JSON object"
            raise ProviderError(message, retryable=True, vendor=self._vendor)
        return self.feed(value)

    def usage(self) -> Usage:
        """Return what the vendor has counted, which comes with the last line."""
        return Usage.of() if self._last is None else _usage(self._last)

    def feed(self, line: Json) -> list[Part]:
        """Return the parts of one line. Raises ProviderError where it is an error."""
        if line.get("error"):
            raise stream_error(self._vendor, line)
        if line.get("done"):
            self._last = line
        try:
            return self._parts(line.get("message") or {})
        except (AttributeError, TypeError) as error:
            message = f"{self._vendor} sent a line of an unknown shape: {error}"
            raise ProviderError(message, vendor=self._vendor) from error

    def finish(self) -> list[Part]:
        """Return the last part. Raises ProviderError where the answer is not complete."""
        if self._last is None:
            message = f"{self._vendor}: the stream ended before the answer was complete"
            raise ProviderError(message, retryable=True, vendor=self._vendor)
        model = self._last.get("model")
        model = model if isinstance(model, str) and model else None
        if self._last.get("done_reason") == "length":
            return [Finish("length", _usage(self._last), model)]
        # The reason is `stop` also after tool calls.
        return [Finish("toolUse" if self._calls else "stop", _usage(self._last), model)]

    def _parts(self, message: Json) -> list[Part]:
        parts: list[Part] = []
        if thinking := message.get("thinking"):
            parts.append(ThinkingDelta(_text(thinking)))
        if content := message.get("content"):
            parts.append(TextDelta(_text(content)))
        for call in message.get("tool_calls") or ():
            parts.append(self._tool_call(call))
        return parts

    def _tool_call(self, call: Json) -> ToolCallDelta:
        # Every call is whole, and `index` is of no use: older servers leave it out or give all calls the same.
        function = call.get("function") or {}
        arguments = function.get("arguments")
        if not isinstance(arguments, str):
            arguments = json.dumps({} if arguments is None else arguments, ensure_ascii=False)
        index, self._calls = self._calls, self._calls + 1
        return ToolCallDelta(index, str(call.get("id") or ""), str(function.get("name") or ""), arguments)


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"text is {type(value).__name__}")
    return value


def _usage(last: Json) -> Usage:
    """Convert the counts. `prompt_eval_count` is missing where the whole prompt was in the server's cache."""
    return Usage.of(input=token_count(last.get("prompt_eval_count")), output=token_count(last.get("eval_count")))
