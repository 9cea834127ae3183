"""What models write and tools return, at its worst: an answer for the model, and a run that goes on."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest

from agentkit import tool
from agentkit.core.events import AssistantMessageEvent, Event, MessageStart, MessageUpdate, open_message
from agentkit.core.messages import AssistantMessage, ToolCallBlock, Usage
from agentkit.core.messages import text_of_json as text_of
from agentkit.core.requests import check_metadata
from agentkit.core.strictjson import MAX_DEPTH, check, loads
from agentkit.core.struct import encode
from agentkit.errors import InvalidRequestError
from agentkit.results import ToolResult
from agentkit.tools import ToolContext
from tests.apps import App
from tests.loop_driver import Driver
from tests.turns import call


def nested(depth: int) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = [value]
    return value


def kind(value: Any) -> str:
    """A name for a parameter that pytest could not print itself."""
    return type(value).__name__


def circle() -> Any:
    value: list[Any] = []
    value.append(value)
    return value


class Unprintable(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no words")


# -- JSON


@pytest.mark.parametrize(
    "text",
    [
        "[" * 10_000 + "]" * 10_000,
        '{"a":' * 10_000 + "1" + "}" * 10_000,
        "[" * (MAX_DEPTH + 1) + "]" * (MAX_DEPTH + 1),
        "NaN",
        "[-Infinity]",
        "1e400",
        "9" * 5000,
        '"\\ud800"',
        '{"\\udc00": 1}',
        "{",
        "",
    ],
)
def test_what_could_not_be_written_down_again_is_not_read(text: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - whichever words
        loads(text)


@pytest.mark.parametrize(
    "value", ["\x00", "\ud83d\ude00".encode("utf-16", "surrogatepass").decode("utf-16"), 10**4000], ids=kind
)
def test_what_json_can_say_is_read(value: Any) -> None:
    assert loads(json.dumps(value)) == value
    assert loads("[" * MAX_DEPTH + "]" * MAX_DEPTH)


def test_a_key_given_twice_is_refused_only_where_asked() -> None:
    assert loads('{"a": 1, "a": 2}') == {"a": 2}
    with pytest.raises(ValueError, match="'a' stands twice"):
        loads('{"a": 1, "b": 1, "a": 2}', unique=True)


def test_many_keys_given_twice_are_found_in_one_pass() -> None:
    text = "{" + ",".join(f'"{n}":0' for n in range(100_000)) + ',"99999":1}'
    before = time.process_time()
    with pytest.raises(ValueError, match="'99999' stands twice"):
        loads(text, unique=True)
    assert time.process_time() - before < 5


@pytest.mark.parametrize("value", [nested(MAX_DEPTH + 1), {"a": "\udfff"}, {"\udfff": 1}, (("\udfff",),), circle()])
def test_values_of_python_callers_are_held_to_the_same(value: Any) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - whichever words
        check(value)


@pytest.mark.parametrize(
    "value", [nested(500), nested(10_000), "\ud800", circle(), float("nan"), b"x", 10**5000], ids=kind
)
def test_metadata_of_python_callers_is_held_to_the_same(value: Any) -> None:
    with pytest.raises(InvalidRequestError, match="metadata"):
        check_metadata({"value": value})


# -- what models write


@pytest.mark.parametrize(
    "raw",
    [
        '{"n": ' + "[" * 10_000 + "]" * 10_000 + "}",
        '{"n": ' + "[" * 200 + "]" * 200 + "}",
        '{"n": NaN}',
        '{"n": 1e400}',
        '{"n": ' + "9" * 5000 + "}",
        '{"n": "\\ud800"}',
        '{"n": "\x00"}',
        "[1]",
        '"text"',
        "{",
        '{"n": 1} {"n": 2}',
    ],
)
def test_arguments_that_are_no_json_object_are_an_error_for_the_model(raw: str) -> None:
    @tool(parameters={"type": "object", "properties": {"n": {}}})
    def take(n: Any) -> str:
        """Take anything."""
        raise AssertionError("it must not be called")

    call = {"type": "toolCall", "id": "c", "name": "take", "arguments": {}, "rawArguments": raw}
    app = App([call], "ok", tools=[take])
    run = app.check(app.run())
    assert run.status == "completed"
    [message] = [m for m in run.messages if m["role"] == "toolResult"]
    assert message["isError"]
    assert "not a JSON object" in text_of(message)


@pytest.mark.parametrize("name", ["", "\x00", "a" * 100_000, "__class__", "../etc", "\ud800", "take\n"])
def test_a_call_of_a_tool_that_cannot_be_is_an_error_for_the_model(name: str) -> None:
    run = Driver().start().model([{"type": "toolCall", "id": "c", "name": name, "arguments": {}}])
    assert run.messages[-1]["role"] == "toolResult"
    run.model("ok").check()


@pytest.mark.parametrize("raw", ['{"n": NaN}', '{"n": 1e400}', '{"n": "\\ud800"}', "[" * 5000, "{", "[1]"])
def test_a_message_cut_in_the_middle_of_bad_arguments_can_be_kept(raw: str) -> None:
    log: list[Event] = [
        MessageStart(message=AssistantMessage([], "", "", "", Usage.of(), "stop", 0)),
        MessageUpdate(
            assistant_message_event=AssistantMessageEvent("toolcall_start", 0, tool_call=ToolCallBlock("c", "take", {}))
        ),
        MessageUpdate(assistant_message_event=AssistantMessageEvent("toolcall_delta", 0, raw)),
    ]
    found = open_message(log)
    assert found is not None
    message, ends = found
    assert message.content == [ToolCallBlock("c", "take", {}, raw)]
    encode([message, ends])


# -- what tools return


@pytest.mark.parametrize(
    "returned",
    [
        nested(10_000),
        circle(),
        b"bytes",
        10**5000,
        object(),
        ToolResult("x", details=nested(500)),
        ToolResult("x", details=nested(10_000)),
        ToolResult("x", details=circle()),
        ToolResult(5),  # type: ignore[arg-type]
        ToolResult([{"type": "video"}]),
        [{"type": "image", "data": "no base64!", "mimeType": "image/png"}],
    ],
    ids=kind,
)
def test_a_result_that_cannot_be_kept_is_named_and_is_no_error_since_the_work_is_done(returned: Any) -> None:
    @tool
    def give() -> Any:
        """Give."""
        return returned

    app = App([call("give")], "ok", tools=[give])
    run = app.check(app.run())
    assert run.status == "completed"
    [message] = [m for m in run.messages if m["role"] == "toolResult"]
    assert not message["isError"]
    assert text_of(message).startswith("Done. The result, a ")
    assert text_of(message).endswith(", cannot be shown.")


@pytest.mark.parametrize("partial", [nested(500), nested(10_000), b"x", circle()])
def test_an_update_that_cannot_be_shown_fails_in_the_tool_that_gave_it(partial: Any) -> None:
    @tool
    def report(ctx: ToolContext) -> str:
        """Report."""
        ctx.update(partial)
        return "reported"

    app = App([call("report")], "ok", tools=[report])
    run = app.check(app.run())
    [message] = [m for m in run.messages if m["role"] == "toolResult"]
    assert message["isError"]


def test_half_a_surrogate_pair_in_an_update_is_replaced_as_in_a_result() -> None:
    @tool
    def report(ctx: ToolContext) -> str:
        """Report."""
        ctx.update("caf\udce9")
        return "caf\udce9"

    app = App([call("report")], "ok", tools=[report])
    run_id = app.run()
    app.check(run_id)
    [update] = [e for e in app.log(run_id) if e["type"] == "tool_execution_update"]
    [end] = [e for e in app.log(run_id) if e["type"] == "tool_execution_end"]
    assert (update["partialResult"], end["result"]["content"][0]["text"]) == ("caf\ufffd", "caf\ufffd")


@pytest.mark.parametrize(
    "error", [Unprintable(), RecursionError("deep"), SystemExit(3), MemoryError(), Exception("\ud800")]
)
def test_whatever_a_tool_raises_is_an_error_for_the_model(
    error: BaseException, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("CRITICAL", "agentkit")  # pytest-xdist dies of a captured lone surrogate

    @tool
    def fall() -> str:
        """Fall."""
        raise error

    app = App([call("fall")], "ok", tools=[fall])
    run = app.check(app.run())
    assert run.status == "completed"
    [message] = [m for m in run.messages if m["role"] == "toolResult"]
    assert message["isError"]
    assert type(error).__name__ in text_of(message)


@pytest.mark.parametrize(
    "call",
    [
        lambda kit: kit.start("a", "a\ud800"),
        lambda kit: kit.start("a", [{"type": "text", "text": "\udc00"}]),
        lambda kit: kit.start("a", messages=[{"role": "user", "content": "\ud800"}]),
        lambda kit: kit.start("a", "x", metadata={"a": ["\ud800"]}),
        lambda kit: kit.start("a", "x", metadata={"\ud800": 1}),
        lambda kit: kit.start("a", "x", owner="\ud800"),
        lambda kit: kit.start("a", "x", idempotency_key="\ud800"),
        lambda kit: kit.send(kit.start("a", "x").id, "\ud800", "steer"),
        lambda kit: kit.abort(kit.start("a", "x").id, "\ud800"),
        lambda kit: kit.resume(kit.start("a", "x").id, {"a": "\ud800"}),
        lambda kit: kit.resume(kit.start("a", "x").id, reject="\ud800"),
        lambda kit: kit.resume(kit.start("a", "x").id, 1, input={"\ud800": 1}),
        lambda kit: kit.resume(kit.start("a", "x").id, 1, decided_by="\ud800"),
        lambda kit: kit.start("a", "x", limits={"\ud800": 1}),
        lambda kit: kit.start("a", "x", limits={"maxTurns": "\ud800"}),
    ],
)
def test_half_a_surrogate_pair_from_python_is_refused_with_a_clear_error(call: Any) -> None:
    app = App("hello")
    with pytest.raises(InvalidRequestError, match="surrogate"):
        call(app.kit)
