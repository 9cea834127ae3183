"""Where an event ends, as servers have it and not only as the standard does."""

from __future__ import annotations

import json
from typing import Any

import pytest

from agentkit.providers.framing import Framing, JsonLines, NotAStreamError, SseEvents
from tests.ndjson_cuts import lines_of
from tests.sse_cuts import events_of, items_of

ONE, TWO = b'{"text": "Gr\xc3\xbc\xc3\x9fe \xe2\x80\xa8 \xf0\x9f\x91\x8b"}', b'{"end": true}'


def data_of(*pieces: bytes, labelled: bool = True) -> list[str]:
    return [event.data for event in events_of(*pieces, labelled=labelled)]


def frame(name: bytes, end: bytes) -> bytes:
    return name + ONE + end + name + TWO + end


BODIES = {
    "as the standard has it": frame(b"data: ", b"\n\n"),
    "no blank after the colon": frame(b"data:", b"\n\n"),
    "CRLF": frame(b"data: ", b"\r\n\r\n"),
    "CR alone": frame(b"data: ", b"\r\r"),
    "mixed ends": b": comment\n\nid: 1\nretry: 10\ndata: " + ONE + b"\r\n\r\n: ping\ndata: " + TWO + b"\n\r\n",
    "a byte order mark": b"\xef\xbb\xbf" + frame(b"data: ", b"\n\n"),
    "capitals": frame(b"DATA: ", b"\n\n"),
    "no empty lines": frame(b"data: ", b"\n"),
    "no empty line at the end": frame(b"data: ", b"\n\n").rstrip() + b"\n",
    "no end at all": frame(b"data: ", b"\n\n").rstrip(),
    "empty lines in front": b"\n\n \n" + frame(b"data: ", b"\n\n"),
    "lines of JSON without a frame": ONE + b"\n" + TWO + b"\n",
}


@pytest.mark.parametrize("labelled", [True, False])
@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES)
def test_events_are_read_in_every_framing_wherever_they_are_cut(body: bytes, labelled: bool) -> None:
    expected = [ONE.decode(), TWO.decode()]
    assert data_of(body, labelled=labelled) == expected
    assert data_of(*(body[at : at + 1] for at in range(len(body))), labelled=labelled) == expected
    for at in range(1, len(body)):
        assert data_of(body[:at], body[at:], labelled=labelled) == expected


def test_data_of_several_lines_is_one_event() -> None:
    pretty = json.dumps({"a": [{"b": 1}, {"c": 2}]}, indent=1)
    body = "".join(f"data: {line}\n" for line in pretty.split("\n")) + "\ndata: {}\n\n"
    assert data_of(body.encode()) == [pretty, "{}"]


def test_names_of_events_stay_with_their_data() -> None:
    body = b"event: first\ndata: {}\nevent: second\ndata: {}\n\nevent: empty\n\ndata: {}\n\n"
    assert [event.event for event in events_of(body)] == ["first", "second", "message"]


@pytest.mark.parametrize("value", [b'{"message": "no"}', b"out of memory"])
def test_an_error_field_is_an_event_of_that_name(value: bytes) -> None:
    got = [(event.event, event.data) for event in events_of(b"data: {}\n\nerror: " + value + b"\n\ndata: [DONE]\n\n")]
    assert got == [("message", "{}"), ("error", value.decode()), ("message", "[DONE]")]


@pytest.mark.parametrize("cut", [b'data: {"a": 1', b'data: {"a": 1}\ndata: {"b', b"event: x\n", b"data"])
def test_an_event_that_is_cut_off_is_none(cut: bytes) -> None:
    assert [data for data in data_of(b"data: {}\n\n" + cut) if data == "{}" or not data.endswith("}")] == ["{}"]


@pytest.mark.parametrize("labelled", [True, False])
def test_one_json_answer_in_place_of_a_stream_is_one_event(labelled: bool) -> None:
    whole = {"object": "chat.completion", "choices": [{"message": {"content": "a\n\ndata: b"}}]}
    for text in (json.dumps(whole), json.dumps(whole, indent=2), "\n" + json.dumps([whole])):
        [data] = data_of(text.encode(), labelled=labelled)
        assert json.loads(data) in (whole, [whole])


def refused(framing: Framing[Any], text: bytes) -> str:
    with pytest.raises(NotAStreamError) as caught:
        list(items_of(framing, text))
    assert framing.refused
    return caught.value.text


def test_what_is_no_stream_is_told_with_its_beginning() -> None:
    assert refused(SseEvents(labelled=False), b"Service\nunavailable") == "Service\nunavailable"
    assert refused(SseEvents(labelled=True), b"<html>" + b"x" * 100_000).startswith("<html>")
    assert len(refused(SseEvents(labelled=True), b"<html>" + b"x" * 100_000)) < 70_000
    assert data_of(b"", labelled=False) == []


def test_many_lines_that_never_make_an_event_take_time_in_proportion_to_their_number() -> None:
    line = b'data: {"a": "' + b"x" * 1000 + b"\n"
    assert len(data_of(line * 20_000 + b"\n")[0]) > 20_000_000


# -- lines of JSON


@pytest.mark.parametrize("labelled", [True, False])
@pytest.mark.parametrize(
    "body",
    [
        ONE + b"\n" + TWO,
        ONE + b"\r\n\r\n" + TWO + b"\n",
        b"\xef\xbb\xbf" + ONE + b"\n" + TWO,
        frame(b"data: ", b"\n\n"),
    ],
)
def test_lines_are_read_in_every_framing(body: bytes, labelled: bool) -> None:
    assert lines_of(body, labelled=labelled) == [ONE.decode(), TWO.decode()]
    assert lines_of(*(body[at : at + 1] for at in range(len(body))), labelled=labelled) == [ONE.decode(), TWO.decode()]


@pytest.mark.parametrize(("body", "labelled"), [(b"<html>", True), (b"Bad gateway", False)])
def test_what_are_no_lines_of_json_is_told(body: bytes, labelled: bool) -> None:
    assert refused(JsonLines(labelled), body) == body.decode()
