"""Every row of the protocol's error table, as a client meets it."""

from __future__ import annotations

import io
import json
from typing import Any

import pytest

from agentkit.errors import DecisionExpiredError, StoreUnavailableError, UnsupportedSchemaVersionError
from agentkit.server.problems import STATUSES
from agentkit.server.streams import open_streams
from tests.flaky_store import ALWAYS
from tests.unit.web.conftest import Web, assert_problem

JSON = {"Content-Type": "application/json"}
LONG = len(json.dumps({"agent": "hello", "input": ""}))
NOBODY = "01890a5d-ac96-774b-bcce-b302099a8057"


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b"{", "not JSON"),
        (b"", "not JSON"),
        (b"[]", "JSON object"),
        (b'"text"', "JSON object"),
        (b'{"agent": "hello", "input": "\xff"}', "not UTF-8"),
        (b'{"agent": "hello", "input": "a\x00b"}', "not JSON"),
        (b'{"agent": "hello", "input": "\\ud83d"}', "surrogate"),
        (b'{"agent": "hello", "input": "x", "metadata": {"\\udc00": 1}}', "surrogate"),
        (b'{"agent": "hello", "input": "x", "metadata": {"n": NaN}}', "NaN"),
        (b'{"agent": "hello", "input": "x", "metadata": {"n": -Infinity}}', "Infinity"),
        (b'{"agent": "hello", "input": "x", "metadata": {"n": 1e999}}', "too large"),
        (b'{"agent": "hello", "input": "x", "metadata": {"n": ' + b"9" * 5000 + b"}}", "not JSON"),
        (b'{"agent": "hello", "agent": "shop", "input": "x"}', "twice"),
        (b'{"agent": ' + b"[" * 10_000 + b"]" * 10_000 + b"}", "deeper"),
        (b'{"agent": "hello", "input": "x", "metadata": ' + b'{"a":' * 120 + b"1" + b"}" * 121, "deeper"),
        (b'{"input": "x"}', "agent is missing"),
        (b'{"agent": 7, "input": "x"}', "agent must be a string"),
        (b'{"agent": "hello"}', "exactly one of input, messages"),
        (b'{"agent": "hello", "input": "x", "messages": []}', "exactly one of input, messages"),
        (b'{"agent": "hello", "input": 5}', "input must be"),
        (b'{"agent": "hello", "input": ""}', "input is empty"),
        (b'{"agent": "hello", "input": [{"type": "video"}]}', "input[0]"),
        (b'{"agent": "hello", "messages": []}', "messages"),
        (b'{"agent": "hello", "input": "x", "model": null}', "leave it out"),
        (b'{"agent": "hello", "input": "x", "model": "nobody:x"}', "model"),
        (b'{"agent": "hello", "input": "x", "metadata": []}', "metadata must be an object"),
        (b'{"agent": "hello", "input": "x", "limits": {"turns": 1}}', "turns"),
        (b'{"agent": "hello", "input": "x", "limits": {"maxTurns": 0}}', "maxTurns"),
        (b'{"agent": "hello", "input": "x", "limits": {"timeout": 1e300}}', "timeout"),
        (b'{"agent": "hello", "input": "x", "stream": true}', "unknown field 'stream'"),
    ],
)
def test_a_malformed_start_is_refused_with_the_reason(web: Web, body: bytes, says: str) -> None:
    problem = assert_problem(web.client.post("/runs", data=body, headers=JSON), 400, "invalid_request")
    assert says in problem["detail"]
    assert web.client.get("/runs").json == {"runs": []}


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ({}, "exactly one of decision, reject, result"),
        ({"decision": None, "reject": {"reason": "no"}}, "exactly one of"),
        ({"decision": 1, "result": 2}, "exactly one of"),
        ({"reject": "no"}, "reject must be an object"),
        ({"reject": {}}, "reject.reason is missing"),
        ({"reject": {"reason": 5}}, "reject.reason must be a string"),
        ({"reject": {"reason": "no", "why": "x"}}, "'reject.why'"),
        ({"decision": 1, "toolCallId": 5}, "toolCallId must be a string"),
        ({"decision": 1, "input": []}, "input must be an object"),
        ({"decision": 1, "by": "me"}, "unknown field 'by'"),
    ],
)
def test_a_malformed_answer_is_refused_and_consumes_nothing(web: Web, body: Any, says: str) -> None:
    run_id = web.start("shop")
    problem = assert_problem(web.resume(run_id, body), 400, "invalid_request")
    assert says in problem["detail"]
    assert web.client.get(f"/runs/{run_id}").json["status"] == "paused"


def test_a_malformed_body_is_told_the_place(web: Web) -> None:
    body = {"agent": "hello", "messages": [{"role": "user", "content": [{"type": "text", "text": 5}]}]}
    problem = assert_problem(web.client.post("/runs", json=body), 400, "invalid_request")
    assert [error["path"] for error in problem["errors"]] == ["/messages/0/content/0/text"]
    problem = assert_problem(
        web.client.post("/runs", json={"agent": "hello", "input": "x", "y" * 500: 1}), 400, "invalid_request"
    )
    assert len(problem["detail"]) < 200
    assert problem["errors"] == [{"path": "", "message": problem["detail"]}]
    assert "errors" not in assert_problem(web.client.get("/runs?limit=x"), 400, "invalid_request")


def test_a_decision_of_null_is_a_decision(web: Web) -> None:
    assert_problem(web.resume(web.start("shop"), {"decision": None}), 422, "decision_invalid")


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("messages", {"message": "x"}),
        ("messages", {"when": "steer"}),
        ("messages", {"message": "x", "when": "now"}),
        ("messages", {"message": 5, "when": "steer"}),
        ("messages", {"message": "x", "when": "steer", "who": "me"}),
        ("abort", {"reason": 5}),
        ("abort", {"why": "x"}),
        ("abort", []),
    ],
)
def test_other_bodies_are_read_as_strictly(web: Web, path: str, body: Any) -> None:
    run_id = web.start("shop")
    assert_problem(web.client.post(f"/runs/{run_id}/{path}", json=body), 400, "invalid_request")


@pytest.mark.parametrize(
    "query",
    [
        "status=done",
        "status=",
        "limit=0",
        "limit=201",
        "limit=x",
        "limit=1.5",
        "limit=-1",
        "limit=",
        "cursor=x",
        "state=paused",
    ],
)
def test_a_listing_that_asks_for_nonsense_is_refused(web: Web, query: str) -> None:
    assert_problem(web.client.get(f"/runs?{query}"), 400, "invalid_request")


@pytest.mark.parametrize("given", ["x", "-1", "1.5", "", "1e3", " 1", "٣", "99", "9" * 40])
def test_a_place_that_is_no_seq_of_the_log_is_refused(web: Web, given: str) -> None:
    url = f"/runs/{web.start('shop')}/events"
    header = {"Last-Event-ID": given.encode().decode("latin-1")}
    assert_problem(web.client.get(url, headers=header), 400, "invalid_last_event_id")
    assert_problem(web.client.get(url, query_string={"after": given}), 400, "invalid_last_event_id")


@pytest.mark.parametrize("query", ["until=end", "until=", "untill=pause"])
def test_an_unknown_way_to_follow_is_refused(web: Web, query: str) -> None:
    assert_problem(web.client.get(f"/runs/{web.start('shop')}/events?{query}"), 400, "invalid_request")


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("GET", "", None),
        ("GET", "/events", None),
        ("GET", "/events?after=x", None),
        ("POST", "/resume", {"decision": 1}),
        ("POST", "/abort", None),
        ("POST", "/messages", {"message": "x", "when": "steer"}),
        ("DELETE", "", None),
    ],
)
def test_an_unknown_run_is_not_found(web: Web, method: str, path: str, body: Any) -> None:
    for run_id in (NOBODY, "x", "%00", "%ff", "%ED%A0%80", "{a}", "a" * 1000):
        assert_problem(web.client.open(f"/runs/{run_id}{path}", method=method, json=body), 404, "run_not_found")


def test_an_unknown_agent_is_not_found(web: Web) -> None:
    body = {"agent": "nobody", "input": "x"}
    assert "hello" in assert_problem(web.client.post("/runs", json=body), 404, "agent_not_found")["detail"]


@pytest.mark.parametrize(
    "path", ["/nothing", "/runs/", "/runs//events", "/runs/a/b", "/static/x", "/index.html", "/assets/x.js"]
)
def test_an_unknown_path_is_not_found_and_never_a_redirect(web: Web, path: str) -> None:
    assert_problem(web.client.get(path), 404, "not_found")


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("PUT", "/runs", {"GET", "HEAD", "OPTIONS", "POST"}),
        ("GET", "/runs/x/resume", {"OPTIONS", "POST"}),
        ("HEAD", "/runs/x/abort", {"OPTIONS", "POST"}),
        ("POST", "/agents", {"GET", "HEAD", "OPTIONS"}),
        ("PROPFIND", "/runs/x", {"DELETE", "GET", "HEAD", "OPTIONS"}),
    ],
)
def test_a_wrong_method_is_answered_with_the_right_ones(web: Web, method: str, path: str, allowed: set[str]) -> None:
    response = web.client.open(path, method=method)
    assert response.status_code == 405
    assert set(response.headers["Allow"].split(", ")) == allowed
    if method != "HEAD":
        assert_problem(response, 405, "method_not_allowed")


@pytest.mark.parametrize("given", [None, "text/plain", "application/x-www-form-urlencoded", "application/json-seq"])
def test_a_body_that_is_not_called_json_is_refused(web: Web, given: str | None) -> None:
    response = web.client.post("/runs", data=b'{"agent": "hello", "input": "x"}', content_type=given)
    assert_problem(response, 415, "unsupported_media_type")
    run_id = web.start("shop")
    assert_problem(
        web.client.post(f"/runs/{run_id}/abort", data=b"{}", content_type=given), 415, "unsupported_media_type"
    )


def test_json_with_a_charset_is_json(web: Web) -> None:
    body = json.dumps({"agent": "hello", "input": "x"})
    assert web.client.post("/runs", data=body, content_type="application/json; charset=utf-8").status_code == 202


@pytest.mark.parametrize("path", ["/runs", "/runs/x/resume", "/runs/x/abort", "/runs/x/messages"])
@pytest.mark.parametrize("chunked", [False, True])
def test_a_body_over_the_limit_is_refused(web: Web, path: str, chunked: bool) -> None:
    body = json.dumps({"agent": "hello", "input": "x" * (30_001 - LONG)}).encode()
    if chunked:
        response = web.client.post(
            path,
            input_stream=io.BytesIO(body),
            headers=JSON,
            environ_overrides={"wsgi.input_terminated": True, "HTTP_TRANSFER_ENCODING": "chunked"},
        )
    else:
        response = web.client.post(path, data=body, headers=JSON)
    assert "30000 bytes" in assert_problem(response, 413, "payload_too_large")["detail"]


def test_a_body_of_exactly_the_limit_is_read(web: Web) -> None:
    body = json.dumps({"agent": "hello", "input": "x" * (30_000 - LONG)}).encode()
    assert web.client.post("/runs", data=body, headers=JSON).status_code == 202


def test_conflicts_have_codes_of_their_own(web: Web) -> None:
    ended = web.start("hello")
    assert_problem(web.resume(ended, {"decision": {"approved": True}}), 409, "run_not_paused")
    assert_problem(
        web.client.post(f"/runs/{ended}/messages", json={"message": "x", "when": "steer"}), 409, "run_not_paused"
    )
    paused = web.start("twice")
    items = web.client.get(f"/runs/{paused}").json["pending"]
    assert len(items) == 2
    assert_problem(web.client.delete(f"/runs/{paused}"), 409, "run_not_terminal")
    assert_problem(web.resume(paused, {"decision": {"approved": True}}), 409, "decision_ambiguous")
    assert_problem(web.resume(paused, {"decision": {"approved": True}, "decisionId": "x"}), 404, "decision_not_found")
    one = {"decisionId": items[0]["decisionId"]}
    assert web.resume(paused, {"decision": {"approved": True}, **one}).status_code == 202
    assert web.resume(paused, {"decision": {"approved": True}, **one}).status_code == 202
    assert_problem(web.resume(paused, {"decision": {"approved": False}, **one}), 409, "decision_conflict")


def test_a_tool_that_the_application_lost_is_a_conflict(web: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    run_id = web.start("shop")
    monkeypatch.setattr(web.kit._agents["shop"], "_tools", {})
    assert_problem(web.resume(run_id, {"decision": {"approved": True}}), 409, "tool_not_registered")


def test_an_idempotency_key_binds_one_body(web: Web) -> None:
    def start(text: str, **headers: str) -> Any:
        given = {"Idempotency-Key": "k", **headers}
        return web.client.post("/runs", json={"agent": "hello", "input": text}, headers=given)

    first = start("a")
    assert start("a").json["id"] == first.json["id"]
    assert_problem(start("b"), 409, "idempotency_conflict")
    for key in ("", "k" * 256):
        response = web.client.post("/runs", json={"agent": "hello", "input": "a"}, headers={"Idempotency-Key": key})
        assert_problem(response, 400, "invalid_request")
    web.kit.handle(first.json["id"]).wait(10)
    assert web.client.delete(f"/runs/{first.json['id']}").status_code == 204
    assert_problem(start("a"), 404, "run_not_found")
    assert_problem(start("a", Accept="text/event-stream"), 404, "run_not_found")
    assert web.client.get("/runs").json["runs"] == []


def test_an_expired_decision_is_gone(web: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    def expired(*_: Any, **__: Any) -> Any:
        raise DecisionExpiredError

    run_id = web.start("shop")
    monkeypatch.setattr(web.kit, "answer", expired)
    assert_problem(web.resume(run_id, {"decision": 1}), 410, "decision_expired")


def test_an_invalid_value_is_refused_with_its_path_and_may_be_sent_again(web: Web) -> None:
    run_id = web.start("shop")
    problem = assert_problem(web.resume(run_id, {"decision": {"approved": "yes"}}), 422, "decision_invalid")
    assert [error["path"] for error in problem["errors"]] == ["/approved"]
    body = {"decision": {"approved": True}, "input": {"cents": "many"}}
    problem = assert_problem(web.resume(run_id, body), 422, "input_invalid")
    assert [error["path"] for error in problem["errors"]] == ["/cents"]
    assert web.resume(run_id, {"decision": {"approved": True}, "input": {"cents": 7}}).status_code == 202
    assert "refunded 7" in json.dumps(web.kit.handle(run_id).wait(10).messages)


def test_a_store_that_is_down_asks_to_come_again(web: Web) -> None:
    web.store.error = lambda: StoreUnavailableError(retry_after=3)
    methods = ("load", "messages", "events", "listing", "schedule", "delete", "check", "backlog", "remember")
    web.store.fail.update(dict.fromkeys(methods, ALWAYS))
    before = open_streams()
    for response in (
        web.client.get("/runs"),
        web.client.get("/runs/x"),
        web.client.get("/runs/x/events"),
        web.client.delete("/runs/x"),
        web.client.post("/runs", json={"agent": "hello", "input": "x"}, headers={"Accept": "text/event-stream"}),
        web.resume("x", {"decision": 1}),
    ):
        assert_problem(response, 503, "store_unavailable")
        assert response.headers["Retry-After"] == "3"
    assert open_streams() == before
    assert web.client.get("/readyz").json["checks"] == {"store": False, "broker": True, "worker": False}
    assert "agentkit_store_up 0" in web.client.get("/metrics").text


def test_a_record_of_a_newer_version_says_so(web: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    def newer(*_: Any) -> Any:
        raise UnsupportedSchemaVersionError("upgrade this process")

    monkeypatch.setattr(web.kit, "get", newer)
    assert_problem(web.client.get("/runs/x"), 500, "unsupported_schema_version")


def test_an_unexpected_error_is_logged_and_answered_without_a_traceback(
    web: Web, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: Any) -> Any:
        raise ZeroDivisionError("secret")

    monkeypatch.setattr(web.kit, "get", broken)
    problem = assert_problem(web.client.get("/runs/x"), 500, "internal_error")
    assert "secret" not in problem["detail"]
    assert "secret" in caplog.text


def test_every_code_of_the_protocol_has_its_status() -> None:
    table = {
        400: {"invalid_request", "invalid_last_event_id"},
        401: {"unauthenticated"},
        403: {"forbidden"},
        404: {"run_not_found", "agent_not_found", "decision_not_found", "not_found"},
        405: {"method_not_allowed"},
        409: {
            *("run_not_paused", "tool_not_registered", "decision_conflict", "decision_ambiguous"),
            *("run_not_terminal", "idempotency_conflict"),
        },
        410: {"decision_expired"},
        413: {"payload_too_large"},
        415: {"unsupported_media_type"},
        422: {"decision_invalid", "input_invalid"},
        429: {"quota_exceeded"},
        503: {"store_unavailable", "too_many_watchers"},
    }
    for status, codes in table.items():
        assert {code for code, known in STATUSES.items() if known == status} == codes
