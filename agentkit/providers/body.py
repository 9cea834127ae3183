"""The body of a vendor's answer, read within bounds: decompressed piece by piece, and counted before it is kept.

It knows neither the lines' format nor the vendor's.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterator

from agentkit.errors import ProviderError

__all__ = ["ACCEPT_ENCODING", "BoundedBody"]

ACCEPT_ENCODING = "gzip, deflate"
"""The encodings that can be decompressed without ever holding more than a piece."""

_PIECE_BYTES = 64 * 1024
_LINE_END = re.compile(rb"[\r\n]")
_SEVERAL_ENDS = (b"\n\n\n", b"\r\n\r\n\r\n", b"\r\r\r")
_EMPTY_LINES = re.compile(rb"(\r\n|\n|\r)\1{2,}")


class BoundedBody:
    """The decompressed body of an answer, in which many empty lines are one.

    `encoding`: its content encoding. Feeding it raises ProviderError beyond `answer_bytes`, of the body as it comes or
    decompressed, beyond `line_bytes` between two line ends, and for an encoding that was not asked for or is broken.
    `vendor`: for the errors. Without `line_bytes`, the body is no text: it has no lines, and its bytes stay the same.
    """

    def __init__(self, encoding: str, vendor: str, *, answer_bytes: int, line_bytes: int | None) -> None:
        self._vendor = vendor
        self._answer_bytes = answer_bytes
        self._has_lines = line_bytes is not None
        self._line_bytes = line_bytes or 0
        self._decompressor = _decompressor(encoding, vendor)
        self._received = self._decompressed = self._line = 0

    def feed(self, raw: bytes) -> Iterator[bytes]:
        """Yield what a piece of the body, as it was sent, stands for."""
        self._received += len(raw)
        self._check_answer(self._received)
        for piece in self._decompressor.pieces(raw) if self._decompressor else (raw,):
            self._decompressed += len(piece)
            self._check_answer(self._decompressed)
            if self._has_lines:
                self._line = self._checked_line(self._line, piece)
                if any(ends in piece for ends in _SEVERAL_ENDS):  # looked for first: most pieces have none
                    piece = _EMPTY_LINES.sub(rb"\1\1", piece)
            yield piece

    def _check_answer(self, size: int) -> None:
        if size > self._answer_bytes:
            raise ProviderError(
                f"{self._vendor}: its answer has more than {self._answer_bytes} bytes",
                vendor=self._vendor,
                internal="the bound is AGENTKIT_MODEL_ANSWER_BYTES",
            )

    def _checked_line(self, begun: int, piece: bytes) -> int:
        """Return the bytes since the last line end, of which there were `begun` before `piece`."""
        start = 0
        if begun + len(piece) > self._line_bytes:
            for end in _LINE_END.finditer(piece):
                self._check_line(begun + end.start() - start)
                begun, start = 0, end.end()
            self._check_line(begun + len(piece) - start)
            return begun + len(piece) - start
        last = max(piece.rfind(b"\n"), piece.rfind(b"\r"))
        return begun + len(piece) if last < 0 else len(piece) - last - 1

    def _check_line(self, size: int) -> None:
        if size > self._line_bytes:
            raise ProviderError(
                f"{self._vendor}: a line of its answer has more than {self._line_bytes} bytes",
                vendor=self._vendor,
                internal="the bound is AGENTKIT_MODEL_LINE_BYTES",
            )


def _decompressor(encoding: str, vendor: str) -> _Decompressor | None:
    match encoding.strip().lower():
        case "" | "identity":
            return None
        case "gzip" | "x-gzip":
            return _Decompressor(vendor, 16 + zlib.MAX_WBITS)
        case "deflate":
            return _Decompressor(vendor, zlib.MAX_WBITS, -zlib.MAX_WBITS)
        case other:
            raise ProviderError(
                f"{vendor} answered with the content encoding {other[:40]!r}, which was not asked for", vendor=vendor
            )


class _Decompressor:
    """Decompresses in pieces of bounded size. `windows`: zlib's `wbits`, the next tried where the first does not fit.

    "deflate" means zlib's format, and some servers send the bare one.
    """

    def __init__(self, vendor: str, *windows: int) -> None:
        self._vendor = vendor
        self._inner = zlib.decompressobj(windows[0])
        self._others = windows[1:]
        self._begun = False

    def pieces(self, raw: bytes) -> Iterator[bytes]:
        """Yield what `raw` decompresses to. Raises ProviderError where it is broken."""
        while not self._inner.eof:
            piece = self._decompress(raw)
            raw = self._inner.unconsumed_tail
            if piece:
                yield piece
            if not raw and len(piece) < _PIECE_BYTES:
                return

    def _decompress(self, raw: bytes) -> bytes:
        try:
            piece = self._inner.decompress(raw, _PIECE_BYTES)
        except zlib.error as error:
            if self._begun or not self._others:
                raise ProviderError(
                    f"{self._vendor}: its answer cannot be decompressed: {error}", retryable=True, vendor=self._vendor
                ) from error
            self._inner, self._others = zlib.decompressobj(self._others[0]), ()
            return self._decompress(raw)
        self._begun = True
        return piece
