"""Turns with many calls: what one of them costs does not grow with the others, and they end in any order at once."""

from __future__ import annotations

import random
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import redis

from agentkit import Agent, AgentKit, ScriptedModel, Settings, tool
from agentkit.store.memory import MemoryStore
from agentkit.store.redis import RedisStore
from tests.apps import FakeQueue
from tests.event_rules import check_log
from tests.flaky_store import FlakyStore
from tests.turns import call

OK = {"type": "object", "properties": {"ok": {"type": "boolean"}}, "required": ["ok"]}
NARROW, WIDE = 10, 80
THREADS = 8


@tool
def look(order: str) -> str:
    """Look an order up."""
    return f"order {order}: paid"


@tool(decision=OK)
def pay(order: str, decision: dict[str, Any]) -> str:
    """Pay."""
    return f"paid {order}: {decision['ok']}"


@tool(runs="client")
def locate(order: str) -> str:
    """Find out where it is."""
    raise AssertionError("it is the client's")


def helper(turns: list[Any]) -> Agent:
    return Agent("helper", ScriptedModel(turns, name="helper"), "", [pay])


def calls(name: str, count: int) -> list[Any]:
    argument = "input" if name in ("helper", "asks") else "order"
    return [call(name, **{argument: f"A-{n}"}) for n in range(count)]


class Place:
    """A kit whose steps several threads execute, and whose items several threads answer."""

    def __init__(self, store: Any, turn: list[Any], agents: list[Agent], **options: Any) -> None:
        self.store = FlakyStore(store)
        self.queue = FakeQueue()
        tools = [look, pay, locate, *(agent.as_tool() for agent in agents)]
        boss = Agent("boss", ScriptedModel([turn, "done"], name="boss"), "", tools, **options)
        self.kit = AgentKit([boss, *agents], settings=Settings(), store=self.store, queue=self.queue)

    def work(self, pool: ThreadPoolExecutor) -> None:
        """Execute what is due until nothing is."""
        while self.queue.enqueued:
            due, self.queue.enqueued[:] = list(self.queue.enqueued), []
            for done in [pool.submit(self.kit.execute, *step) for step in due]:
                done.result()

    def answer(self, run_id: str, item: dict[str, Any]) -> None:
        if item["kind"] == "client_execute":
            self.kit.resume(run_id, result="here", decision_id=item["decisionId"])
        else:
            self.kit.resume(run_id, {"ok": True}, decision_id=item["decisionId"])

    def run(self, threads: int) -> str:
        """Run to the end; items are answered in any order, on their own run or the one that shows them."""
        with ThreadPoolExecutor(threads) as pool:
            run_id = self.kit.start("boss", "go").id
            self.work(pool)
            while items := self.kit.get(run_id).pending:
                random.shuffle(items)
                answers = [
                    pool.submit(self.answer, random.choice([run_id, item.get("runId", run_id)]), item) for item in items
                ]
                for answer in answers:
                    answer.result()
                self.work(pool)
            return run_id

    def checked(self, run_id: str) -> list[Any]:
        """The messages of a completed run whose log keeps the rules."""
        run = self.kit.get(run_id)
        assert (run.status, run.error) == ("completed", None)
        assert run.messages is not None
        check_log(list(self.kit.handle(run_id).events()), run.messages, run.status)
        return run.messages


def bytes_per_call(url: str, turn: str, count: int) -> float:
    """How many bytes go to the store and back for each call of a turn."""
    agents = [helper(["It is done."])]
    with redis.Redis.from_url(url) as client:

        def traffic() -> int:
            stats: Any = client.info("stats")
            return int(stats["total_net_input_bytes"]) + int(stats["total_net_output_bytes"])

        place = Place(RedisStore(url), calls(turn, count), agents)
        before = traffic()
        place.checked(place.run(1))
        place.store.close()
        return (traffic() - before) / count


@pytest.mark.parametrize("name", ["look", "pay", "helper", "locate"])
def test_what_a_call_costs_the_store_does_not_grow_with_its_turn(redis_url: str, name: str) -> None:
    narrow, wide = bytes_per_call(redis_url, name, NARROW), bytes_per_call(redis_url, name, WIDE)
    assert wide < 1.1 * narrow, f"{narrow:.0f} bytes for each of {NARROW}, {wide:.0f} for each of {WIDE}"


@pytest.mark.parametrize("name", ["look", "pay", "helper"])
def test_how_often_the_store_is_asked_does_not_grow_with_the_turn(name: str) -> None:
    asked = []
    for count in (NARROW, WIDE):
        place = Place(MemoryStore(), calls(name, count), [helper(["It is done."])])
        place.checked(place.run(1))
        asked.append(place.store.count.total() / count)
        assert place.store.count["conflicts"] <= 3
    assert asked[1] <= asked[0]


@pytest.mark.parametrize("kind", ["memory", "redis"])
@pytest.mark.parametrize("parallel", [True, False])
def test_calls_of_every_kind_end_side_by_side_in_any_order(redis_url: str, kind: str, parallel: bool) -> None:
    asks = Agent("asks", ScriptedModel([calls("pay", 2), "It was paid."], name="asks"), "", [pay])
    turn = calls("look", 6) + calls("pay", 6) + calls("helper", 6) + calls("asks", 6) + calls("locate", 4)
    turn.append(call("unknown"))
    random.shuffle(turn)
    store = MemoryStore() if kind == "memory" else RedisStore(redis_url)
    place = Place(store, turn, [helper(["It is done."]), asks], parallel_tool_calls=parallel)
    messages = place.checked(place.run(THREADS))
    results = [message for message in messages if message["role"] == "toolResult"]
    assert [result["toolName"] for result in results] == [block["name"] for block in turn]
    assert [result["toolName"] for result in results if result["isError"]] == ["unknown"]
    for result in results:
        if result["toolName"] in ("helper", "asks"):
            place.checked(result["details"]["runId"])
    state = store.load(place.kit.handle(next(place.kit.runs(agent="boss")).id).id)
    assert (state.record.steps, state.record.calls, state.record.pending) == ((), (), [])
    store.close()


@pytest.mark.parametrize("name", ["look", "helper", "pay", "asks"])
def test_calls_that_end_side_by_side_in_one_process_hardly_refuse_one_another(redis_url: str, name: str) -> None:
    asks = Agent("asks", ScriptedModel([calls("pay", 1), "It was paid."], name="asks"), "", [pay])
    place = Place(RedisStore(redis_url), calls(name, 24), [helper(["It is done."]), asks])
    place.checked(place.run(24))
    assert place.store.count["conflicts"] <= 24
    place.store.close()
