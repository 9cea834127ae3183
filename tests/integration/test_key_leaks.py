"""No key without an owner or a time to live, whatever way a run takes through Redis."""

from __future__ import annotations

import re
from collections.abc import Iterator
from importlib import resources

import pytest
import redis

from agentkit import Agent, AgentKit, ScriptedModel
from agentkit.queue.protocol import InlineQueue
from agentkit.runtime import deletion
from agentkit.settings import Settings
from agentkit.store.protocol import LeaseStatus
from agentkit.store.redis import RedisStore
from tests.event_rules import check_log
from tests.redis_contract import ttls_of
from tests.tools import YES, look, refund
from tests.turns import call

PREFIX = "leak:"


class App:
    def __init__(self, url: str) -> None:
        self.redis = redis.Redis.from_url(url)
        self.store = RedisStore(url, prefix=PREFIX)
        self.queue = InlineQueue()
        model = ScriptedModel(
            [[call("look"), call("refund", cents=5)], [call("refund", cents=5)], "done"], chunk_size=2
        )
        self.kit = AgentKit(
            [Agent("a", model, tools=[look, refund])], settings=Settings(), store=self.store, queue=self.queue
        )

    def work(self) -> None:
        while self.queue.waiting:
            self.kit.execute(*self.queue.waiting.popleft())

    def keys(self) -> dict[str, int | None]:
        return ttls_of(self.redis, "*")

    def keys_of(self, run_id: str) -> dict[str, int | None]:
        return {key: ttl for key, ttl in self.keys().items() if run_id in key}

    def close(self) -> None:
        self.store.close()
        self.redis.close()


@pytest.fixture
def app(redis_url: str) -> Iterator[App]:
    app = App(redis_url)
    yield app
    app.close()


def permanent() -> set[str]:
    """The keys that common.lua declares as permanent."""
    text = (resources.files("agentkit.store") / "scripts" / "common.lua").read_text()
    found = {PREFIX + name for name in re.findall(r"^--\s+P([\w{}]+)\s.*permanent", text, re.MULTILINE)}
    assert found == {
        f"{PREFIX}{name}"
        for name in ("due", "listed", "refused", "runs", "{inbox}", "{audit}", "{audit}NAME", "{metrics}")
    }
    return found


def check_keys(app: App) -> None:
    without_ttl = {key for key, ttl in app.keys().items() if ttl is None}
    kept = (f"{PREFIX}runs:", f"{PREFIX}{{audit}}")  # the record of answers is trimmed by age
    leaked = {key for key in without_ttl - permanent() if not key.startswith(kept)}
    assert not leaked, "keys without a time to live"


def test_a_complete_run_leaves_no_key_without_a_time_to_live(app: App) -> None:
    run_id = app.kit.start("a", "go", idempotency_key="k", metadata={"x": 1}).id
    app.kit.send(run_id, "more", "steer")
    app.store.heartbeat("worker", 60_000)
    app.store.mark_served("agentkit", 60_000)
    assert app.store.begin_probe("agentkit", 60_000)
    for _ in range(2):
        assert None in app.keys_of(run_id).values()
        assert set(app.keys_of(run_id).values()) == {None}, "what has not ended must not expire"
        app.work()
        assert app.kit.get(run_id).status == "paused"
        assert set(app.keys_of(run_id).values()) == {None}
        app.kit.resume(run_id, YES)
    app.work()
    run = app.kit.get(run_id)
    assert run.status == "completed"
    check_log(list(app.kit.handle(run_id).events()), run.messages or [], run.status)
    suffixes = {key.rpartition("}")[2] for key in app.keys_of(run_id)}
    assert suffixes == {"", ":m", ":e", ":r"}
    check_keys(app)


def test_a_run_aborted_while_paused_leaves_no_key_without_a_time_to_live(app: App) -> None:
    run_id = app.kit.start("a", "go").id
    app.work()
    app.kit.abort(run_id)
    app.kit.abort(run_id)
    assert app.kit.get(run_id).status == "aborted"
    assert app.keys_of(run_id)
    check_keys(app)


@pytest.mark.parametrize("ending", ["abort", "complete"])
def test_what_waits_has_a_key_that_goes_when_it_was_taken_at_the_latest_with_the_end(app: App, ending: str) -> None:
    run_id = app.kit.start("a", "go").id
    app.work()
    key = f"{PREFIX}{{{run_id}}}:q"
    assert not app.redis.exists(key)
    app.kit.send(run_id, "hurry", "steer")
    app.kit.send(run_id, "later")
    assert app.keys()[key] is None, "what has not ended must not expire"
    if ending == "abort":
        app.kit.abort(run_id)
    while app.kit.get(run_id).status == "paused":
        app.kit.resume(run_id, YES)
        app.work()
    assert app.kit.get(run_id).status == {"abort": "aborted", "complete": "completed"}[ending]
    assert not app.redis.exists(key)
    check_keys(app)


def test_a_run_aborted_while_its_tool_executes_leaves_no_key_no_lease_and_no_item(app: App) -> None:
    run_id = app.kit.start("a", "go").id
    app.kit.execute(*app.queue.waiting.popleft())
    step = app.queue.waiting.popleft()[1]
    assert app.kit.get(run_id).pending
    claim = app.store.claim(run_id, step, 1000)  # a worker that hears nothing of the abort
    assert claim is not None
    app.kit.abort(run_id)
    assert app.kit.get(run_id).status == "running"
    app.store.renew([claim.lease], 0)
    app.kit.execute(run_id, step)
    state = app.store.load(run_id)
    assert (state.record.status, state.record.pending, state.record.steps) == ("aborted", [], ())
    assert (state.live, state.claimed) == ({}, frozenset())
    assert app.store.renew([claim.lease], 1000) == [LeaseStatus.LOST]
    check_keys(app)


def test_what_comes_after_the_end_makes_no_key(app: App) -> None:
    run_id = app.kit.start("a", "go").id
    app.kit.abort(run_id)
    before = set(app.keys())
    app.work()
    app.kit.abort(run_id)
    app.kit.recovery().sweep()
    assert set(app.keys()) == before
    check_keys(app)


def test_a_deleted_run_leaves_a_mark_that_expires_and_nothing_else(app: App) -> None:
    run_id = app.kit.start("a", "go").id
    app.kit.abort(run_id)
    app.kit.delete(run_id)
    app.work()
    [mark] = app.keys().keys() - permanent()
    assert mark.endswith(":x")
    check_keys(app)


def test_what_waits_to_be_sent_has_a_key_without_end_that_goes_when_it_was_sent(app: App) -> None:
    events: list[str] = []
    app.kit.on("run.aborted")(lambda event: events.append(event["type"]))
    run_id = app.kit.start("a", "go").id
    app.kit.abort(run_id)
    key = f"{PREFIX}{{{run_id}}}:o"
    assert app.keys()[key] is None, "the end of the run must not lose it"
    app.kit.delete(run_id)
    assert app.keys()[key] is None
    assert app.redis.zscore(f"{PREFIX}due", run_id) is not None
    while app.queue.notifications:
        app.kit.deliver(*app.queue.notifications.popleft())
    assert events == ["run.aborted"]
    assert not app.redis.exists(key)
    app.redis.zadd(f"{PREFIX}due", {run_id: 0})
    app.kit.recovery().sweep()
    assert app.redis.zcard(f"{PREFIX}due") == 0
    check_keys(app)


class Nested:
    """A run whose sub-agent's run has a sub-agent's run of its own, which waits for a decision."""

    def __init__(self, url: str) -> None:
        self.app = App(url)
        clerk = Agent("clerk", ScriptedModel([[call("refund", cents=5)], "x"], name="clerk"), tools=[refund])
        desk = Agent(
            "desk", ScriptedModel([[call("clerk", input="x")], "x"], name="desk"), tools=[clerk.as_tool(), look]
        )
        turn = [call("desk", input="x"), call("look")]
        boss = Agent("a", ScriptedModel([turn, "done"], name="boss"), tools=[desk.as_tool(), look])
        self.app.kit = AgentKit([boss], settings=Settings(), store=self.app.store, queue=self.app.queue)
        self.run_id = self.app.kit.start("a", "go", owner="ada", idempotency_key="k").id


@pytest.fixture
def nested(redis_url: str) -> Iterator[Nested]:
    nested = Nested(redis_url)
    yield nested
    nested.app.close()


@pytest.mark.parametrize("steps", range(8))
@pytest.mark.parametrize("held", [False, True])
def test_a_run_deleted_by_force_leaves_marks_that_expire_and_no_run_of_its_sub_agents(
    nested: Nested, steps: int, held: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deletion, "ABORT_SECONDS", 0.1)
    app = nested.app
    for _ in range(min(steps, len(app.queue.waiting))):
        app.kit.execute(*app.queue.waiting.popleft())
    if held and app.queue.waiting:
        app.store.claim(*app.queue.waiting[0][:2], 60_000)
    app.kit.delete(nested.run_id, force=True)
    app.work()
    for due in app.redis.zrange(f"{PREFIX}due", 0, -1):
        app.redis.zadd(f"{PREFIX}due", {due: 0})
    app.kit.recovery().sweep()
    left = app.keys().keys() - {f"{PREFIX}listed", f"{PREFIX}{{inbox}}"}
    # Where a step takes longer than a heartbeat, it is noted for a while who holds it.
    left = {key for key in left if not key.endswith(":x") and ":h:" not in key}
    assert {key for key in left if not key.startswith(f"{PREFIX}idem:")} == set()
    for name in ("listed", "{inbox}"):
        assert app.redis.hgetall(f"{PREFIX}{name}").keys() <= {b""}
    check_keys(app)
