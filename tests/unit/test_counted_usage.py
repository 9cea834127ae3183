"""Tokens and dollars are counted whatever happens: never below 0, and those of failed tries too."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from agentkit import Agent, AgentKit, InvalidRequestError, ProviderError, RetryPolicy, Run, ScriptedModel
from agentkit.core.messages import Cost, Usage
from agentkit.core.struct import to_json
from agentkit.providers import anthropic, openai
from agentkit.providers.builder import MessageBuilder
from agentkit.providers.counts import token_count
from agentkit.providers.protocol import Finish, ModelRequest, Part, TextDelta, ToolCallDelta
from tests.apps import App
from tests.event_rules import check_log
from tests.sse_cuts import events_of
from tests.turns import call

RETRY = RetryPolicy(attempts=5, base=0, cap=0)


class Failing:
    """A model whose first `failures` calls fail after `usage` was counted."""

    name = api = "failing"

    def __init__(self, usage: Usage | None, failures: int, *, finished: bool = False, model: str = "m") -> None:
        self.model = model
        self.calls = 0
        self._usage, self._failures, self._finished = usage, failures, finished

    def stream(self, request: ModelRequest, cancel: Any) -> Iterator[Part]:
        self.calls += 1
        yield TextDelta("some ")
        if self.calls > self._failures:
            yield Finish("stop", Usage.of(input=10, output=5), None)
            return
        if self._finished and self._usage is not None:
            yield Finish("stop", self._usage, None)
            raise ProviderError("it broke", retryable=True)
        raise ProviderError("it broke", retryable=True, usage=self._usage)


def run_of(model: Any, **options: Any) -> Run:
    kit = AgentKit([Agent("a", model, retry=RETRY, **options)])
    run = kit.get(kit.run("a", "go").id)
    check_log(list(kit.handle(run.id).events()), run.messages)
    return run


# -- failed tries


@pytest.mark.parametrize("finished", [False, True])
def test_what_failed_tries_used_is_shown_apart(finished: bool) -> None:
    run = run_of(Failing(Usage.of(input=100, output=7), 2, finished=finished))
    assert run.status == "completed"
    assert run.usage["totalTokens"] == 15
    assert run.discarded is not None
    assert (run.discarded["input"], run.discarded["output"], run.discarded["totalTokens"]) == (200, 14, 214)
    assert run.to_json()["discarded"] == run.discarded


def test_a_run_whose_tries_did_not_fail_shows_nothing() -> None:
    assert "discarded" not in run_of(Failing(None, 0)).to_json()
    assert "discarded" not in run_of(Failing(None, 3)).to_json()


def test_failed_tries_count_towards_the_tokens_of_the_run() -> None:
    model = Failing(Usage.of(input=100), 4)
    run = run_of(model, max_tokens=250)
    assert run.error is not None
    assert run.error["code"] == "limit_tokens"
    assert "300 tokens of 250" in run.error["message"]
    assert model.calls == 3


def test_failed_tries_count_towards_the_dollars_of_the_run() -> None:
    model = Failing(Usage.of(input=1, cost=Cost.of(input=0.4)), 4)
    run = run_of(model, max_cost=1.0)
    assert run.error is not None
    assert run.error["code"] == "limit_cost"
    assert model.calls == 3


def test_the_last_failed_try_stands_in_the_runs_usage_with_its_message() -> None:
    run = run_of(Failing(Usage.of(input=100), 99))
    assert run.error is not None
    assert run.error["code"] == "provider_error"
    assert run.messages is not None
    assert run.messages[-1]["usage"]["totalTokens"] == 100
    assert run.usage["totalTokens"] == 100
    assert run.discarded is not None
    assert run.discarded["totalTokens"] == 400


def test_what_a_model_used_before_another_took_its_place_is_counted() -> None:
    run = run_of([Failing(Usage.of(input=100), 99), Failing(None, 0, model="n")])
    assert run.status == "completed"
    assert run.discarded is not None
    assert run.discarded["totalTokens"] == 500


def test_what_a_try_used_is_kept_over_a_long_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agentkit.runtime.model_step.LONG_WAIT_SECONDS", -1.0)
    run = run_of(Failing(Usage.of(input=100), 2))
    assert run.status == "completed"
    assert run.discarded is not None
    assert run.discarded["totalTokens"] == 200


def test_what_a_try_used_is_kept_where_the_next_is_handed_to_another_worker() -> None:
    class Stopped(Failing):
        def stream(self, request: ModelRequest, cancel: Any) -> Iterator[Part]:
            if self.calls == 1:
                self.calls += 1
                yield TextDelta("well")
                app.kit.stop(at_once=True)
                assert cancel.wait(10)
                return
            yield from super().stream(request, cancel)

    app = App(model=Stopped(Usage.of(input=100), 1), retry=RETRY)
    run_id = app.start()
    app.execute_next()
    assert app.queue.enqueued == [(run_id, 1)]
    run = app.another_worker().work().check(run_id)
    assert run.status == "completed"
    assert (run.usage["totalTokens"], run.discarded["totalTokens"]) == (15, 100)


def test_what_a_sub_agents_tries_used_counts_for_its_parent() -> None:
    helper = Agent("helper", Failing(Usage.of(input=100), 2), retry=RETRY)
    boss = Agent("boss", ScriptedModel([[call("helper", input="x")], "done"]), "", [helper.as_tool()])
    kit = AgentKit([boss])
    run = kit.run("boss", "go")
    assert run.status == "completed"
    assert run.discarded is not None
    assert run.discarded["totalTokens"] == 200


def sse(*events: Any) -> bytes:
    return b"".join(b"data: " + json.dumps(event).encode() + b"\n\n" for event in events)


def test_a_broken_stream_carries_what_openai_counted() -> None:
    usage = {"prompt_tokens": 30, "completion_tokens": 4}
    stream = sse({"choices": [{"delta": {"content": "hel"}}], "usage": usage})
    with pytest.raises(ProviderError) as caught:
        list(openai.decode(events_of(stream), "openai"))
    assert caught.value.usage == Usage.of(input=30, output=4)


@pytest.mark.parametrize("end", [None, {"type": "error", "error": {"type": "overloaded_error", "message": "busy"}}])
def test_a_broken_stream_carries_what_anthropic_counted(end: Any) -> None:
    begin = {"type": "message_start", "message": {"model": "m", "usage": {"input_tokens": 25, "output_tokens": 1}}}
    with pytest.raises(ProviderError) as caught:
        list(anthropic.decode(events_of(sse(begin, *([end] if end else []))), "anthropic"))
    assert caught.value.usage == Usage.of(input=25, output=1)


# -- never below 0


@pytest.mark.parametrize(
    ("count", "read"),
    [(-1, 0), (-1e300, 0), (float("-inf"), 0), (float("nan"), 0), (float("inf"), 0), (10**400, 10**12), (3.9, 3),
     (True, 0), ("7", 7), ("seven", 0), ("nan", 0), (None, 0), (2**70, 10**12), (-(10**400), 0)],
)  # fmt: skip
def test_a_count_is_a_whole_number_from_0(count: Any, read: int) -> None:
    assert token_count(count) == read


ODD_USAGES = [
    Usage(-1000, -5, -3, -2, -1010, Cost.of()),
    Usage(10, 5, 0, 0, -999, Cost.of()),
    Usage(10, 5, 0, 0, 0, Cost(-1.0, -1.0, 0.0, 0.0, -2.0)),
    Usage(10, 5, 0, 0, 15, Cost(0.0, 0.0, 0.0, 0.0, -9.0)),
]


@pytest.mark.parametrize("usage", ODD_USAGES)
def test_no_usage_of_a_provider_is_below_0_and_totals_are_sums(usage: Usage) -> None:
    builder = MessageBuilder(api="a", provider="p", model="m", timestamp=0)
    builder.feed(Finish("stop", usage, None))
    read = to_json(builder.message().usage)
    counts = [read[name] for name in ("input", "output", "cacheRead", "cacheWrite")]
    costs = [read["cost"][name] for name in ("input", "output", "cacheRead", "cacheWrite")]
    assert min(counts + costs) >= 0
    assert read["totalTokens"] == sum(counts)
    assert read["cost"]["total"] == sum(costs)


class Refunding:
    """A model that counts backwards, and never comes to an end."""

    name = api = "refunding"
    model = "m"

    def __init__(self) -> None:
        self.calls = 0

    def stream(self, request: ModelRequest, cancel: Any) -> Iterator[Part]:
        self.calls += 1
        back = self.calls % 2 == 0
        yield ToolCallDelta(0, f"c{self.calls}", "none", "{}")
        usage = Usage(-500, 0, 0, 0, -500, Cost(-1.0, 0, 0, 0, -1.0)) if back else Usage.of(100, cost=Cost.of(0.2))
        yield Finish("toolUse", usage, None)


@pytest.mark.parametrize(("limits", "code"), [({"max_tokens": 450}, "limit_tokens"), ({"max_cost": 0.9}, "limit_cost")])
def test_counts_below_0_release_no_limit(limits: dict[str, Any], code: str) -> None:
    model = Refunding()
    run = run_of(model, **limits)
    assert run.error is not None
    assert run.error["code"] == code
    assert model.calls == 9


# -- what a client says


@pytest.mark.parametrize(
    ("usage", "place"),
    [({"input": -1}, "input"), ({"output": -(10**9)}, "output"), ({"cacheRead": -1}, "cacheRead"),
     ({"cacheWrite": -1}, "cacheWrite"), ({"totalTokens": -1}, "totalTokens"), ({"input": 10**30}, "input"),
     ({"cost": {"input": -0.01}}, "cost/input"), ({"cost": {"total": -1}}, "cost/total"),
     ({"cost": {"output": 1e300}}, "cost/output")],
)  # fmt: skip
def test_a_history_whose_usage_is_out_of_range_is_refused(usage: Any, place: str) -> None:
    kit = AgentKit([Agent("a", ScriptedModel(["hi"]))])
    messages = [{"role": "assistant", "content": [], "usage": usage}, {"role": "user", "content": "x"}]
    with pytest.raises(InvalidRequestError) as caught:
        kit.run("a", messages=messages)
    assert caught.value.errors is not None
    assert caught.value.errors[0]["path"] == f"/messages/0/usage/{place}"


def test_the_usage_of_a_history_counts_for_no_limit_and_its_totals_are_sums() -> None:
    kit = AgentKit([Agent("a", ScriptedModel(["hi"]), max_tokens=50)])
    usage = {"input": 900, "output": 90, "totalTokens": 1, "cost": {"input": 0.5, "total": 0.1}}
    run = kit.run(
        "a", messages=[{"role": "assistant", "content": [], "usage": usage}, {"role": "user", "content": "x"}]
    )
    assert run.status == "completed"
    assert run.messages is not None
    assert run.messages[0]["usage"]["totalTokens"] == 990
    assert run.messages[0]["usage"]["cost"]["total"] == 0.5
    assert run.usage == run.messages[-1]["usage"]
