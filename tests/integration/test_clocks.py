"""Workers and web processes whose clocks are wrong: all that is kept or compared goes by the store's clock."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis

from agentkit import Agent, AgentKit, RetryPolicy, ScriptedModel, Settings, tool
from agentkit.core.cancellation import Cancellation
from agentkit.errors import DecisionExpiredError, ProviderError
from agentkit.providers.protocol import ModelRequest, Part
from agentkit.store.redis import RedisStore
from agentkit.web import create_app
from tests.apps import App
from tests.clocks import shifted
from tests.tools import YES, look, refund_with
from tests.turns import call
from tests.waiting import wait_until

WRONG = [300, -300, 3600, -3600]
LEASE_SECONDS = 2.0
SECRET = "a secret of more than thirty-two bytes"


@pytest.fixture
def client(redis_url: str) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(redis_url) as client:
        yield client


@pytest.fixture
def app_of(redis_url: str) -> Iterator[Callable[..., App]]:
    """Makes an application whose every step, call and check may be done under another clock."""
    stores: list[RedisStore] = []

    def make(*turns: Any, **options: Any) -> App:
        stores.append(RedisStore(redis_url))
        return App(*turns, store=stores[-1], lease_seconds=LEASE_SECONDS, **options)

    yield make
    for store in stores:
        store.close()


@pytest.mark.parametrize("seconds", WRONG)
def test_a_wrong_clock_fails_no_run_by_its_timeout(app_of: Callable[..., App], seconds: int) -> None:
    app = app_of([call("look")], "done", tools=[look])
    run_id = app.kit.start("a", "go", limits={"timeout": 60}).id
    with shifted(seconds):
        app.execute_next()  # the model
        app.execute_next()  # the tool
    app.work()
    run = app.check(run_id)
    assert run.status == "completed"
    assert abs(run.created_at - time.time() * 1000) < 30_000


@pytest.mark.parametrize("seconds", WRONG)
def test_a_run_that_a_wrong_clock_started_has_its_whole_time(app_of: Callable[..., App], seconds: int) -> None:
    app = app_of("done")
    with shifted(seconds):
        run_id = app.kit.start("a", "go", limits={"timeout": 60}).id
    run = app.work().check(run_id)
    assert run.status == "completed"
    assert all(abs(message["timestamp"] - time.time() * 1000) < 30_000 for message in run.messages)
    assert abs(run.created_at - time.time() * 1000) < 30_000


@pytest.mark.parametrize("asks", WRONG)
def test_an_item_that_a_wrong_clock_asks_for_can_be_answered(app_of: Callable[..., App], asks: int) -> None:
    app = app_of([call("refund")], "done", tools=[refund_with(decision_timeout=60)])
    run_id = app.start()
    with shifted(asks):
        app.execute_next()
    [item] = app.kit.get(run_id).pending
    assert abs(item["expiresAt"] - item["createdAt"] - 60_000) < 5
    assert abs(item["createdAt"] - time.time() * 1000) < 30_000
    app.kit.resume(run_id, YES)
    assert app.work().check(run_id).status == "completed"


@pytest.mark.parametrize("seconds", WRONG)
def test_a_wrong_clock_answers_and_extends_what_has_not_expired(app_of: Callable[..., App], seconds: int) -> None:
    app = app_of([call("refund")], "done", tools=[refund_with(decision_timeout=60)])
    run_id = app.run()
    [item] = app.kit.get(run_id).pending
    with shifted(seconds):
        app.kit.extend(run_id, item["decisionId"], 60)
        app.kit.resume(run_id, YES)
    [decision] = app.kit.decisions(run_id)
    assert decision.decided_at is not None
    assert abs(decision.decided_at - time.time() * 1000) < 30_000
    assert app.work().check(run_id).status == "completed"


def test_a_clock_that_is_behind_answers_nothing_that_has_expired(app_of: Callable[..., App]) -> None:
    app = app_of([call("refund")], "done", tools=[refund_with(decision_timeout=0.1)])
    run_id = app.run()
    [item] = app.kit.get(run_id).pending
    wait_until(lambda: app.store.now() >= item["expiresAt"], what="the expiry")
    with shifted(-3600), pytest.raises(DecisionExpiredError):
        app.kit.resume(run_id, YES)


@pytest.mark.parametrize("seconds", WRONG)
def test_a_wrong_clock_expires_what_is_over_and_nothing_else(app_of: Callable[..., App], seconds: int) -> None:
    soon = refund_with(decision_timeout=0.1)

    @tool(decision={"type": "boolean"}, decision_timeout=60)
    def ask(decision: bool) -> str:
        """Ask."""
        return f"decided {decision}"

    app = app_of([call("refund"), call("ask")], "done", tools=[soon, ask])
    run_id = app.run()
    with shifted(seconds):
        recovery = app.kit.recovery()
        wait_until(lambda: recovery.sweep() and len(app.kit.get(run_id).pending) == 1, what="the first item's expiry")
        assert app.kit.get(run_id).pending[0]["toolName"] == "ask"


@pytest.mark.parametrize("seconds", WRONG)
def test_a_wrong_clock_delays_no_recovery(app_of: Callable[..., App], client: redis.Redis, seconds: int) -> None:
    app = app_of([call("look")], [call("refund")], tools=[look, refund_with(decision_timeout=60)])
    checks = []
    with shifted(seconds):
        run_id = app.start()
        while app.queue.enqueued:
            app.execute_next()
            checks.append(client.zscore("agentkit:due", run_id))
        app.kit.abort(run_id)
    for check in checks:
        assert check is not None
        assert -5000 < check - time.time() * 1000 < 60_000


class Busy:
    """A model that is asked too often."""

    name = api = "busy"
    model = "m"

    def __init__(self, retry_after: float) -> None:
        self.retry_after = retry_after

    def stream(self, request: ModelRequest, cancel: Cancellation) -> Iterator[Part]:
        raise ProviderError("too many requests", retryable=True, status=429, retry_after=self.retry_after)
        yield


@pytest.mark.parametrize("seconds", WRONG)
def test_a_retry_that_waits_long_is_due_when_it_says(
    app_of: Callable[..., App], client: redis.Redis, seconds: int
) -> None:
    app = app_of(model=Busy(40), retry=RetryPolicy(attempts=3, base=1, cap=60, deadline=100))
    run_id = app.start()
    with shifted(seconds):
        app.execute_next()
    [step] = app.store.load(run_id).record.steps
    assert 20_000 < step.at - time.time() * 1000 < 45_000
    assert client.zscore("agentkit:due", run_id) <= step.at
    assert abs(step.since - time.time() * 1000) < 30_000


@pytest.mark.parametrize("seconds", WRONG)
def test_the_deadline_of_retries_is_counted_across_clocks(app_of: Callable[..., App], seconds: int) -> None:
    app = app_of(model=Busy(2.1), retry=RetryPolicy(attempts=3, base=1, cap=60, deadline=100))
    run_id = app.start()
    app.execute_next()
    [first] = app.store.load(run_id).record.steps
    wait_until(lambda: app.store.now() >= first.at, what="the second try")
    with shifted(seconds):
        app.kit.execute(run_id, first.number)
    [second] = app.store.load(run_id).record.steps
    assert (first.tries, second.tries, second.since) == (1, 2, first.since)
    assert 0 < second.at - first.at < 30_000


@pytest.mark.parametrize("seconds", WRONG)
def test_a_worker_with_a_wrong_clock_counts_as_there_and_pushes_out_no_other(redis_url: str, seconds: int) -> None:
    store = RedisStore(redis_url)
    other = RedisStore(redis_url)
    try:
        store.heartbeat("right", 60_000)
        with shifted(seconds):
            other.heartbeat("wrong", 60_000)
            other.schedule("r", other.now() + 60_000)
            assert sorted(other.workers()) == ["right", "wrong"]
            assert other.backlog() == (1, 0)
        assert sorted(store.workers()) == ["right", "wrong"]
    finally:
        store.close()
        other.close()


@pytest.mark.parametrize("seconds", WRONG)
def test_a_stream_token_of_a_web_process_with_a_wrong_clock_is_good_elsewhere(redis_url: str, seconds: int) -> None:
    store = RedisStore(redis_url)
    kit = AgentKit(
        [Agent("a", ScriptedModel(["x"]))],
        settings=Settings(secret_key=SECRET, stream_token_seconds=60),
        store=store,
        queue=App("x").queue,
    )
    web = create_app(kit).test_client()
    run_id = kit.start("a", "go").id
    try:
        with shifted(seconds):
            token = web.post(f"/runs/{run_id}/stream-token").json["token"]
        assert web.get(f"/runs/{run_id}/events?token={token}", headers={"Last-Event-ID": "x"}).status_code == 400
        with shifted(seconds):
            assert web.get(f"/runs/{run_id}/events?token={token}", headers={"Last-Event-ID": "x"}).status_code == 400
    finally:
        store.close()
