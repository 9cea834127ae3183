"""Following a run through a client: every event once, whatever becomes of the connection."""

from __future__ import annotations

import json
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import httpx
import pytest

from agentkit.client import ApiError, ServerUnreachableError, calls, plans
from agentkit.client.plans import Answer, Failure, Next, Request, Server, Sleep
from tests.clients import Broken, frame, stream


def test_a_broken_stream_goes_on_after_the_last_event(client_of: Callable[..., Any]) -> None:
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


@pytest.mark.parametrize(
    ("end", "stood", "streams"),
    [
        (None, 8.0, 20),
        (None, 0.0, 5),
        (Failure("the network"), 8.0, 20),
        (Failure("the network"), 0.0, 5),
        (Failure("not even a keepalive", silent=True), 40.0, 2),
    ],
)
def test_a_stream_without_events_that_stood_shows_that_the_server_is_there(
    monkeypatch: pytest.MonkeyPatch, end: Failure | None, stood: float, streams: int
) -> None:
    now = 1000.0
    clock = SimpleNamespace(monotonic=lambda: now)
    monkeypatch.setattr(plans, "time", clock)
    monkeypatch.setattr(calls, "time", clock)
    monkeypatch.setattr("agentkit.core.backoff._random.uniform", lambda _, longest: longest)
    plan = calls.events(Server("http://server.test", retry_seconds=4), "r1")
    reply: Any = None
    opened = 0

    def follow() -> None:
        nonlocal now, opened, reply
        while opened < 20:
            match plan.send(reply):
                case Request():
                    opened += 1
                    reply = Answer(200, {"content-type": "text/event-stream"}, b"")
                case Next():
                    now += stood
                    reply = end
                case Sleep(seconds):
                    now += seconds
                    reply = None

    if streams == 20:
        follow()
    else:
        with pytest.raises(ServerUnreachableError):
            follow()
    assert opened == streams


def test_a_stream_that_has_nothing_left_ends(client_of: Callable[..., Any]) -> None:
    with client_of(lambda _: httpx.Response(204)) as client:
        assert list(client.events("r1", after=9)) == []


def test_until_pause_ends_at_the_pause_also_where_it_was_read_before(client_of: Callable[..., Any]) -> None:
    def handler(request: httpx.Request) -> httpx.Response:
        if request.url.path == "/runs/r1":
            return httpx.Response(200, json={"status": "paused"})
        assert request.url.params["until"] == "pause"
        after = request.headers.get("last-event-id")
        return stream() if after == "2" else stream(frame(1), frame(2, "agent_pause"))

    with client_of(handler) as client:
        assert [event["seq"] for event in client.events("r1", until_pause=True)] == [1, 2]
        assert list(client.events("r1", after=2, until_pause=True)) == []


def test_a_reset_stream_goes_on_after_the_snapshot(client_of: Callable[..., Any]) -> None:
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


def test_a_stream_that_is_left_early_is_closed(client_of: Callable[..., Any]) -> None:
    class Watched(Broken):
        closed = 0

        def close(self) -> None:
            self.closed += 1

        async def aclose(self) -> None:
            self.closed += 1

    body = Watched(frame(1), frame(2))
    response = httpx.Response(200, headers={"content-type": "text/event-stream"}, stream=body)
    with client_of(lambda _: response) as client:
        events = client.events("r1")
        next(events)
        assert body.closed == 0
        events.close()
        assert body.closed == 1


def test_an_answer_that_is_no_event_stream_is_an_error(client_of: Callable[..., Any]) -> None:
    with client_of(lambda _: httpx.Response(200, json=[])) as client, pytest.raises(ApiError) as caught:
        next(client.events("r1"))
    assert caught.value.code == "not_agentkit"
