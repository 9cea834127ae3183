"""A model call that fails is tried again, another model is asked, and a long wait holds no worker."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any

import pytest

from agentkit import Agent, AgentKit, ConfigurationError, ProviderError, RetryPolicy, Settings
from agentkit.core.cancellation import Cancellation
from agentkit.core.messages import Message, Usage
from agentkit.providers.protocol import Finish, ModelRequest, Part, TextDelta
from agentkit.queue.protocol import InlineQueue
from agentkit.store.memory import MemoryStore
from tests.event_rules import check_log
from tests.waiting import wait_until

QUICK = RetryPolicy(attempts=3, base=0.001, cap=0.002, deadline=10)


class Flaky:
    """A model whose first calls fail, after some text or before any."""

    api = "flaky"
    model = "m"

    def __init__(self, name: str, fails: int, error: ProviderError | None = None, text: str = "so f") -> None:
        self.name = name
        self.calls: list[Sequence[Message]] = []
        self._fails = fails
        self._error = error or ProviderError("busy", retryable=True, status=429)
        self._text = text

    def stream(self, request: ModelRequest, cancel: Cancellation) -> Iterator[Part]:
        self.calls.append(request.messages)
        if len(self.calls) <= self._fails:
            if self._text:
                yield TextDelta(self._text)
            raise self._error
        yield TextDelta(f"{self.name} answers")
        yield Finish("stop", Usage.of(), "m")


def kinds(kit: AgentKit, run_id: str) -> list[str]:
    run = kit.get(run_id)
    events = list(kit.handle(run_id).events())
    check_log(events, run.messages or [], run.status)
    return [event["type"] for event in events]


def test_a_failure_that_may_pass_is_tried_again_and_what_was_streamed_is_void() -> None:
    model = Flaky("first", fails=2)
    kit = AgentKit([Agent("a", model, retry=QUICK)])
    run = kit.run("a", "hi")
    assert run.status == "completed"
    assert len(model.calls) == 3
    events = list(kit.handle(run.id).events())
    retries = [event for event in events if event["type"] == "model_retry"]
    assert [(e["attempt"], e["maxAttempts"], e["error"]) for e in retries] == [(2, 3, "busy"), (3, 3, "busy")]
    assert kinds(kit, run.id).count("message_discard") == 2


def test_nothing_is_discarded_where_nothing_was_streamed() -> None:
    kit = AgentKit([Agent("a", Flaky("first", fails=2, text=""))], retry=QUICK)
    run = kit.run("a", "hi")
    assert run.status == "completed"
    assert "message_discard" not in kinds(kit, run.id)


def test_retry_is_off_unless_asked_for() -> None:
    model = Flaky("first", fails=1)
    run = AgentKit([Agent("a", model)]).run("a", "hi")
    assert (run.status, (run.error or {})["code"], len(model.calls)) == ("failed", "provider_error", 1)


def test_what_will_not_pass_is_not_tried_again() -> None:
    model = Flaky("first", fails=1, error=ProviderError("bad key", retryable=False, status=401))
    run = AgentKit([Agent("a", model, retry=QUICK)]).run("a", "hi")
    assert (run.status, len(model.calls)) == ("failed", 1)


def test_after_the_last_attempt_the_run_fails_with_what_was_streamed_kept() -> None:
    kit = AgentKit([Agent("a", Flaky("first", fails=9), retry=QUICK)])
    run = kit.run("a", "hi")
    assert run.status == "failed"
    assert run.messages is not None
    assert run.messages[-1]["content"] == [{"type": "text", "text": "so f"}]
    assert kinds(kit, run.id)[-1] == "agent_end"


@pytest.mark.parametrize("retryable", [True, False])
def test_the_next_model_is_asked_when_one_is_exhausted_or_refuses(retryable: bool) -> None:
    first = Flaky("first", fails=9, error=ProviderError("no", retryable=retryable))
    second = Flaky("second", fails=1)
    kit = AgentKit([Agent("a", [first, second], retry=QUICK)])
    run = kit.run("a", "hi")
    assert run.status == "completed"
    assert (len(first.calls), len(second.calls)) == (3 if retryable else 1, 2)
    assert run.messages is not None
    assert run.messages[-1]["provider"] == "second"  # type: ignore[typeddict-item]  # the assistant's
    assert kinds(kit, run.id)[-1] == "agent_end"


def waiting_run(error: ProviderError, limits: Any = None, **policy: Any) -> tuple[AgentKit, InlineQueue, Any, Flaky]:
    """A run whose model call has failed once, and is postponed."""
    queue, model = InlineQueue(), Flaky("first", fails=1, error=error)
    retry = RetryPolicy(**{"attempts": 2, "base": 0.001, "cap": 0.001, "deadline": 60, **policy})
    kit = AgentKit(
        [Agent("a", model, retry=retry)], store=MemoryStore(), queue=queue, settings=Settings(lease_seconds=1)
    )
    handle = kit.start("a", "hi", limits=limits)
    kit.execute(*queue.waiting.popleft())
    return kit, queue, handle, model


def let_end(kit: AgentKit, queue: InlineQueue, handle: Any) -> None:
    """What any worker does for a run that waits: recovery, and the steps that are due."""
    recovery = kit.recovery()

    def ended() -> bool:
        recovery.sweep()
        while queue.waiting:
            kit.execute(*queue.waiting.popleft())
        return bool(handle.run.ended)

    wait_until(ended, what="the run to end")


def test_a_long_wait_gives_the_worker_back_and_is_found_by_any_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agentkit.runtime.model_step.LONG_WAIT_SECONDS", 0.1)
    kit, queue, handle, model = waiting_run(ProviderError("later", retryable=True, retry_after=0.4))
    assert not queue.waiting, "nothing is enqueued before the time"
    step = kit.store.load(handle.id).record.steps[0].number
    kit.execute(handle.id, step)
    assert len(model.calls) == 1, "a message that comes too early is dropped"
    let_end(kit, queue, handle)
    assert handle.run.status == "completed"
    assert kinds(kit, handle.id).count("message_discard") == 1


def test_abort_ends_a_long_wait_at_once() -> None:
    kit, _, handle, _ = waiting_run(ProviderError("later", retryable=True, retry_after=30.0))
    kit.abort(handle.id)
    assert handle.run.status == "aborted"
    assert kinds(kit, handle.id)[-4:] == ["message_start", "message_end", "turn_end", "agent_end"]


def test_a_retry_after_beyond_the_deadline_is_not_waited_for() -> None:
    kit, _, handle, _ = waiting_run(ProviderError("later", retryable=True, retry_after=30.0), deadline=20)
    assert handle.run.status == "failed"
    assert kinds(kit, handle.id)[-1] == "agent_end"


def test_a_long_wait_ends_with_the_time_of_the_run() -> None:
    busy = ProviderError("later", retryable=True, retry_after=30.0)
    kit, queue, handle, _ = waiting_run(busy, limits={"timeout": 0.3})
    let_end(kit, queue, handle)
    assert (handle.run.status, handle.run.error["code"]) == ("failed", "limit_time")
    assert kinds(kit, handle.id)[-1] == "agent_end"


def test_a_steer_during_a_long_wait_follows_the_turn_that_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agentkit.runtime.model_step.LONG_WAIT_SECONDS", 0.1)
    kit, queue, handle, _ = waiting_run(ProviderError("later", retryable=True, retry_after=0.3))
    kit.send(handle.id, "and quickly", "steer")
    let_end(kit, queue, handle)
    assert kinds(kit, handle.id)[-1] == "agent_end"
    assert [m["role"] for m in handle.run.messages or []] == ["user", "assistant", "user", "assistant"]


def test_an_inline_run_waits_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agentkit.runtime.model_step.LONG_WAIT_SECONDS", 0.05)
    error = ProviderError("later", retryable=True, retry_after=0.2)
    kit = AgentKit([Agent("a", Flaky("first", fails=1, error=error), retry=QUICK)])
    assert kit.run("a", "hi").status == "completed"


def test_the_delay_is_drawn_from_a_doubling_range_up_to_the_cap() -> None:
    policy = RetryPolicy(attempts=10, base=1, cap=5, deadline=1000)
    error = ProviderError("x", retryable=True)
    for tries, most in ((1, 1), (2, 2), (3, 4), (4, 5), (9, 5)):
        delays = [policy.delay(error, tries, 0) for _ in range(200)]
        assert all(delay is not None and 0 <= delay <= most for delay in delays)
        assert max(delay or 0 for delay in delays) > most / 2


@pytest.mark.parametrize(
    "wrong", [{"attempts": 0}, {"attempts": 1.5}, {"base": -1}, {"cap": "x"}, {"deadline": float("nan")}]
)
def test_a_wrong_policy_is_an_error_when_it_is_declared(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match=next(iter(wrong))):
        RetryPolicy(**wrong)


def test_the_model_sees_what_transform_context_makes_of_the_conversation() -> None:
    model = Flaky("first", fails=0)
    seen: list[str] = []

    def last_only(messages: list[Message], run: Any) -> list[Message]:
        seen.append(run.id)
        return messages[-1:]

    kit = AgentKit([Agent("a", model, transform_context=last_only)])
    history: Any = [
        {"role": "user", "content": "one"},
        {"role": "assistant", "content": []},
        {"role": "user", "content": "two"},
    ]
    run = kit.run("a", messages=history)
    assert [message.content for message in model.calls[0]] == ["two"]
    assert seen == [run.id]
    assert run.messages is not None
    assert len(run.messages) == 4


def test_a_hook_that_raises_fails_the_run_with_its_reason() -> None:
    def broken(messages: list[Message], run: Any) -> list[Message]:
        raise KeyError("nope")

    kit = AgentKit([Agent("a", Flaky("first", fails=0), transform_context=broken, retry=QUICK)])
    run = kit.run("a", "hi")
    assert run.status == "failed"
    assert run.error is not None
    assert run.error["code"] == "step_failed"
    assert re.fullmatch(r"transform_context raised KeyError \(reference [0-9a-f]{8}\)", run.error["message"])
    assert kinds(kit, run.id)[-1] == "agent_end"
