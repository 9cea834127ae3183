"""Streams for htmx and other readers that want no JSON: `render=` and `event:` names."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from typing import Any

import httpx
import pytest
from flask import Flask
from httpx_sse import EventSource, ServerSentEvent

from agentkit.core.messages import Json
from agentkit.core.sse import KEEPALIVE, Encoder
from tests.apps import App
from tests.unit.web.conftest import Web

STORED = b'{"seq":7,"timestamp":1,"type":"turn_start","turn":1}'
RESET = b'{"type":"stream_reset","run":{}}'


class _Body(httpx.SyncByteStream):
    def __init__(self, body: bytes) -> None:
        self._body = body

    def __iter__(self) -> Iterator[bytes]:
        yield self._body


def parsed(body: bytes) -> list[ServerSentEvent]:
    """The events of a stream as an independent parser reads them."""
    response = httpx.Response(200, headers={"content-type": "text/event-stream"}, stream=_Body(body))
    return [event for event in EventSource(response).iter_sse() if event.id]


def text_of(event: Json) -> str | None:
    """A rendering as a page would have it: two lines for each message, nothing for the rest."""
    if event["type"] != "message_end":
        return None
    return f"<p>{event['message']['role']}</p>\n<hr>"


def test_events_are_sent_as_they_are_rendered_and_none_of_what_is_left_out() -> None:
    app = App("Hello.")
    body = b"".join(app.kit.handle(app.run()).sse(0, render=text_of))
    assert [event.data for event in parsed(body)] == ["<p>user</p>\n<hr>", "<p>assistant</p>\n<hr>"]
    ends = [event["seq"] for event in app.log(app.kit.page()[0][0].id) if event["type"] == "message_end"]
    assert [event.id for event in parsed(body)] == [str(seq) for seq in ends]
    assert {event.event for event in parsed(body)} == {"message"}, "which is what a frame without a name is"


@pytest.mark.parametrize("render", [None, text_of], ids=["json", "rendered"])
def test_each_event_is_named_by_its_type(render: Any) -> None:
    app = App("Hello.")
    run_id = app.run()
    types = [event["type"] for event in app.log(run_id)]
    named = [event.event for event in parsed(b"".join(app.kit.handle(run_id).sse(0, names=True, render=render)))]
    assert named == (types if render is None else ["message_end", "message_end"])


def test_a_name_changes_nothing_else() -> None:
    app = App("Hello.")
    handle = app.kit.handle(app.run())
    plain, named = b"".join(handle.sse(0)), b"".join(handle.sse(0, names=True))
    assert [(e.id, e.data) for e in parsed(plain)] == [(e.id, e.data) for e in parsed(named)]
    assert b"event:" not in plain


@pytest.mark.parametrize("end", ["\r", "\n", "\r\n"])
def test_a_rendering_cannot_end_its_frame_or_forge_a_field(end: str) -> None:
    text = f"one{end}id: 99{end}{end}data: forged"
    [event] = parsed(b"".join(Encoder(15, render=lambda event: text).encode([(7, STORED)])))
    assert (event.id, event.data) == ("7", "one\nid: 99\n\ndata: forged")


def test_an_empty_rendering_is_sent_and_a_reset_is_named_too() -> None:
    [event] = parsed(b"".join(Encoder(15, render=lambda event: "", names=True).encode([(9, RESET)])))
    assert (event.event, event.id, event.data) == ("stream_reset", "9", "")


def test_a_rendering_that_is_no_text_is_an_error() -> None:
    with pytest.raises(TypeError, match="render must return text"):
        list(Encoder(15, render=lambda event: 7).encode([(7, STORED)]))  # type: ignore[arg-type, return-value]


def test_a_stream_that_leaves_everything_out_is_kept_alive_all_the_same() -> None:
    patient, hasty = Encoder(60, render=lambda event: None), Encoder(0, render=lambda event: None)
    assert list(patient.encode([(7, STORED)])) == []
    assert list(hasty.encode([(7, STORED)])) == [KEEPALIVE]
    assert list(patient.encode([])) == [KEEPALIVE], "silence is"


def test_a_route_of_a_host_streams_what_it_renders(web: Web) -> None:
    host = Flask("host")

    @host.post("/ask")
    def ask() -> Any:
        return web.kit.start("hello", "x").to_response(render=text_of, names=True)

    with closing(host.test_client().post("/ask")) as response:
        assert response.content_type == "text/event-stream"
        assert [(event.event, event.data) for event in parsed(response.data)] == [
            ("message_end", "<p>user</p>\n<hr>"),
            ("message_end", "<p>assistant</p>\n<hr>"),
        ]
