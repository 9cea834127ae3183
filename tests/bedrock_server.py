"""What Amazon Bedrock sends of Claude's answers, and how it checks a signature, for tests that play it."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import struct
import zlib
from typing import Any
from urllib.parse import quote

from agentkit.testing.wire_server import Request
from tests import anthropic_server

__all__ = ["chunk", "error_body", "exception", "frame", "frames", "signature_is_right"]


def error_body(message: str) -> bytes:
    return json.dumps({"message": message}).encode()


def frame(headers: dict[str, str], payload: bytes) -> bytes:
    """A frame of AWS's event stream: lengths, headers of type string, payload, and two checksums."""
    head = b"".join(
        struct.pack("!B", len(name)) + name.encode() + struct.pack("!BH", 7, len(value.encode())) + value.encode()
        for name, value in headers.items()
    )
    prelude = struct.pack("!II", 16 + len(head) + len(payload), len(head))
    prelude += struct.pack("!I", zlib.crc32(prelude))
    return prelude + head + payload + struct.pack("!I", zlib.crc32(prelude + head + payload))


def chunk(event: bytes) -> bytes:
    """The frame of one of Anthropic's events."""
    headers = {":event-type": "chunk", ":content-type": "application/json", ":message-type": "event"}
    return frame(headers, json.dumps({"bytes": base64.b64encode(event).decode(), "p": "abcdefgh"}).encode())


def exception(kind: str, payload: dict[str, Any]) -> bytes:
    headers = {":exception-type": kind, ":content-type": "application/json", ":message-type": "exception"}
    return frame(headers, json.dumps(payload).encode())


def frames(turn: anthropic_server.Turn) -> list[bytes]:
    """The answer's frames, one event each: 11 new, 3 cached and 7 written tokens."""
    return [chunk(sse.partition(b"data: ")[2].strip()) for sse in anthropic_server.frames(turn)]


def signature_is_right(request: Request, secret: str, region: str) -> bool:
    """Check an AWS Signature Version 4, by its documentation and nobody's library."""
    scheme, _, rest = request.headers["authorization"].partition(" ")
    fields = dict(part.split("=", 1) for part in rest.split(", "))
    date = request.headers["x-amz-date"]
    scope = f"{date[:8]}/{region}/bedrock/aws4_request"
    names = fields["SignedHeaders"].split(";")
    body = json.dumps(request.body, separators=(",", ":")).encode()
    canonical = "\n".join(
        [
            "POST",
            quote(request.path, safe="/~"),
            "",
            *(f"{name}:{request.headers[name]}" for name in names),
            "",
            ";".join(names),
            hashlib.sha256(body).hexdigest(),
        ]
    )
    to_sign = "\n".join(["AWS4-HMAC-SHA256", date, scope, hashlib.sha256(canonical.encode()).hexdigest()])
    key = f"AWS4{secret}".encode()
    for part in scope.split("/"):
        key = hmac.digest(key, part.encode(), "sha256")
    signature = hmac.digest(key, to_sign.encode(), "sha256").hex()
    right = (scheme, fields["Credential"].partition("/")[2], fields["Signature"])
    return right == ("AWS4-HMAC-SHA256", scope, signature) and {"host", "x-amz-date"} <= set(names)
