"""Runs that begin from another: retried, forked at a turn, gone on with. Over each store."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import fakeredis
import pytest

from agentkit import (
    Agent,
    AgentKit,
    FernetCodec,
    InvalidRequestError,
    RunNotFoundError,
    ScriptedModel,
    tool,
)
from agentkit.errors import (
    AgentKitError,
    AgentNotFoundError,
    IdempotencyConflictError,
    PayloadTooLargeError,
    ProviderError,
    RunNotTerminalError,
)
from agentkit.store.memory import MemoryStore
from agentkit.store.protocol import Store
from agentkit.store.redis import RedisStore
from tests.apps import App, FakeQueue, Silent, die, in_background
from tests.keys import new_key
from tests.redis_contract import echoing
from tests.tools import YES, look, refund
from tests.turns import call

IMAGE = {"type": "image", "data": "aGk=", "mimeType": "image/png"}


@pytest.fixture(params=["memory", "redis", "encrypted"])
def store(request: pytest.FixtureRequest) -> Iterator[Store]:
    if request.param == "memory":
        yield MemoryStore()
        return
    with echoing(fakeredis.FakeRedis)(server=fakeredis.FakeServer(version=(7,))) as client:
        made = RedisStore("redis://fake", client=client)
        if request.param == "encrypted":
            made.use_codec(FernetCodec(new_key()))
        yield made


class Script:
    """Turns by the number of answers in the conversation; `fails`: those that the vendor refuses, how often."""

    def __init__(self, *turns: Any, **fails: int) -> None:
        self.seen: list[list[Any]] = []
        self.fails = {int(name[1:]): times for name, times in fails.items()}
        self.model = ScriptedModel(self._answer, chunk_size=5)
        self._turns = turns

    def _answer(self, messages: list[Any]) -> Any:
        self.seen.append(messages)
        number = sum(message["role"] == "assistant" for message in messages)
        if self.fails.get(number, 0) > 0:
            self.fails[number] -= 1
            raise ProviderError("overloaded", status=429)
        return self._turns[min(number, len(self._turns) - 1)]


def roles(messages: list[Any]) -> list[str]:
    return [message["role"] for message in messages]


def texts(messages: list[Any]) -> list[Any]:
    return [message["content"] for message in messages if message["role"] == "user"]


def finished(app: App, run_id: str) -> Any:
    app.work()
    return app.check(run_id)


THREE_TURNS = ([call("look", "c1", what="a"), call("look", "c2", what="b")], [call("look", "c3", what="c")], "done")


@pytest.fixture
def three(store: Store) -> tuple[App, Any]:
    """An application and a completed run of three turns."""
    app = App(model=Script(*THREE_TURNS).model, tools=[look], store=store)
    return app, app.check(app.run())


@pytest.mark.parametrize(("turn", "taken"), [(1, 4), (2, 6), (3, 7), (None, 7)])
def test_a_run_is_forked_at_each_turn(three: tuple[App, Any], turn: int | None, taken: int) -> None:
    app, source = three
    before = app.log(source.id)
    run = finished(app, app.kit.start("a", "and?", from_run=source.id, turn=turn).id)
    assert run.status == "completed"
    assert run.messages[:taken] == source.messages[:taken]
    assert (run.messages[taken]["role"], run.messages[taken]["content"]) == ("user", "and?")
    assert run.origin == {"runId": source.id, "turn": 3 if turn is None else turn}
    assert run.turn == len([m for m in run.messages[taken:] if m["role"] == "assistant"])
    start, first = app.log(run.id)[:2]
    assert start["messages"] == source.messages[:taken]
    assert (first["type"], first["message"]["role"]) == ("message_start", "user")
    assert (app.kit.get(source.id), app.log(source.id)) == (source, before)


@pytest.mark.parametrize(("turn", "taken"), [(1, 4), (2, 6)])
def test_without_input_the_model_goes_on_from_the_end_of_a_turn(three: tuple[App, Any], turn: int, taken: int) -> None:
    app, source = three
    run = finished(app, app.kit.start(from_run=source.id, turn=turn).id)
    assert (run.status, run.agent) == ("completed", "a")
    assert roles(run.messages) == roles(source.messages)
    assert run.messages[:taken] == source.messages[:taken]
    assert run.turn == 3 - turn


@pytest.mark.parametrize("turn", [0, 4, 99, -1, True, 1.5, "1"])
def test_a_turn_that_is_not_there_is_refused(three: tuple[App, Any], turn: Any) -> None:
    app, source = three
    with pytest.raises(InvalidRequestError, match="turn"):
        app.kit.start("a", "x", from_run=source.id, turn=turn)
    assert [run.id for run in app.kit.runs()] == [source.id]


def test_a_run_whose_last_word_is_the_models_has_nothing_to_go_on_from(three: tuple[App, Any]) -> None:
    app, source = three
    with pytest.raises(InvalidRequestError, match=r"nothing to go on from after turn 3.*give input"):
        app.kit.start(from_run=source.id)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"messages": [{"role": "user", "content": "x"}]}, "messages or from"),
        ({"from_run": None, "turn": 1}, "give from_run, too"),
        ({"from_run": 5}, "must be the id"),
        ({"from_run": "\ud800"}, "surrogate"),
        ({"input": ""}, "empty"),
    ],
)
def test_what_does_not_go_together_is_refused(three: tuple[App, Any], arguments: Any, says: str) -> None:
    app, source = three
    with pytest.raises(InvalidRequestError, match=says):
        app.kit.start("a", **{"from_run": source.id, "input": "x", **arguments})


def test_a_failed_run_is_tried_again(store: Store) -> None:
    script = Script([call("look", "c1")], "well", f1=1)
    app = App(model=script.model, tools=[look], store=store)
    source = app.check(app.run())
    assert (source.status, source.error["code"], source.turn) == ("failed", "provider_error", 2)
    run = finished(app, app.kit.start(from_run=source.id).id)
    assert (run.status, run.turn, run.origin) == ("completed", 1, {"runId": source.id, "turn": 1})
    assert roles(run.messages) == ["user", "assistant", "toolResult", "assistant"]
    assert run.usage == run.messages[-1]["usage"]


def test_a_run_that_failed_in_its_first_turn_is_tried_again_from_its_beginning(store: Store) -> None:
    script = Script("well", f0=2)
    app = App(model=script.model, store=store)
    source = app.check(app.kit.start("a", [{"type": "text", "text": "what is it?"}, IMAGE]).id)
    source = finished(app, source.id)
    assert (source.status, roles(source.messages)) == ("failed", ["user", "assistant"])
    again = finished(app, app.kit.start(from_run=source.id).id)
    assert (again.status, again.origin) == ("failed", {"runId": source.id, "turn": 0})
    run = finished(app, app.kit.start(from_run=again.id, turn=0).id)
    assert (run.status, run.origin) == ("completed", {"runId": again.id, "turn": 0})
    assert run.messages[0] == source.messages[0]
    assert texts(script.seen[-1]) == [[{"type": "text", "text": "what is it?"}, IMAGE]]


def test_an_input_to_a_run_that_failed_in_its_first_turn_follows_its_beginning(store: Store) -> None:
    app = App(model=Script("well", f0=1).model, store=store)
    source = finished(app, app.start())
    run = finished(app, app.kit.start("a", "please", from_run=source.id).id)
    assert texts(run.messages) == ["go", "please"]


def test_a_history_that_was_given_is_no_turn_of_the_run(store: Store) -> None:
    history = [
        {"role": "user", "content": "one"},
        {"role": "assistant", "content": [{"type": "text", "text": "two"}]},
        {"role": "user", "content": "three"},
    ]
    app = App(model=Script("x", [call("look", "c1")], "five", f2=1).model, tools=[look], store=store)
    source = finished(app, app.kit.start("a", messages=history).id)
    assert (source.status, source.turn) == ("failed", 2)
    retried = finished(app, app.kit.start(from_run=source.id).id)
    assert (retried.status, retried.origin["turn"], len(retried.messages)) == ("completed", 1, 6)
    # The fork of a fork counts the turns of the fork.
    forked = finished(app, app.kit.start("a", "more", from_run=retried.id, turn=1).id)
    assert (forked.origin, texts(forked.messages)) == ({"runId": retried.id, "turn": 1}, ["one", "three", "more"])
    with pytest.raises(InvalidRequestError, match="one whole turn"):
        app.kit.start("a", "more", from_run=retried.id, turn=2)


def test_what_a_turn_that_was_cut_off_has_done_is_not_taken(store: Store) -> None:
    app = App([call("look", "c1"), call("refund", "c2")], "done", tools=[look, refund], store=store)
    source_id = app.run()
    with pytest.raises(RunNotTerminalError, match="paused"):
        app.kit.start(from_run=source_id)
    app.kit.abort(source_id)
    source = app.check(source_id)
    assert roles(source.messages) == ["user", "assistant", "toolResult"]
    with pytest.raises(InvalidRequestError, match="no whole turn"):
        app.kit.start("a", "x", from_run=source_id, turn=1)
    run_id = app.kit.start(from_run=source_id).id
    app.work()
    app.kit.resume(run_id, YES)
    run = finished(app, run_id)
    assert (run.status, run.origin["turn"]) == ("completed", 0)
    assert roles(run.messages) == ["user", "assistant", "toolResult", "toolResult", "assistant"]


def test_an_answer_that_was_aborted_is_not_taken(store: Store) -> None:
    model = Silent()
    app = App(model=model, store=store, lease_seconds=0.3)
    run_id = app.start()
    thread = in_background(app.work)
    assert model.reached.wait(10)
    app.kit.abort(run_id)
    thread.join(10)
    source = app.check(run_id)
    assert [m.get("stopReason") for m in source.messages] == [None, "aborted"]
    run = finished(app, app.kit.start(from_run=run_id).id)
    assert [m.get("stopReason") for m in run.messages] == [None, "stop"]


def test_a_turn_that_was_due_when_the_run_was_aborted_is_not_counted(store: Store) -> None:
    app = App([call("look", "c1")], [call("look", "c2")], "done", tools=[look], store=store)
    run_id = app.start()
    for _ in range(2):  # the model and its tool: the second turn is due
        app.execute_next()
    app.kit.abort(run_id)
    app.queue.enqueued.clear()
    source = app.check(run_id)
    assert (source.turn, roles(source.messages)[-1]) == (2, "toolResult")
    run = finished(app, app.kit.start(from_run=run_id).id)
    assert (run.origin["turn"], run.status) == (1, "completed")
    with pytest.raises(InvalidRequestError, match="one whole turn"):
        app.kit.start("a", "x", from_run=run_id, turn=2)


def test_a_turn_after_which_a_limit_ended_the_run_is_counted(store: Store) -> None:
    app = App([call("look", "c1")], [call("look", "c2")], "done", tools=[look], store=store)
    run_id = app.kit.start("a", "go", limits={"maxTurns": 2}).id
    source = finished(app, run_id)
    assert (source.error["code"], source.turn, roles(source.messages)[-1]) == ("limit_turns", 2, "toolResult")
    run = finished(app, app.kit.start(from_run=run_id).id)
    assert (run.origin["turn"], run.status, run.turn) == (2, "completed", 1)


def test_messages_that_the_failed_turn_was_to_answer_are_taken_unless_an_input_is_given(
    store: Store,
) -> None:
    script = Script("one", "two", f1=1)
    app = App(model=script.model, store=store)
    run_id = app.start()
    app.kit.send(run_id, "next")
    app.kit.send(run_id, "never seen")
    source = finished(app, run_id)
    assert (source.status, texts(source.messages)) == ("failed", ["go", "next"])
    assert [each["message"] for each in app.log(run_id)[-1]["unsent"]] == ["never seen"]

    def taken(**arguments: Any) -> list[Any]:
        run = finished(app, app.kit.start(from_run=run_id, **arguments).id)
        assert run.origin == {"runId": run_id, "turn": 1}
        return texts(run.messages)

    assert taken() == ["go", "next"]
    assert taken(turn=1) == ["go", "next"]
    assert taken(input="more") == ["go", "more"]
    assert taken(input="instead", turn=1) == ["go", "instead"]


def test_steers_within_a_run_stay_where_they_were(store: Store) -> None:
    app = App(model=Script([call("look", "c1")], "two", "three").model, tools=[look], store=store)
    run_id = app.start()
    app.execute_next()
    app.kit.send(run_id, "hurry", "steer")
    app.kit.send(run_id, "later")
    source = finished(app, run_id)
    assert texts(source.messages) == ["go", "hurry", "later"]
    for turn, expected in ((1, ["go", "x"]), (2, ["go", "hurry", "x"]), (3, ["go", "hurry", "later", "x"])):
        run = finished(app, app.kit.start("a", "x", from_run=run_id, turn=turn).id)
        assert texts(run.messages) == expected
    again = finished(app, app.kit.start(from_run=run_id, turn=2).id)  # what the follow-up asked, once more
    assert texts(again.messages) == ["go", "hurry", "later"]


def test_a_source_that_is_deleted_afterwards_is_not_missed(three: tuple[App, Any]) -> None:
    app, source = three
    run_id = app.kit.start("a", "and?", from_run=source.id, turn=2).id
    app.kit.delete(source.id)
    run = finished(app, run_id)
    assert (run.status, len(run.messages)) == ("completed", 8)
    with pytest.raises(RunNotFoundError):
        app.kit.start("a", "x", from_run=source.id)


def test_a_key_finds_its_run_though_the_source_is_gone(three: tuple[App, Any]) -> None:
    app, source = three
    arguments: Any = {"from_run": source.id, "turn": 2, "idempotency_key": "k", "owner": "ann"}
    run_id = app.kit.start("a", "and?", **arguments).id
    assert app.kit.start("a", "and?", **arguments).id == run_id
    for other in ({"turn": 1}, {"turn": None}, {"from_run": run_id}, {"idempotency_key": "k", "metadata": {"x": 1}}):
        with pytest.raises(IdempotencyConflictError):
            app.kit.start("a", "and?", **{**arguments, **other})
    with pytest.raises(IdempotencyConflictError):
        app.kit.start("a", "and?", idempotency_key="k", owner="ann")
    app.kit.delete(source.id)
    assert app.kit.start("a", "and?", **arguments).id == run_id
    finished(app, run_id)
    app.kit.delete(run_id)
    with pytest.raises(RunNotFoundError):
        app.kit.start("a", "and?", **arguments)


def test_a_refused_start_leaves_the_key_free(three: tuple[App, Any]) -> None:
    app, source = three
    for refused in ({"from_run": "nobody"}, {"from_run": source.id, "turn": 9}):
        with pytest.raises(AgentKitError):
            app.kit.start("a", "x", idempotency_key="k", **refused)  # type: ignore[arg-type]
    assert app.kit.start("a", "x", idempotency_key="k", from_run=source.id).id != source.id


def test_both_rights_are_asked_before_anything_begins(three: tuple[App, Any]) -> None:
    app, source = three
    asked: list[Any] = []

    def refuse(run: Any) -> None:
        asked.append((run.agent, run.origin))
        raise PermissionError

    with pytest.raises(PermissionError):
        app.kit.start("a", "x", from_run=source.id, permit=refuse, permit_source=asked.append)
    assert asked == [source.id, ("a", {"runId": source.id, "turn": 3})]
    assert [run.id for run in app.kit.runs()] == [source.id]


def test_a_history_over_the_bound_is_refused_and_an_earlier_turn_is_not(store: Store) -> None:
    turns: Any = ([call("look", "c1", what="x")], [call("look", "c2", what="y" * 5000)], "done")
    app = App(model=Script(*turns).model, tools=[look], store=store, max_history_bytes=4000)
    source = finished(app, app.start())
    assert finished(app, app.kit.start("a", "more", from_run=source.id, turn=1).id).status == "completed"
    for turn in (2, 3, None):
        with pytest.raises(PayloadTooLargeError, match="AGENTKIT_MAX_HISTORY_BYTES"):
            app.kit.start("a", "more", from_run=source.id, turn=turn)


def test_a_long_history_is_read_in_pieces(three: tuple[App, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    app, source = three
    monkeypatch.setattr("agentkit.runtime.origins._PIECE_BYTES", 300)
    run = finished(app, app.kit.start("a", "x", from_run=source.id).id)
    assert run.messages[:7] == source.messages


def test_a_fork_dies_with_its_worker_and_goes_on(three: tuple[App, Any]) -> None:
    app, source = three
    run_id = app.kit.start(from_run=source.id, turn=1).id
    die(app, run_id, 1)
    run = finished(app.another_worker(), run_id)
    assert (run.status, len(run.messages)) == ("completed", 7)


def test_another_agent_takes_a_run_over_with_its_own_model() -> None:
    store, queue = MemoryStore(), FakeQueue()
    scripts = Script("first"), Script("x", "second")
    agents = [Agent("one", scripts[0].model), Agent("two", scripts[1].model)]
    kit = AgentKit(agents, store=store, queue=queue)
    source_id = kit.start("one", "go").id

    def work() -> None:
        while queue.enqueued:
            kit.execute(*queue.enqueued.pop(0))

    work()
    run_id = kit.start("two", "go on", from_run=source_id).id
    work()
    assert (kit.get(run_id).agent, kit.get(run_id).status) == ("two", "completed")
    without = AgentKit(agents[1:], store=store, queue=queue)
    with pytest.raises(AgentNotFoundError, match="'one'"):
        without.start(input="x", from_run=source_id)
    assert without.start("two", "x", from_run=source_id).run.origin == {"runId": source_id, "turn": 1}


def test_a_sub_agents_run_can_be_started_from() -> None:
    child = Agent("child", Script("from the child").model)
    parent = Agent("parent", Script([call("child", "c1", input="do it")], "done").model, tools=[child.as_tool()])
    kit = AgentKit([parent])
    run = kit.run("parent", "go")
    child_id = next(m for m in run.messages or [] if m["role"] == "toolResult")["details"]["runId"]
    handle = kit.start(input="and?", from_run=child_id)
    forked = handle.run
    assert (forked.agent, forked.parent_run_id) == ("child", None)
    assert texts(forked.messages or []) == ["do it", "and?"]
    # The parent's fork names the child in its history, and does not own it.
    other = kit.start(from_run=run.id, turn=1)
    kit.delete(other.id)
    assert kit.get(child_id).status == "completed"


def test_a_run_in_a_test_is_started_from_another() -> None:
    kit = AgentKit([Agent("a", "openai:gpt-5.4-mini")])
    with kit.testing(["one", "two"]):
        source = kit.start("a", "go").run
        run = kit.start(input="more", from_run=source.id).run
        assert texts(run.messages or []) == ["go", "more"]


def test_tools_are_called_anew_with_keys_of_their_own(store: Store) -> None:
    keys: list[str] = []

    @tool
    def note(ctx: Any) -> str:
        """Note."""
        keys.append(ctx.idempotency_key)
        return "noted"

    app = App(model=Script("x", [call("note", "c1")], "done", f2=1).model, tools=[note], store=store)
    first = finished(app, app.start())
    second = finished(app, app.kit.start("a", "go", from_run=first.id).id)
    assert second.status == "failed"
    third = finished(app, app.kit.start("a", "go", from_run=first.id).id)
    assert third.status == "completed"
    assert len(set(keys)) == len(keys) == 2


def test_a_fork_that_was_aborted_before_it_began_is_tried_again_with_its_whole_history(
    three: tuple[App, Any],
) -> None:
    app, source = three
    fork_id = app.kit.start(from_run=source.id, turn=1).id
    app.kit.abort(fork_id)
    app.queue.enqueued.clear()
    fork = app.check(fork_id)
    assert roles(fork.messages) == ["user", "assistant", "toolResult", "toolResult"]
    run = finished(app, app.kit.start(from_run=fork_id).id)
    assert (run.status, run.origin) == ("completed", {"runId": fork_id, "turn": 0})
    assert roles(run.messages) == roles(source.messages)


def test_what_is_sent_into_a_fork_waits_is_seen_and_is_never_lost(three: tuple[App, Any]) -> None:
    app, source = three
    fork_id = app.kit.start(from_run=source.id, turn=1).id
    app.kit.send(fork_id, "hurry", "steer")  # its first turn is due: it joins the conversation
    app.kit.send(fork_id, "later", by="ann")
    fork = app.kit.get(fork_id)
    assert texts(fork.messages or []) == ["go", "hurry"]
    assert fork.queued == [{"message": "later", "when": "followUp", "by": "ann"}]
    app.kit.abort(fork_id)
    app.queue.enqueued.clear()
    assert app.log(fork_id)[-1]["unsent"] == [{"message": "later", "when": "followUp", "by": "ann"}]
    again = finished(app, app.kit.start(from_run=fork_id).id)
    assert (again.status, texts(again.messages)) == ("completed", ["go", "hurry"])


def test_media_thinking_and_what_only_its_vendor_reads_are_taken_as_they_are(store: Store) -> None:
    document = {"type": "document", "data": "aGk=", "mimeType": "application/pdf", "name": "a.pdf", "cache": "long"}
    thinking = {"type": "thinking", "thinking": "well", "signature": "s", "providerData": {"x": [1]}}
    history = [
        {"role": "user", "content": [{"type": "text", "text": "see"}, IMAGE, document]},
        {"role": "assistant", "content": [thinking, {"type": "toolCall", "id": "c", "name": "look", "arguments": {}}]}
        | {"api": "vendors", "provider": "vendor", "model": "m", "providerData": {"id": "resp_1"}},
        {"role": "toolResult", "toolCallId": "c", "toolName": "look", "content": [IMAGE], "details": {"n": 1}},
        {"role": "user", "content": "and?"},
    ]
    script = Script("x", "answer", "another")
    app = App(model=script.model, tools=[look], store=store)
    source = finished(app, app.kit.start("a", messages=history).id)
    run = finished(app, app.kit.start("a", "more", from_run=source.id).id)
    assert run.messages[:5] == source.messages
    assert [{**given, **kept} for given, kept in zip(history, run.messages, strict=False)] == run.messages[:4]
    assert script.seen[-1][:4] == run.messages[:4]
