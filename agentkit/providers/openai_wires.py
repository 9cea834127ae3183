"""The names of OpenAI's models: `openai:` asks each server on the wire that it speaks best, the others say which.

Only OpenAI itself is known to speak the Responses API, and its newest models take tools there alone; whoever else calls
itself compatible speaks chat completions.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from urllib.parse import urlsplit

from agentkit.core.cancellation import Cancellation
from agentkit.providers.connection import Connection
from agentkit.providers.openai import DEFAULT_URL, OpenAIProvider
from agentkit.providers.openai_responses import OpenAIResponsesProvider
from agentkit.providers.protocol import ModelRequest, Part, Provider

__all__ = ["OpenAIWires", "completions"]

_URL_SETTING = "OPENAI_BASE_URL"
_OPENAI_HOST = "api.openai.com"


class OpenAIWires(OpenAIProvider):
    """Models of OpenAI on its Responses API, and those of any other server on chat completions."""

    def __init__(self) -> None:
        super().__init__("openai")
        self._completions = OpenAIProvider(self.name)
        self._responses = OpenAIResponsesProvider(self.name)

    @property
    def api(self) -> str:
        """The wire of the server that OPENAI_BASE_URL names now."""
        return self.wire(Connection(), "").api

    def wire(self, connection: Connection, model: str) -> Provider:
        """Return the provider of the wire that the server speaks which is declared, or else set."""
        url = connection.base_url or os.environ.get(_URL_SETTING, "").strip() or DEFAULT_URL
        return self._responses if _is_openai(url) else self._completions

    def stream(self, request: ModelRequest, cancel: Cancellation) -> Iterator[Part]:
        """Call the model, as `Provider.stream` has it."""
        return self.wire(request.connection, request.model).stream(request, cancel)


def completions() -> Provider:
    """Make the provider of `openai-completions:` models."""
    return OpenAIProvider("openai-completions")


def _is_openai(url: str) -> bool:
    """Whether the host is OpenAI's, also one for a region."""
    try:
        host = urlsplit(url).hostname or ""
    except ValueError:
        return False
    return f".{host.lower()}".endswith(f".{_OPENAI_HOST}")
