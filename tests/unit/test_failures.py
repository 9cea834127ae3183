"""What a vendor's refusals say: which are worth another try, when, and what to do about the others."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import pytest

from agentkit.errors import ProviderError
from agentkit.providers.failures import status_error, stream_error, vendor_message
from agentkit.providers.waits import retry_after


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


# -- what refusals mean

TOO_LONG = [
    (
        400,
        {
            "error": {
                "message": "This model's maximum context length is 128000 tokens.",
                "code": "context_length_exceeded",
            }
        },
    ),
    (400, {"error": {"message": "prompt is too long: 215000 tokens > 200000 maximum"}}),
    (400, {"error": {"message": "input length and `max_tokens` exceed context limit: 190000 + 32000 > 200000"}}),
    (
        400,
        [{"error": {"message": "The input token count (1200000) exceeds the maximum number of tokens allowed (9)."}}],
    ),
    (400, {"message": "Prompt contains 40000 tokens, too large for model with 32768 maximum context length"}),
    (400, {"error": "This model's maximum prompt length is 131072 but the request contains 140000 tokens."}),
    (
        422,
        {"error": {"message": "`inputs` tokens + `max_new_tokens` must be <= 131073. Given: 140000 `inputs` tokens"}},
    ),
    (400, {"message": "too many tokens: total number of tokens in the prompt cannot exceed 128000"}),
    (400, {"message": "Input is too long for requested model."}),
    (400, {"message": "The input (5000 tokens) is longer than the model's context length (4096 tokens)."}),
    (500, {"error": {"code": 500, "message": "Context size has been exceeded.", "type": "server_error"}}),
    (400, {"error": "Trying to keep the first 5000 tokens when context the overflows."}),
    (400, {"error": {"message": "Your request exceeded model token limit: 262144"}}),
    (400, {"error": {"code": "1261", "message": "Prompt exceeds max length"}}),
    (400, {"error": {"message": "prompt token count of 140000 exceeds the limit of 128000", "code": "x"}}),
    (429, {"error": {"message": "Request too large for gpt-5 on tokens per min (TPM): Limit 30000, Requested 45000."}}),
    (413, {"error": {"type": "request_too_large", "message": "Request exceeds the maximum size"}}),
]


@pytest.mark.parametrize(("code", "body"), TOO_LONG)
def test_what_is_too_long_is_not_tried_again_whatever_the_status(code: int, body: Any) -> None:
    error = status(code, body)
    assert not error.retryable
    assert "shorten it" in error.message
    if code != 413:
        assert not stream_error("v", body[0] if isinstance(body, list) else body).retryable


MONEY = [
    (429, {"error": {"message": "You exceeded your current quota", "type": "insufficient_quota"}}),
    (429, {"error": {"message": "Your account is suspended, please check your plan and billing details"}}),
    (429, {"error": {"message": "out of money", "type": "exceeded_current_quota_error"}}),
    (429, {"error": {"code": "1113", "message": "Insufficient balance or no resource package. Please recharge."}}),
    (429, {"error": {"message": "余额不足"}}),
    (429, {"error": "you (name) have reached your weekly usage limit, upgrade for higher limits"}),
    (429, {"error": {"message": "Rate limit exceeded: free-models-per-day. Add 10 credits to unlock more"}}),
    (400, {"error": {"message": "Your credit balance is too low to access the Anthropic API."}}),
    (402, {"error": {"message": "no"}}),
    (403, {"code": "The caller does not have permission", "error": "Your team doesn't have any credits yet."}),
    (403, {"error": {"message": "Key spending limit reached"}}),
]


@pytest.mark.parametrize(("code", "body"), MONEY)
def test_what_money_alone_cures_is_not_tried_again_and_no_matter_of_the_key(code: int, body: Any) -> None:
    error = status(code, body)
    assert not error.retryable
    assert "plan and billing" in error.message
    assert error.internal is None


def test_a_quota_of_the_day_is_used_up_whatever_wait_google_names() -> None:
    violation = {"quotaId": "GenerateRequestsPerDayPerProjectPerModel-FreeTier"}
    details = [{"violations": [violation]}, {"retryDelay": "37s"}]
    error = status(429, [{"error": {"message": "You exceeded your current quota.", "details": details}}])
    assert not error.retryable


@pytest.mark.parametrize(
    ("code", "body"),
    [
        (429, {"error": {"message": "Rate limit reached. Please try again in 20s. Visit https://x.example/billing"}}),
        (429, {"error": {"message": "You exceeded your current quota. Please retry in 37.2s."}}),
        (429, {"error": {"message": "Limit reached. Try again in 1.2s. Need more tokens? Upgrade to Dev Tier today"}}),
        (429, {"message": "Too many tokens, please wait before trying again."}),
        (429, {"error": {"message": "You have exceeded the limit of 60 requests per minute"}}),
        (500, {"error": {"message": "the content filter is unavailable"}}),
        (500, {"error": {"message": "weekly maintenance"}}),
        (500, {"error": "no user query found in messages"}),
        (503, {"error": {"message": "no credits service"}}),
    ],
)
def test_rates_and_failures_of_the_vendor_are_tried_again(code: int, body: Any) -> None:
    error = status(code, body)
    assert error.retryable
    assert "billing:" not in error.message


@pytest.mark.parametrize(
    "body",
    [
        {"error": {"message": "Input was flagged", "metadata": {"reasons": ["violence"]}}},
        {"error": {"message": "refused", "code": "content_policy_violation"}},
        {"error": {"message": "The response was filtered due to the prompt triggering the content management policy"}},
        {
            "error": {
                "message": "Country, region, or territory not supported",
                "code": "unsupported_country_region_territory",
            }
        },
    ],
)
def test_a_refusal_for_other_reasons_than_the_key_does_not_blame_it(body: Any) -> None:
    error = status(403, body)
    assert not error.retryable
    assert error.internal is None


@pytest.mark.parametrize("body", [{"error": {"message": "The security token is expired"}}, {"detail": "Forbidden"}, ""])
def test_a_refusal_without_another_reason_says_to_check_the_key(body: Any) -> None:
    assert status(403, body).internal == "check THE_KEY"


def test_a_proxy_that_wants_credentials_is_named() -> None:
    assert "HTTP_PROXY" in (status(407, "").internal or "")


# -- waits


@pytest.mark.parametrize(
    ("body", "seconds"),
    [
        ({"error": {"message": "slow", "details": [{"@type": "RetryInfo", "retryDelay": "37s"}]}}, 37.0),
        ([{"error": {"message": "slow", "details": [{"retryDelay": "1.5s"}]}}], 1.5),
        ({"error": {"message": "Please try again in 6m28.8s."}}, 388.8),
        ({"error": {"message": "Please try again in 6m0s."}}, 360.0),
        ({"error": {"message": "Please retry after 9 seconds."}}, 9.0),
        ({"error": {"message": "try again in 350ms"}}, 0.35),
        ({"error": {"message": "Please try again in 1 hour and 2 minutes"}}, 3720.0),
        ({"error": {"message": "Please wait 30 seconds"}}, 30.0),
        ({"error": {"message": "slow", "retry_after": 5}}, 5.0),
        ({"retry_after_ms": 250, "message": "slow"}, 0.25),
        ({"error": {"message": "slow", "metadata": {"retry_after_seconds": "7"}}}, 7.0),
        ("please retry in 3s", 3.0),
        ({"error": {"message": "try again in a while"}}, None),
        ({"error": {"message": "try again in 5 models"}}, None),
        ({"error": {"message": "slow", "retry_after": True}}, None),
        ({"error": {"message": "slow", "retry_after": "nan"}}, None),
        ({"error": {"message": "slow", "retry_after": -1}}, None),
    ],
)
def test_a_wait_in_the_body_is_read(body: Any, seconds: float | None) -> None:
    assert status(429, body).retry_after == pytest.approx(seconds)
    assert stream_error("v", body if isinstance(body, str | dict) else body[0]).retry_after == pytest.approx(seconds)


def test_a_wait_in_the_headers_counts_before_one_in_the_body() -> None:
    assert status(429, "try again in 9s", retry_after="2").retry_after == 2.0


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"x_ratelimit_reset_requests": "6m0s"}, 360.0),
        ({"x_ratelimit_reset_requests": "1s", "x_ratelimit_reset_tokens": "2m"}, 120.0),
        (
            {
                "x_ratelimit_reset_requests": "1s",
                "x_ratelimit_remaining_requests": "0",
                "x_ratelimit_reset_tokens": "2m",
                "x_ratelimit_remaining_tokens": "500",
            },
            1.0,
        ),
        ({"x_ratelimit_reset": "12"}, 12.0),
        ({"x_ratelimit_reset": "soon"}, None),
    ],
)
def test_the_reset_of_a_rate_limit_is_a_wait(headers: dict[str, str], seconds: float | None) -> None:
    assert status(429, "slow", **headers).retry_after == seconds
    assert status(500, "slow", **headers).retry_after is None


@pytest.mark.parametrize("scale", [1, 1000])
def test_the_reset_of_a_rate_limit_may_be_a_time(scale: int) -> None:
    at = (datetime.now(UTC) + timedelta(minutes=5)).timestamp()
    assert 290 < (status(429, "slow", x_ratelimit_reset=str(int(at * scale))).retry_after or 0) <= 300
    iso = (datetime.now(UTC) + timedelta(minutes=5)).isoformat()
    assert 290 < (status(429, "slow", anthropic_ratelimit_reset=iso).retry_after or 0) <= 300


@pytest.mark.parametrize(("value", "seconds"), [("6m0s", 360.0), ("37s", 37.0), ("1h", 3600.0)])
def test_retry_after_may_be_a_duration(value: str, seconds: float) -> None:
    assert retry_after({"retry-after": value}) == seconds
