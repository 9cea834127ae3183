"""Where the calls of a model go and what they identify themselves with: an application's declaration, else settings.

Keys and headers may come from functions, which are asked for each request in the step's thread. What they return is
checked here, and never quoted: no repr, log or error shows a key, a header's value, or the rest of a URL.
"""

from __future__ import annotations

import inspect
import os
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from urllib.parse import urlsplit

from agentkit.core.masking import mask_urls, names_secret
from agentkit.errors import ConfigurationError, ProviderError

__all__ = ["Connection", "Endpoint", "Headers", "HeadersSource", "Key", "KeySource", "read_key"]

Key = str | tuple[str, float | datetime]
"""A key, or a key and until when it may be used: seconds since 1970, or a datetime with its time zone."""

KeySource = str | Callable[[], Key]
Headers = Mapping[str, str]
HeadersSource = Headers | Callable[[], Headers]

_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_OUR_HEADERS = {"accept", "accept-encoding", "connection", "content-length", "content-type", "transfer-encoding"}
_PLAIN_HEADERS = {"anthropic-beta", "anthropic-version", "http-referer", "referer", "user-agent", "x-title"}
"""Headers whose values are no secrets, so that errors may quote them."""
_CREDENTIAL_HEADERS = {"authorization", "api-key", "x-api-key", "x-goog-api-key"}
_SHORT = 8  # characters of a header's value that may stand in a text by chance
_EARLY_SECONDS = 30.0
_EARLY_SHARE = 0.1
"""A key is replaced so much before its end, as seconds and as share of its time, the lesser: a request takes time."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where one request goes, and what it identifies itself with.

    `url`: the base URL. `key`: "" where there is none; `is_token`: it came from a function. `headers` are the
    application's, which stand in front of the adapter's. `key_setting` and `url_setting`: what people should check when
    there is an error. `secrets` are replaced in every error. `forget_key`: to be called where the vendor has refused
    the key.
    """

    url: str = field(default="", repr=False)
    key: str = field(default="", repr=False)
    is_token: bool = False
    headers: Headers = field(default_factory=dict, repr=False)
    key_setting: str = ""
    url_setting: str = ""
    secrets: tuple[str, ...] = field(default=(), repr=False)
    forget_key: Callable[[], None] = field(default=lambda: None, repr=False)

    def require_key(self, vendor: str) -> None:
        """Raise ProviderError where there is neither a key nor a header of the application's in place of one."""
        if not self.key and not _CREDENTIAL_HEADERS & {name.lower() for name in self.headers}:
            raise ProviderError(f"no API key for {vendor}", vendor=vendor, internal=f"set {self.key_setting}")


@dataclass(frozen=True)
class Connection:
    """What an agent or a Model declares of its calls; what is None is the provider's, or its settings'.

    `base_url`: an http or https URL. `api_key`: a text, "" for none, or a function that returns a Key: with a time, it
    is kept so long by this process; without one, the function is asked for each request. `headers`: a mapping, or a
    function that returns one and is asked for each request. Raises ConfigurationError for what no request can carry.
    """

    base_url: str | None = field(default=None, repr=False)
    api_key: KeySource | None = field(default=None, repr=False)
    headers: HeadersSource | None = field(default=None, repr=False)
    _cached: list[tuple[str, float]] = field(default_factory=list, init=False, repr=False, compare=False)
    """The key and until when it is good (seconds since 1970), at most one. Where threads fetch several, one stays."""

    def __post_init__(self) -> None:
        if self.base_url is not None and not _is_http(self.base_url):
            raise ConfigurationError("base_url must be an http:// or https:// URL")
        if isinstance(self.api_key, str):
            if not _is_usable(self.api_key.strip()):
                raise ConfigurationError("api_key has characters that no API key has: copy it again")
        elif self.api_key is not None:
            _check_function("api_key", self.api_key, "a text")
        if isinstance(self.headers, Mapping):
            if problem := _problem(self.headers):
                raise ConfigurationError(problem)
            object.__setattr__(self, "headers", dict(self.headers))
        elif self.headers is not None:
            _check_function("headers", self.headers, "a mapping")

    @property
    def is_declared(self) -> bool:
        """Whether anything is."""
        return not (self.base_url is None and self.api_key is None and self.headers is None)

    def endpoint(self, vendor: str, *, url: str, url_setting: str, key_setting: str) -> Endpoint:
        """Return where a request goes now: what is declared, else the environment variables `…_setting`, else `url`.

        Raises ProviderError where a function fails or returns something else, and for a key that no header can carry.
        """
        if self.base_url is None:
            base = os.environ.get(url_setting, "").strip() or url
        else:
            base, url_setting = self.base_url, "the agent's base_url"
        if self.api_key is None:
            key = read_key(key_setting, vendor)
        else:
            key, key_setting = self._key(vendor), "the agent's api_key"
        headers = self._headers(vendor)
        return Endpoint(
            url=base,
            key=key,
            is_token=callable(self.api_key),
            headers=headers,
            key_setting=key_setting,
            url_setting=url_setting,
            secrets=(key, *_secrets(headers)),
            forget_key=self._cached.clear,
        )

    def _key(self, vendor: str) -> str:
        if not callable(self.api_key):
            return (self.api_key or "").strip()
        for cached, good_until in self._cached[:1]:
            if time.time() < good_until:
                return cached
        returned = _ask("api_key", self.api_key, vendor)
        key, until = returned if isinstance(returned, tuple) and len(returned) == 2 else (returned, None)
        if not isinstance(key, str) or not key.strip() or not _is_usable(key.strip()):
            raise ProviderError(f"the api_key function for {vendor} returned no usable key", vendor=vendor)
        if until is not None:
            now, ends = time.time(), _seconds(until, vendor)
            self._cached[:] = [(key.strip(), ends - min(_EARLY_SECONDS, (ends - now) * _EARLY_SHARE))]
        return key.strip()

    def _headers(self, vendor: str) -> Headers:
        if self.headers is None or isinstance(self.headers, Mapping):
            return self.headers or {}
        headers = _ask("headers", self.headers, vendor)
        if not isinstance(headers, Mapping):
            raise ProviderError(f"the headers function for {vendor} returned no mapping", vendor=vendor)
        if problem := _problem(headers):
            raise ProviderError(f"the headers function for {vendor}: {problem}", vendor=vendor)
        return dict(headers)


def read_key(setting: str, vendor: str) -> str:
    """Read the key from the environment variable `setting`; "" where it is unset.

    Raises ProviderError for one that no HTTP header can carry.
    """
    key = os.environ.get(setting, "").strip()
    # Refused here, because httpx would quote the key in its own error.
    if not _is_usable(key):
        raise ProviderError(
            f"the API key for {vendor} is not usable",
            vendor=vendor,
            internal=f"{setting} has characters that no API key has: copy it again",
        )
    return key


def _is_usable(key: str) -> bool:
    return key.isascii() and key.isprintable() and " " not in key


def _is_http(url: Any) -> bool:
    try:
        parts = urlsplit(url)
        return isinstance(url, str) and parts.scheme in ("http", "https") and bool(parts.hostname)
    except (ValueError, TypeError, AttributeError):
        return False


def _check_function(name: str, function: Any, otherwise: str) -> None:
    """Raise ConfigurationError unless it is an ordinary function."""
    if not callable(function):
        raise ConfigurationError(f"{name} must be {otherwise} or a function")
    if inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(getattr(function, "__call__", None)):  # noqa: B004
        raise ConfigurationError(f"{name} must be an ordinary function: it is asked in a thread, and async def is not")


def _ask(name: str, function: Callable[[], Any], vendor: str) -> Any:
    """Call an application's function. Raises ProviderError where that fails, which may pass: the network is used."""
    try:
        return function()
    except ProviderError:
        raise
    except Exception as error:
        raise ProviderError(
            f"the {name} function for {vendor} failed",
            retryable=True,
            vendor=vendor,
            internal=mask_urls(f"{type(error).__name__}: {error}")[:500],
        ) from error


def _seconds(until: Any, vendor: str) -> float:
    if isinstance(until, datetime) and until.tzinfo is not None:
        return until.timestamp()
    if isinstance(until, int | float) and not isinstance(until, bool):
        return float(until)
    message = f"the api_key function for {vendor} returned no usable time"
    raise ProviderError(message, vendor=vendor, internal="seconds since 1970, or a datetime with its time zone")


def _problem(headers: Mapping[Any, Any]) -> str | None:
    """Return what is wrong with headers, without their values."""
    for name, value in headers.items():
        if not isinstance(name, str) or not _HEADER_NAME.fullmatch(name):
            return f"{name!r} is no name of a header"
        if name.lower() in _OUR_HEADERS:
            return f"the header {name} is agentkit's own"
        if not isinstance(value, str) or not value.isascii() or not value.isprintable():
            return f"the header {name} must be a text of printable ASCII characters"
    return None


def _secrets(headers: Headers) -> list[str]:
    """Return the values of headers that no error may quote, and what follows a scheme such as Bearer."""
    found = []
    for name, value in headers.items():
        if names_secret(name):
            found += [value, value.partition(" ")[2]]
        elif name.lower() not in _PLAIN_HEADERS and len(value) >= _SHORT:
            found.append(value)
    return found
