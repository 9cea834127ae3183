"""Secrets, replaced where a text is shown: in a log, an error, a repr."""

from __future__ import annotations

import base64
import logging
import re
from collections.abc import Iterable, Iterator
from urllib.parse import parse_qsl, quote, unquote, urlsplit

__all__ = ["mask_log", "mask_secrets", "mask_url", "mask_urls", "names_secret", "url_secrets"]

_LOGIN = re.compile(r"^((?:[a-z][a-z0-9+.-]*:)?//)?.*@", re.IGNORECASE | re.DOTALL)
_QUERY = re.compile(r"([?&;#][^=&;#\s]*=)[^&;#\s]*")
_SECRET_NAME = re.compile(r"key|token|secret|pass|auth|sig|cred|code", re.IGNORECASE)
_URL = re.compile(r"\b[a-z][a-z0-9+.-]*://[^\s'\"<>]+", re.IGNORECASE)


def mask_url(url: str) -> str:
    """Replace the login of a URL and every value of its query, also of a malformed one."""
    place, mark, query = url.partition("?")
    return _QUERY.sub(r"\1***", _LOGIN.sub(r"\1***@", place) + mark + query)


def mask_urls(text: str) -> str:
    """Apply `mask_url` to every URL in a text."""
    return _URL.sub(lambda match: mask_url(match[0]), text)


def mask_log(name: str) -> None:
    """Have the logger `name` mask the URLs in what it logs. A second call for a logger does nothing."""
    logging.getLogger(name).addFilter(_mask_record)


def _mask_record(record: logging.LogRecord) -> bool:
    record.msg, record.args = mask_urls(record.getMessage()), None
    return True


def names_secret(name: str) -> bool:
    """Whether what has this name, a parameter or a header, is likely a secret."""
    return _SECRET_NAME.search(name) is not None


def url_secrets(url: str) -> list[str]:
    """Return the secrets in a URL: its password, or its user where that is alone, and keys and tokens of its query."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return []
    login, has_login, _ = parts.netloc.rpartition("@")
    user, has_password, password = login.partition(":")
    values = [value for name, value in parse_qsl(parts.query) if names_secret(name)]
    found = [*values, password if has_password else user if has_login else ""]
    return [form for value in found for form in (value, unquote(value)) if form]


_PART = 8
"""From how many characters on a part of a secret is replaced: fewer may stand in the text by chance."""


def mask_secrets(text: str, secrets: Iterable[str]) -> str:
    """Replace secrets in a text: all of one, its parts of 8 or more characters, and these in Base64, hex or a URL."""
    hidden = bytearray(len(text))
    for secret in {secret for secret in secrets if secret}:
        for form in set(_forms(secret)):
            size = min(_PART, len(form))
            parts = {form[start : start + size] for start in range(len(form) - size + 1)}
            for start in range(len(text) - size + 1):
                if text[start : start + size] in parts:
                    hidden[start : start + size] = b"\1" * size
    shown = (character if not hide else "\0" for character, hide in zip(text, hidden, strict=True))
    return re.sub("\0+", "***", "".join(shown)) if any(hidden) else text


def _forms(secret: str) -> Iterator[str]:
    data = secret.encode(errors="replace")
    yield from (secret, quote(secret, safe=""))
    if len(secret) < _PART:
        return
    yield from (data.hex(), data.hex().upper())
    for before in range(3):  # Base64 of a text with the secret in it: the secret begins at any of three places
        encoded = base64.b64encode(b"\0" * before + data).decode().rstrip("=")
        whole = encoded[-(-before * 8 // 6) : (before + len(data)) * 8 // 6]
        yield from (whole, whole.replace("+", "-").replace("/", "_"))
