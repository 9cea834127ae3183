"""Encrypts the bodies that a store keeps, and decrypts them: what a person or a model wrote, or a tool returned.

What the scripts and indexes need stays plain: ids, numbers, times, statuses, names of agents, tools and owners. An
encrypted piece stands between two bytes 2, as base64 of what the codec returned. No JSON text holds the byte 2, so that
plain and encrypted pieces are never taken for one another, and both may stand in one value: a store that gets a codec
later still reads what it has, and an event's reference to a message (encoding.py) stays what the scripts can find.
"""

from __future__ import annotations

import re
from binascii import a2b_base64, b2a_base64

from agentkit.codec import Codec
from agentkit.core.record import SCHEMA_VERSION
from agentkit.errors import DecryptionError

__all__ = ["Bodies", "no_codec"]

_MARK = b"\x02"
_PIECE = re.compile(rb"\x02([^\x02]*)\x02")
_REFERENCE = re.compile(rb"(\x01\d+ \d+\x01)")
_ALL_REFERENCE = re.compile(rb'\{"type":"message_(?:start|end)","message":\x01\d+ \d+\x01\}')
"""An event that says nothing but which message it is of. The scripts write such ones too."""


class Bodies:
    """The bodies of one store. Without a `codec` they are plain, and encrypted ones cannot be read."""

    def __init__(self, codec: Codec | None = None) -> None:
        self._codec = codec
        self.encrypted = codec is not None

    def version(self, schema_version: int = SCHEMA_VERSION) -> str:
        """Name what is written, and what can be read, as the scripts have it in `sv` (scripts/common.lua)."""
        return f"{schema_version}+encrypted" if self.encrypted else str(schema_version)

    def encrypt(self, body: bytes) -> bytes:
        """Encrypt a body. An empty one stays empty."""
        if self._codec is None or not body:
            return body
        return _MARK + b2a_base64(self._codec.encode(body), newline=False) + _MARK

    def encrypt_event(self, body: bytes) -> bytes:
        """Encrypt an event's JSON but for its references, and its first brace: seq and timestamp are put after that."""
        if self._codec is None or _ALL_REFERENCE.fullmatch(body):
            return body
        if b"\x01" not in body:
            return body[:1] + self.encrypt(body[1:])
        parts = _REFERENCE.split(body[1:])
        return body[:1] + b"".join(part if place % 2 else self.encrypt(part) for place, part in enumerate(parts))

    def decrypt(self, stored: bytes, run_id: str) -> bytes:
        """Decrypt the encrypted pieces of what was stored of a run.

        Raises DecryptionError, which names the run, where one cannot be read.
        """
        if _MARK not in stored:
            return stored
        codec = self._codec
        if codec is None:
            raise no_codec(run_id)
        try:
            return _PIECE.sub(lambda piece: codec.decode(a2b_base64(piece[1])), stored)
        except Exception as error:
            raise DecryptionError(
                f"run {run_id} was encrypted by a key that this process does not have; the record is untouched",
                internal="add the key to AGENTKIT_ENCRYPTION_KEYS, or to AgentKit(codec=…), as in the other processes",
            ) from error


def no_codec(run_id: str) -> DecryptionError:
    """Make the error of a process without a codec."""
    return DecryptionError(
        f"run {run_id} is encrypted, and this process has no key; the record is untouched",
        internal="set AGENTKIT_ENCRYPTION_KEYS, or AgentKit(codec=…), as in the other processes",
    )
