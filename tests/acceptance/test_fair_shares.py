"""What all workers together may ask, and who comes next, with real workers that are killed."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from agentkit import AgentKit, Settings
from agentkit.testing.wire_server import Reply
from tests.acceptance import shares
from tests.acceptance.conftest import make_broker
from tests.acceptance.stack import WorkerProcess, environment
from tests.openai_server import OpenAIServer, Turn
from tests.servers import ValkeyServer
from tests.waiting import wait_until

RUNS = 500
LEASE_SECONDS = 1.5


class Vendor:
    """A model that notes how many calls go on at a time, and refuses the first ones as often as it is told to."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._going = 0
        self.most = 0
        self.calls: list[float] = []
        self.refuse = 0

    def answer(self, body: Any) -> Turn | Reply:
        with self._lock:
            self._going += 1
            self.most = max(self.most, self._going)
            refused, self.refuse = self.refuse > 0, max(0, self.refuse - 1)
            self.calls.append(clock())
        threading.Event().wait(0.002)
        with self._lock:
            self._going -= 1
        if refused:
            error = [b'{"error":{"message":"busy"}}']
            return Reply(error, status=429, content_type="application/json", headers={"Retry-After": "3"})
        return "Done."


def clock() -> float:
    return os.times().elapsed


class Site:
    """A vendor, a store and two workers, and a kit in this process that starts runs."""

    def __init__(self, folder: Path, broker_url: str = "", options: tuple[str, ...] = (), **settings: str) -> None:
        self.vendor = Vendor()
        self.server = OpenAIServer(self.vendor.answer)
        self.store = ValkeyServer()
        self.store.start()
        self.env = environment(
            AGENTKIT_APP="tests.acceptance.shares:kit",
            AGENTKIT_REDIS_URL=self.store.url,
            AGENTKIT_LEASE_SECONDS=f"{LEASE_SECONDS:g}",
            OPENAI_BASE_URL=self.server.base_url,
            OPENAI_API_KEY="none",
            **({"AGENTKIT_BROKER_URL": broker_url} if broker_url else {}),
            **settings,
        )
        options = ("--without-gossip", "--without-mingle", *options)
        threads = ("-P", "threads", "-c", "4")
        self.workers = [WorkerProcess(f"worker-{n}", self.env, folder, threads, options) for n in (1, 2)]
        agents = [bound.agent for bound in shares.kit.agents]
        base = Settings.from_env(self.env)
        self.kit = AgentKit(agents, settings=replace(base, broker_url=broker_url or self.store.url))

    def __enter__(self) -> Site:
        self.server.__enter__()
        return self

    def start_workers(self, *numbers: int) -> None:
        for number in numbers or range(2):
            self.workers[number].launch()
        for number in numbers or range(2):
            self.workers[number].wait_until_ready()

    def __exit__(self, *exc: object) -> None:
        for worker in self.workers:
            worker.kill()
        self.kit.close()
        self.server.__exit__()
        self.store.stop()

    def events(self, run_id: str, kind: str) -> list[Any]:
        """The events of a type that are in a run's log by now."""
        log = [json.loads(event.data) for event in self.kit.store.events(run_id, 0, 1000).events]
        return [event for event in log if event["type"] == kind]


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    with Site(tmp_path) as site:
        yield site


@pytest.mark.timeout(240)  # ten seconds, unless the machine is busy with others
def test_a_rate_is_never_exceeded_and_no_run_fails_by_waiting_while_workers_are_killed(site: Site) -> None:
    ids = [site.kit.start("narrow", "go", owner=f"owner-{n % 7}").id for n in range(RUNS)]
    site.start_workers()
    for killed in range(3):
        done = (killed + 1) * RUNS // 5
        wait_until(lambda done=done: len(site.vendor.calls) >= done, timeout=90, what="calls")  # type: ignore[misc]
        site.workers[killed % 2].kill()
        site.start_workers(killed % 2)
    wait_until(
        lambda: not any(run.status != "completed" for run in site.kit.runs()), timeout=90, what="all runs", every=0.2
    )
    assert len(ids) == sum(1 for _ in site.kit.runs())
    assert site.vendor.most == 2
    assert len(site.vendor.calls) <= RUNS + 3 * 2  # two calls died with each worker, at the most


def test_a_429_with_retry_after_keeps_the_other_worker_from_calling_that_model(site: Site) -> None:
    site.vendor.refuse = 1
    site.start_workers()
    first = site.kit.start("retrying", "go")
    wait_until(lambda: site.vendor.calls, what="the first call")
    wait_until(lambda: site.events(first.id, "model_retry"), what="the refusal")
    others = [site.kit.start("free", "go") for _ in range(12)]
    for handle in [first, *others]:
        assert handle.wait(20).status == "completed"
    refused, second = site.vendor.calls[:2]
    assert second - refused >= 2.9
    waits = [wait for handle in others for wait in site.events(handle.id, "model_wait")]
    assert len(waits) > 1, "both workers have learned of it"
    for wait in waits:
        assert "429" in wait["reason"]
        assert 0 < wait["delayMs"] <= 3300
    assert len(site.vendor.calls) == 14


def place_of(site: Site, run_id: str, others: list[str]) -> int:
    """How many steps of other runs had begun before the run's first."""
    began = {each: site.events(each, "turn_start")[0]["timestamp"] for each in [run_id, *others]}
    return sum(began[each] < began[run_id] for each in others)


@pytest.mark.parametrize("steps_per_message", ["1", "32"])
@pytest.mark.brokers("redis", "rabbitmq")
def test_one_run_of_another_owner_does_not_wait_for_sixty(
    broker: str, steps_per_message: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    made = make_broker(broker, "fair", request)
    settings = {"AGENTKIT_STEPS_PER_MESSAGE": steps_per_message}
    with Site(tmp_path, "" if made is None else made.url, **settings) as site:
        many = [site.kit.start("free", "go", owner="ann").id for _ in range(60)]
        one = site.kit.start("free", "go", owner="bob").id
        site.start_workers(0)
        for run_id in (*many, one):
            assert site.kit.handle(run_id).wait(30).status == "completed"
        assert place_of(site, one, many) <= 3


def test_a_worker_takes_the_most_urgent_of_its_queues_first(tmp_path: Path) -> None:
    with Site(tmp_path, "", ("-Q", "agentkit,urgent")) as site:
        many = [site.kit.start("free", "go").id for _ in range(30)]
        urgent = [site.kit.start("urgent", "go").id for _ in range(3)]
        site.start_workers(0)
        for run_id in (*many, *urgent):
            assert site.kit.handle(run_id).wait(30).status == "completed"
        assert all(place_of(site, run_id, many) <= 4 for run_id in urgent)
