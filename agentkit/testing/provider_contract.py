"""What every provider must do: inherit `ProviderContract`, say how the vendor's wire looks, and pass.

The vendor is a local server; timeouts are generous where they only guard against hanging.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from agentkit.core.cancellation import Cancellation
from agentkit.core.messages import AssistantMessage, TextBlock, ToolCallBlock, UserMessage, text_of, tool_calls_of
from agentkit.errors import ProviderError
from agentkit.providers.builder import MessageBuilder
from agentkit.providers.connection import Connection
from agentkit.providers.protocol import Finish, ModelRequest, Part, Provider, TextDelta, ToolCallDelta, ToolSpec
from agentkit.testing.wire_server import Reply, WireServer

__all__ = ["ProviderContract", "build"]

SECRET = "sk-contract-0123456789"
TWO_CALLS: list[dict[str, Any]] = [
    {"type": "text", "text": "Let me look that up for you."},
    {"type": "toolCall", "id": "one", "name": "weather", "arguments": {"city": "Zürich", "days": [1, 2, 3]}},
    {"type": "toolCall", "id": "two", "name": "clock", "arguments": {}},
]


def build(parts: Iterator[Part] | list[Part]) -> AssistantMessage:
    builder = MessageBuilder(api="a", provider="p", model="m", timestamp=0)
    for part in parts:
        builder.feed(part)
    builder.finish()
    return builder.message()


class ProviderContract:
    """Override the first group. Its fake answers must count 11 new, 3 cached and 7 written tokens, if they can."""

    content_type = "text/event-stream"
    counts = (11, 3, 7)
    """New, cached and written tokens of the fake answers: other numbers only where the vendor counts less."""
    arguments_in_pieces = True

    def provider(self) -> Provider:
        raise NotImplementedError

    def point_at(self, url: str, key: str, monkeypatch: pytest.MonkeyPatch) -> None:
        """Set the environment so that the provider talks to `url`, with `key` where the vendor has keys."""
        raise NotImplementedError

    def encode(self, turn: Any) -> list[bytes]:
        """The answer's body, in pieces that each end with a whole event."""
        raise NotImplementedError

    def error_body(self, message: str) -> bytes:
        raise NotImplementedError

    # -- fixtures

    @pytest.fixture
    def serve(self, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Reply], WireServer]]:
        with contextlib.ExitStack() as stack:

            def start(reply: Reply) -> WireServer:
                server = stack.enter_context(WireServer(lambda _: reply))
                self.point_at(server.url, SECRET, monkeypatch)
                return server

            yield start

    def reply(self, turn: Any, **fields: Any) -> Reply:
        return Reply(self.encode(turn), content_type=self.content_type, **fields)

    def parts(self, cancel: Cancellation | None = None, **fields: Any) -> Iterator[Part]:
        tools = [ToolSpec("weather", "The weather.", {"type": "object", "properties": {"city": {"type": "string"}}})]
        request = ModelRequest("some-model", "Be brief.", [UserMessage("hello", 0)], tools, **fields)
        return self.provider().stream(request, cancel or Cancellation())

    def failure(self, **fields: Any) -> ProviderError:
        with pytest.raises(ProviderError) as caught:
            list(self.parts(**fields))
        assert SECRET not in repr(caught.value)
        assert SECRET not in str(caught.getrepr(chain=True))
        return caught.value

    # -- answers

    def test_a_text_arrives_in_parts_and_ends_with_one_finish(self, serve: Callable[[Reply], WireServer]) -> None:
        serve(self.reply("Grüße aus Zürich, dem schönen 🏔, und 日本語 too."))
        parts = list(self.parts())
        assert [type(part) for part in parts].count(Finish) == 1
        assert isinstance(parts[-1], Finish)
        assert sum(isinstance(part, TextDelta) for part in parts) > 1
        message = build(parts)
        assert text_of(message) == "Grüße aus Zürich, dem schönen 🏔, und 日本語 too."
        assert message.stop_reason == "stop"

    def test_parallel_tool_calls_arrive_with_their_arguments_in_pieces(
        self, serve: Callable[[Reply], WireServer]
    ) -> None:
        serve(self.reply(TWO_CALLS))
        parts = list(self.parts())
        assert sum(isinstance(part, ToolCallDelta) for part in parts) > 2 or not self.arguments_in_pieces
        message = build(parts)
        assert message.stop_reason == "toolUse"
        assert [type(block) for block in message.content] == [TextBlock, ToolCallBlock, ToolCallBlock]
        calls = tool_calls_of(message)
        assert [call.name for call in calls] == ["weather", "clock"]
        assert [call.arguments for call in calls] == [TWO_CALLS[1]["arguments"], {}]
        ids = [call.id for call in calls]
        assert all(ids)
        assert len(set(ids)) == 2

    def test_the_body_may_be_cut_anywhere_into_network_pieces(self, serve: Callable[[Reply], WireServer]) -> None:
        body = b"".join(self.encode(TWO_CALLS))
        for size in (1, 7, 1000):
            pieces = [body[at : at + size] for at in range(0, len(body), size)]
            serve(Reply(pieces, content_type=self.content_type))
            message = build(self.parts())
            assert [type(block) for block in message.content] == [TextBlock, ToolCallBlock, ToolCallBlock]
            assert [call.arguments for call in tool_calls_of(message)] == [TWO_CALLS[1]["arguments"], {}]

    def test_usage_counts_cached_tokens_apart_from_new_ones(self, serve: Callable[[Reply], WireServer]) -> None:
        serve(self.reply("hi"))
        usage = build(self.parts()).usage
        assert (usage.input, usage.cache_read, usage.output) == self.counts
        assert usage.total_tokens == 21

    def test_a_connection_serves_one_call_after_the_other(self, serve: Callable[[Reply], WireServer]) -> None:
        server = serve(self.reply("hi"))
        for _ in range(10):
            build(self.parts())
        assert len({request.port for request in server.requests}) < 10

    # -- failures

    @pytest.mark.parametrize(
        ("status", "retryable"),
        [(400, False), (401, False), (403, False), (404, False), (408, True), (429, True), (500, True), (503, True)],
    )
    def test_a_refusing_status_is_an_error_with_the_vendors_message(
        self, serve: Callable[[Reply], WireServer], status: int, retryable: bool
    ) -> None:
        serve(
            Reply(
                [self.error_body(f"no luck today with {SECRET}")],
                status,
                "application/json",
                {"retry-after": "7", "x-request-id": "req_1"},
            )
        )
        error = self.failure()
        assert (error.status, error.retryable, error.retry_after, error.request_id) == (status, retryable, 7.0, "req_1")
        assert "no luck today" in error.message
        assert error.vendor == self.provider().name

    def test_a_page_of_html_is_not_quoted_at_length(self, serve: Callable[[Reply], WireServer]) -> None:
        page = b"<html><head><title>502 Bad Gateway</title></head>" + b"<p>x</p>" * 5000
        serve(Reply([page], 502, "text/html"))
        error = self.failure()
        assert "502 Bad Gateway" in error.message
        assert len(error.message) < 700
        assert error.retryable

    def test_an_answer_that_is_no_stream_is_an_error(self, serve: Callable[[Reply], WireServer]) -> None:
        serve(Reply([b"<html><title>Welcome</title></html>"], content_type="text/html"))
        assert "text/html" in self.failure().message

    def test_a_redirect_is_not_followed(self, serve: Callable[[Reply], WireServer]) -> None:
        server = serve(Reply(status=307, headers={"location": "/elsewhere"}))
        assert self.failure().status == 307
        assert len(server.requests) == 1

    @pytest.mark.parametrize("cut", [True, False])
    def test_a_stream_that_breaks_off_is_retryable(self, serve: Callable[[Reply], WireServer], cut: bool) -> None:
        pieces = self.encode("a text of some length, so that there is a middle")
        serve(Reply(pieces[:3], content_type=self.content_type, cut=cut))
        got: list[Part] = []
        with pytest.raises(ProviderError) as caught:
            got.extend(self.parts())
        assert caught.value.retryable
        assert not any(isinstance(part, Finish) for part in got)

    def test_a_vendor_that_is_not_there_is_retryable(
        self, serve: Callable[[Reply], WireServer], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with WireServer(lambda _: Reply()) as gone:
            pass
        self.point_at(gone.url, SECRET, monkeypatch)
        assert self.failure().retryable

    @pytest.mark.parametrize("silence", ["before", "after"])
    def test_a_vendor_silent_for_too_long_is_retryable(
        self, serve: Callable[[Reply], WireServer], silence: str
    ) -> None:
        serve(Reply(self.encode("hello there")[:2], content_type=self.content_type, silence=silence))
        error = self.failure(options={"read_timeout": 0.1})
        assert error.retryable
        assert "silent" in error.message

    # -- cancellation

    @pytest.mark.parametrize("silence", ["before", "after"])
    def test_cancelling_ends_the_stream_and_the_connection_within_a_second(
        self, serve: Callable[[Reply], WireServer], silence: str
    ) -> None:
        server = serve(Reply(self.encode("hello there")[:2], content_type=self.content_type, silence=silence))
        cancel = Cancellation()
        at: list[float] = []

        def cancel_once_silent() -> None:
            assert server.waiting.wait(10)
            at.append(time.monotonic())
            cancel.cancel("test")

        thread = threading.Thread(target=cancel_once_silent)
        thread.start()
        parts = list(self.parts(cancel))
        assert time.monotonic() - at[0] < 1
        thread.join()
        assert not any(isinstance(part, Finish) for part in parts)
        assert server.hung_up.wait(1)

    def test_a_call_cancelled_beforehand_yields_nothing(self, serve: Callable[[Reply], WireServer]) -> None:
        serve(self.reply("hi"))
        cancel = Cancellation()
        cancel.cancel("test")
        assert list(self.parts(cancel)) == []

    def test_closing_the_iterator_closes_the_connection(self, serve: Callable[[Reply], WireServer]) -> None:
        server = serve(Reply(self.encode("hello there")[:-3], content_type=self.content_type, silence="after"))
        parts = self.parts()
        assert isinstance(next(parts), TextDelta)
        assert server.waiting.wait(10)
        parts.close()  # type: ignore[attr-defined]  # providers' iterators are generators
        assert server.hung_up.wait(1)

    def test_what_the_agent_declares_takes_the_place_of_the_settings(
        self, serve: Callable[[Reply], WireServer], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        server = serve(self.reply("hi"))
        self.point_at("http://127.0.0.1:1", SECRET, monkeypatch)
        calls = iter(range(9))
        declared = Connection(server.url, lambda: f"sk-function-{next(calls)}", {"X-Team": "support"})
        for _ in range(2):
            assert text_of(build(self.parts(connection=declared))) == "hi"
        for number, request in enumerate(server.requests):
            assert f"sk-function-{number}" in str(request.headers)
            assert SECRET not in str(request.headers)
            assert request.headers["x-team"] == "support"

    def test_many_streams_run_at_once(self, serve: Callable[[Reply], WireServer]) -> None:
        serve(self.reply("x" * 5000))
        texts: list[str] = []
        threads = [threading.Thread(target=lambda: texts.append(text_of(build(self.parts())))) for _ in range(16)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert texts == ["x" * 5000] * 16
