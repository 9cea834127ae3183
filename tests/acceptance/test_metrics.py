"""`/metrics` of real processes: whichever of several web processes is asked, it says what all of them did."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import httpx
import pytest

from agentkit.core.metrics import HTTP_REQUESTS, RUNS_STARTED
from agentkit.runtime.metrics import read_counts
from agentkit.store.redis import RedisStore
from tests.acceptance.stack import ROOT, THREADS, UVICORN, WebProcess, WorkerProcess, environment
from tests.metrics import Samples, samples, total, value
from tests.waiting import wait_until

APPLICATION = """
from agentkit import Agent, AgentKit, ScriptedModel, tool

@tool
def look() -> str:
    "Look."
    return "seen"

CALL = {"type": "toolCall", "name": "look", "arguments": {}}
kit = AgentKit([Agent("looker", model=ScriptedModel([[CALL, CALL], "Done."]), tools=[look])])
"""
RUNS = 12
UNKNOWN = 8
EACH_RUN = {
    "agentkit_runs_started_total": 1,
    "agentkit_runs_ended_total": 1,
    "agentkit_steps_total": 4,
    "agentkit_step_seconds_count": 4,
    "agentkit_step_wait_seconds_count": 4,
}
COUNTERS = ("_total", "_bucket", "_count", "_sum")


class Site:
    """A gunicorn of four web processes, and two workers: one of threads, and one whose pool is forked."""

    def __init__(self, folder: Path, redis_url: str) -> None:
        (folder / "looker_app.py").write_text(APPLICATION)
        self.env = environment(
            AGENTKIT_REDIS_URL=redis_url,
            AGENTKIT_APP="looker_app:kit",
            AGENTKIT_LEASE_SECONDS="2",
            HOME=str(folder),
            PYTHONPATH=f"{folder}:{ROOT}",
        )
        self.folder = folder
        self.web = WebProcess("web", self.env, folder, (*THREADS, "--workers", "4"))
        self.threads = WorkerProcess("threads", self.env, folder, ("-P", "threads", "-c", "4"))
        self.prefork = WorkerProcess("prefork", self.env, folder, ("-P", "prefork", "-c", "2"))

    def scrape(self, _: int = 0) -> str:
        """Ask on a connection of its own, as any of the processes may answer."""
        return httpx.get(f"http://127.0.0.1:{self.web.port}/metrics", timeout=20).text

    def play(self, count: int) -> None:
        """Start so many runs at once, so that several of the web processes do, and wait until all have ended."""
        with ThreadPoolExecutor(4) as pool:
            ids = list(pool.map(lambda _: self.web.begin("looker", "go"), range(count)))
        for run_id in ids:
            wait_until(lambda run_id=run_id: self.web.get(run_id)["status"] == "completed", timeout=30, what="the run")

    def check_counts(self, runs: int) -> None:
        """All that was done for so many runs is counted.

        Each process reports once in a second; what one had not reported as it ended would never be counted.
        """
        with suppress(AssertionError):  # the next line says which
            wait_until(lambda: self._counts() == _counts_of(runs), what="all that was done to be counted")
        assert self._counts() == _counts_of(runs)

    def _counts(self) -> dict[str, float]:
        text, requests = self.scrape(), "agentkit_http_requests_total"
        posted, unknown = total(text, requests, method="POST", status="202"), total(text, requests, status="404")
        return {name: total(text, name) for name in EACH_RUN} | {"posted": posted, "unknown": unknown}

    def check_never_down(self) -> None:
        """Ten scrapes at once and after one another; no counter falls from one that was answered to one asked later."""
        seen: Samples = {}
        for _ in range(5):
            with ThreadPoolExecutor(2) as pool:
                answers = [samples(text) for text in pool.map(self.scrape, range(2))]
            for found in answers:
                fallen = {k: (v, found.get(k)) for k, v in seen.items() if found.get(k, 0) < v}
                assert not fallen
            for found in answers:
                for key, amount in found.items():
                    if key[0].endswith(COUNTERS):
                        seen[key] = max(amount, seen.get(key, 0))


def _counts_of(runs: int) -> dict[str, float]:
    return {name: runs * each for name, each in EACH_RUN.items()} | {"posted": runs, "unknown": UNKNOWN}


@pytest.fixture
def site(tmp_path: Path, redis_url: str) -> Iterator[Site]:
    site = Site(tmp_path, redis_url)
    processes = (site.web, site.threads, site.prefork)
    try:
        for process in processes:
            process.launch()
        for process in processes:
            process.wait_until_ready()
        yield site
    finally:
        for process in processes:
            process.kill()


def test_scrapes_over_four_web_processes_add_up_and_never_fall_though_workers_are_killed(site: Site) -> None:
    site.play(RUNS)
    for _ in range(UNKNOWN):
        assert httpx.get(f"http://127.0.0.1:{site.web.port}/runs/none", timeout=20).status_code == 404
    site.check_counts(RUNS)
    site.check_never_down()
    text = site.scrape()
    assert value(text, "agentkit_steps_total", kind="tool", agent="looker", outcome="done") == 2 * RUNS
    runs = site.web.http.get("/runs").json()["runs"]
    assert total(text, "agentkit_tokens_total", model="scripted:script") == sum(r["usage"]["totalTokens"] for r in runs)
    wait_until(lambda: value(site.scrape(), "agentkit_runs_due") == 0, what="no run to be due")
    wait_until(lambda: value(site.scrape(), "agentkit_queue_messages", queue="agentkit") == 0, what="an empty queue")
    wait_until(lambda: value(site.scrape(), "agentkit_worker_slots") == 6, what="what each worker can execute")
    assert value(site.scrape(), "agentkit_workers") == 2

    site.threads.kill()
    took = site.prefork.stop()
    assert took < 15
    site.check_counts(RUNS)
    site.prefork.start()
    site.play(RUNS)
    site.prefork.stop()
    site.check_counts(2 * RUNS)


@pytest.mark.parametrize("options", [THREADS, UVICORN], ids=["gunicorn", "uvicorn"])
def test_a_web_process_that_is_stopped_reports_its_last_second(
    tmp_path: Path, redis_url: str, options: tuple[str, ...]
) -> None:
    site = Site(tmp_path, redis_url)
    web, store = WebProcess("web", site.env, tmp_path, options), RedisStore(redis_url)
    try:
        web.start()
        web.begin("looker", "go")
        web.stop()
        counts = read_counts(store.totals().counts)
        assert counts[RUNS_STARTED] == {("looker",): 1}
        assert counts[HTTP_REQUESTS]["POST", "202"] == 1
    finally:
        web.kill()
        store.close()
