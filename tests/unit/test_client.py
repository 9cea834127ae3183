"""The clients: one table of what a server does, run against the one that blocks and the one for asyncio."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from agentkit.client import ApiError, AsyncClient, Client, ServerUnreachableError, plans
from tests.clients import Blocking, frame, stream


@pytest.fixture
def sleeps(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The seconds that a client waits before each retry; here they take no time."""
    seconds: list[float] = []

    def sleep(wanted: float) -> plans.Sleep:
        seconds.append(wanted)
        return plans_sleep(0)

    plans_sleep = plans.Sleep
    monkeypatch.setattr(plans, "Sleep", sleep)
    return seconds


def test_a_start_sends_what_was_given_and_a_key_that_makes_it_repeatable(client_of: Callable[..., Any]) -> None:
    seen: list[httpx.Request] = []

    def handler(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        return httpx.Response(503) if len(seen) == 1 else httpx.Response(202, json={"id": "r1"})

    with client_of(handler) as client:
        assert client.start("support", "hello", metadata={"a": 1})["id"] == "r1"
    assert json.loads(seen[1].content) == {"agent": "support", "input": "hello", "metadata": {"a": 1}}
    assert seen[0].headers["Idempotency-Key"] == seen[1].headers["Idempotency-Key"]


@pytest.mark.parametrize(
    ("arguments", "body"),
    [
        ({"from_run": "r0"}, {"from": {"runId": "r0"}}),
        ({"from_run": "r0", "turn": 0, "input": "x"}, {"from": {"runId": "r0", "turn": 0}, "input": "x"}),
        ({"agent": "a", "from_run": "r0", "turn": 2}, {"agent": "a", "from": {"runId": "r0", "turn": 2}}),
    ],
)
def test_a_start_may_be_from_another_run(client_of: Callable[..., Any], arguments: Any, body: Any) -> None:
    seen: list[Any] = []

    def handler(request: httpx.Request) -> httpx.Response:
        seen.append(json.loads(request.content))
        return httpx.Response(202, json={"id": "r1"})

    with client_of(handler) as client:
        client.start(**arguments)
    assert seen == [body]


def test_a_problem_document_is_an_api_error_with_its_parts(client_of: Callable[..., Any]) -> None:
    problem = {"code": "decision_invalid", "detail": "no", "errors": [{"path": "/a", "message": "is missing"}]}
    with client_of(lambda _: httpx.Response(422, json=problem)) as client, pytest.raises(ApiError) as caught:
        client.resume("r1", decision={})
    error = caught.value
    assert (error.status, error.code, error.detail) == (422, "decision_invalid", "no")
    assert error.errors == problem["errors"]


@pytest.mark.parametrize(
    ("status", "body"), [(404, {"text": "<html>"}), (200, {"text": "<html>"}), (404, {"json": []})]
)
def test_an_answer_that_is_not_agentkits_is_an_api_error_too(
    client_of: Callable[..., Any], status: int, body: Any
) -> None:
    with client_of(lambda _: httpx.Response(status, **body)) as client, pytest.raises(ApiError) as caught:
        client.get("r1")
    assert caught.value.code == "not_agentkit"


def test_an_impatient_client_says_at_once_which_server_is_away(client_of: Callable[..., Any]) -> None:
    def handler(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("refused")

    with client_of(handler, retry_seconds=0) as client:
        with pytest.raises(ServerUnreachableError, match=r"http://server\.test"):
            client.get("r1")
        with pytest.raises(ServerUnreachableError, match=r"http://server\.test"):
            next(client.events("r1"))


CALLS: dict[str, Callable[..., Any]] = {
    "resume by call": lambda client, **key: client.resume("r1", decision=True, tool_call_id="c1", **key),
    "resume by id": lambda client, **key: client.resume("r1", decision=True, decision_id="d1", **key),
    "extend": lambda client, **key: client.extend("r1", "d1", 60, **key),
    "send": lambda client, **key: client.send("r1", "stop that", "steer", **key),
    "start": lambda client, **key: client.start("shop", "hi", **key),
}


@pytest.mark.parametrize("name", CALLS)
@pytest.mark.parametrize("failure", [503, 502, 504, httpx.ReadError("gone"), httpx.ConnectError("refused")])
def test_what_must_not_be_done_twice_is_sent_again_under_the_same_key(
    client_of: Callable[..., Any], name: str, failure: Any
) -> None:
    sent: list[httpx.Request] = []

    def handler(request: httpx.Request) -> httpx.Response:
        sent.append(request)
        if len(sent) % 2 == 0:
            return httpx.Response(202, json={"id": "r1"})
        if isinstance(failure, int):
            return httpx.Response(failure)
        raise failure

    with client_of(handler) as client:
        for key in ({}, {}, {"idempotency_key": "mine"}):
            assert CALLS[name](client, **key) == {"id": "r1"}
    keys = [request.headers["Idempotency-Key"] for request in sent]
    assert keys[::2] == keys[1::2]
    assert len({*keys}) == 3
    assert keys[4] == "mine"
    assert len({request.content for request in sent}) == 1


@pytest.mark.parametrize(
    ("given", "body"),
    [
        ({"decision": None, "decision_id": "d"}, {"decision": None, "decisionId": "d"}),
        ({"reject": "no", "decision_id": "d"}, {"reject": {"reason": "no"}, "decisionId": "d"}),
        ({"result": [1], "decision_id": "d"}, {"result": [1], "decisionId": "d"}),
        ({"decision": 1, "tool_call_id": "c", "input": {}}, {"decision": 1, "toolCallId": "c", "input": {}}),
        (
            {"reject": "no", "decision_id": "d", "remember": True},
            {"reject": {"reason": "no"}, "decisionId": "d", "remember": True},
        ),
    ],
)
def test_a_resume_sends_exactly_what_was_given(
    client_of: Callable[..., Any], given: dict[str, Any], body: dict[str, Any]
) -> None:
    seen: list[Any] = []

    def handler(request: httpx.Request) -> httpx.Response:
        seen.append(json.loads(request.content))
        return httpx.Response(202, json={})

    with client_of(handler) as client:
        client.resume("r1", **given)
    assert seen == [body]


@pytest.mark.parametrize(("pending", "named"), [(["d1"], "d1"), (["d1", "d2"], None), ([], None)])
def test_a_resume_without_ids_names_the_one_item_that_is_pending(
    client_of: Callable[..., Any], pending: list[str], named: str | None
) -> None:
    sent: list[Any] = []

    def handler(request: httpx.Request) -> httpx.Response:
        if request.method == "GET":
            return httpx.Response(200, json={"pending": [{"decisionId": item} for item in pending]})
        sent.append(json.loads(request.content))
        return httpx.Response(202, json={})

    with client_of(handler) as client:
        client.resume("r1", decision=True)
    assert sent == [{"decision": True, **({"decisionId": named} if named else {})}]


def test_runs_are_read_page_by_page(client_of: Callable[..., Any]) -> None:
    def handler(request: httpx.Request) -> httpx.Response:
        second = request.url.params.get("cursor") == "c2"
        assert request.url.params["status"] == "paused"
        page = {"runs": [{"id": "3"}]} if second else {"runs": [{"id": "1"}, {"id": "2"}], "nextCursor": "c2"}
        return httpx.Response(200, json=page)

    with client_of(handler) as client:
        assert [run["id"] for run in client.runs(status="paused")] == ["1", "2", "3"]


def test_runs_are_selected_by_what_they_have(client_of: Callable[..., Any]) -> None:
    asked: list[dict[str, str]] = []

    def handler(request: httpx.Request) -> httpx.Response:
        asked.append(dict(request.url.params))
        return httpx.Response(200, json={"runs": []})

    with client_of(handler) as client:
        assert (
            list(client.runs(owner="ann", since=1, until=2, text="t", error="aborted", metadata={"a b": "c=d"})) == []
        )
    filters = {"owner": "ann", "since": "1", "until": "2", "text": "t", "error": "aborted", "metadata[a b]": "c=d"}
    assert asked == [{**filters, "limit": "100"}]


def test_what_waits_is_read_page_by_page_and_counted(client_of: Callable[..., Any]) -> None:
    filters = {"kind": "decision", "agent": "a", "tool": "t", "owner": "ann"}

    def handler(request: httpx.Request) -> httpx.Response:
        params = dict(request.url.params)
        if request.url.path == "/decisions/count":
            assert params == filters
            return httpx.Response(200, json={"pending": 3, "oldestCreatedAt": 7})
        cursor = params.pop("cursor", None)
        assert (request.url.path, params) == ("/decisions", {**filters, "state": "pending", "limit": "100"})
        page = (
            {"decisions": [{"decisionId": "2"}]} if cursor else {"decisions": [{"decisionId": "1"}], "nextCursor": "c"}
        )
        return httpx.Response(200, json=page)

    with client_of(handler) as client:
        assert [item["decisionId"] for item in client.decisions(**filters)] == ["1", "2"]
        assert client.count_decisions(**filters) == {"pending": 3, "oldestCreatedAt": 7}


def test_an_unknown_run_is_an_error_and_not_an_endless_wait(client_of: Callable[..., Any]) -> None:
    problem = {"code": "run_not_found", "detail": "there is no run r1"}
    with client_of(lambda _: httpx.Response(404, json=problem)) as client, pytest.raises(ApiError) as caught:
        next(client.events("r1"))
    assert caught.value.code == "run_not_found"


def test_an_id_cannot_leave_its_place_in_the_path(client_of: Callable[..., Any]) -> None:
    seen: list[bytes] = []

    def handler(request: httpx.Request) -> httpx.Response:
        seen.append(request.url.raw_path)
        return httpx.Response(200, json={})

    with client_of(handler) as client:
        client.get("../agents?x")
    assert seen == [b"/runs/..%2Fagents%3Fx"]


def test_ready_says_what_is_missing(client_of: Callable[..., Any]) -> None:
    checks = {"store": True, "broker": True, "worker": False}
    with client_of(lambda _: httpx.Response(503, json={"checks": checks})) as client:
        assert client.ready() == "no worker"
    with client_of(lambda _: httpx.Response(200, json={})) as client:
        assert client.ready() is True


@pytest.mark.parametrize("kind", [Client, Blocking])
def test_a_url_without_a_scheme_is_an_error_that_says_so_at_once(kind: Any, sleeps: list[float]) -> None:
    with (
        kind("localhost-without-scheme", retry_seconds=5) as client,
        pytest.raises(ServerUnreachableError, match="http"),
    ):
        client.get("r1")
    assert sleeps == []


@pytest.mark.parametrize("kind", [Client, Blocking])
def test_a_header_that_http_does_not_allow_is_an_error_at_once(kind: Any, sleeps: list[float]) -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        kind(
            f"http://127.0.0.1:{server.getsockname()[1]}", retry_seconds=5, headers={"Authorization": "a\nb"}
        ) as client,
        pytest.raises(ServerUnreachableError, match="header"),
    ):
        client.get("r1")
    assert sleeps == []


def test_an_answer_that_comes_garbled_is_asked_for_again(client_of: Callable[..., Any]) -> None:
    asked: list[httpx.Request] = []

    def handler(request: httpx.Request) -> httpx.Response:
        asked.append(request)
        if len(asked) == 1:
            return httpx.Response(200, headers={"content-encoding": "gzip"}, stream=httpx.ByteStream(b"no gzip"))
        return httpx.Response(200, json={"id": "r1"})

    with client_of(handler) as client:
        assert client.get("r1") == {"id": "r1"}
    assert len(asked) == 2


def test_a_server_that_says_how_long_is_not_asked_before(client_of: Callable[..., Any], sleeps: list[float]) -> None:
    asked: list[httpx.Request] = []

    def handler(request: httpx.Request) -> httpx.Response:
        asked.append(request)
        if len(asked) == 1:
            return httpx.Response(503, headers={"Retry-After": "3"})
        return stream(frame(1, "agent_end"))

    with client_of(handler) as client:
        assert [event["seq"] for event in client.events("r1")] == [1]
    assert (len(asked), sleeps) == (2, [3.0])


def test_a_server_whose_retry_after_exceeds_the_retry_seconds_is_unreachable_at_once(
    client_of: Callable[..., Any], sleeps: list[float]
) -> None:
    problem = {"code": "store_unavailable", "detail": "the store is away"}
    response = httpx.Response(503, headers={"Retry-After": "20"}, json=problem)
    with client_of(lambda _: response) as client, pytest.raises(ServerUnreachableError, match="the store is away"):
        client.get("r1")
    assert sleeps == []


def test_a_deleted_run_answers_nothing(client_of: Callable[..., Any]) -> None:
    seen: list[str] = []

    def handler(request: httpx.Request) -> httpx.Response:
        seen.append(f"{request.method} {request.url.raw_path.decode()}")
        return httpx.Response(204)

    with client_of(handler) as client:
        assert client.delete("r1") is None
        assert client.delete("r1", force=True) is None
    assert seen == ["DELETE /runs/r1", "DELETE /runs/r1?force=1"]


@pytest.mark.parametrize("status", [200, 302])
def test_a_deletion_is_done_only_where_the_server_says_so(client_of: Callable[..., Any], status: int) -> None:
    response = httpx.Response(status, headers={"location": "/login"}, text="<html>")
    with client_of(lambda _: response) as client, pytest.raises(ApiError) as caught:
        client.delete("r1")
    assert (caught.value.status, caught.value.code) == (status, "not_agentkit")


def test_headers_go_with_every_request_and_may_be_made_anew_for_each(client_of: Callable[..., Any]) -> None:
    seen: list[str] = []

    def handler(request: httpx.Request) -> httpx.Response:
        seen.append(request.headers["Authorization"])
        if request.url.path.endswith("/events"):
            return stream(frame(1), broken=True) if len(seen) == 2 else stream(frame(2, "agent_end"))
        return httpx.Response(200, json={})

    tokens = iter("abc")
    with client_of(handler, headers=lambda: {"Authorization": next(tokens)}) as client:
        client.get("r1")
        assert [event["seq"] for event in client.events("r1")] == [1, 2]
    with client_of(handler, headers={"Authorization": "always"}) as client:
        client.get("r1")
    assert seen == ["a", "b", "c", "always"]


def test_an_async_clients_headers_may_be_awaited() -> None:
    async def headers() -> dict[str, str]:
        return {"Authorization": "fresh"}

    async def told() -> Any:
        transport = httpx.MockTransport(lambda request: httpx.Response(200, json=request.headers["authorization"]))
        async with AsyncClient("http://server.test", headers=headers, transport=transport) as client:
            return await client.get("r1")

    assert asyncio.run(told()) == "fresh"


def test_both_clients_have_the_same_methods() -> None:
    def public(kind: type) -> set[str]:
        return {name for name in dir(kind) if not name.startswith("_")} - {"close", "aclose"}

    assert public(Client) == public(AsyncClient)
