"""Answers that say nothing, and calls that the limit of tokens cut off: what becomes of their runs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from agentkit import Agent, AgentKit, RetryPolicy, tool
from agentkit.core.cancellation import Cancellation
from agentkit.core.messages import StopReason, Usage
from agentkit.core.run import Run
from agentkit.providers.protocol import BlockEnd, Finish, ModelRequest, Part, TextDelta, ThinkingDelta, ToolCallDelta


def end(reason: StopReason = "stop", output: int = 0, data: Any = None) -> Finish:
    return Finish(reason, Usage.of(output=output), data=data)


EMPTY: list[Part] = [end()]
DONE: list[Part] = [TextDelta("done"), end()]
CALL: list[Part] = [ToolCallDelta(0, "a", "note", '{"text": "x"}'), end("toolUse")]
CUT: list[Part] = [ToolCallDelta(0, "a", "note", '{"text": "so f'), end("length")]


class Answers:
    """A model that gives one list of parts after the other, the last again and again."""

    name, api, model = "acme", "acme", "m"

    def __init__(self, *answers: list[Part]) -> None:
        self._answers = answers
        self.requests: list[ModelRequest] = []

    def stream(self, request: ModelRequest, cancel: Cancellation) -> Iterator[Part]:
        self.requests.append(request)
        yield from self._answers[min(len(self.requests), len(self._answers)) - 1]


def run(model: Answers, **fields: Any) -> tuple[Run, list[str]]:
    noted: list[str] = []

    @tool
    def note(text: str = "") -> str:
        """Note a text."""
        noted.append(text)
        return "noted"

    return AgentKit(agents=[Agent("a", model=model, tools=[note], **fields)]).run("a", "hi"), noted


def results(of: Run) -> list[str]:
    return [m["content"][0]["text"] for m in of.messages if m["role"] == "toolResult"]


def words(of: Run) -> str:
    text: str = of.messages[-1]["content"][0]["text"]
    return text


# -- nothing


@pytest.mark.parametrize("parts", [EMPTY, [TextDelta(" \n"), end()], [BlockEnd(), end("length")], [end(output=9)]])
def test_an_empty_answer_to_a_user_message_is_a_failure(parts: list[Part]) -> None:
    done, _ = run(Answers(parts))
    assert done.status == "failed"
    assert done.error is not None
    assert done.error["code"] == "provider_error"
    assert "acme: the answer is empty" in done.error["message"]


def test_an_empty_answer_to_a_user_message_is_tried_again() -> None:
    model = Answers(EMPTY, EMPTY, DONE)
    done, _ = run(model, retry=RetryPolicy(attempts=3, base=0.001))
    assert (done.status, words(done), len(model.requests)) == ("completed", "done", 3)


def test_the_next_model_is_asked_after_an_empty_answer() -> None:
    first, second = Answers(EMPTY), Answers(DONE)
    done = AgentKit(agents=[Agent("a", model=[first, second])]).run("a", "hi")
    assert (done.status, words(done)) == ("completed", "done")


def test_an_empty_answer_counts_what_it_used() -> None:
    done, _ = run(Answers([end(output=9)]))
    assert done.usage["output"] == 9


def test_an_empty_answer_after_tool_results_is_an_end() -> None:
    done, noted = run(Answers(CALL, EMPTY))
    assert (done.status, noted) == ("completed", ["x"])
    assert done.messages[-1]["content"] == []


@pytest.mark.parametrize(
    "parts", [[ThinkingDelta("hm"), end()], [end(data={"images": [1]})], [ThinkingDelta("", "sig", {"id": 1}), end()]]
)
def test_thinking_alone_and_what_is_kept_for_the_vendor_are_no_empty_answer(parts: list[Part]) -> None:
    assert run(Answers(parts))[0].status == "completed"


def test_what_a_hook_adds_after_tool_results_asks_for_no_words() -> None:
    def reminded(messages: list[Any], _: Run) -> list[Any]:
        return [*messages, {"role": "user", "content": "Stay brief.", "timestamp": 0}]

    assert run(Answers(CALL, EMPTY), transform_context=reminded)[0].status == "completed"


# -- cut


def test_a_call_that_was_cut_off_is_told_so_and_may_be_made_again() -> None:
    done, noted = run(Answers(CUT, CALL, DONE))
    assert (done.status, noted) == ("completed", ["x"])
    assert "cut off" in results(done)[0]
    assert "max tokens" in results(done)[0]


@pytest.mark.parametrize("arguments", ["", '{"text": "so', "{"])
def test_a_call_cut_anywhere_in_its_arguments_is_not_executed(arguments: str) -> None:
    cut: list[Part] = [ToolCallDelta(0, "a", "note", arguments), end("length")]
    done, noted = run(Answers(cut, DONE))
    assert (done.status, noted) == ("completed", [])
    assert "cut off" in results(done)[0]


def test_a_second_call_in_a_row_that_was_cut_off_fails_the_run_with_its_cause() -> None:
    model = Answers(CUT)
    done, noted = run(model)
    assert (done.status, noted, len(model.requests)) == ("failed", [], 2)
    assert done.error is not None
    assert done.error["code"] == "provider_error"
    assert "max_output_tokens" in done.error["message"]
    assert [m["role"] for m in done.messages] == ["user", "assistant", "toolResult", "assistant", "toolResult"]


def test_calls_that_were_cut_off_with_a_whole_one_between_are_no_row() -> None:
    done, noted = run(Answers(CUT, CALL, CUT, CALL, DONE))
    assert (done.status, noted) == ("completed", ["x", "x"])


def test_whole_calls_before_the_one_that_was_cut_off_are_executed() -> None:
    both: list[Part] = [
        ToolCallDelta(0, "a", "note", '{"text": "x"}'),
        ToolCallDelta(1, "b", "note", '{"te'),
        end("length"),
    ]
    done, noted = run(Answers(both, DONE))
    assert (done.status, noted) == ("completed", ["x"])
    assert results(done)[0] == "noted"
    assert "cut off" in results(done)[1]


def test_a_whole_call_at_the_limit_is_executed() -> None:
    whole: list[Part] = [ToolCallDelta(0, "a", "note", '{"text": "x"}'), end("length")]
    assert run(Answers(whole, DONE))[1] == ["x"]


def test_arguments_that_are_no_json_though_nothing_was_cut_are_asked_for_again() -> None:
    broken: list[Part] = [ToolCallDelta(0, "a", "note", "{text: 1"), end("toolUse")]
    done, _ = run(Answers(broken, broken, DONE))
    assert done.status == "completed"
    assert all("not a JSON object" in text for text in results(done))
