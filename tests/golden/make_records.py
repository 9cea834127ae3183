"""Makes the frozen corpus of stored records: tests/golden/records/v5/*.json.

    python -m tests.golden.make_records [FOLDER]
    python -m tests.golden.make_records --keys [FOLDER]

Each file is what a store keeps of one run: `fixed`, `state` and `status` as they are written down, the `calls` of the
open turn and, by the index of their calls, the `results` of those that have ended ("" where the result is among the
messages), the open `toolSteps` with the indexes of their calls, what is `queued`, the `abort` that was asked for, and
the messages. Ids and times are made steady, so that two runs of this script differ in nothing. With `--keys`, it is the
run's keys as they lie in a Valkey server, byte for byte: v5/keys/*.json. (v1 had the calls and the abort in `state`, v1
and v2 what is queued, and all three the tool steps.)

The files are never made again for a schemaVersion that was released: they stand for records that lie in
people's stores. A new version gets a folder of its own, made by this script as it is then.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import redis
from msgspec import structs

from agentkit.core.record import SCHEMA_VERSION, Change, RunRecord
from agentkit.core.struct import to_json
from agentkit.store.encoding import encode_change
from agentkit.store.protocol import Store
from agentkit.store.redis import RedisStore
from tests.loop_driver import Driver
from tests.servers import ValkeyServer
from tests.tools import locate, pay, refund_with
from tests.turns import call

__all__ = ["FOLDER", "RUNS", "stored", "written"]

FOLDER = Path(__file__).parent / "records" / f"v{SCHEMA_VERSION}"


refund = refund_with(decision_timeout=3600, on_expire={"approved": False})

_store: Store | None = None


def new() -> Driver:
    return Driver(refund, locate, pay, store=_store, max_turns=9).start("Grüße ☃", limits={"maxTokens": 1000})


def queued() -> Driver:
    return new()


def running() -> Driver:
    """A tool executes, a call after it is done, and messages from outside wait."""
    run = new().model([call("pay"), call("unknown")])
    run.claim("tool")
    run.send("hurry", "steer").send([{"type": "text", "text": "and then"}], "followUp").abort("enough")
    return run


def running_beside() -> Driver:
    """Of three calls, one executes; those beside it have ended, the first with its message, the last without."""
    run = new().model([call("pay", "one"), call("pay", "two"), call("pay", "three")])
    for call_id in ("one", "two", "three"):
        run.claim("tool", call_id)
    assert run.tool_beside_others("three")
    assert run.tool_beside_others("one")
    return run


def paused_one_decision() -> Driver:
    return new().model([call("refund", cents=5)])


def paused_two_pending() -> Driver:
    """One item is answered, one waits for the client, one is in doubt."""
    run = new().model([call("refund", cents=5), call("locate"), call("pay")])
    run.lose("tool", "pay")
    return run.doubt("pay").decide({"approved": True}, "refund", decided_by="ann", input={"cents": 4})


def completed() -> Driver:
    run = new().model([call("refund", cents=5)]).decide({"approved": True}).tool("refund", "refunded")
    run.now += 1500
    return run.model("done")


def failed() -> Driver:
    run = new()
    return run.fail("provider_error", "overloaded", run.cut_message("half", "error"))


def aborted() -> Driver:
    run = paused_one_decision()
    run.abort("enough")
    return run


RUNS: dict[str, Callable[[], Driver]] = {
    make.__name__: make
    for make in (
        *(queued, running, running_beside, paused_one_decision, paused_two_pending),
        *(completed, failed, aborted),
    )
}


def stored(run: Driver) -> dict[str, Any]:
    """The run as the store keeps it, its halves parsed so that a diff can be read."""
    record = structs.replace(
        run.record, updated_at=run.now
    )  # a store sets it by its own clock where a call ends by itself
    return {**written(record), "messages": run.messages}


def written(record: RunRecord) -> dict[str, Any]:
    """A record as it is written down for the first time."""
    encoded = encode_change(Change(record))
    return {
        "fixed": json.loads(encoded.fixed),
        "state": json.loads(encoded.state),
        "status": encoded.status,
        "calls": [json.loads(call) for _, call in encoded.calls],
        "results": {str(index): json.loads(result) if result else "" for index, result in encoded.results},
        "queued": [json.loads(each) for each in encoded.queued],
        "toolSteps": {str(number): index for number, index in encoded.tool_steps},
        "abort": to_json(record.abort),
    }


def keys(run: Driver, client: redis.Redis) -> dict[str, Any]:
    """The run's keys in a server: the hash, the messages, the events with their ids, the answered items."""
    key = f"agentkit:{{{run.run_id}}}"
    reader: Any = client
    return {
        "hash": dict(sorted(reader.hgetall(key).items())),
        "messages": reader.lrange(f"{key}:m", 0, -1),
        "queued": reader.lrange(f"{key}:q", 0, -1),
        "events": [[entry, fields["d"]] for entry, fields in reader.xrange(f"{key}:e")],
        "resolutions": dict(sorted(reader.hgetall(f"{key}:r").items())),
    }


def steady(text: str, ids: Iterator[str]) -> str:
    """`text` with every id that was made at random replaced by one that counts."""
    body = json.loads(text)
    found = [body["fixed"]["id"]]
    found += [item["decisionId"] for c in body["calls"] if (item := c.get("item"))]
    for old in found:
        text = text.replace(old, next(ids))
    return text


def main(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, make in RUNS.items():
        ids = (f"00000000-0000-7000-8000-{number:012d}" for number in range(1, 99))
        text = json.dumps(stored(make()), ensure_ascii=False, indent=2)
        (folder / f"{name}.json").write_text(steady(text, ids) + "\n")


def main_keys(folder: Path) -> None:
    global _store
    folder.mkdir(parents=True, exist_ok=True)
    with ValkeyServer() as server, redis.Redis.from_url(server.url, decode_responses=True) as client:
        _store = RedisStore(server.url)
        for name, make in RUNS.items():
            text = json.dumps(keys(make(), client), ensure_ascii=False, indent=2)
            (folder / f"{name}.json").write_text(text + "\n")
        _store.close()


if __name__ == "__main__":
    wants_keys, folders = "--keys" in sys.argv[1:], [arg for arg in sys.argv[1:] if arg != "--keys"]
    target = Path(folders[0]) if folders else FOLDER
    main_keys(target / "keys") if wants_keys else main(target)
