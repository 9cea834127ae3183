"""A local server that streams chat completions cheaply, each delta stamped with the time at which it was sent.

    python -m bench.token_server PORT

It answers every request with `BENCH_TOKENS` deltas (default 600), one every `BENCH_TOKEN_MS` (default 20). A delta's
text is `CLOCK_MONOTONIC` in microseconds and a blank, so that a reader on the same machine knows how late it is.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time

TOKENS = int(os.environ.get("BENCH_TOKENS", "600"))
EVERY = float(os.environ.get("BENCH_TOKEN_MS", "20")) / 1000

_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
_SHAPE = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "bench"}


def _chunk(payload: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(payload), payload)


def _event(delta: dict[str, str], reason: str | None = None) -> bytes:
    choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": reason}
    return b"data: " + json.dumps({**_SHAPE, "choices": [choice]}, separators=(",", ":")).encode() + b"\n\n"


_BEFORE, _AFTER = _event({"content": "STAMP "}).split(b"STAMP")
_USAGE = {**_SHAPE, "choices": [], "usage": {"prompt_tokens": 10, "completion_tokens": TOKENS, "total_tokens": TOKENS}}
_END = _event({}, "stop") + b"data: " + json.dumps(_USAGE).encode() + b"\n\ndata: [DONE]\n\n"


class Answers(asyncio.Protocol):
    """One connection; requests on it come one after the other."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._received = b""

    def data_received(self, data: bytes) -> None:
        self._received += data
        head, end, body = self._received.partition(b"\r\n\r\n")
        if not end:
            return
        fields = dict(line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:])
        if len(body) < int(fields[b"content-length"]):
            return
        self._received = b""
        self._transport.write(_HEAD + _chunk(_event({"role": "assistant", "content": ""})))
        self._left, self._due = TOKENS, asyncio.get_running_loop().time() + EVERY
        self._next()

    def _next(self) -> None:
        loop = asyncio.get_running_loop()
        if self._transport.is_closing():
            return
        if self._left == 0:
            self._transport.write(_chunk(_END) + b"0\r\n\r\n")
            return
        stamp = b"%d" % (time.monotonic_ns() // 1000)
        self._transport.write(_chunk(_BEFORE + stamp + _AFTER))
        self._left -= 1
        self._due += EVERY
        loop.call_at(self._due, self._next)


async def main(port: int) -> None:
    server = await asyncio.get_running_loop().create_server(Answers, "127.0.0.1", port, backlog=1024)
    async with server:
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1])))
