"""Hooks that look at events and at the ends of runs: what they get, when, and what their failures do."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from agentkit import Agent, AgentKit, Middleware, ProviderError, ScriptedModel, tool
from agentkit.errors import StoreUnavailableError
from tests.apps import App
from tests.turns import call
from tests.waiting import wait_until


@tool
def add(a: int) -> str:
    """Add."""
    return str(a + 1)


class Tap(Middleware):
    def __init__(self) -> None:
        self.events: list[Any] = []
        self.runs: list[Any] = []

    def on_event(self, run: Any, event: Any) -> None:
        self.runs.append(run)
        self.events.append(event)

    @property
    def seqs(self) -> list[int]:
        return [event["seq"] for event in self.events]


class AsyncTap(Tap):
    async def on_event(self, run: Any, event: Any) -> None:  # type: ignore[override]
        super().on_event(run, event)


@pytest.mark.parametrize("kind", [Tap, AsyncTap])
@pytest.mark.parametrize("turns", [["hello there"], [[call("add", a=1), call("add", a=2)], "done"]])
def test_each_event_of_the_log_comes_once_in_its_order_as_it_is_stored(kind: Any, turns: Any) -> None:
    tap = kind()
    app = App(*turns, tools=[add], middleware=[tap])
    run_id = app.run()
    log = app.log(run_id)
    wait_until(lambda: len(tap.events) >= len(log), what="the events")
    assert tap.events == log
    assert {run.run_id for run in tap.runs} == {run_id}
    assert tap.runs[-1].agent == "a"


def test_what_a_process_adds_comes_to_it_once_and_in_order_though_another_process_adds_more() -> None:
    taps = Tap(), Tap()
    app = App([call("add", a=1)], "done", tools=[add], middleware=[taps[0]])
    run_id = app.start()
    app.execute_next()
    app.middleware = [taps[1]]
    app.another_worker()
    app.work()
    log = app.log(run_id)
    # The first one, if it is late, may read what the second has added meanwhile.
    wait_until(lambda: set(taps[0].seqs + taps[1].seqs) == {event["seq"] for event in log}, what="all events")
    assert all(tap.seqs == sorted(set(tap.seqs)) and tap.seqs for tap in taps)


def test_a_tap_that_fails_harms_no_run_and_no_other_tap(caplog: pytest.LogCaptureFixture) -> None:
    class Broken(Middleware):
        def on_event(self, run: Any, event: Any) -> None:
            raise KeyError("a bug")

    tap = Tap()
    app = App("hello", middleware=[Broken(), tap])
    run_id = app.run()
    wait_until(lambda: len(tap.events) >= len(app.log(run_id)), what="the events")
    assert app.check(run_id).status == "completed"
    record = next(r for r in caplog.records if "on_event of Broken failed" in r.getMessage())
    assert (record.levelname, run_id in record.getMessage()) == ("ERROR", True)


def test_a_tap_that_is_slow_holds_up_no_run() -> None:
    release = threading.Event()

    class Slow(Tap):
        def on_event(self, run: Any, event: Any) -> None:
            release.wait(30)
            super().on_event(run, event)

    tap = Slow()
    app = App("hello", middleware=[tap])
    run_id = app.run()
    assert app.check(run_id).status == "completed"
    assert tap.events == []
    release.set()
    wait_until(lambda: tap.events == app.log(run_id), what="the events")


def test_events_come_when_the_store_is_back() -> None:
    tap = Tap()
    app = App("hello", middleware=[tap])
    left, read = [1], app.store.events

    def events(*args: Any, **options: Any) -> Any:
        if threading.current_thread().name == "agentkit-taps" and left[0]:
            left[0] -= 1
            raise StoreUnavailableError
        return read(*args, **options)

    app.store.events = events
    run_id = app.run()
    wait_until(lambda: tap.events == app.log(run_id), what="the events")
    assert left == [0]


def test_without_taps_nothing_is_noted_and_nothing_is_read() -> None:
    app = App("hello")
    app.store.events = None
    app.run()
    assert app.kit._engine.committer.taps._news == {}


@pytest.mark.parametrize("how", ["run", "testing"])
def test_inline_runs_and_tests_have_delivered_all_before_they_return(how: str) -> None:
    tap, ends = Tap(), Ends()
    kit = AgentKit([Agent("a", ScriptedModel([[call("add", a=1)], "ok"]), tools=[add])], middleware=[tap, ends])
    if how == "run":
        run = kit.run("a", "go")
        log = [event["seq"] for event in kit.handle(run.id).events()]
    else:
        with kit.testing():
            run = kit.start("a", "go").run
            log = [event["seq"] for event in kit.handle(run.id).events()]
    assert tap.seqs == log
    assert [end["status"] for _, end in ends.ends] == ["completed"]


class Ends(Middleware):
    def __init__(self, fails: int = 0) -> None:
        self.ends: list[Any] = []
        self.left = fails

    def on_run_end(self, run: Any, end: Any) -> None:
        if self.left:
            self.left -= 1
            raise ConnectionError
        self.ends.append((run, end))


class AsyncEnds(Ends):
    async def on_run_end(self, run: Any, end: Any) -> None:  # type: ignore[override]
        super().on_run_end(run, end)


@pytest.mark.parametrize("kind", [Ends, AsyncEnds])
def test_the_end_of_a_run_comes_with_what_it_used_and_its_error(kind: Any) -> None:
    ends = kind()

    def refuse(messages: Any) -> Any:
        raise ProviderError("no")

    app = App(model=ScriptedModel(refuse), middleware=[ends])
    run_id = app.run()
    assert ends.ends == []
    for entry in app.queue.notifications:
        app.kit.deliver(*entry)
    [(run, end)] = ends.ends
    assert (run.run_id, run.agent, run.turn) == (run_id, "a", 1)
    assert (end["status"], end["error"]) == ("failed", {"code": "provider_error", "message": "no"})
    assert end["usage"]["totalTokens"] == 0


def test_the_end_comes_again_until_the_hook_has_taken_it() -> None:
    ends = Ends(fails=1)
    kit = AgentKit([Agent("a", ScriptedModel(["ok"]))], middleware=[ends])
    with kit.testing() as testing:
        run_id = kit.start("a", "go").id
        assert ends.ends == []
        testing.advance(3600)
    assert [run.run_id for run, _ in ends.ends] == [run_id]
