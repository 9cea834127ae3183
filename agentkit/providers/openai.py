"""OpenAI's chat completions, as OpenAI and the many servers that speak the same wire send them.

`build_request` (of `openai_request`) and `ChunkDecoder` (of `openai_answer`) are pure; `OpenAIProvider` joins them to
HTTP. What servers accept differs in ways that `compat` lists; what they answer, in ways that the decoder takes.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import ClassVar
from urllib.parse import urlsplit, urlunsplit

from agentkit.core.cancellation import Cancellation
from agentkit.core.messages import Json
from agentkit.providers.compat import Compat, changed, compat_for
from agentkit.providers.connection import Endpoint
from agentkit.providers.http import HttpRequest, answer_parts, stream_sse
from agentkit.providers.json_events import DONE_MARKS, is_done
from agentkit.providers.openai_answer import ChunkDecoder, decode
from agentkit.providers.openai_request import API, TIMEOUTS, build_request
from agentkit.providers.protocol import ModelRequest, Part

__all__ = ["DEFAULT_URL", "KEY_SETTING", "ChunkDecoder", "OpenAIProvider", "build_request", "decode"]

DEFAULT_URL = "https://api.openai.com/v1"
_PATHS = ("/chat/completions", "/responses")
KEY_SETTING = "OPENAI_API_KEY"
_ACCOUNT_SETTINGS = {"openai-organization": "OPENAI_ORG_ID", "openai-project": "OPENAI_PROJECT_ID"}


class OpenAIProvider:
    """Models of OpenAI and of every server that speaks its chat completions.

    Another vendor is `register_provider(OpenAIProvider("groq", url=…, key_setting="GROQ_API_KEY"))`. `name`: the part
    before the colon of its models' names. `url`: the base URL, where the environment variable `url_setting` has none.
    `key_setting`: the environment variable that holds the API key. Both are read at each call, unless the agent
    declares its own; so are OPENAI_ORG_ID and OPENAI_PROJECT_ID where the key is OPENAI_API_KEY. `compat`: what the
    server accepts; by default what is known of the base URL's host.

    The model options `connect_timeout` and `read_timeout` (seconds) and `compat` (a Compat, or a mapping of those of
    its fields that differ) are ours; `max_output_tokens` and `reasoning_effort` go where the server wants them,
    all others to the vendor as they are.
    """

    path: ClassVar[str] = "/chat/completions"

    def __init__(
        self,
        name: str = "openai",
        *,
        url: str = DEFAULT_URL,
        key_setting: str = KEY_SETTING,
        url_setting: str = "OPENAI_BASE_URL",
        compat: Compat | None = None,
    ) -> None:
        self.name = name
        self._url = url
        self._key_setting = key_setting
        self._url_setting = url_setting
        self._compat = compat

    @property
    def api(self) -> str:
        """The wire."""
        return API

    def stream(self, request: ModelRequest, cancel: Cancellation) -> Iterator[Part]:
        """Call the model, as `Provider.stream` has it."""
        call = self._call(request)
        answer = stream_sse(call, cancel, is_last=is_done, last_marks=DONE_MARKS)
        yield from answer_parts(call, cancel, answer, ChunkDecoder(self.name))

    def _call(self, request: ModelRequest) -> HttpRequest:
        endpoint = request.connection.endpoint(
            self.name, url=self._url, url_setting=self._url_setting, key_setting=self._key_setting
        )
        compat = changed(self._compat or compat_for(endpoint.url), request.options.get("compat"))
        if endpoint.url.rstrip("/") == DEFAULT_URL:
            endpoint.require_key(self.name)
        timeouts = {name: request.options[name] for name in TIMEOUTS if name in request.options}
        return HttpRequest(
            vendor=self.name,
            url=_with_path(endpoint.url, self.path),
            body=self._body(request, compat),
            headers={**self._account(), **_credential(endpoint, compat)},
            endpoint=endpoint,
            bounds=request.bounds,
            pace=request.pace,
            reader=request.reader,
            **timeouts,
        )

    def _body(self, request: ModelRequest, compat: Compat) -> Json:
        return build_request(request, self.name, compat)

    def _account(self) -> dict[str, str]:
        """Return the headers that name an organisation and a project of OpenAI's; other vendors get none."""
        if self._key_setting != KEY_SETTING:
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


def _with_path(base: str, path: str) -> str:
    """Add the path to the base URL before its query: Azure's has `?api-version=…`."""
    try:
        url = urlsplit(base)
    except ValueError:
        return base  # the HTTP client says what is wrong with it
    start = url.path.rstrip("/")
    for known in _PATHS:
        start = start.removesuffix(known)
    return urlunsplit(url._replace(path=start + path))
