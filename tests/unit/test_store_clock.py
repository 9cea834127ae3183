"""The store's clock is known from its replies, and the latest time that they have shown counts."""

from __future__ import annotations

import pytest

from agentkit import Agent, ScriptedModel
from agentkit.core import ids
from agentkit.errors import StoreUnavailableError
from agentkit.store.clock import StoreClock
from tests.apps import App
from tests.tools import refund
from tests.turns import call

SERVER = 1_800_000_000_000


class Clocks:
    """A server's clock and our monotonic one, in ms. `asked`: how often the server was asked."""

    def __init__(self) -> None:
        self.server = SERVER
        self.ours = 5_000
        self.asked = 0
        self.is_away = False
        self.clock = StoreClock(self.ask, lambda: self.ours * 1_000_000)

    def ask(self) -> int:
        self.asked += 1
        if self.is_away:
            raise StoreUnavailableError
        return self.server

    def pass_by(self, ms: int) -> None:
        self.server += ms
        self.ours += ms


def test_the_server_is_asked_where_no_reply_has_shown_its_time_lately() -> None:
    clocks = Clocks()
    assert clocks.clock.now() == SERVER
    clocks.pass_by(9_000)
    assert (clocks.clock.now(), clocks.asked) == (clocks.server, 1)
    clocks.clock.observe(clocks.server)
    clocks.pass_by(9_000)
    assert (clocks.clock.now(), clocks.asked) == (clocks.server, 1)
    clocks.pass_by(2_000)
    assert (clocks.clock.now(), clocks.asked) == (clocks.server, 2)


def test_a_reply_that_was_late_does_not_set_the_clock_back() -> None:
    clocks = Clocks()
    clocks.clock.observe(clocks.server)
    late = clocks.server
    clocks.pass_by(3_000)
    clocks.clock.observe(late)
    assert clocks.clock.now() == clocks.server


def test_the_clock_is_never_behind_the_last_reply() -> None:
    clocks = Clocks()
    clocks.clock.observe(clocks.server)
    clocks.server += 250
    clocks.clock.observe(clocks.server)
    assert clocks.clock.now() == clocks.server


def test_a_server_whose_clock_was_set_back_is_followed() -> None:
    clocks = Clocks()
    clocks.clock.observe(clocks.server)
    clocks.pass_by(11_000)
    clocks.server -= 3_600_000
    clocks.clock.observe(clocks.server)
    assert clocks.clock.now() == clocks.server


def test_while_the_store_is_away_what_was_known_counts_and_it_is_not_asked_each_time() -> None:
    clocks = Clocks()
    clocks.clock.observe(clocks.server)
    clocks.is_away = True
    clocks.pass_by(60_000)
    assert [clocks.clock.now() for _ in range(5)] == [clocks.server] * 5
    assert clocks.asked == 1


def test_a_process_that_never_reached_the_store_has_no_time() -> None:
    clocks = Clocks()
    clocks.is_away = True
    for _ in range(2):
        with pytest.raises(StoreUnavailableError):
            clocks.clock.now()


def test_runs_and_items_have_ids_of_the_stores_time_whatever_the_process_takes_it_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    helper = Agent("helper", ScriptedModel([[call("refund", cents=1)], "ok"], name="helper"), tools=[refund])
    boss = ScriptedModel([[call("helper", input="go"), call("refund", cents=2)], "done"], name="boss")
    app = App(model=boss, tools=[helper.as_tool(), refund])
    monkeypatch.setattr(ids, "_last", 0)
    found: list[str] = []
    for later, hours in enumerate((1, -1, 0)):  # three web processes, whose clocks are wrong
        monkeypatch.setattr("time.time_ns", lambda ahead=hours: (SERVER + ahead * 3_600_000) * 1_000_000)
        monkeypatch.setattr(app.store, "now", lambda later=later: SERVER + later)
        found.append(app.run())
    monkeypatch.undo()
    runs = [app.kit.get(run_id) for run_id in found]
    named = [run.id for run in app.kit.runs()] + [item["decisionId"] for run in runs for item in run.pending]
    assert len(named) == 12
    assert all(0 <= int(each.replace("-", "")[:12], 16) - SERVER <= 2 for each in named)
    assert [run.id for run in app.kit.runs() if run.parent_run_id is None] == found[::-1]
