"""Google Cloud: where Vertex AI is, and the access tokens that it takes. It knows no models and no wires.

Tokens are google-auth's application default credentials', or the application's.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import quote, urlsplit

from agentkit.core.forks import ForkSafeLock
from agentkit.errors import ConfigurationError, ProviderError
from agentkit.providers.connection import Connection, Endpoint

try:
    import google.auth
    from google.auth.exceptions import DefaultCredentialsError
    from google.auth.transport.requests import Request
except ImportError as error:
    raise ConfigurationError("vertex: models need google-auth: pip install 'agentkit-celery[vertex]'") from error

__all__ = ["Location", "vertex_endpoint"]

_KEY_SETTING = "CLOUDSDK_AUTH_ACCESS_TOKEN"
_SCOPE = "https://www.googleapis.com/auth/cloud-platform"
_REGION_HOST = re.compile(r"(?:([a-z0-9-]+)-aiplatform\.googleapis|aiplatform\.([a-z]+)\.rep\.googleapis)\.com")
_MULTI_REGIONS = ("us", "eu")
_VERSION = re.compile(r"/v\d\w*(/|$)")


@dataclass(frozen=True)
class Location:
    """The environment variables that say where a publisher's models are, the first that is set: as its libraries do."""

    url_setting: str
    project_settings: tuple[str, ...]
    region_settings: tuple[str, ...]


def vertex_endpoint(connection: Connection, vendor: str, location: Location) -> tuple[Endpoint, str]:
    """Return where a request goes, with an access token as its key, and the URL of the project's location.

    The location is that of the base URL, else the setting's, else "global"; the project the setting's, else that of the
    credentials. A base URL may name both (`…/v1/projects/P/locations/L`). Raises ProviderError where there is no
    project or no token.
    """
    region = _first(location.region_settings) or "global"
    endpoint = connection.endpoint(
        vendor, url=_base_url(region), url_setting=location.url_setting, key_setting=_KEY_SETTING
    )
    project = _first(location.project_settings)
    if not endpoint.key and "authorization" not in {name.lower() for name in endpoint.headers}:
        endpoint, default_project = _with_token(endpoint, vendor)
        project = project or default_project
    url = endpoint.url.rstrip("/")
    if "/projects/" in url:
        return endpoint, url
    if not project:
        raise ProviderError(
            f"no Google Cloud project for {vendor}", vendor=vendor, internal=f"set {location.project_settings[0]}"
        )
    return endpoint, _with_project(url, project, region)


def _first(settings: tuple[str, ...]) -> str:
    return next((value for name in settings if (value := os.environ.get(name, "").strip())), "")


def _base_url(region: str) -> str:
    if region == "global":
        return "https://aiplatform.googleapis.com/v1"
    if region in _MULTI_REGIONS:
        return f"https://aiplatform.{region}.rep.googleapis.com/v1"
    return f"https://{region}-aiplatform.googleapis.com/v1"


def _with_project(url: str, project: str, region: str) -> str:
    try:
        parts = urlsplit(url)
        in_host = _REGION_HOST.fullmatch(parts.hostname or "")
    except ValueError:
        return url  # the HTTP client says what is wrong with it
    if in_host:
        region = in_host[1] or in_host[2]
    version = "" if _VERSION.search(parts.path) else "/v1"
    return f"{url}{version}/projects/{quote(project, safe='')}/locations/{quote(region, safe='')}"


# -- credentials


@dataclass
class _Process:
    """The application default credentials of this process, which keep their token and renew it."""

    credentials: Any = None
    project: str = ""
    pid: int = 0


_lock = ForkSafeLock()
_process = _Process()


def _with_token(endpoint: Endpoint, vendor: str) -> tuple[Endpoint, str]:
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
            f"no Google Cloud credentials for {vendor}",
            vendor=vendor,
            internal="set GOOGLE_APPLICATION_CREDENTIALS, log in by gcloud auth application-default login, "
            f"or set {_KEY_SETTING}",
        ) from error
    except Exception as error:
        raise ProviderError(
            f"the Google Cloud credentials for {vendor} give no token",
            retryable=True,
            vendor=vendor,
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
