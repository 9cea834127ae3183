"""Handlers get the events that a run causes: which, once each, again while they fail, and whatever dies between."""

from __future__ import annotations

import asyncio
import json
import threading
from typing import Any

import pytest

from agentkit import Agent, AgentKit, FernetCodec, ScriptedModel
from agentkit.errors import ConfigurationError, StoreUnavailableError
from agentkit.store.memory import MemoryStore
from agentkit.testing.store import Clock
from tests.apps import App
from tests.flaky_store import FlakyStore
from tests.keys import new_key
from tests.tools import APPROVAL, YES, locate, look, pay, refund, refund_with
from tests.turns import call
from tests.waiting import wait_until

ALL = ("decision.pending", "decision.expiring", "run.paused", "run.completed", "run.failed", "run.aborted")
DAY = 86_400


class Broken:
    name = api = "broken"
    model = "m"

    def stream(self, request: Any, cancel: Any) -> Any:
        raise ValueError("no")


class Place:
    """An application whose notifications a test delivers by hand, on a store whose clock it moves.

    `events`: what a handler of all types got.
    """

    def __init__(self, *turns: Any, remind_before: float | None = None, handled: Any = ALL, **options: Any) -> None:
        self.clock = Clock()
        self.store = FlakyStore(MemoryStore(retention_seconds=7 * DAY, clock=self.clock.now))
        self.app = App(*turns, store=self.store, remind_before=remind_before, **options)
        self.events: list[Any] = []
        self.errors: list[BaseException] = []
        if handled:

            @self.app.kit.on(*handled)
            def note(event: Any) -> None:
                self.events.append(event)
                if self.errors:
                    raise self.errors[0]

    @property
    def types(self) -> list[str]:
        return [event["type"] for event in self.events]

    def deliver(self) -> Place:
        """Do what workers do with the notifications that were enqueued."""
        while self.app.queue.notifications:
            self.app.kit.deliver(*self.app.queue.notifications.pop(0))
        return self

    def run(self) -> str:
        run_id = self.app.run()
        self.deliver()
        return run_id

    def after(self, seconds: float) -> Place:
        """Move the clock, have recovery check what is due then, and deliver."""
        self.clock.ms += round(seconds * 1000)
        while self.app.kit.recovery().sweep():
            self.deliver()
        return self.deliver()


# -- what they get


def test_a_run_that_pauses_and_completes_notifies_in_order() -> None:
    place = Place([call("refund", cents=5)], "done", tools=[refund])
    run_id = place.run()
    assert place.types == ["decision.pending", "run.paused"]
    [item] = place.app.kit.get(run_id).pending
    pending, paused = place.events
    assert pending["data"] == {**item, "runId": run_id, "agent": "a", "owner": None}
    assert pending["data"]["input"] == {"cents": 5}
    assert pending["data"]["schema"] == APPROVAL
    assert paused["data"] == {"runId": run_id, "agent": "a", "owner": None, "pending": [item]}
    place.app.kit.resume(run_id, YES)
    place.app.work()
    place.deliver()
    assert place.types == ["decision.pending", "run.paused", "run.completed"]
    completed = place.events[-1]
    assert completed.keys() == {"type", "id", "timestamp", "data"}
    usage = place.app.kit.get(run_id).to_json()["usage"]
    assert completed["data"] == {"runId": run_id, "agent": "a", "owner": None, "turn": 2, "usage": usage}
    assert completed["timestamp"] == place.app.kit.get(run_id).ended_at
    ids = [event["id"] for event in place.events]
    assert ids == sorted(set(ids))
    assert json.loads(json.dumps(place.events)) == place.events
    assert place.store.outbox(run_id) == []


def test_an_event_names_owner_title_and_error() -> None:
    place = Place(model=ScriptedModel([[call("refund")]]), tools=[refund])
    run = place.app.kit.start("a", "go", owner="ann", metadata={"title": "Order 7", "x": 1})
    place.app.work()
    place.app.kit.abort(run.id, "enough", by="bob")
    place.deliver()
    assert place.types == ["decision.pending", "run.paused", "run.aborted"]
    data = place.events[-1]["data"]
    assert data == {
        "runId": run.id,
        "agent": "a",
        "owner": "ann",
        "title": "Order 7",
        "error": {"code": "aborted", "message": "enough"},
        "turn": 1,
        "usage": place.app.kit.get(run.id).to_json()["usage"],
    }
    assert all(event["data"]["title"] == "Order 7" for event in place.events)


def test_a_failed_run_notifies_with_its_error() -> None:
    place = Place(model=Broken())
    run_id = place.run()
    assert place.types == ["run.failed"]
    assert place.events[0]["data"]["error"] == place.app.kit.get(run_id).error


def test_items_of_every_kind_are_pending_decisions_and_say_which_they_are() -> None:
    place = Place([call("locate")], "done", tools=[locate])
    place.run()
    assert place.events[0]["type"] == "decision.pending"
    assert place.events[0]["data"]["kind"] == "client_execute"
    doubtful = Place([call("pay")], "done", tools=[pay])
    run_id = doubtful.app.start()
    doubtful.app.execute_next()
    claim = doubtful.store.claim(run_id, 2, 0)
    assert claim is not None
    doubtful.app.execute_next()
    doubtful.deliver()
    assert [event["data"].get("kind") for event in doubtful.events] == ["in_doubt", None]


def test_each_handler_gets_the_types_that_it_names_and_without_any_nothing_is_written() -> None:
    place = Place([call("refund")], "done", tools=[refund], handled=None)
    ends: list[Any] = []
    place.app.kit.on("run.completed", "run.failed")(ends.append)
    run_id = place.app.run()
    assert not place.app.queue.notifications
    assert "outbox" not in place.store.count
    place.app.kit.resume(run_id, YES)
    place.app.work()
    assert len(place.store.outbox(run_id)) == 1
    place.deliver()
    assert [event["type"] for event in ends] == ["run.completed"]
    nobody = Place("done", handled=None)
    nobody.run()
    assert not {"outbox", "take_entry", "remove_entries"} & nobody.store.count.keys()


def test_a_sub_agents_item_is_told_once_by_its_own_run() -> None:
    clerk = Agent("clerk", ScriptedModel([[call("refund", cents=5)], "x"], name="clerk"), tools=[refund])
    boss = Agent("boss", ScriptedModel([[call("clerk", input="x")], "done"], name="boss"), tools=[clerk.as_tool()])
    kit = AgentKit([boss])
    events: list[Any] = []
    kit.on(*ALL)(events.append)
    with kit.testing() as testing:
        del testing
        run_id = kit.start("boss", "go", owner="ann").id
        [item] = kit.get(run_id).pending
        pending = [event for event in events if event["type"] == "decision.pending"]
        assert [event["data"]["decisionId"] for event in pending] == [item["decisionId"]]
        assert pending[0]["data"]["runId"] == item["runId"] != run_id
        assert (pending[0]["data"]["parentRunId"], pending[0]["data"]["owner"]) == (run_id, "ann")
        paused = [event["data"]["runId"] for event in events if event["type"] == "run.paused"]
        assert paused == [item["runId"], run_id], "each of the two runs has paused"


# -- at least once


def test_a_handler_that_raises_is_called_again_with_the_same_event_until_it_does_not() -> None:
    place = Place("done")
    place.errors = [ValueError("away")]
    run_id = place.run()
    for _ in range(6):
        place.after(DAY / 8)
    assert len(place.events) > 5
    place.errors.clear()
    place.after(3600)
    calls = len(place.events)
    assert all(event == place.events[0] for event in place.events)
    assert place.store.outbox(run_id) == []
    place.after(3600)
    assert len(place.events) == calls


def test_waits_grow_from_seconds_to_an_hour() -> None:
    place = Place("done")
    place.errors = [ValueError("away")]
    run_id = place.run()
    waits = []
    for _ in range(30):
        [entry] = place.store.outbox(run_id)
        waits.append((entry.at - place.clock.ms) / 1000)
        place.after(waits[-1])
    assert all(wait >= 1 for wait in waits)
    assert max(waits[:2]) <= 8
    assert 60 < max(waits) <= 3600
    assert len(place.events) == 31


def test_after_a_day_it_is_given_up_with_an_error_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    place = Place("done")
    place.errors = [ValueError("away")]
    run_id = place.run()
    for _ in range(23):
        place.after(3600)
        assert place.store.outbox(run_id)
    place.after(3600)
    place.after(3600)
    assert place.store.outbox(run_id) == []
    assert "has not reached the handler" in caplog.text
    assert "in a day" in caplog.text
    calls = len(place.events)
    place.after(3600)
    assert len(place.events) == calls


def test_an_event_that_waited_for_a_worker_for_longer_than_a_day_is_sent_once() -> None:
    place = Place("done")
    place.app.run()
    place.app.queue.notifications.clear()
    place.after(3 * DAY)
    assert place.types == ["run.completed"]


def test_each_handler_has_its_own_fate() -> None:
    place = Place("done")
    others: list[Any] = []
    place.app.kit.on("run.completed")(others.append)
    place.errors = [ValueError("away")]
    place.run()
    place.after(60)
    assert len(place.events) > 1
    assert len(others) == 1
    assert others[0] == place.events[0]


def test_a_lost_message_is_made_up_for_by_recovery() -> None:
    place = Place([call("refund")], "done", tools=[refund])
    place.app.run()
    place.app.queue.notifications.clear()
    place.after(31)
    assert place.types == ["decision.pending", "run.paused"]


def test_a_message_that_comes_twice_is_dropped() -> None:
    place = Place("done")
    place.app.run()
    place.app.queue.notifications *= 3
    place.deliver()
    assert place.types == ["run.completed"]
    assert place.app.kit.deliver("no such run", "no such entry") is False


def test_a_worker_that_dies_in_a_handler_leaves_it_to_another() -> None:
    place = Place("done")
    run_id = place.app.run()
    [(_, entry_id)] = place.app.queue.notifications
    place.app.queue.notifications.clear()
    assert place.store.take_entry(run_id, entry_id, 30_000) is not None, "and it is never heard of again"
    place.after(20)
    assert place.types == []
    place.after(31)
    assert place.types == ["run.completed"]


def test_what_ends_its_worker_each_time_is_called_less_and_less_often_and_given_up_after_a_day() -> None:
    place = Place("done")
    place.errors = [SystemExit("the process ends")]
    run_id = place.app.run()
    for _ in range(2 * DAY // 60):
        try:
            place.after(60)
        except SystemExit:
            place.app.queue.notifications.clear()
    assert 8 < len(place.events) < 60
    assert place.store.outbox(run_id) == []


def test_a_slow_handlers_event_is_held_as_long_as_it_takes() -> None:
    app = App("done", lease_seconds=0.3)
    called: list[Any] = []

    @app.kit.on("run.completed")
    def slow(event: Any) -> None:
        called.append(event)

        def held_until() -> int:
            return int(app.store.outbox(run_id)[0].at)

        first = held_until()
        wait_until(lambda: held_until() >= first + 400, what="the hold to be renewed for longer than a lease")
        assert app.kit.deliver(run_id, entry_id) is False

    run_id = app.run()
    [(_, entry_id)] = app.queue.notifications
    assert app.kit.deliver(run_id, entry_id)
    assert len(called) == 1
    assert app.store.outbox(run_id) == []


def test_a_handler_that_this_process_does_not_know_is_waited_for() -> None:
    place = Place("done")
    run_id = place.app.run()
    events, handle = place.events, place.app.kit._handlers
    place.app.another_worker()
    place.after(31)
    assert len(place.store.outbox(run_id)) == 1
    place.app.kit._handlers = handle
    place.after(31)
    assert [event["type"] for event in events] == ["run.completed"]


def test_what_a_deleted_run_has_caused_is_still_sent() -> None:
    place = Place("done")
    run_id = place.app.run()
    place.app.kit.delete(run_id)
    place.deliver()
    assert place.types == ["run.completed"]
    paused = Place([call("refund")], tools=[refund])
    run_id = paused.app.run()
    paused.app.kit.delete(run_id, force=True)
    paused.app.queue.notifications.clear()
    paused.after(31)
    assert paused.types == ["decision.pending", "run.paused", "run.aborted"]
    assert paused.after(31).store.backlog() == (0, 0)


@pytest.mark.parametrize("method", ["take_entry", "postpone_entry", "schedule", "remove_entries", "is_refused"])
@pytest.mark.parametrize("how", ["fail", "lose"])
def test_an_outage_of_the_store_loses_nothing(method: str, how: str) -> None:
    place = Place("done")
    place.errors = [] if method == "remove_entries" else [ValueError("away")]
    run_id = place.app.run()
    getattr(place.store, how)[method] = 1
    try:
        place.deliver()
    except StoreUnavailableError:
        pass
    place.errors.clear()
    place.after(31)
    place.after(31)
    assert place.types
    assert place.store.outbox(run_id) == []


# -- what a handler may be


def test_an_async_handler_is_awaited_and_tried_again_like_any() -> None:
    place = Place("done", handled=None)
    events: list[Any] = []

    @place.app.kit.on("run.completed")
    async def later(event: Any) -> None:
        await asyncio.sleep(0)
        events.append(threading.current_thread().name)
        if len(events) == 1:
            raise ValueError("once more")

    run_id = place.run()
    place.after(60)
    assert len(events) == 2
    assert events[0] != threading.current_thread().name
    assert place.store.outbox(run_id) == []


def test_one_function_may_be_declared_for_more_types_and_several_may_have_one_name() -> None:
    place = Place("done", handled=None)
    calls: list[str] = []

    @place.app.kit.on("run.completed")
    @place.app.kit.on("run.failed")
    def _(event: Any) -> None:
        calls.append("first")

    @place.app.kit.on("run.completed", "run.completed")
    def _(event: Any) -> None:
        calls.append("second")

    place.run()
    assert calls == ["first", "second"]


def test_an_object_with_a_method_is_a_handler() -> None:
    class Teller:
        def __init__(self) -> None:
            self.events: list[Any] = []

        async def __call__(self, event: Any) -> None:
            self.events.append(event)

    place, teller = Place("done", handled=None), Teller()
    assert place.app.kit.on("run.completed")(teller) is teller
    place.run()
    assert len(teller.events) == 1


@pytest.mark.parametrize("types", [(), ("run.done",), ("run.completed", ""), (None,), (print,), ("decision",)])
def test_a_type_that_there_is_not_is_an_error_where_it_is_declared(types: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"decision\.pending, decision\.expiring, run\.paused"):
        App("x").kit.on(*types)


@pytest.mark.parametrize("function", [None, "f", lambda: None, lambda a, b: None])
def test_what_does_not_take_one_event_is_an_error_where_it_is_declared(function: Any) -> None:
    with pytest.raises(ConfigurationError, match="handler"):
        App("x").kit.on("run.completed")(function)


# -- reminders

timed = refund_with(decision_timeout=1000)


def test_people_are_reminded_once_that_long_before_an_item_expires() -> None:
    place = Place([call("refund", cents=5)], "done", tools=[timed], remind_before=100)
    run_id = place.run()
    place.after(899)
    assert place.types == ["decision.pending", "run.paused"]
    place.after(1)
    assert place.types[2:] == ["decision.expiring"]
    [item] = place.app.kit.get(run_id).pending
    assert place.events[-1]["data"] == {**item, "runId": run_id, "agent": "a", "owner": None}
    assert place.events[-1]["timestamp"] == item["expiresAt"] - 100_000
    place.after(99)
    assert len(place.types) == 3
    place.after(1)
    place.app.work()
    place.deliver()
    assert place.types[3:] == ["run.completed"]


def test_an_item_that_was_given_more_time_is_reminded_of_again() -> None:
    place = Place([call("refund")], "done", tools=[timed], remind_before=100)
    run_id = place.run()
    [item] = place.app.kit.get(run_id).pending
    place.after(900)
    assert place.types.count("decision.expiring") == 1
    place.app.kit.extend(run_id, item["decisionId"], 500)
    place.after(499)
    assert place.types.count("decision.expiring") == 1
    place.after(1)
    assert place.types.count("decision.expiring") == 2
    first, second = (event for event in place.events if event["type"] == "decision.expiring")
    assert second["data"]["expiresAt"] == first["data"]["expiresAt"] + 500_000
    assert second["id"] != first["id"]


def test_an_item_whose_time_was_moved_before_is_reminded_of_at_its_new_time_alone() -> None:
    place = Place([call("refund")], "done", tools=[timed], remind_before=100)
    run_id = place.run()
    place.app.kit.extend(run_id, place.app.kit.get(run_id).pending[0]["decisionId"], 500)
    place.after(1000)
    assert place.types.count("decision.expiring") == 0
    place.after(400)
    assert place.types.count("decision.expiring") == 1


def test_nobody_is_reminded_of_what_was_answered_or_of_a_run_that_is_over() -> None:
    for answer in (True, False):
        place = Place([call("refund")], "done", tools=[timed], remind_before=100)
        run_id = place.run()
        place.after(890)
        if answer:
            place.app.kit.resume(run_id, YES)
        else:
            place.app.kit.abort(run_id)
        place.app.work()
        place.after(50)
        assert "decision.expiring" not in place.types


def test_where_nobody_wants_it_no_reminder_is_made() -> None:
    for options in ({"remind_before": 100, "handled": ("run.paused",)}, {}):
        place = Place([call("refund")], "done", tools=[timed], **options)
        run_id = place.run()
        version = place.store.load(run_id).version
        place.after(950)
        assert place.store.load(run_id).version == version
        assert "decision.expiring" not in place.types


def test_an_item_with_less_time_than_that_is_reminded_of_at_once() -> None:
    place = Place([call("refund")], "done", tools=[timed], remind_before=5000)
    place.run()
    place.after(1)
    assert place.types == ["decision.pending", "run.paused", "decision.expiring"]


def test_each_of_several_items_is_reminded_of_at_its_own_time_while_another_call_goes_on() -> None:
    early, late = refund_with(name="early", decision_timeout=200), refund_with(name="late", decision_timeout=300)
    place = Place([call("early"), call("late"), call("look")], "done", tools=[early, late, look], remind_before=100)
    place.app.start()
    place.app.execute_next()
    place.app.queue.enqueued.clear()  # the worker of `look` is not there
    place.after(100)
    assert [e["data"]["toolName"] for e in place.events if e["type"] == "decision.expiring"] == ["early"]
    place.after(99)
    place.after(1)
    assert [e["data"]["toolName"] for e in place.events if e["type"] == "decision.expiring"] == ["early", "late"]


def test_a_reminder_that_a_crash_interrupted_is_sent() -> None:
    place = Place([call("refund")], "done", tools=[timed], remind_before=100)
    place.run()
    place.clock.ms += 900_000
    place.app.kit.recovery().sweep()
    place.app.queue.notifications.clear()
    place.after(31)
    assert place.types.count("decision.expiring") == 1


@pytest.mark.parametrize("seconds", [0, -1, True, "60", float("nan"), float("inf")])
def test_remind_before_is_a_number_of_seconds(seconds: Any) -> None:
    with pytest.raises(ConfigurationError, match="remind_before is a number of seconds above 0"):
        AgentKit([Agent("a", ScriptedModel(["x"]))], remind_before=seconds)


# -- where there are no workers


def test_in_a_test_handlers_are_called_before_the_call_returns() -> None:
    kit = AgentKit([Agent("a", ScriptedModel([[call("refund")], "done"]), tools=[timed])], remind_before=100)
    events: list[Any] = []
    kit.on(*ALL)(events.append)
    with kit.testing() as testing:
        run = kit.start("a", "go").run
        assert [event["type"] for event in events] == ["decision.pending", "run.paused"]
        testing.advance(900)
        assert [event["type"] for event in events][2:] == ["decision.expiring"]
        testing.decide(run, YES)
        assert [event["type"] for event in events][3:] == ["run.completed"]


def test_in_a_test_a_handler_is_tried_again_when_the_clock_moves_and_its_error_may_be_raised() -> None:
    kit = AgentKit([Agent("a", ScriptedModel(["done"]))])
    events: list[Any] = []

    @kit.on("run.completed")
    def once_more(event: Any) -> None:
        events.append(event)
        if len(events) == 1:
            raise ValueError("away")

    with kit.testing() as testing:
        assert kit.start("a", "go").run.status == "completed"
        assert len(events) == 1
        testing.advance(60)
        assert len(events) == 2
    events.clear()
    with kit.testing(raise_tool_errors=True), pytest.raises(ValueError, match="away"):
        kit.start("a", "go")


def test_a_run_in_this_thread_calls_its_handlers_there() -> None:
    kit = AgentKit([Agent("a", ScriptedModel([[call("refund")], "done"]), tools=[refund])])
    events: list[Any] = []
    kit.on("run.paused", "run.completed")(events.append)
    run = kit.run("a", "go")
    assert [event["type"] for event in events] == ["run.paused"]
    kit.resume(run.id, YES)
    assert [event["type"] for event in events] == ["run.paused", "run.completed"]


def test_a_handler_may_answer_what_it_is_called_with() -> None:
    for inline in (True, False):
        kit = AgentKit([Agent("a", ScriptedModel([[call("refund", cents=5)], "done"]), tools=[refund])])
        ends: list[str] = []

        @kit.on("decision.pending")
        def approve(event: Any, kit: AgentKit = kit) -> None:
            kit.resume(event["data"]["runId"], YES, decision_id=event["data"]["decisionId"], decided_by="the rules")

        kit.on("run.completed")(lambda event, ends=ends: ends.append(event["type"]))
        if inline:
            run_id = kit.run("a", "go").id
            assert kit.get(run_id).status == "completed"
        else:
            with kit.testing():
                assert kit.start("a", "go").run.status == "completed"
        assert ends == ["run.completed"]


# -- what is stored


def test_what_waits_to_be_sent_is_encrypted_where_the_store_is() -> None:
    place = Place([call("refund", cents=4711)], "done", tools=[refund])
    place.store.use_codec(FernetCodec(new_key()))
    run_id = place.app.run()
    assert b"4711" not in b"".join(place.store.store._outboxes[run_id].values())
    place.deliver()
    assert place.events[0]["data"]["input"] == {"cents": 4711}
