"""Keys of encryption for tests."""

from __future__ import annotations

import base64
import secrets

__all__ = ["new_key"]


def new_key() -> str:
    """Make a Fernet key."""
    return base64.urlsafe_b64encode(secrets.token_bytes(32)).decode()
