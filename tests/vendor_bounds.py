"""The bounds within which every provider reads an answer. Inherit it beside `ProviderContract`."""

from __future__ import annotations

import itertools
import resource
import time
import zlib
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from typing import Any

import pytest

from agentkit.core.bounds import Bounds
from agentkit.core.messages import text_of
from agentkit.errors import ProviderError
from agentkit.providers.protocol import Part, Provider
from agentkit.testing.provider_contract import build
from agentkit.testing.wire_server import Reply, WireServer

__all__ = ["VendorBoundsContract"]

MEGABYTE = 1024 * 1024
HUGE = 100  # megabytes that a server has ready
SMALL = Bounds(model_line_bytes=MEGABYTE, model_answer_bytes=4 * MEGABYTE)
MEMORY = 100 * MEGABYTE  # what a call may use: buffers of sockets, of the test's server and of the queue among them


def compressed(kind: str, pieces: Iterable[bytes]) -> bytes:
    window = {"gzip": 31, "deflate": 15, "bare deflate": -15}[kind]
    compressor = zlib.compressobj(6, zlib.DEFLATED, window)
    return b"".join([*(compressor.compress(piece) for piece in pieces), compressor.flush()])


@cache
def bomb(kind: str, byte: bytes) -> bytes:
    return compressed(kind, itertools.repeat(byte * MEGABYTE, HUGE))


def peak_memory() -> int:
    """The most memory that this process has had so far, in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


class Endless:
    """Pieces without an end, of which it counts those that were taken."""

    def __init__(self, first: bytes, piece: bytes) -> None:
        self.taken = 0
        self._first, self._piece = first, piece

    def __iter__(self) -> Iterator[bytes]:
        for piece in itertools.chain([self._first], itertools.repeat(self._piece)):
            self.taken += len(piece)
            yield piece


class VendorBoundsContract:
    content_type: str
    encode: Callable[[Any], list[bytes]]
    provider: Callable[[], Provider]
    parts: Callable[..., Iterator[Part]]
    failure: Callable[..., ProviderError]
    no_content: tuple[bytes, ...]
    """What the vendor, or a proxy before it, may send without any content."""

    def bounded_failure(self, bounds: Bounds = SMALL, **fields: Any) -> ProviderError:
        """The error of a call, within bounded memory and time."""
        began, used = time.monotonic(), peak_memory()
        error = self.failure(bounds=bounds, **fields)
        assert peak_memory() - used < MEMORY
        assert time.monotonic() - began < 30
        assert error.vendor == self.provider().name
        assert self.provider().name in error.message
        return error

    def test_a_line_without_an_end_is_read_up_to_the_bound(self, serve: Callable[[Reply], WireServer]) -> None:
        sent = Endless(b'data: {"a": "' if "event" in self.content_type else b'{"a": "', b"x" * MEGABYTE)
        serve(Reply(sent, content_type=self.content_type))
        error = self.bounded_failure()
        assert f"a line of its answer has more than {MEGABYTE} bytes" in error.message
        assert "AGENTKIT_MODEL_LINE_BYTES" in str(error)
        assert not error.retryable
        assert sent.taken < 32 * MEGABYTE

    def test_a_line_without_an_end_is_an_error_with_the_default_bounds(
        self, serve: Callable[[Reply], WireServer]
    ) -> None:
        sent = Endless(b"data: ", b"x" * MEGABYTE)
        serve(Reply(sent, content_type=self.content_type))
        assert "a line of its answer has more than 16000000 bytes" in self.failure().message
        assert sent.taken < 64 * MEGABYTE

    def test_the_line_after_many_short_ones_is_bounded_too(self, serve: Callable[[Reply], WireServer]) -> None:
        serve(Reply(Endless(b"\n" * 900_000, b"x" * 700_000), content_type=self.content_type))
        assert "a line of its answer" in self.bounded_failure().message

    def test_an_answer_without_an_end_is_read_up_to_the_bound(self, serve: Callable[[Reply], WireServer]) -> None:
        frames = self.encode("x" * 20_000)
        sent = Endless(b"".join(frames[:3]), max(frames[:-1], key=len) * 20)
        serve(Reply(sent, content_type=self.content_type))
        error = self.bounded_failure()
        assert f"its answer has more than {4 * MEGABYTE} bytes" in error.message
        assert "AGENTKIT_MODEL_ANSWER_BYTES" in str(error)
        assert sent.taken < 32 * MEGABYTE

    @pytest.mark.parametrize("number", range(4))
    def test_keepalives_as_fast_as_they_can_be_sent_are_bounded(
        self, serve: Callable[[Reply], WireServer], number: int
    ) -> None:
        piece = self.no_content[number % len(self.no_content)] * 2000
        serve(Reply(Endless(self.encode("hello there")[0], piece), content_type=self.content_type))
        error = self.bounded_failure(options={"read_timeout": 5.0})
        assert "its answer has more than" in error.message or "silent" in error.message

    @pytest.mark.parametrize("number", range(4))
    def test_keepalives_are_no_content(self, serve: Callable[[Reply], WireServer], number: int) -> None:
        piece = self.no_content[number % len(self.no_content)]
        serve(Reply(Endless(self.encode("hello there")[0], piece), content_type=self.content_type, delay=0.02))
        began = time.monotonic()
        error = self.bounded_failure(Bounds(model_silence_seconds=0.3))
        assert time.monotonic() - began < 5
        assert "silent for 0.3 s" in error.message
        assert error.retryable

    @pytest.mark.parametrize("kind", ["gzip", "deflate", "bare deflate"])
    def test_a_compressed_answer_is_decompressed_up_to_the_bound(
        self, serve: Callable[[Reply], WireServer], kind: str
    ) -> None:
        headers = {"content-encoding": kind.split()[-1]}
        assert len(bomb(kind, b"\n")) < MEGABYTE
        serve(Reply([bomb(kind, b"\n")], content_type=self.content_type, headers=headers))
        assert "its answer has more than" in self.bounded_failure().message
        serve(Reply([bomb(kind, b"x")], content_type=self.content_type, headers=headers))
        assert "a line of its answer has more than" in self.bounded_failure().message

    @pytest.mark.parametrize("kind", ["gzip", "deflate", "bare deflate"])
    @pytest.mark.parametrize("size", [3, 10**6])
    def test_a_compressed_answer_is_read(self, serve: Callable[[Reply], WireServer], kind: str, size: int) -> None:
        body = compressed(kind, iter(self.encode("Grüße aus Zürich")))
        pieces = [body[at : at + size] for at in range(0, len(body), size)]
        serve(Reply(pieces, content_type=self.content_type, headers={"content-encoding": kind.split()[-1]}))
        assert text_of(build(self.parts())) == "Grüße aus Zürich"

    @pytest.mark.parametrize("encoding", ["br", "zstd", "gzip, gzip", "compress"])
    def test_an_encoding_that_was_not_asked_for_is_an_error(
        self, serve: Callable[[Reply], WireServer], encoding: str
    ) -> None:
        server = serve(Reply([b"\x00" * 999], content_type=self.content_type, headers={"content-encoding": encoding}))
        assert encoding in self.bounded_failure().message
        assert server.requests[0].headers["accept-encoding"] == "gzip, deflate"

    def test_what_cannot_be_decompressed_is_an_error(self, serve: Callable[[Reply], WireServer]) -> None:
        serve(Reply([b"no gzip at all"], content_type=self.content_type, headers={"content-encoding": "gzip"}))
        error = self.bounded_failure()
        assert "cannot be decompressed" in error.message
        assert error.retryable

    @pytest.mark.parametrize("status", [200, 400, 500])
    @pytest.mark.parametrize("encoding", ["", "gzip"])
    def test_the_body_of_an_error_is_read_up_to_a_bound(
        self, serve: Callable[[Reply], WireServer], status: int, encoding: str
    ) -> None:
        start = b'{"error": {"message": "'
        pieces = [bomb("gzip", b"x")] if encoding else Endless(start, b"x" * MEGABYTE)
        serve(Reply(pieces, status, "application/json", {"content-encoding": encoding} if encoding else {}))
        error = self.bounded_failure()
        assert error.status == (None if status == 200 else status)  # that is an answer, with the bounds of one
        assert len(error.message) < 700

    def test_headers_of_any_length_do_not_fill_the_error(self, serve: Callable[[Reply], WireServer]) -> None:
        serve(Reply([b"<p>hi</p>"], content_type="x" * 50_000))
        assert len(self.bounded_failure().message) < 700
        serve(Reply([], 500, headers={"x-request-id": "r" * 50_000}))
        assert len(self.bounded_failure().message) < 700

    def test_a_deeply_nested_line_is_an_error(self, serve: Callable[[Reply], WireServer]) -> None:
        frame = self.encode("@")[0].replace(b'"@"', b"[" * 200_000)
        start = b"data: " if "event" in self.content_type else b""
        serve(Reply([frame, start + b"[" * 200_000 + b"\n\n"], content_type=self.content_type))
        self.bounded_failure()
