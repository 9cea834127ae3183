"""Connections that are kept for the next call: one that the server has closed meanwhile is no failure."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from agentkit.core.cancellation import Cancellation
from agentkit.core.messages import UserMessage, text_of
from agentkit.errors import ProviderError
from agentkit.providers.openai import OpenAIProvider
from agentkit.providers.protocol import ModelRequest
from agentkit.testing.provider_contract import build
from tests import openai_server

BODY = b"".join(openai_server.frames("hi"))
HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncontent-length: %d\r\n\r\n" % len(BODY)
ANSWER, NOTHING, HALF = HEAD + BODY, b"", HEAD + BODY[: len(BODY) // 2]


class Server:
    """Answers the nth request of each connection with `answers[n]`, and closes the connection after the last."""

    def __init__(self, *answers: bytes, delay: float = 0.0) -> None:
        self.requests: list[Any] = []
        self.connections = 0
        self._answers = answers
        self._delay = delay
        """Seconds before the second answer of a connection, and those after it."""
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}/v1"
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._socket.close()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            self.connections += 1
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with connection, connection.makefile("rb") as reader:
            for number, answer in enumerate(self._answers):
                length = 0
                while (line := reader.readline()) not in (b"\r\n", b""):
                    if line.lower().startswith(b"content-length:"):
                        length = int(line.split(b":")[1])
                if not line:
                    return
                self.requests.append(json.loads(reader.read(length)))
                if number and self._delay:
                    time.sleep(self._delay)
                connection.sendall(answer)


@pytest.fixture
def servers(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    made: list[Server] = []

    def make(*answers: bytes, delay: float = 0.0) -> Server:
        made.append(Server(*answers, delay=delay))
        monkeypatch.setenv("OPENAI_BASE_URL", made[-1].url)
        return made[-1]

    yield make
    for server in made:
        server.close()


def call() -> str:
    request = ModelRequest("m", "", [UserMessage("hi", 0)])
    return text_of(build(OpenAIProvider().stream(request, Cancellation())))


def until_one_fails() -> tuple[int, ProviderError]:
    """Make calls until one fails: how many there were, and the failure."""
    for calls in range(1, 100):  # a connection is kept as soon as its answer was read to the end, after the call
        try:
            call()
        except ProviderError as error:
            return calls, error
    raise AssertionError("no call failed")


def test_a_kept_connection_that_the_server_closes_is_replaced(servers: Any) -> None:
    server = servers(ANSWER, NOTHING)
    calls = 0
    while len(server.requests) == calls:  # until a connection was used twice, which the server does not answer
        assert call() == "hi"
        calls += 1
        assert calls < 100
    assert len(server.requests) == calls + 1


def test_a_kept_connection_that_answers_with_no_http_is_not_asked_again(servers: Any) -> None:
    server = servers(ANSWER, b"no HTTP at all\r\n\r\n")
    calls, error = until_one_fails()
    assert error.retryable
    assert len(server.requests) == calls


def test_a_kept_connection_that_closes_late_is_not_asked_again(servers: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agentkit.providers.transfer._STALE_SECONDS", 0.05)
    server = servers(ANSWER, NOTHING, delay=0.2)
    calls, error = until_one_fails()
    assert error.retryable
    assert len(server.requests) == calls


def test_a_new_connection_that_is_closed_without_an_answer_is_a_failure(servers: Any) -> None:
    server = servers(NOTHING)
    with pytest.raises(ProviderError, match="closed it without an answer") as caught:
        call()
    assert caught.value.retryable
    assert len(server.requests) == 1


def test_an_answer_that_breaks_off_is_not_asked_for_again(servers: Any) -> None:
    server = servers(ANSWER, HALF)
    calls, error = until_one_fails()
    assert error.retryable
    assert len(server.requests) == calls


def test_the_text_of_a_broken_connection_is_never_empty(servers: Any) -> None:
    servers(b"no HTTP at all\r\n\r\n")
    with pytest.raises(ProviderError) as caught:
        call()
    assert not caught.value.message.rstrip().endswith(":")
    assert "127.0.0.1" in str(caught.value)
