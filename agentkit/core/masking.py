"""Secrets that stand in URLs, replaced where a URL is shown: in a log, an error, a repr."""

from __future__ import annotations

import re

__all__ = ["mask_url", "mask_urls"]

_LOGIN = re.compile(r"^((?:[a-z][a-z0-9+.-]*:)?//)?.*@", re.IGNORECASE | re.DOTALL)
_QUERY = re.compile(r"([?&;#][^=&;#\s]*=)[^&;#\s]*")
_URL = re.compile(r"\b[a-z][a-z0-9+.-]*://[^\s'\"<>]+", re.IGNORECASE)


def mask_url(url: str) -> str:
    """Replace the login of a URL and every value of its query, also of a malformed one."""
    place, mark, query = url.partition("?")
    return _QUERY.sub(r"\1***", _LOGIN.sub(r"\1***@", place) + mark + query)


def mask_urls(text: str) -> str:
    """Apply `mask_url` to every URL in a text."""
    return _URL.sub(lambda match: mask_url(match[0]), text)
