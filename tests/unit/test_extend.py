"""More time for an answer: the item's expiry moves, and what happens at the old time is nothing."""

from __future__ import annotations

from typing import Any

import pytest

from agentkit.core.ids import new_id, now_ms
from agentkit.errors import (
    DecisionExpiredError,
    DecisionNotFoundError,
    InvalidRequestError,
    RunNotFoundError,
    RunNotPausedError,
)
from agentkit.loop import extend
from agentkit.web import create_app
from tests.apps import App
from tests.loop_driver import Driver
from tests.tools import YES, refund_with
from tests.turns import call
from tests.waiting import wait_until

refund = refund_with(decision_timeout=60)


hurry = refund_with(name="hurry", decision_timeout=0.4)
wait_for_approval = refund_with(name="wait_for_approval")


@pytest.fixture
def app() -> App:
    return App([call("refund")], "done", tools=[refund])


def item_of(app: App, run_id: str) -> Any:
    (item,) = app.kit.get(run_id).pending
    return item


# -- the transition --------------------------------------------------------------------------------


@pytest.mark.parametrize(("by", "ms"), [(60, 60_000), (0.5, 500), (0.0001, 1)])
def test_an_expiry_moves_from_where_it_is(by: float, ms: int) -> None:
    run = Driver(refund).start().model([call("refund")])
    before, events = run.pending[0], run.events
    run.now += 10_000
    run.commit(extend(run.state, 0, by, run.now))
    run.commit(extend(run.state, 0, by, run.now))
    assert run.pending == [{**before, "expiresAt": before["expiresAt"] + 2 * ms}]
    assert run.check().events == events, "no event reports it"


def test_an_extended_item_is_answered_after_its_first_time_and_expires_at_its_second() -> None:
    run = Driver(refund).start().model([call("refund")])
    run.commit(extend(run.state, 0, 30, run.now))
    assert not run.expire(89.999)
    assert run.expire(0.001)
    answered = Driver(refund).start().model([call("refund")])
    answered.commit(extend(answered.state, 0, 30, answered.now))
    answered.now += 80_000
    assert answered.decide(YES).status == "queued"


def test_what_never_expires_cannot_expire_later() -> None:
    run = Driver(wait_for_approval).start().model([call("wait_for_approval")])
    with pytest.raises(InvalidRequestError, match="never expires"):
        extend(run.state, 0, 1, run.now)


def test_what_is_due_is_not_saved() -> None:
    run = Driver(refund).start().model([call("refund")])
    run.now += 60_000
    with pytest.raises(DecisionExpiredError):
        extend(run.state, 0, 1, run.now)


# -- the kit ---------------------------------------------------------------------------------------


def test_the_kit_extends_by_the_items_id(app: App) -> None:
    run_id = app.run()
    before = item_of(app, run_id)
    handle = app.kit.extend(run_id, before["decisionId"], 3600)
    assert handle.run.pending == [{**before, "expiresAt": before["expiresAt"] + 3_600_000}]


@pytest.mark.parametrize("by", [0, -1, float("nan"), float("inf"), 1e10, 10**400, True, "60", None])
def test_time_is_a_sensible_number_of_seconds(app: App, by: Any) -> None:
    run_id = app.run()
    with pytest.raises(InvalidRequestError, match="by must be a number of seconds"):
        app.kit.extend(run_id, item_of(app, run_id)["decisionId"], by)


def test_an_item_that_is_not_pending_says_why(app: App) -> None:
    run_id = app.run()
    item = item_of(app, run_id)
    with pytest.raises(DecisionNotFoundError):
        app.kit.extend(run_id, new_id(), 60)
    with pytest.raises(RunNotFoundError):
        app.kit.extend(new_id(), item["decisionId"], 60)
    app.kit.resume(run_id, YES)
    for decision_id in (item["decisionId"], new_id()):
        with pytest.raises(RunNotPausedError):
            app.kit.extend(run_id, decision_id, 60)


def test_a_worker_keeps_to_the_new_time_and_not_to_the_old(app: App) -> None:
    app = App([call("hurry")], "done", tools=[hurry])
    run_id = app.run()
    item = item_of(app, run_id)
    app.kit.extend(run_id, item["decisionId"], 0.6)
    recovery = app.kit.recovery()
    wait_until(lambda: now_ms() > item["expiresAt"] + 100, what="the first time")
    recovery.sweep()
    assert app.kit.get(run_id).status == "paused"
    wait_until(lambda: (recovery.sweep(), app.kit.get(run_id).status == "queued")[1], what="the second time")
    assert now_ms() >= item["expiresAt"] + 600
    with pytest.raises(DecisionExpiredError):
        app.kit.extend(run_id, item["decisionId"], 60)
    assert app.work().check(run_id).status == "completed"


# -- what is known of answers ----------------------------------------------------------------------


def test_every_answer_is_known_with_its_giver_its_time_and_its_outcome() -> None:
    calls = [call("refund", "one"), call("refund", "two"), call("hurry", "three")]
    app = App(calls, "done", tools=[refund, hurry])
    began = now_ms()
    run_id = app.run()
    assert app.kit.decisions(run_id) == []
    app.kit.resume(run_id, YES, tool_call_id="two", decided_by="ann")
    app.kit.resume(run_id, reject="no", tool_call_id="one", decided_by="bob")
    recovery = app.kit.recovery()
    wait_until(lambda: (recovery.sweep(), app.kit.get(run_id).status == "queued")[1], what="the expiry")
    assert app.work().check(run_id).status == "completed"
    known = app.kit.decisions(run_id)
    assert [(d.tool_call_id, d.outcome, d.decided_by) for d in known] == [
        ("two", "decided", "ann"),
        ("one", "rejected", "bob"),
        ("three", "expired", None),
    ]
    times = [d.decided_at for d in known]
    assert times == sorted(times, key=lambda at: at or 0)
    assert all(at is not None and began <= at <= now_ms() for at in times)
    resolved = [e for e in app.log(run_id) if e["type"] == "tool_decision_resolved"]
    assert [(e["seq"], e["decisionId"]) for e in resolved] == [(d.seq, d.decision_id) for d in known]


def test_decisions_of_an_unknown_run_are_an_error(app: App) -> None:
    with pytest.raises(RunNotFoundError):
        app.kit.decisions(new_id())


# -- HTTP ------------------------------------------------------------------------------------------


def test_extending_over_http_answers_with_the_run(app: App) -> None:
    run_id = app.run()
    item = item_of(app, run_id)
    client = create_app(app.kit).test_client()
    url = f"/runs/{run_id}/extend"

    def refused(body: Any) -> tuple[int, str]:
        response = client.post(url, json=body)
        return response.status_code, response.json["code"]

    response = client.post(url, json={"decisionId": item["decisionId"], "by": 60})
    assert response.status_code == 202
    assert response.headers["Location"] == f"/runs/{run_id}"
    assert response.json["pending"] == [{**item, "expiresAt": item["expiresAt"] + 60_000}]
    for body in (
        {"by": 60},
        {"decisionId": item["decisionId"]},
        {"decisionId": 5, "by": 60},
        *({"decisionId": item["decisionId"], "by": by} for by in (0, -1, "60", None, True, 1e12)),
        {"decisionId": item["decisionId"], "by": 60, "toolCallId": "x"},
    ):
        assert refused(body) == (400, "invalid_request"), body
    assert refused({"decisionId": "x", "by": 60}) == (404, "decision_not_found")
    app.kit.resume(run_id, YES)
    assert refused({"decisionId": item["decisionId"], "by": 60}) == (409, "run_not_paused")
    url = f"/runs/{new_id()}/extend"
    assert refused({"decisionId": item["decisionId"], "by": 60}) == (404, "run_not_found")
    app = App([call("wait_for_approval")], tools=[wait_for_approval])
    run_id = app.run()
    client, url = create_app(app.kit).test_client(), f"/runs/{run_id}/extend"
    assert refused({"decisionId": item_of(app, run_id)["decisionId"], "by": 60}) == (400, "invalid_request")


def test_extending_over_http_what_has_expired_is_gone() -> None:
    app = App([call("hurry")], tools=[hurry])
    run_id = app.run()
    item = item_of(app, run_id)
    wait_until(lambda: now_ms() >= item["expiresAt"], what="the expiry")
    client = create_app(app.kit).test_client()
    response = client.post(f"/runs/{run_id}/extend", json={"decisionId": item["decisionId"], "by": 60})
    assert (response.status_code, response.json["code"]) == (410, "decision_expired")
