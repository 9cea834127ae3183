from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest

from agentkit.client import ApiError, Client, ServerUnreachableError

Handler = Callable[[httpx.Request], httpx.Response]


def client_of(handler: Handler, patience: float = 5.0) -> Client:
    client = Client("http://server.test", patience=patience)
    client.close()
    client._http = httpx.Client(base_url=client.url, transport=httpx.MockTransport(handler))
    return client


class Broken(httpx.SyncByteStream):
    """A body that breaks after its pieces."""

    def __init__(self, *pieces: bytes) -> None:
        self._pieces = pieces

    def __iter__(self) -> Iterator[bytes]:
        yield from self._pieces
        raise httpx.ReadError("gone")


def frame(seq: int, kind: str = "turn_start", **more: Any) -> bytes:
    event = {"seq": seq, "type": kind, **more}
    return f"id: {seq}\ndata: {json.dumps(event, ensure_ascii=False)}\n\n".encode()


def stream(*frames: bytes, broken: bool = False) -> httpx.Response:
    headers = {"content-type": "text/event-stream"}
    if broken:
        return httpx.Response(200, headers=headers, stream=Broken(*frames))
    return httpx.Response(200, headers=headers, content=b"".join(frames))


def test_a_start_sends_what_was_given_and_a_key_that_makes_it_repeatable() -> None:
    seen: list[httpx.Request] = []

    def handler(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        return httpx.Response(503) if len(seen) == 1 else httpx.Response(202, json={"id": "r1"})

    with client_of(handler) as client:
        assert client.start("support", "hello", metadata={"a": 1})["id"] == "r1"
    assert json.loads(seen[1].content) == {"agent": "support", "input": "hello", "metadata": {"a": 1}}
    assert seen[0].headers["Idempotency-Key"] == seen[1].headers["Idempotency-Key"]


def test_a_problem_document_is_an_api_error_with_its_parts() -> None:
    problem = {"code": "decision_invalid", "detail": "no", "errors": [{"path": "/a", "message": "is missing"}]}
    with client_of(lambda _: httpx.Response(422, json=problem)) as client, pytest.raises(ApiError) as caught:
        client.resume("r1", decision={})
    error = caught.value
    assert (error.status, error.code, error.detail) == (422, "decision_invalid", "no")
    assert error.errors == problem["errors"]


@pytest.mark.parametrize(
    "response", [httpx.Response(404, text="<html>"), httpx.Response(200, text="<html>"), httpx.Response(404, json=[])]
)
def test_an_answer_that_is_not_agentkits_is_an_api_error_too(response: httpx.Response) -> None:
    with client_of(lambda _: response) as client, pytest.raises(ApiError) as caught:
        client.get("r1")
    assert caught.value.code == "not_agentkit"


def test_an_impatient_client_says_at_once_which_server_is_away() -> None:
    def handler(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("refused")

    with client_of(handler, patience=0) as client:
        with pytest.raises(ServerUnreachableError, match=r"http://server\.test"):
            client.get("r1")
        with pytest.raises(ServerUnreachableError, match=r"http://server\.test"):
            next(client.events("r1"))


def test_an_answer_without_a_decision_id_is_not_sent_twice_when_its_reply_is_lost() -> None:
    sent: list[bytes] = []

    def handler(request: httpx.Request) -> httpx.Response:
        sent.append(request.content)
        if len(sent) == 1:
            raise httpx.ReadError("gone")
        return httpx.Response(202, json={"id": "r1"})

    with client_of(handler) as client:
        with pytest.raises(ServerUnreachableError):
            client.resume("r1", decision=True)
        sent.clear()
        assert client.resume("r1", decision=True, decision_id="d1") == {"id": "r1"}
    assert len(sent) == 2


@pytest.mark.parametrize(
    ("given", "body"),
    [
        ({"decision": None}, {"decision": None}),
        ({"reject": "no"}, {"reject": {"reason": "no"}}),
        ({"result": [1]}, {"result": [1]}),
        ({"decision": 1, "tool_call_id": "c", "input": {}}, {"decision": 1, "toolCallId": "c", "input": {}}),
    ],
)
def test_a_resume_sends_exactly_what_was_given(given: dict[str, Any], body: dict[str, Any]) -> None:
    seen: list[Any] = []

    def handler(request: httpx.Request) -> httpx.Response:
        seen.append(json.loads(request.content))
        return httpx.Response(202, json={})

    with client_of(handler) as client:
        client.resume("r1", **given)
    assert seen == [body]


def test_runs_are_read_page_by_page() -> None:
    def handler(request: httpx.Request) -> httpx.Response:
        second = request.url.params.get("cursor") == "c2"
        assert request.url.params["status"] == "paused"
        page = {"runs": [{"id": "3"}]} if second else {"runs": [{"id": "1"}, {"id": "2"}], "nextCursor": "c2"}
        return httpx.Response(200, json=page)

    with client_of(handler) as client:
        assert [run["id"] for run in client.runs(status="paused")] == ["1", "2", "3"]


def test_a_broken_stream_goes_on_after_the_last_event() -> None:
    asked: list[str | None] = []

    def handler(request: httpx.Request) -> httpx.Response:
        asked.append(request.headers.get("last-event-id"))
        match len(asked):
            case 1:
                return stream(b"retry: 1000\n\n", frame(1), frame(2), b"id: 3\ndata: {", broken=True)
            case 2:
                return httpx.Response(503)
            case 3:
                return stream(b": keepalive\n\n")  # a server that goes down closes in good order
            case _:
                return stream(frame(3, text="a\u2028b\x85c"), frame(4, "agent_end"))

    with client_of(handler) as client:
        events = list(client.events("r1"))
    assert [event["seq"] for event in events] == [1, 2, 3, 4]
    assert events[2]["text"] == "a\u2028b\x85c"
    assert asked == [None, "2", "2", "2"]


def test_a_stream_that_has_nothing_left_ends() -> None:
    with client_of(lambda _: httpx.Response(204)) as client:
        assert list(client.events("r1", after=9)) == []


def test_until_pause_ends_at_the_pause_also_where_it_was_read_before() -> None:
    def handler(request: httpx.Request) -> httpx.Response:
        if request.url.path == "/runs/r1":
            return httpx.Response(200, json={"status": "paused"})
        assert request.url.params["until"] == "pause"
        after = request.headers.get("last-event-id")
        return stream() if after == "2" else stream(frame(1), frame(2, "agent_pause"))

    with client_of(handler) as client:
        assert [event["seq"] for event in client.events("r1", until_pause=True)] == [1, 2]
        assert list(client.events("r1", after=2, until_pause=True)) == []


def test_a_reset_stream_goes_on_after_the_snapshot() -> None:
    asked: list[str | None] = []

    def handler(request: httpx.Request) -> httpx.Response:
        asked.append(request.headers.get("last-event-id"))
        if len(asked) == 1:
            reset = {"type": "stream_reset", "run": {"lastSeq": 70, "status": "running"}}
            return stream(f"id: 70\ndata: {json.dumps(reset)}\n\n".encode(), broken=True)
        return stream(frame(71, "agent_end"))

    with client_of(handler) as client:
        assert [event["type"] for event in client.events("r1", after=3)] == ["stream_reset", "agent_end"]
    assert asked == ["3", "70"]


def test_an_unknown_run_is_an_error_and_not_an_endless_wait() -> None:
    problem = {"code": "run_not_found", "detail": "there is no run r1"}
    with client_of(lambda _: httpx.Response(404, json=problem)) as client, pytest.raises(ApiError) as caught:
        next(client.events("r1"))
    assert caught.value.code == "run_not_found"


def test_an_id_cannot_leave_its_place_in_the_path() -> None:
    seen: list[bytes] = []

    def handler(request: httpx.Request) -> httpx.Response:
        seen.append(request.url.raw_path)
        return httpx.Response(200, json={})

    with client_of(handler) as client:
        client.get("../agents?x")
    assert seen == [b"/runs/..%2Fagents%3Fx"]


def test_ready_says_what_is_missing() -> None:
    checks = {"store": True, "broker": True, "worker": False}
    with client_of(lambda _: httpx.Response(503, json={"checks": checks})) as client:
        assert client.ready() == "no worker"
    with client_of(lambda _: httpx.Response(200, json={})) as client:
        assert client.ready() is True


def test_a_url_without_a_scheme_is_an_error_that_says_so() -> None:
    with Client("localhost-without-scheme", patience=0) as client, pytest.raises(ServerUnreachableError, match="http"):
        client.get("r1")
