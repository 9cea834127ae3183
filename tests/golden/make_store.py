"""Makes a frozen store: tests/golden/stores/v5.json, every key that an agentkit of this schemaVersion left in a server.

    python -m tests.golden.make_store [FILE]

There are runs of each kind: queued, executed by a worker that died, paused (one with a message queued, one with many
items, one for its sub-agent's run) and ended; from version 5 on also those that have what came with it. `names` says
which run is which, and `keys` has for each key its type, its value and its time to live (ms; -1 for none).

The files are never made again for a schemaVersion that was released. That of version 4 was made by its last commit,
b60c29f, from a script that was this one up to `_since_5`.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import redis

from agentkit import Agent, AgentKit, ScriptedModel, Settings
from agentkit.core.messages import Json
from agentkit.core.record import SCHEMA_VERSION
from agentkit.queue.protocol import InlineQueue
from agentkit.store.redis import RedisStore
from agentkit.tools import Tool
from tests.servers import ValkeyServer
from tests.tools import YES, pay, refund_with
from tests.turns import call

__all__ = ["DONE", "FOLDER", "WIDE", "agents", "dump", "notified", "notify_people", "restore"]

FOLDER = Path(__file__).parent / "stores"

WIDE = 24
"""How many calls the wide turn has."""
DONE = 8
"""How many of them have been answered."""
LEASE_MS = 100
notified: list[Json] = []
DECADES = 900_000_000
"""In seconds; an item that expires then is pending whenever the frozen store is read."""


def asking(name: str, turns: list[Any], *tools: Tool) -> Agent:
    return Agent(name, ScriptedModel(turns, name=name), tools=tools)


def agents() -> list[Agent]:
    """Make the agents of the runs, as their store's readers must have them."""
    refund = refund_with()
    once = call("refund", cents=5)
    helper = asking("helper", [[once], "helped"], refund)
    wide = [call("refund", f"c{number}", cents=number) for number in range(WIDE)]
    return [
        asking("talker", ["hello"]),
        asking("asker", [[once], "refunded"], refund),
        asking("wide", [wide, "all refunded"], refund),
        asking("payer", [[call("pay", cents=7)], "paid"], pay),
        Agent("boss", ScriptedModel([[call("helper", input="help")], "done"], name="boss"), tools=[helper.as_tool()]),
        helper,
        *(_agents_since_5() if SCHEMA_VERSION >= 5 else []),
    ]


class _Maker:
    """An installation whose steps are executed here."""

    def __init__(self, url: str) -> None:
        self.queue = InlineQueue()
        self.store = RedisStore(url)
        self.kit = AgentKit(agents(), settings=Settings(), store=self.store, queue=self.queue)

    def work(self) -> None:
        while self.queue.waiting:
            self.kit.execute(*self.queue.waiting.popleft())

    def started(self, agent: str) -> str:
        """Start a run, and execute what is due."""
        run_id = self.kit.start(agent, "Grüße ☃", owner="ann").id
        self.work()
        return run_id

    def runs(self) -> dict[str, str]:
        """Make the runs; the id of each, by its name."""
        made = {"completed": self.started("talker"), "paused": self.started("asker")}
        made["paused_with_queued_message"] = self.started("asker")
        self.kit.send(made["paused_with_queued_message"], "and then", "followUp")
        made["wide_turn"] = self.started("wide")
        for item in self.kit.get(made["wide_turn"]).pending[:DONE]:
            self.kit.resume(made["wide_turn"], YES, decision_id=item["decisionId"], decided_by="bob")
        made["sub_agent"] = self.started("boss")
        made["aborted"] = self.started("asker")
        self.kit.abort(made["aborted"], "enough")
        made["running"] = self.kit.start("payer", "pay", owner="ann").id
        self.kit.execute(*self.queue.waiting.popleft())
        assert self.store.claim(*self.queue.waiting.popleft(), LEASE_MS)
        made["queued"] = self.kit.start("asker", "later", owner="ann").id
        self.queue.waiting.clear()
        return made


def dump(client: redis.Redis) -> dict[str, Any]:
    """Read every key of a server."""
    read: Mapping[str, Any] = {
        "hash": lambda key: dict(sorted(cast(dict[str, str], client.hgetall(key)).items())),
        "list": lambda key: client.lrange(key, 0, -1),
        "stream": lambda key: [list(entry) for entry in cast(list[Any], client.xrange(key))],
        "string": client.get,
        "zset": lambda key: [list(each) for each in cast(list[Any], client.zrange(key, 0, -1, withscores=True))],
    }
    kinds = {key: cast(str, client.type(key)) for key in sorted(client.scan_iter())}
    return {
        key: {"type": kind, "value": read[kind](key), "ttl": client.pttl(key)}
        for key, kind in kinds.items()
        if kind != "none"  # it has expired since it was listed
    }


def restore(client: redis.Redis, keys: Mapping[str, Any]) -> None:
    """Put keys into a server, as `dump` has read them."""
    for key, body in keys.items():
        value = body["value"]
        match body["type"]:
            case "hash":
                client.hset(key, mapping=value)
            case "list":
                client.rpush(key, *value)
            case "stream":
                for entry, fields in value:
                    client.xadd(key, fields, id=entry)
            case "string":
                client.set(key, value)
            case "zset":
                client.zadd(key, dict(value))
        if body["ttl"] >= 0:
            client.pexpire(key, body["ttl"])


def main(file: Path) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    with ValkeyServer() as server, redis.Redis.from_url(server.url, decode_responses=True) as client:
        maker = _Maker(server.url)
        names = maker.runs() | (_since_5(maker) if SCHEMA_VERSION >= 5 else {})
        body = {"names": names, "keys": dump(client)}
        maker.store.close()
    file.write_text(json.dumps(body, ensure_ascii=False, indent=1) + "\n")


# -- since version 5


def _agents_since_5() -> list[Agent]:
    once = call("refund", cents=5)
    return [
        asking("voted", [[once], "refunded"], refund_with(approvals=2, decision_timeout=DECADES)),
        asking("remembering", [[once], [once], [call("pay", cents=7)], "paid"], refund_with(remember=True), pay),
        asking("checked", [[once], "refunded"], refund_with(decision_when=lambda args, ctx: bool(args["cents"] > 3))),
    ]


def notify_people(event: Json) -> None:
    """Note what people are notified of. Nobody carries that out here, so it stays in the outboxes for a reader."""
    notified.append(event)


def _since_5(maker: _Maker) -> dict[str, str]:
    kit = maker.kit = AgentKit(
        agents(), settings=Settings(), store=maker.store, queue=maker.queue, remind_before=DECADES + 1
    )
    kit.on("decision.pending", "decision.expiring", "run.completed")(notify_people)
    source = maker.started("talker")
    made = {"fork": kit.start("asker", "again", from_run=source, owner="ann").id}
    maker.work()
    made["voted"] = maker.started("voted")
    kit.recovery().sweep()  # so that people are reminded of its item
    maker.queue.waiting.clear()
    kit.resume(made["voted"], YES, input={"cents": 4}, decided_by="bob")
    made["remembered"] = maker.started("remembering")
    kit.resume(made["remembered"], YES, decided_by="bob", remember=True)
    for _ in range(4):  # the call, the model, a call that is answered as the first, the model
        kit.execute(*maker.queue.waiting.popleft())
    assert maker.store.claim(*maker.queue.waiting.popleft(), LEASE_MS)
    made["condition"] = maker.started("checked")
    return made


if __name__ == "__main__":
    from tests.golden import make_store  # which names the handler as its readers do

    make_store.main(Path(sys.argv[1]) if len(sys.argv) > 1 else FOLDER / f"v{SCHEMA_VERSION}.json")
