"""DELETE over HTTP: by force or not, with the runs of sub-agents, and who may."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from agentkit import Agent, Run, ScriptedModel
from tests.tools import refund
from tests.turns import call
from tests.unit.web.conftest import REFUND, Web, assert_problem
from tests.unit.web.test_access import ADA, BOB, EVE, begin, build, by_name

__all__ = ["build"]  # the fixture

Build = Callable[..., Web]


def desk() -> list[Agent]:
    """A boss whose cashier waits for a decision."""
    cashier = Agent("cashier", ScriptedModel([[REFUND], "paid"], name="cashier"), tools=[refund])
    boss = ScriptedModel([[call("cashier", input="x")], "Done."], name="boss")
    return [Agent("boss", boss, tools=[cashier.as_tool()])]


def all_runs(web: Web) -> list[str]:
    return web.store.listing(None, 100)


def delete(web: Web, run_id: str, query: str = "", who: Any = None) -> Any:
    return web.client.delete(f"/runs/{run_id}{query}", headers=who)


@pytest.mark.parametrize("query", ["", "?force=0"])
def test_a_paused_run_is_deleted_by_force_alone_and_its_sub_agents_with_it(build: Build, query: str) -> None:
    web = build(desk(), hooks={})
    run_id = begin(web, {}, "boss")
    assert len(all_runs(web)) == 2
    assert_problem(delete(web, run_id, query), 409, "run_not_terminal")
    assert len(all_runs(web)) == 2
    response = delete(web, run_id, "?force=1")
    assert (response.status_code, response.data) == (204, b"")
    assert (all_runs(web), web.store.backlog()) == ([], (0, 0))
    assert_problem(delete(web, run_id, "?force=1"), 404, "run_not_found")


def test_an_ended_run_is_deleted_with_its_sub_agents(build: Build) -> None:
    web = build(desk(), hooks={})
    run_id = begin(web, {}, "boss")
    web.client.post(f"/runs/{run_id}/abort")
    assert delete(web, run_id).status_code == 204
    assert all_runs(web) == []


@pytest.mark.parametrize("query", ["?force", "?force=", "?force=2", "?force=true", "?forced=1", "?force=1&x=1"])
def test_what_is_no_force_is_refused_and_nothing_is_deleted(web: Web, query: str) -> None:
    run_id = web.start("shop")
    assert_problem(delete(web, run_id, query), 400, "invalid_request")
    assert web.kit.get(run_id).status == "paused"


# -- rights ----------------------------------------------------------------------------------------


def may_on_boss_alone(*actions: str) -> Callable[[str, str, Run], bool]:
    def may(principal: str, action: str, run: Run) -> bool:
        if action in ("start", "read"):
            return True
        return principal == "bob" and run.agent == "boss" and action in actions

    return may


def test_the_right_to_delete_a_run_is_that_to_its_sub_agents_runs_too(build: Build) -> None:
    web = build(desk(), hooks={"authenticate": by_name, "may": may_on_boss_alone("delete", "abort")})
    run_id = begin(web, ADA, "boss")
    [child] = set(all_runs(web)) - {run_id}
    for who, target in ((EVE, run_id), (ADA, run_id), (BOB, child)):
        for query in ("", "?force=1"):
            assert_problem(delete(web, target, query, who), 403, "forbidden")
    assert [web.kit.get(run).status for run in all_runs(web)] == ["paused", "paused"]
    assert delete(web, run_id, "?force=1", BOB).status_code == 204
    assert all_runs(web) == []


def test_who_may_delete_but_not_abort_cannot_abort_by_deleting(build: Build) -> None:
    web = build(desk(), hooks={"authenticate": by_name, "may": may_on_boss_alone("delete")})
    run_id = begin(web, ADA, "boss")
    problem = assert_problem(delete(web, run_id, "?force=1", BOB), 403, "forbidden")
    assert "abort" in problem["detail"]
    assert web.kit.get(run_id).status == "paused"
    web.kit.abort(run_id)
    assert delete(web, run_id, "?force=1", BOB).status_code == 204


def test_a_run_that_may_not_be_read_is_not_there_for_force_either(build: Build) -> None:
    web = build(desk())
    run_id = begin(web, ADA, "boss")
    assert_problem(delete(web, run_id, "?force=1", EVE), 404, "run_not_found")
    assert_problem(delete(web, run_id, "?force=1"), 401, "unauthenticated")
    assert web.kit.get(run_id).status == "paused"


def test_who_deletes_is_logged(build: Build, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", logger="agentkit.runtime.deletion")
    web = build()
    run_id = begin(web, ADA)
    assert delete(web, run_id, "?force=1", ADA).status_code == 204
    assert f"run {run_id}: deleted by 'ada'" in caplog.messages
