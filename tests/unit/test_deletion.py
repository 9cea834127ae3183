"""A run is deleted with the runs of its sub-agents, in whatever state they are, and nothing of them comes back."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable
from typing import Any

import pytest

from agentkit import (
    Agent,
    AgentKit,
    InvalidRequestError,
    RunNotFoundError,
    RunNotTerminalError,
    ScriptedModel,
    StoreUnavailableError,
    ToolResult,
    tool,
)
from agentkit.core.messages import text_of_json as text_of
from agentkit.runtime import deletion
from tests.apps import App, Silent, die, in_background
from tests.tools import YES, look, pay, refund
from tests.turns import call
from tests.waiting import wait_until


def nested(turn: Any, depth: int = 2) -> App:
    """A run of `a` whose agent asks another, and so on; the deepest one's first turn is `turn`."""
    agent = Agent(f"level{depth}", ScriptedModel([turn, "at last"], name="deepest"), tools=[refund, look, pay])
    for level in range(depth - 1, 0, -1):
        model = ScriptedModel([[call(agent.name, input="go")], "up"], name=f"level{level}")
        agent = Agent(f"level{level}", model, tools=[agent.as_tool()])
    boss = ScriptedModel([[call(agent.name, input="go")], "done"], name="boss")
    return App(model=boss, tools=[agent.as_tool()])


def runs_of(app: App) -> list[str]:
    return sorted(app.store._runs)


def assert_nothing_is_left(app: App) -> None:
    """No run, no entry of a list, no step that is due or that a message begins again, now or after a recovery check."""
    for _ in range(2):
        assert runs_of(app) == []
        app.work()
        app.store._due = dict.fromkeys(app.store._due, 0.0)
        app.kit.recovery().sweep()
    assert {run_id for ids in app.store._lists.values() for run_id in ids} == set()
    assert (app.store._due, app.queue.enqueued) == ({}, [])


@pytest.fixture(autouse=True)
def _does_not_wait_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deletion, "ABORT_SECONDS", 0.5)


# -- ended runs ------------------------------------------------------------------------------------


@pytest.mark.parametrize("force", [False, True])
@pytest.mark.parametrize("depth", [1, 2, 3])
def test_the_runs_of_its_sub_agents_go_with_an_ended_run(depth: int, force: bool) -> None:
    app = nested("helped", depth)
    run_id = app.run()
    assert app.kit.get(run_id).status == "completed"
    assert len(runs_of(app)) == depth + 1
    app.kit.delete(run_id, force=force)
    assert_nothing_is_left(app)


@pytest.mark.parametrize("depth", [1, 2, 3])
def test_those_that_the_end_of_the_run_cut_off_go_too(depth: int) -> None:
    app = nested([call("refund", cents=5)], depth)
    run_id = app.run()
    app.kit.abort(run_id)
    assert len(runs_of(app)) == depth + 1
    app.kit.delete(run_id)
    assert_nothing_is_left(app)


def test_those_of_earlier_turns_go_too_and_those_of_other_runs_stay() -> None:
    helper = Agent("helper", ScriptedModel(["helped"], name="helper"))
    turn = [call("helper", input="x"), call("helper", input="y")]
    boss = ScriptedModel([turn, [call("helper", input="z")], "done"], name="boss")
    app = App(model=boss, tools=[helper.as_tool()])
    other = app.run()
    others = runs_of(app)
    run_id = app.run()
    assert len(runs_of(app)) == len(others) + 4
    app.kit.delete(run_id)
    assert runs_of(app) == others
    app.kit.delete(other)
    assert_nothing_is_left(app)


def test_a_run_that_a_tool_or_a_history_only_names_is_not_deleted() -> None:
    named: list[str] = []

    @tool
    def name() -> ToolResult:
        """Name a run that is another's."""
        return ToolResult("there it is", details={"runId": named[0]})

    app = App([call("name")], "done", tools=[name])
    named.append(App.start(app))
    app.kit.abort(named[0])
    run_id = app.run()
    assert app.kit.get(run_id).messages[2]["details"] == {"runId": named[0]}
    app.kit.delete(run_id)
    result = {"role": "toolResult", "toolCallId": "c", "toolName": "t", "isError": False, "timestamp": 1}
    details = [{"runId": value} for value in (named[0], "nobody's", "", 7, None)]
    history = [{**result, "content": [{"type": "text", "text": "x"}], "details": each} for each in [*details, "x", [1]]]
    asked = {"role": "assistant", "content": [{"type": "toolCall", "id": "c", "name": "t", "arguments": {}}]}
    forged = app.kit.start("a", messages=[asked, *history, {"role": "user", "content": "go"}]).id
    app.kit.abort(forged)
    app.kit.delete(forged)
    assert runs_of(app) == named


def test_a_child_that_is_deleted_already_is_no_hindrance() -> None:
    app = nested("helped", 2)
    run_id = app.run()
    deepest = next(run for run in runs_of(app) if app.kit.get(run).agent == "level2")
    app.kit.delete(deepest)
    app.kit.delete(run_id)
    assert_nothing_is_left(app)


def test_a_run_that_has_not_ended_is_not_deleted_without_force_and_nor_are_its_children() -> None:
    app = nested([call("refund", cents=5)], 2)
    run_id = app.run()
    before = [app.kit.get(run) for run in runs_of(app)]
    with pytest.raises(RunNotTerminalError):
        app.kit.delete(run_id)
    assert [app.kit.get(run) for run in runs_of(app)] == before


def test_what_is_not_there_cannot_be_deleted() -> None:
    app = App("hello")
    run_id = app.run()
    app.kit.delete(run_id)
    for force in (False, True):
        with pytest.raises(RunNotFoundError):
            app.kit.delete(run_id, force=force)


# -- by force --------------------------------------------------------------------------------------


def queued() -> tuple[App, str]:
    app = App("hello")
    return app, app.start()


def paused() -> tuple[App, str]:
    app = App([call("refund", cents=5), call("look")], tools=[refund, look])
    return app, app.run()


def tool_due() -> tuple[App, str]:
    app = App([call("look")], tools=[look])
    run_id = app.start()
    app.execute_next()
    return app, run_id


def resumed() -> tuple[App, str]:
    app, run_id = paused()
    app.kit.resume(run_id, YES)
    return app, run_id


def sub_agents_paused() -> tuple[App, str]:
    app = nested([call("refund", cents=5)], 3)
    return app, app.run()


def sub_agent_due() -> tuple[App, str]:
    app = nested("helped", 1)
    run_id = app.start()
    for _ in range(2):
        app.execute_next()
    return app, run_id


def sub_agent_about_to_start() -> tuple[App, str]:
    app = nested("helped", 1)
    run_id = app.start()
    app.execute_next()
    return app, run_id


def model_worker_dead() -> tuple[App, str]:
    app, run_id = queued()
    die(app, run_id, 1)
    return app, run_id


def tool_worker_dead() -> tuple[App, str]:
    app, run_id = tool_due()
    die(app, run_id, 2)
    return app, run_id


def model_worker_hangs() -> tuple[App, str]:
    app, run_id = queued()
    assert app.store.claim(run_id, 1, 60_000) is not None
    return app, run_id


def tool_worker_hangs() -> tuple[App, str]:
    app, run_id = tool_due()
    assert app.store.claim(run_id, 2, 60_000) is not None
    return app, run_id


def sub_agents_worker_hangs() -> tuple[App, str]:
    app, run_id = sub_agent_due()
    [child] = set(runs_of(app)) - {run_id}
    assert app.store.claim(child, 1, 60_000) is not None
    return app, run_id


STATES = [
    queued,
    paused,
    tool_due,
    resumed,
    sub_agents_paused,
    sub_agent_due,
    sub_agent_about_to_start,
    model_worker_dead,
    tool_worker_dead,
    model_worker_hangs,
    tool_worker_hangs,
    sub_agents_worker_hangs,
]


@pytest.mark.parametrize("state", STATES)
def test_with_force_a_run_is_deleted_wherever_it_stands(state: Callable[[], tuple[App, str]]) -> None:
    app, run_id = state()
    app.kit.delete(run_id, force=True)
    assert_nothing_is_left(app)


@pytest.mark.parametrize("state", [model_worker_hangs, tool_worker_hangs, sub_agents_paused, model_worker_dead])
def test_what_watches_the_run_sees_its_end_before_it_is_gone(
    monkeypatch: pytest.MonkeyPatch, state: Callable[[], tuple[App, str]]
) -> None:
    app, run_id = state()
    seen: list[Any] = []
    delete = app.store.delete

    def look_first(deleted: str) -> None:
        if deleted == run_id:
            seen.append((app.check(deleted), app.log(deleted)))
        delete(deleted)

    monkeypatch.setattr(app.store, "delete", look_first)
    app.kit.delete(run_id, force=True, by="ada")
    [(run, log)] = seen
    assert (run.status, run.error["code"]) == ("aborted", "aborted")
    assert (log[-1]["type"], log[-1]["by"]) == ("agent_end", "ada")


def test_a_worker_that_streams_ends_the_run_first_and_leaves_nothing() -> None:
    model = Silent()
    app = App(model=model)
    run_id = app.start()
    worker = in_background(app.execute_next)
    assert model.reached.wait(5)
    app.kit.delete(run_id, force=True)
    worker.join(5)
    assert not worker.is_alive()
    assert_nothing_is_left(app)


@pytest.mark.parametrize("calls", [1, 2])
def test_a_tool_that_returns_after_the_deletion_leaves_nothing(monkeypatch: pytest.MonkeyPatch, calls: int) -> None:
    monkeypatch.setattr(deletion, "ABORT_SECONDS", 0.0)
    reached, release = threading.Event(), threading.Event()

    @tool
    def slow() -> str:
        """Be slow."""
        reached.set()
        release.wait(30)
        return "late"

    app = App([call("slow"), call("look")][:calls], "done", tools=[slow, look])
    run_id = app.start()
    app.execute_next()
    worker = in_background(app.execute_next)
    assert reached.wait(5)
    app.kit.delete(run_id, force=True)
    release.set()
    worker.join(5)
    assert not worker.is_alive()
    assert_nothing_is_left(app)


class Late:
    """Deletes a run at the moment in which a store's method is about to be called for the first time from now on."""

    def __init__(self, app: App, monkeypatch: pytest.MonkeyPatch, method: str, run_id: str) -> None:
        self._inner = getattr(app.store, method)
        self._app = app
        self._run_id: str | None = run_id
        monkeypatch.setattr(app.store, method, self)

    def __call__(self, *args: Any, **named: Any) -> Any:
        run_id, self._run_id = self._run_id, None
        if run_id is not None:
            self._app.kit.delete(run_id, force=True)
        return self._inner(*args, **named)


@pytest.mark.parametrize("method", ["claim", "commit", "create", "commit_call", "load", "append", "index", "schedule"])
@pytest.mark.parametrize("turn", [[call("level1", input="go")], [call("level1", input="go"), call("look")], "done"])
def test_no_step_brings_anything_back_that_is_deleted_beside_it(
    monkeypatch: pytest.MonkeyPatch, method: str, turn: Any
) -> None:
    monkeypatch.setattr(deletion, "ABORT_SECONDS", 0.0)
    helper = Agent("level1", ScriptedModel(["helped"], name="helper"))
    for steps in range(4):
        app = App(model=ScriptedModel([turn, "done"], name="boss"), tools=[helper.as_tool(), look])
        run_id = app.start()
        for _ in range(min(steps, len(app.queue.enqueued))):
            app.execute_next()
        with monkeypatch.context() as patch:
            Late(app, patch, method, run_id)
            app.work()
        if run_id in app.store._runs:  # the method was not called
            app.kit.delete(run_id, force=True)
        assert_nothing_is_left(app)


@pytest.mark.parametrize("method", ["commit", "index", "schedule"])
@pytest.mark.parametrize(
    "act",
    [
        lambda kit, run_id: kit.resume(run_id, YES),
        lambda kit, run_id: kit.send(run_id, "more"),
        lambda kit, run_id: kit.abort(run_id),
    ],
    ids=["resume", "send", "abort"],
)
def test_no_call_brings_anything_back_that_is_deleted_beside_it(
    monkeypatch: pytest.MonkeyPatch, method: str, act: Callable[[AgentKit, str], Any]
) -> None:
    app = App([call("refund", cents=5)], "done", tools=[refund])
    run_id = app.run()
    with monkeypatch.context() as patch:
        Late(app, patch, method, run_id)
        with contextlib.suppress(RunNotFoundError):
            act(app.kit, run_id)
    if run_id in app.store._runs:  # the method was not called
        app.kit.delete(run_id, force=True)
    assert_nothing_is_left(app)


def test_a_recovery_check_brings_nothing_back_that_is_deleted_beside_it(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    app = App([call("refund", cents=5)], "done", tools=[refund])
    run_id = app.run()
    app.store._due[run_id] = 0.0
    with monkeypatch.context() as patch:
        Late(app, patch, "index", run_id)
        app.kit.recovery().sweep()
    assert_nothing_is_left(app)
    assert "could not be checked" not in caplog.text


def test_the_message_of_a_deleted_runs_step_is_dropped_at_once(caplog: pytest.LogCaptureFixture) -> None:
    app, run_id = queued()
    app.kit.delete(run_id, force=True)
    app.work()
    assert app.queue.enqueued == []
    assert not [record for record in caplog.records if record.levelname in ("WARNING", "ERROR")]


def test_of_deletions_at_once_one_is_done_and_the_others_find_nothing() -> None:
    app = nested([call("refund", cents=5)], 2)
    run_id = app.run()
    outcomes: list[str] = []
    start = threading.Barrier(4)

    def delete() -> None:
        start.wait()
        try:
            app.kit.delete(run_id, force=True)
            outcomes.append("done")
        except RunNotFoundError:
            outcomes.append("gone")

    for thread in [in_background(delete) for _ in range(4)]:
        thread.join(10)
    assert outcomes.count("done") >= 1
    assert set(outcomes) <= {"done", "gone"}
    assert_nothing_is_left(app)


# -- crashes and errors ----------------------------------------------------------------------------


@pytest.mark.parametrize("done", range(4))
@pytest.mark.parametrize("lost", [False, True])
def test_what_was_deleted_halfway_is_deleted_again(monkeypatch: pytest.MonkeyPatch, done: int, lost: bool) -> None:
    app, run_id = sub_agents_paused()
    delete, count = app.store.delete, 0

    def fail_after(deleted: str) -> None:
        nonlocal count
        count += 1
        if count <= done or lost:
            delete(deleted)
        if count > done:
            raise StoreUnavailableError

    with monkeypatch.context() as patch:
        patch.setattr(app.store, "delete", fail_after)
        with pytest.raises(StoreUnavailableError):
            app.kit.delete(run_id, force=True)
    if done == 3 and lost:
        with pytest.raises(RunNotFoundError):
            app.kit.delete(run_id)
    else:
        app.kit.delete(run_id)  # it has ended
    assert_nothing_is_left(app)


@pytest.mark.parametrize("force", [False, True])
def test_a_child_that_is_deleted_before_its_parent_has_read_it_is_an_error_result(force: bool) -> None:
    app, run_id = sub_agent_due()
    [child] = set(runs_of(app)) - {run_id}
    if not force:
        with pytest.raises(RunNotTerminalError):
            app.kit.delete(child)
    app.kit.delete(child, force=True)
    run = app.work().check(run_id)
    assert run.status == "completed"
    assert run.messages[2]["isError"]
    assert "aborted" in text_of(run.messages[2])
    app.kit.delete(run_id)
    assert_nothing_is_left(app)


def test_inline_a_run_goes_on_whose_sub_agents_run_is_deleted() -> None:
    helper = Agent("helper", ScriptedModel([[call("refund", cents=5)], "x"], name="helper"), tools=[refund])
    boss = ScriptedModel([[call("helper", input="x")], "done"], name="boss")
    kit = AgentKit([Agent("boss", boss, tools=[helper.as_tool()])])
    run = kit.run("boss", "go")
    kit.delete(run.pending[0]["runId"], force=True)
    assert kit.get(run.id).status == "completed"
    kit.delete(run.id)
    assert kit._inline_engine().store.listing(None, 10) == []


# -- who -------------------------------------------------------------------------------------------


def test_who_deletes_is_logged_with_the_run(caplog: pytest.LogCaptureFixture) -> None:
    app = nested("helped", 1)
    run_id = app.run()
    caplog.set_level("INFO", logger="agentkit.runtime.deletion")
    [child] = set(runs_of(app)) - {run_id}
    app.kit.delete(run_id, by="ada\nrun x: deleted")
    messages = [record.getMessage() for record in caplog.records if record.name == "agentkit.runtime.deletion"]
    assert messages == [
        f"run {child}: deleted by 'ada\\nrun x: deleted'",
        f"run {run_id}: deleted by 'ada\\nrun x: deleted', after 1 runs of its sub-agents",
    ]
    with pytest.raises(InvalidRequestError, match="by"):
        app.kit.delete(run_id, by=7)  # type: ignore[arg-type]


def test_a_deleted_runs_stream_ends_after_its_end() -> None:
    app, run_id = model_worker_hangs()
    seen: list[Any] = []
    watcher = in_background(lambda: seen.extend(event["type"] for event in app.kit.handle(run_id).events()))
    wait_until(lambda: seen, what="the first event")
    app.kit.delete(run_id, force=True)
    watcher.join(10)
    assert not watcher.is_alive()
