"""Anthropic's Messages API, as Anthropic and the servers and gateways that speak it send it.

`build_request` (of `anthropic_request`) and `EventDecoder` (of `anthropic_answer`) are pure; `MessagesProvider` joins
them to HTTP, for `AnthropicProvider` here and for the clouds that have Claude: `bedrock` and `vertex`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import replace
from typing import Any

from httpx_sse import ServerSentEvent

from agentkit.core.cancellation import Cancellation
from agentkit.core.messages import Json
from agentkit.errors import ProviderError
from agentkit.providers.anthropic_answer import EventDecoder, decode
from agentkit.providers.anthropic_request import API, build_request, continued
from agentkit.providers.connection import read_key
from agentkit.providers.counts import usage_of_failure
from agentkit.providers.http import Answer, HttpRequest, answer_parts, stream_sse
from agentkit.providers.protocol import Finish, ModelRequest, Part

__all__ = [
    "AnthropicProvider",
    "EventDecoder",
    "MessagesProvider",
    "beta_features",
    "build_request",
    "decode",
    "timeouts",
]

_DEFAULT_URL = "https://api.anthropic.com"
_KEY_SETTING = "ANTHROPIC_API_KEY"
_TOKEN_SETTING = "ANTHROPIC_AUTH_TOKEN"
_VERSION = "2023-06-01"
_TIMEOUTS = ("connect_timeout", "read_timeout")
_MAX_PAUSES = 10


class MessagesProvider:
    """Calls a model that speaks the Messages API; how a request is sent is its subclass's.

    An answer that the vendor pauses, because its own tools take long (`pause_turn`), goes on in another request, at
    most `max_pauses` times (a model option, 10). The parts are those of one answer, and so is the usage.
    """

    api = API
    name: str

    def stream(self, request: ModelRequest, cancel: Cancellation) -> Iterator[Part]:
        """Call the model, as `Provider.stream` has it."""
        decoder = EventDecoder(self.name)
        with usage_of_failure(decoder.usage):
            body = first = build_request(request, provider=self.name)
            most = _max_pauses(request)
            for _ in range(most + 1):
                call = self._call(request, body)
                answer = answer_parts(call, cancel, self._events(call, cancel), decoder)
                with closing(answer):
                    for part in answer:
                        if not (isinstance(part, Finish) and decoder.paused):
                            yield part
                if cancel.cancelled or not decoder.paused:
                    return
                body = continued(first, decoder.content, decoder.container)
                decoder.resume()
            raise ProviderError(
                f"{self.name}: the vendor's own tools were not done after {most + 1} requests "
                "(bound them, say by max_uses, or raise the option max_pauses)",
                vendor=self.name,
            )

    def _call(self, request: ModelRequest, body: Json) -> HttpRequest:
        """Make the HTTP request of a body."""
        raise NotImplementedError

    def _events(self, call: HttpRequest, cancel: Cancellation) -> Answer[ServerSentEvent]:
        """Send the request, and iterate over the answer's events."""
        return stream_sse(call, cancel, last_events=("message_stop",))


def beta_features(options: Mapping[str, Any]) -> list[str]:
    """Return the names of the beta features that an agent asks for. Raises ProviderError for what names none."""
    betas = options.get("betas") or []
    names = betas.split(",") if isinstance(betas, str) else betas
    if not isinstance(names, list | tuple) or not all(isinstance(name, str) for name in names):
        raise ProviderError("the option betas must be a list of names")
    return [name.strip() for name in names]


def timeouts(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the timeouts that an agent declares, in seconds."""
    return {name: options[name] for name in _TIMEOUTS if name in options}


def _max_pauses(request: ModelRequest) -> int:
    most = request.options.get("max_pauses")
    if most is None:
        return _MAX_PAUSES
    if isinstance(most, bool) or not isinstance(most, int) or most < 0:
        raise ProviderError("the option max_pauses must be a whole number from 0 on")
    return most


class AnthropicProvider(MessagesProvider):
    """Models of Anthropic and of every server that speaks its Messages API.

    `name`: the part before the colon of its models' names. `url`: the base URL, where the environment variable
    `url_setting` has none. `key_setting`: the environment variable that holds the API key. Both are read at each call,
    unless the agent declares its own; so is the bearer token ANTHROPIC_AUTH_TOKEN where the key is ANTHROPIC_API_KEY.

    The model options `connect_timeout` and `read_timeout` (seconds) are ours, `betas` names the vendor's beta features;
    the others are described with `build_request`.
    """

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

    def _call(self, request: ModelRequest, body: Json) -> HttpRequest:
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
        if betas := beta_features(request.options):
            headers["anthropic-beta"] = ",".join(betas)
        return HttpRequest(
            vendor=self.name,
            url=f"{url}/v1/messages",
            body=body,
            headers=headers,
            endpoint=endpoint,
            bounds=request.bounds,
            pace=request.pace,
            reader=request.reader,
            **timeouts(request.options),
        )

    def _token(self, request: ModelRequest) -> str:
        """Read the bearer token of the environment, which is sent beside a key, as Anthropic's own libraries do."""
        if self._key_setting != _KEY_SETTING or request.connection.api_key is not None:
            return ""
        return read_key(_TOKEN_SETTING, self.name)
