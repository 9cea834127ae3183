"""Encryption at rest with real processes: those that have the keys, and a worker that was started without."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import redis

from tests.acceptance.model import script
from tests.acceptance.stack import Stack, WorkerProcess
from tests.keys import new_key
from tests.turns import call
from tests.waiting import wait_until

WORK = script(
    [call("look_up", order_id="canary")],
    [{"type": "text", "text": "The canary asks."}, call("refund", order_id="canary", cents=250)],
    "The canary thanks you.",
)


def everything_of(client: Any) -> bytes:
    """All that a server holds, as it holds it."""
    return b"".join(key + client.dump(key) for key in client.scan_iter("*", count=1000))


def test_a_run_is_played_by_those_with_the_keys_and_left_alone_by_others(tmp_path: Path) -> None:
    stack = Stack(
        tmp_path,
        settings={"AGENTKIT_ENCRYPTION_KEYS": f"{new_key()} {new_key()}"},
    )
    # Uncompressed, so that what is in plain is seen.
    stack.store.command("CONFIG", "SET", "rdbcompression", "no")
    env = {name: value for name, value in stack.env.items() if name != "AGENTKIT_ENCRYPTION_KEYS"}
    stranger = WorkerProcess("stranger", env, tmp_path)
    try:
        stack.start(stack.model, stack.web_a, stack.web_b, stranger)
        run_id = stack.web_a.begin("support", WORK)
        wait_until(lambda: "set AGENTKIT_ENCRYPTION_KEYS" in stranger.log(), timeout=15, what="the worker to say so")
        assert stack.web_b.get(run_id)["status"] == "queued"
        stranger.kill()  # with the message, which it was to give back
        stack.start(*stack.workers)
        stack.wait_for(run_id, "paused", timeout=30)
        with redis.Redis.from_url(stack.store.url) as client:
            stored = [everything_of(client)]
            assert stack.web_a.resume(run_id, decision={"approved": True, "why": "canary"}).status_code == 202
            stack.wait_for(run_id, "completed")
            stored.append(everything_of(client))
        assert run_id.encode() in stored[0]
        assert not any(b"canary" in each for each in stored)
        events = stack.checked(run_id)
        assert "The canary thanks you." in str(events)
        assert len(stack.ledger.entries(run=run_id, tool="refund")) == 1
    finally:
        stranger.kill()
        stack.close()
