"""Models on Google's Vertex AI: Claude by the Messages API (streamRawPredict), Gemini by Google's generateContent.

Where they are and which tokens they take is in `google_cloud`, the wires in the adapters of Anthropic and Google.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from urllib.parse import quote

from agentkit.core.cancellation import Cancellation
from agentkit.core.messages import Json
from agentkit.providers.anthropic import MessagesProvider, beta_features, timeouts
from agentkit.providers.connection import Connection
from agentkit.providers.google import GoogleProvider
from agentkit.providers.google_cloud import Location, vertex_endpoint
from agentkit.providers.http import HttpRequest
from agentkit.providers.protocol import ModelRequest, Part, Provider

__all__ = ["VertexProvider"]

_NAME = "vertex"
_ANTHROPIC_VERSION = "vertex-2023-10-16"
_CLAUDE = Location(
    url_setting="ANTHROPIC_VERTEX_BASE_URL",
    project_settings=("ANTHROPIC_VERTEX_PROJECT_ID", "GOOGLE_CLOUD_PROJECT"),
    region_settings=("CLOUD_ML_REGION",),
)
_GEMINI = Location(
    url_setting="GOOGLE_VERTEX_BASE_URL",
    project_settings=("GOOGLE_CLOUD_PROJECT",),
    region_settings=("GOOGLE_CLOUD_LOCATION",),
)
_GOOGLES = re.compile(r"(gemini|gemma)-")


class VertexProvider(MessagesProvider):
    """Models on Google's Vertex AI: Claude by `vertex:claude-…`, Gemini by `vertex:gemini-…`.

    Project and location are those of the base URL, or of the settings that Anthropic's and Google's own libraries read:
    ANTHROPIC_VERTEX_PROJECT_ID and CLOUD_ML_REGION, GOOGLE_CLOUD_PROJECT and GOOGLE_CLOUD_LOCATION. The key is an
    access token, CLOUDSDK_AUTH_ACCESS_TOKEN or the agent's `api_key`; without one, google-auth's application default
    credentials give it. The options are those of `anthropic:` and `google:`.
    """

    name = _NAME

    def __init__(self) -> None:
        self._gemini = _Gemini(_NAME)

    def wire(self, connection: Connection, model: str) -> Provider:
        """Return the provider that answers for a model."""
        return self._gemini if _GOOGLES.match(model) else self

    def stream(self, request: ModelRequest, cancel: Cancellation) -> Iterator[Part]:
        """Call the model, as `Provider.stream` has it."""
        if _GOOGLES.match(request.model):
            return self._gemini.stream(request, cancel)
        return super().stream(request, cancel)

    def _call(self, request: ModelRequest, body: Json) -> HttpRequest:
        endpoint, url = vertex_endpoint(request.connection, self.name, _CLAUDE)
        headers = {"authorization": f"Bearer {endpoint.key}"} if endpoint.key else {}
        if betas := beta_features(request.options):
            headers["anthropic-beta"] = ",".join(betas)
        return HttpRequest(
            vendor=self.name,
            url=f"{url}/publishers/anthropic/models/{quote(request.model, safe='@')}:streamRawPredict",
            body={"anthropic_version": _ANTHROPIC_VERSION, **{k: v for k, v in body.items() if k != "model"}},
            headers=headers,
            endpoint=endpoint,
            bounds=request.bounds,
            pace=request.pace,
            reader=request.reader,
            **timeouts(request.options),
        )


class _Gemini(GoogleProvider):
    def _call(self, request: ModelRequest) -> HttpRequest:
        endpoint, url = vertex_endpoint(request.connection, self.name, _GEMINI)
        url = url.removesuffix("/publishers/google") + "/publishers/google"
        headers = {"authorization": f"Bearer {endpoint.key}"} if endpoint.key else {}
        return self._request(request, endpoint, url, headers)
