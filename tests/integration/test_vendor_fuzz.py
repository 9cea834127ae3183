"""Whatever a vendor sends, in any shape, size and rhythm, is a message or a ProviderError, soon and in bounded memory.

The cases come from a seed, which a failing test shows; AGENTKIT_FUZZ_SEED sets another, AGENTKIT_FUZZ_RUNS how many
runs each wire gets.
"""

from __future__ import annotations

import contextlib
import os
import random
import resource
import socket
import threading
import time
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator

import pytest

from agentkit import Agent, AgentKit
from agentkit.core.bounds import Bounds
from agentkit.core.cancellation import Cancellation
from agentkit.core.messages import UserMessage
from agentkit.core.struct import encode, to_json
from agentkit.errors import ProviderError
from agentkit.providers.anthropic import AnthropicProvider
from agentkit.providers.builder import MessageBuilder
from agentkit.providers.google import GoogleProvider
from agentkit.providers.ollama import OllamaProvider
from agentkit.providers.openai import OpenAIProvider
from agentkit.providers.openai_responses import OpenAIResponsesProvider
from agentkit.providers.protocol import ModelRequest, Provider
from agentkit.testing.wire_server import Reply, Request, WireServer
from tests import anthropic_server, bedrock_server, google_server, ollama_server, openai_server, responses_server
from tests.vendor_mutations import NDJSON, RECORDED, SEED, SSE, TURN, mutated, pieces_of

BOUNDS = Bounds(model_line_bytes=100_000, model_answer_bytes=400_000, model_silence_seconds=0.5)
OPTIONS = {"connect_timeout": 0.5}
MEGABYTE = 1024 * 1024

VENDORS: dict[str, tuple[Callable[[], Provider], str, str, list[bytes]]] = {
    "openai": (OpenAIProvider, "OPENAI_BASE_URL", SSE, openai_server.frames(TURN)),
    "openai-responses": (OpenAIResponsesProvider, "OPENAI_BASE_URL", SSE, responses_server.frames(TURN)),
    "anthropic": (AnthropicProvider, "ANTHROPIC_BASE_URL", SSE, anthropic_server.frames(TURN)),
    "google": (GoogleProvider, "GOOGLE_GEMINI_BASE_URL", SSE, google_server.frames(TURN)),
    "ollama": (OllamaProvider, "OLLAMA_HOST", NDJSON, ollama_server.lines(TURN)),
}


def outcome_of(provider: Provider) -> str:
    """Call the model, and build and write its message: what came of it, in few words. Anything else is raised."""
    request = ModelRequest("some-model", "", [UserMessage("hello", 0)], options=OPTIONS, bounds=BOUNDS)
    builder = MessageBuilder(api="a", provider="p", model="m", timestamp=0)
    try:
        for part in provider.stream(request, Cancellation()):
            builder.feed(part)
        builder.finish()
        message = to_json(builder.message())
    except ProviderError as error:
        encode(error.usage)
        return f"error: {error}"
    encode(message)
    usage = message["usage"]
    assert min(usage[name] for name in ("input", "output", "cacheRead", "cacheWrite", "totalTokens")) >= 0
    return "message"


# -- shapes: tests/unit/test_mutated_answers.py has many more, without HTTP and without runs

RUNS = int(os.environ.get("AGENTKIT_FUZZ_RUNS", "30"))
MODELS = {
    "openai-completions": openai_server.frames("done"),
    "openai-responses": responses_server.frames("done"),
    "anthropic": anthropic_server.frames("done"),
    "bedrock": bedrock_server.frames("done"),
    "vertex": anthropic_server.frames("done"),
    "google": google_server.frames("done"),
    "ollama": ollama_server.lines("done"),
}
"""Each wire, and how its vendor says "done"."""


@pytest.mark.parametrize("wire", list(MODELS))
def test_a_run_ends_whatever_its_first_answer_is_and_pays_for_no_call_twice(wire: str) -> None:
    rng, recorded = random.Random(f"{SEED} {wire}"), RECORDED[wire]
    answers = list(recorded.answers)
    bodies: list[bytes] = []
    statuses = Counter[str]()

    def answer(_: Request) -> Reply:
        first = len(server.requests) == 1
        return Reply(pieces_of(bodies[-1], rng) if first else MODELS[wire], content_type=recorded.content_type)

    with WireServer(answer) as server:
        url = server.url + ("/v1/projects/p/locations/global" if wire == "vertex" else "")
        agent = Agent("a", f"{wire}:claude", base_url=url, api_key="k", options={"read_timeout": 5})
        for _ in range(RUNS):
            bodies.append(mutated(recorded, rng.choice(answers), rng))
            server.requests.clear()
            run = AgentKit(agents=[agent]).run("a", "hi")
            shown = f"seed {SEED}: {run.status} {run.error} {run.messages} after {bodies[-1]!r}"
            statuses[run.status] += 1
            got = [message for message in run.messages if message["role"] == "assistant"]
            # A paused answer goes on in another request. Bedrock's frames hold it in base64.
            goes_on = wire == "bedrock" or b"pause_turn" in bodies[-1]
            assert run.status in ("completed", "failed"), shown
            assert len(server.requests) == len(got) or (goes_on and len(server.requests) == len(got) + 1), shown
            if run.status == "failed":
                assert run.error is not None, shown
                assert run.error["code"] == "provider_error", shown
            elif len(got) == 1:
                assert got[0]["content"] or {"after", "audio", "images"} & {*got[0].get("providerData", {})}, shown
    assert set(statuses) == {"completed", "failed"}


# -- sizes, rhythms, and what is no HTTP


class RawServer:
    """Answers each connection with what `send` puts into its socket."""

    def __init__(self, send: Callable[[socket.socket], None]) -> None:
        self._send = send
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._socket.accept()
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with client, contextlib.suppress(OSError):
            client.recv(65536)
            self._send(client)

    def close(self) -> None:
        self._socket.close()


def answer(content_type: str, *headers: str, length: str = "transfer-encoding: chunked") -> bytes:
    lines = ["HTTP/1.1 200 OK", f"content-type: {content_type}", length, *headers]
    return "\r\n".join(lines).encode() + b"\r\n\r\n"


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


def forever(first: bytes, piece: bytes, delay: float = 0.0) -> Iterator[bytes]:
    yield first
    while True:
        yield piece
        time.sleep(delay)


def transports(content_type: str, body: bytes, rng: random.Random) -> dict[str, Iterable[bytes]]:
    """Ways to send that go wrong, each with the pieces that are sent one after the other."""
    head, gzip = answer(content_type), zlib.compressobj(6, zlib.DEFLATED, 31)
    bomb = gzip.compress(b"\n" * 50 * MEGABYTE) + gzip.flush()
    line = body[: body.index(b"\n") + 1]
    half = len(body) // 2
    return {
        "nothing": [],
        "noise": [rng.randbytes(5000)],
        "a status line without an end": forever(b"HTTP/1.1 200 ", b"O" * 1000),
        "a status that is no number": [b"HTTP/1.1 abc OK\r\n\r\n"],
        "headers without an end": forever(b"HTTP/1.1 200 OK\r\n", b"x-a: " + b"b" * 1000 + b"\r\n"),
        "headers drop by drop": forever(b"HTTP/1.1 200 OK\r\n", b"x-a: b\r\n", 0.05),
        "interim answers without an end": forever(b"", b"HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n" * 50, 0.01),
        "a chunk size that is no number": [head, b"zzz\r\nabc\r\n"],
        "a chunk size below 0": [head, b"-5\r\nabc\r\n"],
        "a chunk of exabytes": forever(head + b"ffffffffffffff\r\n", b"x" * 10_000),
        "a chunk extension without an end": forever(head + b"5;", b"a" * 10_000),
        "chunks of one byte": forever(head, b"".join(chunk(body[i : i + 1]) for i in range(half)), 0.01),
        "a shorter body than it says": [answer(content_type, length="content-length: 999999"), body[:half]],
        "two lengths": [answer(content_type, "content-length: 9", length="content-length: 7"), body],
        "a length that is no number": [answer(content_type, length="content-length: many"), body],
        "no length, and a cut": [answer(content_type, length="connection: close"), body[:half]],
        "trailers without an end": forever(head + chunk(body[:half]) + b"0\r\n", b"x-a: b\r\n" * 100),
        "a bomb": [answer(content_type, "content-encoding: gzip"), chunk(bomb), b"0\r\n\r\n"],
        "a cut bomb": [answer(content_type, "content-encoding: gzip"), chunk(bomb[: len(bomb) // 2])],
        "noise as gzip": [answer(content_type, "content-encoding: gzip"), chunk(rng.randbytes(999)), b"0\r\n\r\n"],
        "gzip of gzip": [answer(content_type, "content-encoding: gzip, gzip"), chunk(bomb), b"0\r\n\r\n"],
        "brotli": [answer(content_type, "content-encoding: br"), chunk(bomb), b"0\r\n\r\n"],
        "a line without an end": forever(head, chunk(b"x" * 10_000)),
        "empty lines without an end": forever(head, chunk(b"\n" * 10_000)),
        "an answer without an end": forever(head, chunk(line * 20)),
        "keepalives": forever(head, chunk(b": keepalive\n\n" if content_type == SSE else b"\n"), 0.05),
        "silence": forever(head + chunk(line), b"", 0.05),
        "silence from the start": forever(b"", b"", 0.05),
        "a body of another type": forever(answer("application/json"), chunk(b"x" * 10_000)),
        "a page without an end": forever(answer("text/html"), chunk(b"<p>" * 3000)),
        "null bytes": forever(head, chunk(b"\0" * 10_000 + b"\n")),
        "no UTF-8": [head, chunk(b"data: \xff\xfe\xc3\n\n" * 10), b"0\r\n\r\n"],
    }  # fmt: skip


@pytest.mark.parametrize("vendor", list(VENDORS))
@pytest.mark.parametrize("way", list(transports(SSE, b"data: {}\n\n", random.Random(0))))
def test_transports_of_any_kind_end_soon_as_provider_errors(
    vendor: str, way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    make, setting, content_type, frames = VENDORS[vendor]

    def send(client: socket.socket) -> None:
        for piece in transports(content_type, b"".join(frames), random.Random(SEED))[way]:
            client.sendall(piece)

    server = RawServer(send)
    monkeypatch.setenv(setting, server.url)
    began, used = time.monotonic(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    try:
        outcome = outcome_of(make())
    finally:
        server.close()
    assert outcome.startswith(f"error: {vendor}"), outcome
    assert time.monotonic() - began < 10
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - used < 100 * 1024


def test_an_answer_cut_and_delayed_at_random_is_still_read(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = random.Random(SEED)
    for make, setting, content_type, frames in VENDORS.values():
        body, pieces = b"".join(frames), []
        while body:
            size = rng.randint(1, 200)
            pieces.append(body[:size])
            body = body[size:]
        with WireServer(lambda _, p=pieces, c=content_type: Reply(p, content_type=c, delay=0.01)) as server:
            monkeypatch.setenv(setting, server.url)
            assert outcome_of(make()) == "message"
