"""What a real worker logs as JSON, and what Sentry's Celery and logging integrations make of it: each failure once."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from agentkit import AgentKit, Settings
from tests.acceptance.stack import WorkerProcess, environment
from tests.acceptance.tracked import kit as tracked
from tests.servers import ValkeyServer
from tests.waiting import wait_until


class JsonWorker(WorkerProcess):
    def is_ready(self) -> bool:
        return ' ready."' in self.log(self._launched_at)

    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.log().splitlines() if line.startswith("{")]


@pytest.fixture(scope="module", params=["threads", "prefork"])
def place(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Any, Any, Path]]:
    folder = tmp_path_factory.mktemp("tracked")
    store = ValkeyServer(folder / "valkey")
    store.start()
    events = folder / "events.jsonl"
    env = environment(
        AGENTKIT_APP="tests.acceptance.tracked:kit",
        AGENTKIT_REDIS_URL=store.url,
        AGENTKIT_LEASE_SECONDS="1",
        AGENTKIT_LOG="json",
        TRACKED_EVENTS=str(events),
    )
    worker = JsonWorker("worker", env, folder, ("-P", request.param, "-c", "2"))
    settings = replace(Settings(), redis_url=store.url, broker_url=store.url, lease_seconds=1.0)
    kit = AgentKit([bound.agent for bound in tracked.agents], settings=settings)
    try:
        worker.start()
        yield kit, worker, events
    finally:
        worker.kill()
        kit.close()
        store.stop()


def test_each_failure_reaches_sentry_once_and_nothing_that_was_retried_does(place: Any) -> None:
    kit, worker, path = place
    ids = {
        name: kit.start(name, "a prompt that is nobody's business").id
        for name in ("exploding", "refused", "busy", "crashing")
    }
    statuses = {name: kit.handle(run_id).wait(30).status for name, run_id in ids.items()}
    assert statuses == {"exploding": "completed", "refused": "failed", "busy": "completed", "crashing": "completed"}

    def counted() -> list[Any]:
        events = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
        return events if len(events) >= 2 else []

    wait_until(counted, what="the events")
    worker.stop()  # what comes late has come
    events = {event["extra"]["run_id"]: event for event in counted()}
    assert len(counted()) == 2, [event.get("logentry") for event in counted()]
    tool, run = events[ids["exploding"]], events[ids["refused"]]
    assert [v["type"] for v in tool["exception"]["values"]] == ["ValueError"]
    assert [v["type"] for v in run["exception"]["values"]] == ["ProviderError"]
    assert (tool["extra"]["tool"], tool["extra"]["agent"], tool["level"]) == ("explode", "exploding", "error")
    assert "nobody's business" not in str([tool["logentry"], run["logentry"], tool["extra"], run["extra"]])

    lines = worker.lines()
    steps = [line for line in lines if line["logger"] == "agentkit.steps" and line["run_id"] == ids["exploding"]]
    assert [(s["step"], s["kind"], s["outcome"], s["level"]) for s in steps] == [
        (1, "model", "done", "INFO"),
        (2, "tool", "error", "ERROR"),
        (3, "model", "done", "INFO"),
    ]
    assert (steps[1]["tool"], steps[1]["attempt"], "ValueError: no such order" in steps[1]["exception"]) == (
        "explode",
        1,
        True,
    )
    assert steps[0]["tokens"] > 0
    assert {line["level"] for line in lines if line.get("run_id") in (ids["busy"], ids["crashing"])} == {
        "INFO",
        "WARNING",
    }
    assert [line for line in lines if "raised expected: StepError" in line["message"]]
