"""The translators of other wires, on the golden logs: every stream is whole, and folds into the run's messages."""

from __future__ import annotations

import json
from typing import Any

import pytest
from ag_ui import core
from pydantic import TypeAdapter
from werkzeug.test import Client

from agentkit.core.sse import KEEPALIVE
from agentkit.errors import RunNotFoundError, StoreUnavailableError
from agentkit.wires.ai_sdk_chunks import yes_or_no
from agentkit.wires.translator import WireEncoder
from tests.golden.make_wires import FOLDER, LOGS, RUN, SHOWN, WIRES, log_of, translated
from tests.tools import APPROVAL
from tests.wires import AgUiClient, AiSdkClient, data_of

CASES = sorted(path.stem for path in LOGS.glob("*.json"))
EVENT: TypeAdapter[Any] = TypeAdapter(core.Event)
NOBODY = Client(lambda environ, start: [])


@pytest.mark.parametrize("wire", WIRES)
@pytest.mark.parametrize("case", SHOWN)
def test_the_golden_streams_are_what_clients_get(wire: str, case: str) -> None:
    assert json.loads((FOLDER / wire / f"{case}.json").read_text()) == translated(wire, log_of(case))


@pytest.mark.parametrize("case", CASES)
def test_an_ag_ui_client_ends_with_the_messages_of_the_run_however_it_followed(case: str) -> None:
    log = log_of(case)
    streams = translated("ag_ui", log)
    live, late = AgUiClient(NOBODY, "x"), AgUiClient(NOBODY, "x")
    # Who sent a message has it already.
    first = [message for message in log["messages"] if message["role"] == "user"][:1]
    live.messages = [{"id": "mine", "role": "user", "content": message["content"]} for message in first]
    for client, parts in ((live, streams["live"]), (late, [streams["replayed"]])):
        for events in parts:
            for event in events:
                EVENT.validate_python(event)
            client.events = events
            client._verify()
            for event in events:
                client._apply(event)
    assert _shown(live) == _shown(late)
    expected = []
    for message in log["messages"]:
        content = message["content"]
        text = content if isinstance(content, str) else "".join(b.get("text", "") for b in content)
        thoughts = [("reasoning", b["thinking"]) for b in content if isinstance(b, dict) and b["type"] == "thinking"]
        role = {"toolResult": "tool"}.get(message["role"], message["role"])
        has_calls = any(isinstance(b, dict) and b["type"] == "toolCall" for b in content)
        expected += [*thoughts, *([(role, text)] if text or has_calls or role != "assistant" else [])]
    assert _shown(live) == expected


def _shown(client: AgUiClient) -> list[tuple[str, str]]:
    return [(message["role"], message.get("content") or "") for message in client.messages]


@pytest.mark.parametrize("case", CASES)
def test_a_chat_of_the_ai_sdk_ends_alike_however_it_followed(case: str) -> None:
    streams = translated("ai_sdk", log_of(case))
    live, late = AiSdkClient(NOBODY, "x"), AiSdkClient(NOBODY, "x")
    message: Any = None
    for chunks in streams["live"]:
        message = live.read(_body(chunks), message)
    late.read(_body(streams["replayed"]), None)
    assert message["id"] == late.messages[-1]["id"] == RUN
    assert _states(message) == _states(late.messages[-1])
    texts = [part["text"] for part in message["parts"] if part["type"] == "text"]
    said = [
        block["text"]
        for each in log_of(case)["messages"]
        if each["role"] == "assistant"
        for block in each["content"]
        if block["type"] == "text"
    ]
    assert texts == said


def _body(chunks: list[Any]) -> bytes:
    return b"".join(b"data: %b\n\n" % json.dumps(chunk).encode() for chunk in chunks) + b"data: [DONE]\n\n"


RESPONDED = {"approval-responded": "approval-requested"}
"""Who asked for an approval that has expired learns it by the end of the run alone."""


def _states(message: Any) -> list[tuple[Any, ...]]:
    return [
        (
            part["type"],
            RESPONDED.get(part.get("state"), part.get("state")),
            part.get("output"),
            part.get("errorText"),
            part.get("text"),
        )
        for part in message["parts"]
        if part["type"] not in ("step-start", "data-decision")
    ]


@pytest.mark.parametrize(
    ("schema", "name"),
    [
        (APPROVAL, "approved"),
        ({"type": "boolean"}, ""),
        ({"type": "object", "properties": {"ok": {"type": "boolean", "title": "OK?"}}}, "ok"),
        ({"type": "object", "properties": {"approved": {"type": "boolean"}, "note": {"type": "string"}}}, None),
        ({"type": "object", "properties": {"who": {"type": "string"}}}, None),
        ({"type": "object"}, None),
        ({"type": "string"}, None),
        ({}, None),
        (True, None),
    ],
)
def test_what_is_a_question_of_yes_or_no(schema: Any, name: str | None) -> None:
    assert yes_or_no({"kind": "decision", "schema": schema}) == name
    assert yes_or_no({"kind": "in_doubt", "schema": schema}) is None


def test_a_stream_that_is_cut_says_so_once_and_one_that_has_ended_does_not() -> None:
    log = log_of("plain")
    encoder: WireEncoder[Any] = WireEncoder(WIRES["ag_ui"](log, None, 0), 15, lambda: pytest.fail("nothing is read"))
    events = [(event["seq"], json.dumps(event).encode()) for event in log["events"]]
    sent = data_of(encoder.begin() + b"".join(encoder.encode(events[:6])) + encoder.cut())
    assert (sent[-1]["type"], sent[-1]["code"]) == ("RUN_ERROR", "disconnected")
    assert encoder.cut() == b""
    whole: WireEncoder[Any] = WireEncoder(WIRES["ai_sdk"](log, None, 0), 15, lambda: pytest.fail("nothing is read"))
    sent = data_of(b"".join(whole.encode(events)) + whole.end() + whole.cut())
    assert [each if isinstance(each, str) else each["type"] for each in sent[-2:]] == ["finish", "[DONE]"]


@pytest.mark.parametrize(
    ("error", "code"), [(RunNotFoundError, "run_not_found"), (StoreUnavailableError, "disconnected")]
)
def test_a_stream_that_ends_without_the_run_is_an_error(error: type[Exception], code: str) -> None:
    def load() -> Any:
        raise error

    log = log_of("plain")
    ag_ui: WireEncoder[Any] = WireEncoder(WIRES["ag_ui"](log, None, 0), 15, load)
    assert data_of(ag_ui.begin() + ag_ui.end())[-1]["code"] == code
    ai_sdk: WireEncoder[Any] = WireEncoder(WIRES["ai_sdk"](log, None, 0), 15, load)
    *_, metadata, failed, done = data_of(ai_sdk.begin() + ai_sdk.end())
    assert metadata["messageMetadata"]["error"]["code"] == code
    assert (failed["type"], done) == ("error", "[DONE]")


def test_a_quiet_stream_gets_keepalives_and_events_that_say_nothing_do_not_put_them_off() -> None:
    encoder: WireEncoder[Any] = WireEncoder(
        WIRES["ag_ui"](log_of("plain"), None, 0), 0, lambda: pytest.fail("not read")
    )
    assert list(encoder.encode([])) == [KEEPALIVE]
    silent = json.dumps({"type": "agent_resume", "seq": 1, "runId": RUN, "toolCallIds": []}).encode()
    assert list(encoder.encode([(1, silent)])) == [KEEPALIVE]


@pytest.mark.parametrize("wire", WIRES)
def test_a_log_whose_beginning_is_not_kept_goes_on_from_what_is_there(wire: str) -> None:
    log = log_of("parallel_tools")
    last = next(place for place, event in enumerate(log["events"]) if event["type"] == "turn_end")
    messages = log["messages"][: sum(event["type"] == "message_end" for event in log["events"][:last])]
    run = {"messages": messages, "lastSeq": last}
    translator = WIRES[wire](log, None, 0)
    frames = [*translator.begin(), *translator.translate(last, {"type": "stream_reset", "run": run})]
    for event in log["events"][last:]:
        frames += translator.translate(event["seq"], event)
    body = b"".join(map(translator.encode, frames)) + translator.close()
    if wire == "ag_ui":
        client = AgUiClient(NOBODY, "x")
        client.events = data_of(body)
        client._verify()
        for event in client.events:
            client._apply(event)
        assert len(client.messages) == len(log["messages"])
    else:
        chat = AiSdkClient(NOBODY, "x")
        chat.read(body, None)
        assert len([part for part in chat.messages[-1]["parts"] if part.get("state") == "output-available"]) == 2
        assert chat.text


def test_an_event_of_a_type_that_is_not_known_is_passed_on() -> None:
    event = {"type": "model_wait", "seq": 9, "delayMs": 5}
    [custom] = WIRES["ag_ui"](log_of("plain"), None, 0).translate(9, event)
    assert (custom.name, custom.value) == ("agentkit.model_wait", event)
    assert list(WIRES["ai_sdk"](log_of("plain"), None, 0).translate(9, event)) == [
        {"type": "data-event", "data": event, "transient": True}
    ]
