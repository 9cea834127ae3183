"""What was sent into a run is shown while it waits, bounded, and never lost: a turn takes it, or agent_end lists it."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from agentkit import Agent, AgentKit, RunNotPausedError, ScriptedModel, Settings, tool
from agentkit.core.ids import now_ms
from agentkit.errors import AgentKitError, PayloadTooLargeError, ProviderError, StoreUnavailableError
from agentkit.loop import expire
from agentkit.store.memory import MemoryStore
from agentkit.web import create_app
from tests.apps import App, Failing, Silent, die, in_background
from tests.flaky_store import FlakyStore
from tests.tools import YES, look, refund, refund_with
from tests.turns import call

LAST: list[Any] = [
    {"type": "text", "text": "and a picture"},
    {"type": "image", "data": "aGk=", "mimeType": "image/png"},
]


def send_three(app: App, run_id: str) -> list[Any]:
    """Send a follow-up, a steer and a follow-up of blocks; return what is to be seen of them."""
    app.kit.send(run_id, "later", by="ann")
    app.kit.send(run_id, "hurry", "steer")
    app.kit.send(run_id, LAST, "followUp", by="bob")
    return [
        {"message": "later", "when": "followUp", "by": "ann"},
        {"message": "hurry", "when": "steer"},
        {"message": LAST, "when": "followUp", "by": "bob"},
    ]


def script(*turns: Any) -> ScriptedModel:
    """Make a model that answers with one of the turns after the other, whatever users write between them."""

    def answer(messages: list[Any]) -> Any:
        count = sum(message["role"] == "assistant" for message in messages)
        if count >= len(turns):
            raise ProviderError("overloaded")
        return turns[count]

    return ScriptedModel(answer, chunk_size=3)


def paused(*turns: Any, **options: Any) -> tuple[App, str]:
    """Start a run that waits for a decision, and then answers with the turns."""
    model = script([call("refund", cents=1)], *turns)
    app = App(model=model, tools=[options.pop("tool", refund)], **options)
    return app, app.run()


def queued(app: App, run_id: str) -> Any:
    return app.kit.get(run_id).queued


def end_of(app: App, run_id: str) -> Any:
    app.check(run_id)
    return app.log(run_id)[-1]


def user_texts(app: App, run_id: str) -> list[Any]:
    return [each["content"] for each in app.kit.get(run_id).messages or [] if each["role"] == "user"]


# -- shown -----------------------------------------------------------------------------------------


def test_what_waits_is_shown_in_the_order_of_arrival_and_by_whom_while_paused() -> None:
    app, run_id = paused("done")
    assert queued(app, run_id) == []
    sent = send_three(app, run_id)
    assert app.kit.get(run_id).status == "paused"
    assert queued(app, run_id) == app.kit.get(run_id).to_json()["queued"] == sent


def test_what_waits_is_shown_while_a_tool_executes_and_leaves_as_it_comes_into_a_turn() -> None:
    app, run_id = paused("one", "two", "three")
    later, hurry, last = send_three(app, run_id)
    app.kit.resume(run_id, YES)
    assert queued(app, run_id) == [later, hurry, last]
    seen = [queued(app, run_id)]
    while app.queue.enqueued:
        app.execute_next()
        if queued(app, run_id) != seen[-1]:
            seen.append(queued(app, run_id))
    assert seen == [[later, hurry, last], [later, last], [last], []]
    assert app.kit.get(run_id).status == "completed"
    assert user_texts(app, run_id) == ["go", "hurry", "later", LAST]
    assert "unsent" not in end_of(app, run_id), "a model call has seen each"


def test_a_steer_for_the_turn_that_is_due_is_a_message_of_the_run_and_does_not_wait() -> None:
    app = App("done")
    run_id = app.start()
    app.kit.send(run_id, "hurry", "steer")
    assert (queued(app, run_id), user_texts(app, run_id)) == ([], ["go", "hurry"])


def test_equal_messages_wait_side_by_side() -> None:
    app, run_id = paused("one", "two")
    for _ in range(3):
        app.kit.send(run_id, "again")
    app.kit.send(run_id, "again", "steer")
    app.kit.resume(run_id, YES)
    app.execute_next()
    assert queued(app, run_id) == [{"message": "again", "when": "followUp"}] * 3


def test_http_shows_what_waits_and_a_listing_does_not() -> None:
    app, run_id = paused("done")
    client = create_app(app.kit).test_client()
    assert client.get(f"/runs/{run_id}").json["queued"] == []
    sent = client.post(f"/runs/{run_id}/messages", json={"message": "hurry", "when": "steer"})
    assert (sent.status_code, sent.json["queued"]) == (202, [{"message": "hurry", "when": "steer"}])
    assert client.get(f"/runs/{run_id}").json["queued"] == [{"message": "hurry", "when": "steer"}]
    [listed] = client.get("/runs").json["runs"]
    assert "queued" not in listed
    ended = client.post(f"/runs/{run_id}/abort", json={})
    assert ended.json["queued"] == []


def test_a_context_hook_sees_what_waits() -> None:
    seen: list[Any] = []

    def transform(messages: Any, run: Any) -> Any:
        seen.append(run.queued)
        return messages

    app, run_id = paused("one", "two")
    app.agent = Agent("a", script("unused", "one", "two"), tools=[refund], transform_context=transform)
    app.another_worker()
    app.kit.send(run_id, "later")
    app.kit.resume(run_id, YES)
    app.work()
    assert seen == [[{"message": "later", "when": "followUp"}], []]


# -- at the end ------------------------------------------------------------------------------------


def abort(app: App, run_id: str) -> None:
    app.kit.abort(run_id, "enough")


def expire_with_the_run(app: App, run_id: str) -> None:
    state = app.store.load(run_id)
    change = expire(state, app.kit.bind("a"), now_ms() + 3_600_000)
    assert change is not None
    app.store.commit(change, state.version)


def fail_while_paused(app: App, run_id: str) -> None:
    """The worker of the tool's step is killed as often as may be."""
    app.kit.resume(run_id, YES)
    [(_, step)] = app.queue.enqueued
    for _ in range(5):
        die(app, run_id, step)
    app.work()


ENDS: dict[str, tuple[str, Callable[[App, str], None]]] = {
    "aborted while paused": ("aborted", abort),
    "expired": ("aborted", expire_with_the_run),
    "a poison step": ("failed", fail_while_paused),
}


@pytest.mark.parametrize("name", ENDS)
def test_what_came_into_no_turn_is_in_agent_end(name: str) -> None:
    status, ending = ENDS[name]
    app, run_id = paused(tool=refund_with(decision_timeout=3600, on_expire="abort"))
    sent = send_three(app, run_id)
    ending(app, run_id)
    end = end_of(app, run_id)
    assert (end["status"], end["unsent"]) == (status, sent)
    assert queued(app, run_id) == []
    with pytest.raises(RunNotPausedError):
        app.kit.send(run_id, "one more")


def test_what_waits_for_a_run_whose_model_fails_is_in_agent_end() -> None:
    app = App(model=Failing())
    run_id = app.start()
    app.kit.send(run_id, "later")
    app.work()
    end = end_of(app, run_id)
    assert (end["status"], end["unsent"]) == ("failed", [{"message": "later", "when": "followUp"}])


def test_a_steer_that_came_into_a_turn_whose_call_fails_is_a_message_and_the_follow_up_is_in_agent_end() -> None:
    app, run_id = paused()  # the script has no second turn: the call fails
    app.kit.send(run_id, "hurry", "steer")
    app.kit.send(run_id, "later")
    app.kit.resume(run_id, YES)
    app.work()
    assert end_of(app, run_id)["unsent"] == [{"message": "later", "when": "followUp"}]
    assert user_texts(app, run_id) == ["go", "hurry"]


@pytest.mark.parametrize("limits", [{"maxTurns": 1}, {"maxTokens": 1}])
@pytest.mark.parametrize("turn", ["one", [call("look", what="a")]], ids=["a text", "a call"])
def test_what_a_limit_keeps_from_its_turn_is_in_agent_end(limits: Any, turn: Any) -> None:
    app = App(turn, tools=[look])
    run_id = app.kit.start("a", "go", limits=limits).id
    app.kit.send(run_id, "later", "followUp")
    app.work()
    end = end_of(app, run_id)
    assert (end["status"], end["unsent"]) == ("failed", [{"message": "later", "when": "followUp"}])


def test_a_steer_in_the_last_turn_is_in_agent_end() -> None:
    app, run_id = paused("never asked")
    other = app.kit.start("a", "go", limits={"maxTurns": 1}).id
    app.kit.abort(run_id)
    app.work()
    app.kit.send(other, "hurry", "steer")
    app.kit.resume(other, reject="no")
    app.work()
    end = end_of(app, other)
    assert (end["error"]["code"], end["unsent"]) == ("limit_turns", [{"message": "hurry", "when": "steer"}])


def test_what_was_sent_while_the_model_streams_is_in_the_agent_end_of_an_abort() -> None:
    model = Silent()
    app = App(model=model)
    run_id = app.start()
    thread = in_background(app.work)
    assert model.reached.wait(5)
    sent = send_three(app, run_id)
    app.kit.abort(run_id)
    thread.join(10)
    end = end_of(app, run_id)
    assert (end["status"], end["unsent"]) == ("aborted", sent)


# -- bounds ----------------------------------------------------------------------------------------


def code_of(function: Callable[[], Any]) -> str:
    with pytest.raises(AgentKitError) as raised:
        function()
    return raised.value.code


@pytest.mark.parametrize("when", ["steer", "followUp"])
def test_a_hundred_messages_may_wait_and_no_more(when: Any) -> None:
    app, run_id = paused("done")
    for number in range(100):
        app.kit.send(run_id, str(number), when)
    assert code_of(lambda: app.kit.send(run_id, "one more", when)) == "payload_too_large"
    with pytest.raises(PayloadTooLargeError, match=r"100 messages wait.*AGENTKIT_MAX_QUEUED_MESSAGES"):
        app.kit.send(run_id, "one more", "steer" if when == "followUp" else "followUp")
    assert [each["message"] for each in queued(app, run_id)] == [str(number) for number in range(100)]


@pytest.mark.parametrize("when", ["steer", "followUp"])
@pytest.mark.parametrize("content", ["x" * 100_000, "ü" * 50_000], ids=["ascii", "utf-8"])
def test_a_megabyte_of_messages_may_wait_and_no_more(when: Any, content: str) -> None:
    app, run_id = paused("done")
    for _ in range(10):
        app.kit.send(run_id, content, when)
    with pytest.raises(PayloadTooLargeError, match=r"1000001 bytes would wait.*AGENTKIT_MAX_QUEUED_BYTES"):
        app.kit.send(run_id, "x", when)
    assert len(queued(app, run_id)) == 10


def test_one_message_beyond_the_bound_is_refused_text_or_blocks() -> None:
    app, run_id = paused("done", max_queued_bytes=1000)
    for content in ("x" * 1001, [{"type": "image", "data": "A" * 1000, "mimeType": "image/png"}]):
        assert code_of(lambda content=content: app.kit.send(run_id, content)) == "payload_too_large"  # type: ignore[misc]
    app.kit.send(run_id, "x" * 1000)


def test_messages_for_the_turn_that_is_due_wait_as_well() -> None:
    app = App("one", "two", max_queued_messages=3, max_queued_bytes=100)
    run_id = app.start()
    for _ in range(2):
        app.kit.send(run_id, "x" * 40, "steer")
    assert code_of(lambda: app.kit.send(run_id, "x" * 21, "steer")) == "payload_too_large"
    app.kit.send(run_id, "x", "followUp")
    assert code_of(lambda: app.kit.send(run_id, "x", "steer")) == "payload_too_large"
    app.work()
    assert app.check(run_id).status == "completed"


def test_there_is_room_again_for_what_the_model_has_seen() -> None:
    model = Silent()
    app = App(model=model, max_queued_messages=2)
    run_id = app.start()
    app.kit.send(run_id, "one", "steer")
    app.kit.send(run_id, "two", "steer")
    assert code_of(lambda: app.kit.send(run_id, "three", "steer")) == "payload_too_large"
    thread = in_background(app.work)
    assert model.reached.wait(5)
    app.kit.send(run_id, "three", "steer")
    app.kit.send(run_id, "four")
    assert code_of(lambda: app.kit.send(run_id, "five")) == "payload_too_large"
    app.kit.abort(run_id)
    thread.join(10)


def test_what_is_refused_is_a_413_over_http_and_changes_nothing() -> None:
    app, run_id = paused("done", max_queued_messages=1)
    client = create_app(app.kit).test_client()
    body = {"message": "x", "when": "followUp"}
    assert client.post(f"/runs/{run_id}/messages", json=body).status_code == 202
    before = app.store.load(run_id)
    refused = client.post(f"/runs/{run_id}/messages", json=body)
    assert (refused.status_code, refused.json["code"]) == (413, "payload_too_large")
    assert refused.content_type == "application/problem+json"
    assert app.store.load(run_id) == before


def test_a_message_sent_again_under_its_key_is_done_though_there_is_no_room_any_more() -> None:
    app, run_id = paused("done", max_queued_messages=1)
    first = app.kit.send(run_id, "x", idempotency_key="k")
    assert app.kit.send(run_id, "x", idempotency_key="k").since == first.since
    assert code_of(lambda: app.kit.send(run_id, "x", idempotency_key="l")) == "payload_too_large"
    assert len(queued(app, run_id)) == 1


# -- once, whatever dies ---------------------------------------------------------------------------


@pytest.mark.parametrize("key", ["k", None])
def test_a_message_whose_reply_was_lost_waits_and_comes_again_only_without_a_key(key: str | None) -> None:
    app, run_id = paused("one", "two", "three", store=FlakyStore())
    app.store.lose["commit"] = 1
    with pytest.raises(StoreUnavailableError):
        app.kit.send(run_id, "later", idempotency_key=key)
    app.kit.send(run_id, "later", idempotency_key=key)
    app.kit.resume(run_id, YES)
    app.work()
    assert user_texts(app, run_id) == ["go", "later"] if key else ["go", "later", "later"]


@pytest.mark.parametrize("trouble", ["fail", "lose"])
def test_a_commit_that_is_repeated_takes_each_message_once(trouble: str) -> None:
    app, run_id = paused("one", "two", "three", store=FlakyStore())
    send_three(app, run_id)
    app.kit.resume(run_id, YES)
    while app.queue.enqueued:
        getattr(app.store, trouble)["commit"] = 1
        app.execute_next()
    app.check(run_id)
    assert user_texts(app, run_id) == ["go", "hurry", "later", LAST]


def test_a_worker_that_dies_before_its_commit_takes_nothing() -> None:
    app, run_id = paused("one", "two", "three")
    sent = send_three(app, run_id)
    app.kit.resume(run_id, YES)
    [(_, step)] = app.queue.enqueued
    die(app, run_id, step)
    assert queued(app, run_id) == sent
    app.work()
    app.check(run_id)
    assert user_texts(app, run_id) == ["go", "hurry", "later", LAST]


def test_what_arrives_between_a_claim_and_its_commit_is_kept() -> None:
    arrived: list[str] = []

    @tool
    def slow() -> str:
        """Take a while, in which people write."""
        app.kit.send(run_id, "in between", "steer")
        app.kit.send(run_id, "and after", "followUp")
        arrived.append("yes")
        return "done"

    app = App(model=script([call("slow")], "one", "two"), tools=[slow])
    run_id = app.start()
    app.work()
    app.check(run_id)
    assert arrived == ["yes"]
    assert user_texts(app, run_id) == ["go", "in between", "and after"]


def test_calls_that_end_side_by_side_leave_what_waits_to_the_last() -> None:
    calls = [call("look", "one", what="a"), call("look", "two", what="b")]
    app = App(model=script(calls, "done", "more", "and more"), tools=[look])
    run_id = app.start()
    app.execute_next()
    sent = send_three(app, run_id)
    app.execute_next()
    assert queued(app, run_id) == sent
    app.work()
    app.check(run_id)
    assert user_texts(app, run_id) == ["go", "hurry", "later", LAST]


# -- cost ------------------------------------------------------------------------------------------


def test_what_a_commit_writes_does_not_grow_with_what_waits() -> None:
    store = MemoryStore()
    app, run_id = paused("done", store=store)
    before = len(store._runs[run_id].state)
    for _ in range(9):
        app.kit.send(run_id, "x" * 100_000)
    assert len(store._runs[run_id].state) < before + 50, "how many they are"
    assert sum(map(len, store._runs[run_id].queued)) > 900_000


def test_a_step_makes_no_more_calls_of_the_store_where_messages_wait() -> None:
    def calls(count: int) -> list[str]:
        app, run_id = paused("one", store=FlakyStore())
        for _ in range(count):
            app.kit.send(run_id, "hurry", "steer")
        app.kit.resume(run_id, YES)
        app.store.calls.clear()
        app.work()
        assert app.check(run_id).status == "completed"
        return [each.method for each in app.store.calls]

    assert calls(0) == calls(5)


@pytest.mark.parametrize("when", ["steer", "followUp"])
def test_much_that_waits_is_read_when_a_turn_takes_it_and_by_no_step_before(when: Any) -> None:
    turns = [[call("look", f"call-{n}", what="a")] for n in range(5)]
    app, run_id = paused(*turns, "one", "two", store=FlakyStore())
    app.agent = Agent("a", app.agent.model, tools=[refund, look])
    app.another_worker()
    text = "x" * 100_000
    app.kit.send(run_id, text, when)
    app.kit.resume(run_id, YES)
    app.store.calls.clear()
    app.work()
    app.check(run_id)
    assert user_texts(app, run_id) == ["go", text]
    loads = [each for each in app.store.calls if each.method == "load"]
    assert len(loads) == 1, "that of the step whose commit takes it"


@pytest.mark.parametrize("ending", ["aborted", "failed"])
def test_much_that_waits_is_in_agent_end(ending: str) -> None:
    app, run_id = paused()
    sent = [{"message": letter * 100_000, "when": when} for letter, when in (("x", "followUp"), ("y", "followUp"))]
    for each in sent:
        app.kit.send(run_id, each["message"], each["when"])  # type: ignore[arg-type]
    if ending == "aborted":
        app.kit.abort(run_id)
    else:
        app.kit.resume(run_id, YES)
        app.work()
    end = end_of(app, run_id)
    assert (end["status"], end["unsent"]) == (ending, sent)


def test_an_inline_kit_shows_and_keeps_what_was_sent() -> None:
    kit = AgentKit([Agent("a", ScriptedModel([[call("refund")]]), tools=[refund])], settings=Settings())
    run = kit.run("a", "go")
    kit.send(run.id, "IMPORTANT", "followUp")
    assert kit.get(run.id).queued == [{"message": "IMPORTANT", "when": "followUp"}]
    kit.abort(run.id)
    last = list(kit.handle(run.id).events())[-1]
    assert last["unsent"] == [{"message": "IMPORTANT", "when": "followUp"}]
    assert "IMPORTANT" in json.dumps(last)
