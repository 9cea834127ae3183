"""What encrypts the bodies that a store keeps: the protocol of a codec, and the one that comes with agentkit.

A codec knows nothing of runs and stores. Which bytes it gets and where its own are put is `store/bodies.py`'s to say.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Sequence
from typing import Protocol

from agentkit.errors import ConfigurationError

__all__ = ["KEY_HINT", "Codec", "FernetCodec", "is_fernet_key", "key_fingerprint"]

KEY_HINT = """python -c "from cryptography.fernet import Fernet; print(Fernet.generate_key().decode())\""""
"""Prints a new key."""

_KEY = re.compile(r"[A-Za-z0-9_-]{43}=")


class Codec(Protocol):
    """Encrypts and decrypts bodies. Any thread may call it, and every process of an installation has the same one.

    It is called for every message, event and state that is written or read, so it should take microseconds.
    """

    def encode(self, data: bytes) -> bytes:
        """Encrypt `data`. What it returns may hold any bytes. What it raises fails the call that was to write."""
        ...

    def decode(self, data: bytes) -> bytes:
        """Return what `encode` was called with. Raises any exception for what it cannot decrypt."""
        ...


class FernetCodec:
    """The codec of `cryptography`'s Fernet: AES-128 in CBC mode with an HMAC by SHA-256. Needs the extra `[crypto]`.

    `keys`: Fernet keys (32 bytes as URL-safe base64), the newest first; also as one text with spaces between them. The
    first encrypts, each decrypts. So a key is replaced by putting a new one before it, in all processes, and is left
    out when no run that it wrote is kept any more.
    Raises ConfigurationError for what is no key, and where the package `cryptography` is missing.
    """

    def __init__(self, keys: str | Sequence[str | bytes]) -> None:
        texts = (
            keys.split() if isinstance(keys, str) else [key if isinstance(key, str) else key.decode() for key in keys]
        )
        if not texts:
            raise ConfigurationError("FernetCodec needs at least one key")
        for number, text in enumerate(texts, 1):
            if not is_fernet_key(text):
                raise ConfigurationError(
                    f"encryption key number {number} is no Fernet key, which is 32 bytes as URL-safe base64, such as "
                    f"this prints: {KEY_HINT}"
                )
        try:
            from cryptography.fernet import Fernet, MultiFernet  # of an extra
        except ImportError as error:
            raise ConfigurationError(
                "encryption needs the package cryptography: pip install 'agentkit-celery[crypto]'"
            ) from error
        self._fernet = MultiFernet([Fernet(text) for text in texts])

    def encode(self, data: bytes) -> bytes:
        """Encrypt by the first key."""
        return base64.urlsafe_b64decode(self._fernet.encrypt(data))

    def decode(self, data: bytes) -> bytes:
        """Decrypt by whichever key fits. Raises cryptography.fernet.InvalidToken where none does."""
        return self._fernet.decrypt(base64.urlsafe_b64encode(data))


def is_fernet_key(text: str) -> bool:
    """Whether a text has the form of a Fernet key."""
    return _KEY.fullmatch(text) is not None


def key_fingerprint(key: str) -> str:
    """Return what names a key and does not give it away: the first 12 digits of its SHA-256."""
    return hashlib.sha256(key.encode()).hexdigest()[:12]
