"""Runs that begin from long and from wide ones, on a real server: whole, in one act, and in bounded memory."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from agentkit import Agent, AgentKit, FernetCodec, ScriptedModel, Settings, tool
from agentkit.core.messages import Json
from agentkit.errors import PayloadTooLargeError
from agentkit.store.redis import RedisStore
from tests.apps import FakeQueue
from tests.event_rules import check_log
from tests.keys import new_key
from tests.turns import call

MB = 1_000_000
CALLS = 500


@tool
def look(order: str) -> str:
    """Look an order up."""
    return f"order {order}: paid"


class Place:
    def __init__(self, url: str, **options: Any) -> None:
        self.store = RedisStore(url)
        self.queue = FakeQueue()
        wide = [call("look", order=f"A-{n}") for n in range(CALLS)]
        agents = [
            Agent("wide", ScriptedModel([wide, "done"]), tools=[look]),
            Agent("plain", ScriptedModel(["done"])),
        ]
        codec = options.pop("codec", None)
        self.kit = AgentKit(agents, settings=Settings(**options), store=self.store, queue=self.queue, codec=codec)

    def finish(self, run_id: str) -> Any:
        with ThreadPoolExecutor(4) as pool:
            while self.queue.enqueued:
                due, self.queue.enqueued[:] = list(self.queue.enqueued), []
                for done in [pool.submit(self.kit.execute, *step) for step in due]:
                    done.result()
        return self.kit.get(run_id)


@pytest.fixture(params=["plain", "encrypted"])
def place(request: pytest.FixtureRequest, redis_url: str) -> Iterator[Place]:
    made = Place(redis_url, codec=FernetCodec(new_key()) if request.param == "encrypted" else None)
    yield made
    made.store.close()


def history(size: int, each: int = 10_000) -> list[Json]:
    """A conversation of about `size` bytes, whose last message is the user's."""
    messages: list[Json] = []
    for number in range(size // each // 2):
        messages.append({"role": "user", "content": f"{number:06} " + "x" * each})
        messages.append({"role": "assistant", "content": [{"type": "text", "text": f"{number:06} " + "y" * each}]})
    return [*messages, {"role": "user", "content": "and?"}]


def test_a_turn_of_500_calls_is_taken_whole_or_not_at_all(place: Place) -> None:
    source = place.finish(place.kit.start("wide", "go").id)
    assert (source.status, len(source.messages)) == ("completed", CALLS + 3)
    fork = place.finish(place.kit.start("plain", "more", from_run=source.id, turn=1).id)
    assert fork.messages[: CALLS + 2] == source.messages[: CALLS + 2]
    assert (fork.status, len(fork.messages)) == ("completed", CALLS + 4)
    cut = place.kit.start("wide", "go").id
    for _ in range(CALLS // 2):
        place.kit.execute(*place.queue.enqueued.pop(0))
    place.kit.abort(cut)
    place.queue.enqueued.clear()
    assert 1 < len(place.kit.get(cut).messages or []) < CALLS
    again = place.finish(place.kit.start(from_run=cut).id)
    assert (again.status, again.origin["turn"], len(again.messages)) == ("completed", 0, CALLS + 3)


def test_a_history_of_10_mb_is_gone_on_with(place: Place) -> None:
    source = place.finish(place.kit.start("plain", messages=history(10 * MB)).id)
    run_id = place.kit.start(input="and then?", from_run=source.id).id
    run = place.finish(run_id)
    assert (run.status, run.origin) == ("completed", {"runId": source.id, "turn": 1})
    assert run.messages[: len(source.messages)] == source.messages
    log = list(place.kit.handle(run_id).events())
    check_log(log, run.messages, "completed")
    assert len(log[0]["messages"]) == len(source.messages)


def test_of_a_run_that_is_too_long_no_more_is_held_than_may_be_taken(redis_url: str) -> None:
    place = Place(redis_url, max_history_bytes=MB)
    source = place.finish(place.kit.start("plain", messages=history(30 * MB)).id)
    tracemalloc.start()
    try:
        with pytest.raises(PayloadTooLargeError):
            place.kit.start(input="x", from_run=source.id)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 20 * MB, "one piece of 4 MB, as it comes and as messages, beside what is kept"
    place.store.close()
