"""What all workers together may ask of a model: a call beyond it waits, and costs neither attempt nor worker."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest

from agentkit import Agent, AgentKit, ConfigurationError, ProviderError, Rate, RetryPolicy, ScriptedModel
from agentkit.core.cancellation import Cancellation
from agentkit.core.messages import AssistantMessage, ImageBlock, TextBlock, Usage, UserMessage
from agentkit.core.record import Status
from agentkit.providers.protocol import Finish, ModelRequest, Part, TextDelta
from agentkit.runtime.rates import estimated_tokens
from agentkit.store.memory import MemoryStore
from tests.apps import App, die, in_background
from tests.waiting import wait_until

ONE = Rate("*", concurrent=1)


class Clock:
    """A store's clock that a test moves."""

    def __init__(self) -> None:
        self.ms = 1_800_000_000_000

    def __call__(self) -> int:
        return self.ms


class Held:
    """A model whose calls go on until they are let go; `calls` counts them."""

    name = api = "held"
    model = "m"

    def __init__(self) -> None:
        self.calls = 0
        self.going = threading.Semaphore(0)

    def stream(self, request: ModelRequest, cancel: Cancellation) -> Iterator[Part]:
        self.calls += 1
        yield TextDelta("well")
        while not cancel.cancelled and not self.going.acquire(timeout=0.01):
            pass
        yield Finish("stop", Usage.of(), "m")


class Refusing:
    """A model that answers 429 as often as it is told to."""

    name = api = "refusing"
    model = "m"

    def __init__(self, times: int, retry_after: float | None = 3.0) -> None:
        self.left = times
        self.calls = 0
        self._retry_after = retry_after

    def stream(self, request: ModelRequest, cancel: Cancellation) -> Iterator[Part]:
        self.calls += 1
        if self.left:
            self.left -= 1
            raise ProviderError("too many", retryable=True, status=429, retry_after=self._retry_after)
        yield TextDelta("There.")
        yield Finish("stop", Usage.of(), "m")


def held_app(rate: Rate = ONE, **options: Any) -> tuple[App, Held, str, threading.Thread]:
    """An application with a call under way that has all there is of the rate."""
    model = Held()
    app = App(model=model, rates=[rate], **options)
    first = app.start()
    thread = in_background(app.execute_next)
    wait_until(lambda: model.calls == 1, what="the first call")
    return app, model, first, thread


def types_of(app: App, run_id: str) -> list[str]:
    return [event["type"] for event in app.log(run_id)]


# -- declared ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: Rate("gpt", requests=1), "provider:model"),
        (lambda: Rate("", requests=1), "provider:model"),
        (lambda: Rate("openai:*"), "give requests, tokens or concurrent"),
        (lambda: Rate("openai:*", requests=0), "requests must be a whole number over 0"),
        (lambda: Rate("openai:*", tokens=1.5), "tokens must be"),  # type: ignore[arg-type]
        (lambda: Rate("openai:*", concurrent=True), "concurrent must be"),
        (lambda: Rate("openai:*", requests=1, per=0), "per must be a number of seconds over 0"),
        (lambda: Rate("openai:*", request=1), "did you mean requests"),  # type: ignore[call-arg]
        (lambda: AgentKit([Agent("a", "openai:x")], rates=["openai:*"]), "list of Rate"),  # type: ignore[list-item]
        (lambda: AgentKit([Agent("a", "openai:x")], rates=ONE), "rates=\\[Rate"),  # type: ignore[arg-type]
        (lambda: AgentKit([Agent("a", "openai:x")], rates=[ONE, ONE]), "two rates"),
    ],
)
def test_a_rate_that_means_nothing_is_refused_with_what_to_write(make: Any, text: str) -> None:
    with pytest.raises(ConfigurationError, match=text):
        make()


@pytest.mark.parametrize(
    ("pattern", "model", "matches"),
    [
        ("openai:*", "openai:gpt-5", True),
        ("openai:*", "azure-openai:gpt-5", False),
        ("*", "any:thing", True),
        ("*:gpt-*-mini", "openai:gpt-5-mini", True),
        ("openai:gpt.5", "openai:gpt-5", False),
        ("openai:gpt-5", "openai:gpt-5-mini", False),
    ],
)
def test_a_pattern_names_models_by_stars_alone(pattern: str, model: str, matches: bool) -> None:
    assert Rate(pattern, requests=1).matches(model) is matches


# -- waiting -------------------------------------------------------------------------------------------


def test_a_call_beyond_the_rate_waits_without_a_worker_and_goes_on_when_the_other_has_ended() -> None:
    app, model, first, thread = held_app()
    second = app.start()
    app.execute_next()  # returns at once
    assert model.calls == 1
    state = app.store.load(second)
    assert (state.live, list(state.waits), state.record.status) == ({}, [1], Status.RUNNING)
    [wait] = [event for event in app.log(second) if event["type"] == "model_wait"]
    assert wait["reason"] == "* may have 1 calls at a time"
    assert 29_000 < wait["delayMs"] < 31_000
    assert app.queue.enqueued == []
    model.going.release(2)
    thread.join()
    assert app.queue.enqueued == [(second, 1)], "who ends a call enqueues the next"
    app.work()
    for run_id in (first, second):
        assert app.check(run_id).status == "completed"
    assert "message_discard" not in types_of(app, second)


def test_waiting_is_no_attempt() -> None:
    app, model, _, thread = held_app(max_attempts=2)
    second = app.start()
    for _ in range(5):
        app.kit.execute(second, 1)
    model.going.release(2)
    thread.join()
    app.work()
    assert app.check(second).status == "completed"


def test_a_step_whose_worker_died_begins_anew_when_it_has_its_share() -> None:
    app, model, _, thread = held_app()
    second = app.start()
    app.queue.enqueued.clear()
    die(app, second, 1)
    app.kit.execute(second, 1)
    model.going.release(2)
    thread.join()
    app.work()
    assert app.check(second).status == "completed"
    assert types_of(app, second).count("message_discard") == 1


def test_abort_ends_a_run_that_waits_and_its_place_goes_to_the_next() -> None:
    app, model, _, thread = held_app()
    second, third = app.start(), app.start()
    app.work()
    app.kit.abort(second)
    app.work()
    assert app.check(second).status == "aborted"
    model.going.release(2)
    thread.join()
    assert app.queue.enqueued == [(third, 1)]
    app.work()
    assert app.check(third).status == "completed"


def test_the_runs_own_time_goes_on_while_it_waits() -> None:
    clock = Clock()
    app, model, _, thread = held_app(store=MemoryStore(clock=clock))
    second = app.kit.start("a", "go", limits={"timeout": 5}).id
    app.work()
    [wait] = app.store.load(second).waits.values()
    assert wait == clock.ms + 5000
    clock.ms += 5000
    app.kit.recovery().sweep()
    app.work()
    run = app.check(second)
    assert run.error is not None
    assert run.error["code"] == "limit_time"
    assert model.calls == 1
    model.going.release()
    thread.join()


def test_recovery_asks_again_where_the_one_that_had_the_share_died_with_it() -> None:
    clock = Clock()
    app = App("Done.", rates=[ONE], store=MemoryStore(clock=clock), lease_seconds=10)
    first, second = app.start(), app.start()
    app.queue.enqueued.clear()
    worker = app.kit.runner
    held = worker.keeper.hold(app.store.claim(first, 1, 10_000))
    assert worker._rates.begin(held, "scripted:scripted", None, 0) is None
    worker.keeper.drop(held)  # it takes its share with it
    app.kit.execute(second, 1)
    app.kit.recovery().sweep()
    assert app.queue.enqueued == [], "it waits"
    clock.ms += 15_000
    app.kit.recovery().sweep()
    assert sorted(app.queue.enqueued) == sorted([(first, 1), (second, 1)])
    app.work()
    assert app.check(second).status == "completed"
    assert app.check(first).status == "completed"


def test_a_turn_that_came_before_the_step_was_given_back_is_not_lost() -> None:
    app, model, _, thread = held_app()
    second = app.start()
    app.queue.enqueued.clear()
    release = app.store.release

    def late(*args: Any, **options: Any) -> None:
        model.going.release()
        thread.join()
        wait_until(lambda: app.queue.enqueued, what="the other's end")
        app.execute_next()  # and finds the step held
        release(*args, **options)

    app.store.release = late
    app.kit.execute(second, 1)
    assert app.queue.enqueued == [(second, 1)]
    app.store.release = release
    model.going.release()
    app.work()
    assert app.check(second).status == "completed"


def test_requests_in_a_time_wait_for_its_end() -> None:
    clock = Clock()
    app = App("Done.", rates=[Rate("scripted:*", requests=2, per=60)], store=MemoryStore(clock=clock))
    ids = [app.start() for _ in range(3)]
    app.work()
    assert [app.store.load(run_id).record.status for run_id in ids] == ["completed", "completed", "running"]
    clock.ms += 59_000
    app.kit.recovery().sweep()
    assert app.work().store.load(ids[2]).record.status is Status.RUNNING
    clock.ms += 1001
    app.kit.recovery().sweep()
    app.work()
    assert app.check(ids[2]).status == "completed"


def test_tokens_that_were_used_count_and_not_what_was_estimated() -> None:
    app = App("Done.", rates=[Rate("scripted:*", tokens=1000)])
    ids = [app.start() for _ in range(4)]
    app.work()  # an answer is estimated at hundreds of tokens, and has a few
    assert [app.store.load(run_id).record.status for run_id in ids] == ["completed"] * 4


def test_a_rate_holds_for_runs_that_are_executed_inline() -> None:
    kit = AgentKit([Agent("a", ScriptedModel(["Done."]))], rates=[Rate("*", requests=1, per=0.2)])
    assert [kit.run("a", "go").status for _ in range(3)] == ["completed"] * 3


def test_a_rate_holds_in_tests_whose_clock_is_moved() -> None:
    kit = AgentKit([Agent("a", "openai:x")], rates=[Rate("openai:*", requests=1, per=60)])
    with kit.testing(ScriptedModel(["Done."])) as testing:
        runs = [kit.start("a", "go") for _ in range(2)]
        assert [run.run.status for run in runs] == ["completed", "running"]
        testing.advance(61)
        assert runs[1].run.status == "completed"


# -- tries and other models ----------------------------------------------------------------------------


def test_the_next_try_of_a_call_takes_a_share_of_its_own() -> None:
    clock = Clock()
    model = Refusing(1, retry_after=None)
    retry = RetryPolicy(attempts=2, base=0, cap=0)
    app = App(model=model, rates=[ONE], retry=retry, store=MemoryStore(clock=clock))
    run_id = app.run()
    assert model.calls == 1
    clock.ms += 1
    app.kit.recovery().sweep()
    app.work()
    assert app.check(run_id).status == "completed"
    assert model.calls == 2


def test_another_model_has_rates_of_its_own() -> None:
    clock = Clock()
    first, second = Refusing(1, retry_after=None), ScriptedModel(["Instead."])
    app = App(model=[first, second], rates=[Rate("scripted:*", requests=1, per=60)], store=MemoryStore(clock=clock))
    ids = [app.start() for _ in range(2)]
    first.left = 2
    for _ in range(3):
        app.work()
        clock.ms += 1
        app.kit.recovery().sweep()
    app.work()
    assert app.check(ids[0]).status == "completed"
    assert app.store.load(ids[1]).record.status is Status.RUNNING
    clock.ms += 61_000
    app.kit.recovery().sweep()
    app.work()
    assert app.check(ids[1]).status == "completed"
    assert first.calls == 2


# -- 429 -----------------------------------------------------------------------------------------------


def test_a_429_with_retry_after_pauses_its_model_for_other_workers_too() -> None:
    clock = Clock()
    model = Refusing(1)
    app = App(model=model, store=MemoryStore(clock=clock))
    refused = app.run()
    assert app.check(refused).status == "failed"  # it has no retry policy
    run_id = app.another_worker().start()
    app.work()
    assert model.calls == 1
    [wait] = [event for event in app.log(run_id) if event["type"] == "model_wait"]
    assert wait["reason"] == "refusing:m is paused: its vendor answered 429 with Retry-After"
    assert 3000 <= wait["delayMs"] <= 3300
    clock.ms += 3400
    app.kit.recovery().sweep()
    app.work()
    assert app.check(run_id).status == "completed"


def test_the_run_that_was_refused_waits_as_its_policy_says_and_no_more() -> None:
    model = Refusing(1, retry_after=0.1)
    app = App(model=model, retry=RetryPolicy(attempts=2, base=0, cap=0))
    run_id = app.run()
    assert app.check(run_id).status == "completed"
    assert "model_wait" not in types_of(app, run_id)


def test_a_refusal_that_names_no_time_pauses_nobody() -> None:
    model = Refusing(1, retry_after=None)
    app = App(model=model)
    app.run()
    assert app.check(app.run()).status == "completed"


def test_a_pause_is_not_believed_beyond_five_minutes() -> None:
    clock = Clock()
    app = App(model=Refusing(1, retry_after=86_400), store=MemoryStore(clock=clock))
    app.run()
    assert app.store.paused_models() == {"refusing:m": clock.ms + 300_000}


# -- estimates -----------------------------------------------------------------------------------------


def test_an_estimate_counts_what_no_answer_has_counted_yet() -> None:
    user = UserMessage(content="x" * 400, timestamp=1)
    usage = Usage(input=500, output=100, cache_read=0, cache_write=0, total_tokens=600, cost=Usage.of().cost)
    answer = AssistantMessage(
        content=[TextBlock("y" * 4000)], api="a", provider="p", model="m", usage=usage, stop_reason="stop", timestamp=1
    )
    assert estimated_tokens([user], "z" * 40, 1000) == 1110
    assert estimated_tokens([user, answer, user], "z" * 40, None) == 600 + 100 + 256
    image = UserMessage(content=[TextBlock("x" * 4), ImageBlock(data="eA==", mime_type="image/png")], timestamp=1)
    assert estimated_tokens([image], "", 1) == 1 + 1000 + 1
