"""Claude on Google's Vertex AI: the Messages API by streamRawPredict.

The body is Anthropic's but for the model's name, which stands in the URL beside the project and the location. Access
tokens are google-auth's, or the application's.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import quote, urlsplit

from agentkit.core.forks import ForkSafeLock
from agentkit.core.messages import Json
from agentkit.errors import ConfigurationError, ProviderError
from agentkit.providers.anthropic import MessagesProvider, beta_features, timeouts
from agentkit.providers.connection import Endpoint
from agentkit.providers.http import HttpRequest
from agentkit.providers.protocol import ModelRequest

try:
    import google.auth
    from google.auth.exceptions import DefaultCredentialsError
    from google.auth.transport.requests import Request
except ImportError as error:
    raise ConfigurationError("vertex: models need google-auth: pip install 'agentkit-celery[vertex]'") from error

__all__ = ["VertexProvider"]

_VERSION = "vertex-2023-10-16"
_KEY_SETTING = "CLOUDSDK_AUTH_ACCESS_TOKEN"
_URL_SETTING = "ANTHROPIC_VERTEX_BASE_URL"
_PROJECT_SETTINGS = ("ANTHROPIC_VERTEX_PROJECT_ID", "GOOGLE_CLOUD_PROJECT")
_REGION_SETTING = "CLOUD_ML_REGION"
_SCOPE = "https://www.googleapis.com/auth/cloud-platform"
_REGION_HOST = re.compile(r"(?:([a-z0-9-]+)-aiplatform\.googleapis|aiplatform\.([a-z]+)\.rep\.googleapis)\.com")
_MULTI_REGIONS = ("us", "eu")


class VertexProvider(MessagesProvider):
    """Claude on Google's Vertex AI, by `vertex:claude-…`.

    The location is that of the base URL, else CLOUD_ML_REGION, else "global". The project is
    ANTHROPIC_VERTEX_PROJECT_ID or GOOGLE_CLOUD_PROJECT, else that of the credentials; a base URL may name both
    (`…/v1/projects/P/locations/L`). The key is an access token, CLOUDSDK_AUTH_ACCESS_TOKEN or the agent's `api_key`;
    without one, google-auth's application default credentials give it. The options are those of `anthropic:`.
    """

    name = "vertex"

    def _call(self, request: ModelRequest, body: Json) -> HttpRequest:
        region = os.environ.get(_REGION_SETTING, "").strip() or "global"
        endpoint = request.connection.endpoint(
            self.name, url=_base_url(region), url_setting=_URL_SETTING, key_setting=_KEY_SETTING
        )
        project = next((value for name in _PROJECT_SETTINGS if (value := os.environ.get(name, "").strip())), "")
        if not endpoint.key and "authorization" not in {name.lower() for name in endpoint.headers}:
            endpoint, default_project = _with_token(endpoint)
            project = project or default_project
        headers = {"authorization": f"Bearer {endpoint.key}"} if endpoint.key else {}
        if betas := beta_features(request.options):
            headers["anthropic-beta"] = ",".join(betas)
        return HttpRequest(
            vendor=self.name,
            url=f"{_publisher(endpoint.url, project, region)}/models/{quote(request.model, safe='@')}:streamRawPredict",
            body={"anthropic_version": _VERSION, **{name: value for name, value in body.items() if name != "model"}},
            headers=headers,
            endpoint=endpoint,
            bounds=request.bounds,
            **timeouts(request.options),
        )


def _base_url(region: str) -> str:
    if region == "global":
        return "https://aiplatform.googleapis.com/v1"
    if region in _MULTI_REGIONS:
        return f"https://aiplatform.{region}.rep.googleapis.com/v1"
    return f"https://{region}-aiplatform.googleapis.com/v1"


def _publisher(url: str, project: str, region: str) -> str:
    """Return the URL of Anthropic's models below a base URL. Raises ProviderError where there is no project."""
    url = url.rstrip("/")
    if "/projects/" not in url:
        if not project:
            raise ProviderError(
                "no Google Cloud project for vertex", vendor="vertex", internal=f"set {_PROJECT_SETTINGS[0]}"
            )
        if in_host := _REGION_HOST.fullmatch(urlsplit(url).hostname or ""):
            region = in_host[1] or in_host[2]
        url += f"/projects/{quote(project, safe='')}/locations/{quote(region, safe='')}"
    return f"{url}/publishers/anthropic"


# -- credentials


@dataclass
class _Process:
    """The application default credentials of this process, which keep their token and renew it."""

    credentials: Any = None
    project: str = ""
    pid: int = 0


_lock = ForkSafeLock()
_process = _Process()


def _with_token(endpoint: Endpoint) -> tuple[Endpoint, str]:
    """Return the endpoint with an access token as its key, and the credentials' project.

    Where there is none yet, or it is old, that asks Google, in the step's thread. Raises ProviderError.
    """
    try:
        with _lock:
            if _process.pid != os.getpid():  # the locks of a parent's credentials may be held for ever in its child
                _process.credentials, project = google.auth.default(scopes=[_SCOPE])
                _process.project, _process.pid = project or "", os.getpid()
            if not _process.credentials.valid:
                _process.credentials.refresh(Request())
            token = str(_process.credentials.token)
    except DefaultCredentialsError as error:
        raise ProviderError(
            "no Google Cloud credentials for vertex",
            vendor="vertex",
            internal="set GOOGLE_APPLICATION_CREDENTIALS, log in by gcloud auth application-default login, "
            f"or set {_KEY_SETTING}",
        ) from error
    except Exception as error:
        raise ProviderError(
            "the Google Cloud credentials for vertex give no token",
            retryable=True,
            vendor="vertex",
            internal=f"{type(error).__name__}: {error}"[:500],
        ) from error
    endpoint = replace(
        endpoint,
        key=token,
        key_setting="the Google Cloud credentials",
        secrets=(*endpoint.secrets, token),
        forget_key=_forget_token,
    )
    return endpoint, _process.project


def _forget_token() -> None:
    with _lock:
        _process.pid = 0
