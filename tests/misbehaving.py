"""What every provider must bear from a server that misbehaves on purpose. Inherit it beside `ProviderContract`."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import pytest

from agentkit.core.cancellation import Cancellation
from agentkit.core.messages import text_of
from agentkit.errors import ProviderError
from agentkit.providers.protocol import Finish, Part
from agentkit.testing.provider_contract import build
from agentkit.testing.wire_server import Reply, WireServer

__all__ = ["ErrorAsJsonContract", "MisbehavingServerContract", "TextStreamContract"]

MEGABYTE = 1024 * 1024


class MisbehavingServerContract:
    content_type: str
    error_body: Callable[[str], bytes]
    encode: Callable[[Any], list[bytes]]
    parts: Callable[..., Iterator[Part]]
    failure: Callable[..., ProviderError]

    def test_a_slow_server_is_waited_for_while_it_says_something(self, serve: Callable[[Reply], WireServer]) -> None:
        serve(Reply(self.encode("slow and steady"), content_type=self.content_type, delay=0.05))
        assert text_of(build(self.parts(options={"read_timeout": 1.0}))) == "slow and steady"

    def test_a_body_in_single_bytes_is_read(self, serve: Callable[[Reply], WireServer]) -> None:
        body = b"".join(self.encode("drop by drop"))
        serve(Reply([body[at : at + 1] for at in range(len(body))], content_type=self.content_type))
        assert text_of(build(self.parts())) == "drop by drop"

    def test_a_connection_cut_at_any_piece_never_looks_whole(self, serve: Callable[[Reply], WireServer]) -> None:
        body = b"".join(self.encode("a text that is cut"))
        server = serve(Reply())
        for at in range(0, len(body), max(1, len(body) // 12)):
            reply = Reply([body[:at]] if at else [], content_type=self.content_type, cut=True)
            server.answer = lambda _, reply=reply: reply  # type: ignore[misc]
            got: list[Part] = []
            with contextlib.suppress(ProviderError):
                got += self.parts()
                assert isinstance(got[-1], Finish)  # all that matters had come: then the cut does no harm
                assert text_of(build(got)) == "a text that is cut"

    @pytest.mark.parametrize(("header", "seconds"), [(None, None), ("12", 12.0), ("0.5", 0.5), ("soon", None)])
    def test_too_many_requests_are_retryable_and_say_when(
        self, serve: Callable[[Reply], WireServer], header: str | None, seconds: float | None
    ) -> None:
        headers = {} if header is None else {"retry-after": header}
        serve(Reply([self.error_body("slow down")], 429, "application/json", headers))
        error = self.failure()
        assert (error.status, error.retryable, error.retry_after) == (429, True, seconds)

    def test_too_many_requests_until_a_date_say_how_long(self, serve: Callable[[Reply], WireServer]) -> None:
        at = format_datetime(datetime.now(UTC) + timedelta(minutes=10), usegmt=True)
        serve(Reply([self.error_body("slow down")], 429, "application/json", {"retry-after": at}))
        assert 500 < (self.failure().retry_after or 0) <= 600

    @pytest.mark.parametrize("status", [200, 403, 502])
    def test_a_page_of_html_is_an_error_that_names_its_title(
        self, serve: Callable[[Reply], WireServer], status: int
    ) -> None:
        serve(Reply([b"<!doctype html><html><title>Sign in</title>" + b"<p>" * 9999], status, "text/html"))
        error = self.failure()
        assert "Sign in" in error.message
        assert error.retryable is (status == 502)
        assert len(error.message) < 700

    @pytest.mark.parametrize("content_type", ["text/plain", "", "application/octet-stream"])
    def test_what_is_no_stream_is_an_error_that_names_its_content_type_and_quotes_it(
        self, serve: Callable[[Reply], WireServer], content_type: str
    ) -> None:
        serve(Reply([b"nobody is at home"], content_type=content_type))
        message = self.failure().message
        assert (content_type or "no content type") in message
        assert "nobody is at home" in message

    def test_a_content_type_may_have_parameters(self, serve: Callable[[Reply], WireServer]) -> None:
        serve(Reply(self.encode("hi"), content_type=f"{self.content_type.upper()}; charset=latin-1"))
        assert text_of(build(self.parts())) == "hi"

    @pytest.mark.parametrize("piece", [4096, MEGABYTE])
    def test_a_line_of_ten_megabytes_is_read(self, serve: Callable[[Reply], WireServer], piece: int) -> None:
        frames = self.encode("@")
        body = b"".join(frames).replace(b'"@"', json.dumps("x" * (10 * MEGABYTE)).encode())
        serve(Reply([body[at : at + piece] for at in range(0, len(body), piece)], content_type=self.content_type))
        assert len(text_of(build(self.parts()))) == 10 * MEGABYTE

    def test_ten_megabytes_without_an_end_can_be_cancelled(self, serve: Callable[[Reply], WireServer]) -> None:
        server = serve(
            Reply([b'data: {"a": "'] + [b"x" * MEGABYTE] * 10, content_type=self.content_type, silence="after")
        )
        cancel = Cancellation()
        parts = self.parts(cancel)

        def cancel_once_silent() -> None:
            assert server.waiting.wait(20)
            cancel.cancel("test")

        thread = threading.Thread(target=cancel_once_silent)
        thread.start()
        assert list(parts) == []
        thread.join()

    def test_a_body_that_is_no_utf_8_is_a_provider_error_or_text(self, serve: Callable[[Reply], WireServer]) -> None:
        frames = self.encode("@")
        serve(Reply([b"".join(frames).replace(b'"@"', b'"\xff\xfe"')], content_type=self.content_type))
        assert text_of(build(self.parts())) == "\ufffd\ufffd"


class TextStreamContract(MisbehavingServerContract):
    """For providers whose answers are lines of text: what they are is seen, whatever their header says."""

    @pytest.mark.parametrize("content_type", ["text/plain", "application/json", "", "application/octet-stream"])
    def test_a_stream_under_a_wrong_content_type_is_read(
        self, serve: Callable[[Reply], WireServer], content_type: str
    ) -> None:
        serve(Reply(self.encode("hi"), content_type=content_type))
        assert text_of(build(self.parts())) == "hi"

    def test_a_byte_order_mark_before_the_stream_is_passed_over(self, serve: Callable[[Reply], WireServer]) -> None:
        serve(Reply([b"\xef\xbb\xbf", *self.encode("hi")], content_type=self.content_type))
        assert text_of(build(self.parts())) == "hi"

    def test_a_last_event_that_nothing_ends_is_read(self, serve: Callable[[Reply], WireServer]) -> None:
        body = b"".join(self.encode("hi")).rstrip()
        serve(Reply([body], content_type=self.content_type))
        assert text_of(build(self.parts())) == "hi"


class ErrorAsJsonContract:
    """For providers that know this shape of an error, as most vendors of this wire and that use it."""

    failure: Callable[..., ProviderError]

    @pytest.mark.parametrize("content_type", ["application/json", "text/event-stream", "application/x-ndjson"])
    def test_an_error_as_json_in_place_of_a_stream_is_raised_with_its_words(
        self, serve: Callable[[Reply], WireServer], content_type: str
    ) -> None:
        body = json.dumps({"type": "error", "error": {"message": "slow down", "type": "rate_limit_error", "code": 429}})
        serve(Reply([body.encode()], content_type=content_type))
        error = self.failure()
        assert "slow down" in error.message
        assert error.retryable
