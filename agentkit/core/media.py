"""What may stand in an image, a document or audio: MIME types and URLs. Nothing is fetched: a URL is the vendor's."""

from __future__ import annotations

import re
from urllib.parse import urlsplit

__all__ = ["is_audio_type", "is_document_type", "is_image_type", "is_web_url"]

_MEDIA_TYPE = re.compile(r"[a-z]+/[a-z0-9][a-z0-9.+_-]*")
_DOCUMENTS = ("application/pdf", "application/json")


def is_document_type(mime_type: str) -> bool:
    """Whether a document may be of this type: PDF, any kind of text, or JSON, which is text."""
    kind = _kind(mime_type)
    return kind.startswith("text/") or kind in _DOCUMENTS


def is_audio_type(mime_type: str) -> bool:
    """Whether the type is one of sound."""
    return _kind(mime_type).startswith("audio/")


def is_image_type(mime_type: str) -> bool:
    """Whether the type is one of images."""
    return _kind(mime_type).startswith("image/")


def _kind(mime_type: str) -> str:
    """Return the type without its parameters, in small letters; "" for what is no MIME type."""
    kind = mime_type.partition(";")[0].strip().lower()
    return kind if _MEDIA_TYPE.fullmatch(kind) else ""


def is_web_url(url: str) -> bool:
    """Whether the text is the URL of something on the web."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return False
    return parts.scheme in ("https", "http") and bool(parts.hostname) and url.isprintable() and " " not in url
