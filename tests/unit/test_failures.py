"""What a vendor's refusals say: which are worth another try, when, and what to do about the others."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import pytest

from agentkit.errors import ProviderError
from agentkit.providers.failures import retry_after, status_error, stream_error, vendor_message


def status(code: int, body: Any, **headers: str) -> ProviderError:
    in_lower_case = {name.replace("_", "-"): value for name, value in headers.items()}
    body_text = body if isinstance(body, str) else json.dumps(body)
    return status_error("openai", code, in_lower_case, body_text, key_setting="THE_KEY", url_setting="THE_URL")


@pytest.mark.parametrize(
    ("code", "body", "parts"),
    [
        (401, {"error": {"message": "bad key", "code": "invalid_api_key"}}, ["401", "bad key", "check THE_KEY"]),
        (401, {"detail": "Unauthorized"}, ["Unauthorized", "THE_KEY"]),
        (404, {"error": "no such model"}, ["no such model", "model's name and THE_URL"]),
        (400, {"error": {"message": "too much", "code": "context_length_exceeded"}}, ["too much", "shorten it"]),
        (400, {"error": {"message": "exceeds the available context size"}}, ["shorten it"]),
        (422, {"detail": [{"loc": ["body"], "msg": "field required"}]}, ["field required"]),
        (429, {"error": {"message": "failed", "code": 429, "metadata": {"raw": "slow down"}}}, ["failed: slow down"]),
        (502, "<!DOCTYPE html><title>Bad\nGateway</title>" + "x" * 9999, ["HTML page", "Bad"]),
        (500, "", ["openai answered HTTP 500"]),
        (500, "plain words", ["plain words"]),
        (500, {"unheard": "of"}, ["unheard"]),
        (307, "", ["redirects are not followed", "THE_URL"]),
    ],
)
def test_a_status_error_says_what_happened_and_what_to_do(code: int, body: Any, parts: list[str]) -> None:
    error = status(code, body)
    assert all(part in str(error) for part in parts), str(error)
    assert len(str(error)) < 700
    assert "THE_KEY" not in error.message, "the names of settings are the operator's"
    assert "THE_URL" not in error.message


def test_which_statuses_are_worth_another_try() -> None:
    retryable = {code for code in range(300, 600) if status(code, "").retryable}
    assert retryable == {408, 409, 425, 429, *range(500, 600)}
    assert status(400, "", x_should_retry="true").retryable
    assert not status(529, "", x_should_retry="false").retryable
    assert not status(429, {"error": {"message": "no money", "code": "insufficient_quota"}}).retryable


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"retry-after": "3"}, 3.0),
        ({"retry-after": "2", "retry-after-ms": "1500"}, 1.5),
        ({"retry-after": "1", "retry-after-ms": "0"}, 1.0),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "inf"}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "Wed, 21 Oct 2015 07:28:00 GMT"}, 0.0),
    ],
)
def test_retry_after_is_read_in_every_form(headers: dict[str, str], seconds: float | None) -> None:
    assert retry_after(headers) == seconds


def test_retry_after_may_be_a_date_to_come() -> None:
    seconds = retry_after({"retry-after": format_datetime(datetime.now(UTC) + timedelta(hours=1), usegmt=True)})
    assert seconds is not None
    assert 3500 < seconds <= 3600


@pytest.mark.parametrize(
    ("problem", "retryable"),
    [
        ({"message": "busy", "type": "overloaded_error"}, True),
        ({"message": "busy", "type": "server_error", "code": None}, True),
        ({"message": "busy", "code": "503"}, True),
        ({"message": "no", "type": "invalid_request_error"}, False),
        ({"message": "no", "code": 400}, False),
        ("out of memory", True),
        ({"code": 1, "message": ""}, True),
        (None, True),
    ],
)
def test_an_error_inside_a_stream_is_retryable_unless_the_request_is_at_fault(problem: Any, retryable: bool) -> None:
    assert stream_error("openai", problem).retryable is retryable


def test_half_a_surrogate_pair_in_a_vendors_message_is_replaced() -> None:
    assert vendor_message({"error": {"message": "caf\ud83d"}}) == "caf\ufffd"


def test_a_vendors_message_may_have_any_shape() -> None:
    assert vendor_message({"error": {"message": "a\n  b"}}) == "a b"
    assert vendor_message(["a", {"msg": "b"}, None, 3]) == "a; b; ; 3"
