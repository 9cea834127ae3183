"""Queues and who serves them: readiness, two installations on one Redis, and workers that would listen elsewhere."""

from __future__ import annotations

import itertools
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from tests.acceptance.model import script
from tests.acceptance.stack import ROOT, Process, Stack, WebProcess, WorkerProcess, environment
from tests.turns import call
from tests.waiting import wait_until

READY_SECONDS = 4
THREADS = ("-P", "threads", "-c", "2")
PREFORK = ("-P", "prefork", "-c", "2")
_numbers = itertools.count()  # what was noted of a queue outlives its test by seconds
WORK = script([call("look_up", order_id="A-1")], [call("look_up", order_id="A-2")], "There.")


class Installation:
    """A worker and a web process of one key prefix, on the store of the stack."""

    def __init__(self, stack: Stack, folder: Path, prefix: str) -> None:
        self.prefix = prefix
        self.name = prefix.removesuffix(":")
        self.env = {**stack.env, "AGENTKIT_KEY_PREFIX": prefix, "AGENTKIT_READY_SECONDS": str(READY_SECONDS)}
        self.web = WebProcess(f"web-{self.name}", self.env, folder)
        self._folder = folder
        self._workers: list[WorkerProcess] = []

    def worker(self, pool: tuple[str, ...] = THREADS) -> WorkerProcess:
        worker = WorkerProcess(f"worker-{self.name}-{len(self._workers)}", self.env, self._folder, pool)
        self._workers.append(worker)
        worker.start()
        return worker

    def ready(self) -> tuple[int, bool]:
        """The status of /readyz, and whether the queue is served."""
        response = self.web.http.get("/readyz")
        assert response.headers["content-type"] == "application/json"
        answer = response.json()
        assert set(answer) == {"status", "checks", "queues", "warnings"}
        assert list(answer["queues"]) == [self.name]
        return response.status_code, answer["queues"][self.name]

    def wait_until_ready(self) -> None:
        wait_until(lambda: self.ready() == (200, True), timeout=15, what="readiness to be green")

    def wait_until_not_ready(self) -> None:
        # What was executed last counts for so long; the rest is what a busy machine adds.
        wait_until(lambda: self.ready() == (503, False), timeout=READY_SECONDS + 10, what="readiness to be red")

    def complete(self, message: str = WORK) -> float:
        """Carry out a run; how many seconds it took."""
        began = time.monotonic()
        run_id = self.web.begin("support", message)
        wait_until(lambda: self.web.get(run_id)["status"] == "completed", timeout=20, what="the run", every=0.02)
        return time.monotonic() - began

    def control(self, *words: str, replies: bool = True) -> None:
        command = [sys.executable, "-m", "celery", "-A", "agentkit.tasks", "control", *words]
        subprocess.run(command, cwd=ROOT, env=self.env, check=replies, capture_output=True, timeout=30)

    def kill(self) -> None:
        for process in (self.web, *self._workers):
            process.kill()


@pytest.fixture
def one(stack: Stack, tmp_path: Path) -> Iterator[Installation]:
    installation = Installation(stack, tmp_path, f"one-{next(_numbers)}:")
    installation.web.start()
    yield installation
    installation.kill()


@pytest.fixture
def two(stack: Stack, tmp_path: Path) -> Iterator[Installation]:
    installation = Installation(stack, tmp_path, f"two-{next(_numbers)}:")
    installation.web.start()
    yield installation
    installation.kill()


@pytest.mark.parametrize("pool", [THREADS, PREFORK], ids=["threads", "prefork"])
def test_a_worker_that_was_told_to_consume_nothing_turns_readiness_red_and_back(
    one: Installation, pool: tuple[str, ...]
) -> None:
    assert one.ready() == (503, False)
    one.worker(pool)
    one.wait_until_ready()
    one.control("cancel_consumer", one.name)
    one.wait_until_not_ready()
    one.control("add_consumer", one.name)
    one.wait_until_ready()


def test_a_worker_that_serves_another_queue_is_not_ready(one: Installation) -> None:
    one.worker((*THREADS, "-Q", "other"))
    time_is_up = time.monotonic() + READY_SECONDS
    wait_until(lambda: time.monotonic() > time_is_up, what="more than one probe")
    assert one.ready() == (503, False)
    one.worker()
    one.wait_until_ready()


def test_a_worker_whose_pool_is_stuck_is_not_ready_and_one_more_makes_it_so(one: Installation) -> None:
    one.worker(THREADS)
    one.wait_until_ready()
    for number in range(8):  # the slots, and what the worker takes beforehand
        one.web.begin("support", script("Never said.", name=f"stuck {number}", silent=True))
    one.wait_until_not_ready()
    one.worker((*THREADS[:-1], "16"))
    one.wait_until_ready()


def test_a_worker_that_died_is_noticed_and_one_that_waits_with_nothing_to_do_stays_ready(one: Installation) -> None:
    worker = one.worker()
    one.wait_until_ready()
    quiet_until = time.monotonic() + 2 * READY_SECONDS

    def still_ready() -> bool:
        assert one.ready() == (200, True)
        return time.monotonic() > quiet_until

    wait_until(still_ready, what="two times as long as a probe counts")
    worker.kill()
    one.wait_until_not_ready()


def test_two_prefixes_on_one_redis_do_not_disturb_each_other(one: Installation, two: Installation) -> None:
    one.worker()
    one.wait_until_ready()
    two_id = two.web.begin("support", WORK)
    assert two.ready() == (503, False)
    alone = min(one.complete() for _ in range(3))
    two.worker(PREFORK)
    wait_until(lambda: two.web.get(two_id)["status"] == "completed", timeout=15, what="the other run")
    together = [installation.complete() for _ in range(5) for installation in (one, two)]
    assert sorted(together)[5] < alone + 1, "no step waits for a lease time, which is two seconds"
    one.control("shutdown", replies=False)
    wait_until(lambda: one._workers[0].process.poll() is not None, what="the one worker to stop")  # type: ignore[union-attr]
    assert two.complete() < 10
    one.wait_until_not_ready()
    assert two.ready() == (200, True)


def test_two_installations_that_share_a_queue_give_each_others_steps_back(
    stack: Stack, one: Installation, two: Installation
) -> None:
    for installation in (one, two):
        installation.env["AGENTKIT_QUEUE"] = installation.web._env["AGENTKIT_QUEUE"] = "shared"
        installation.web.kill()
        installation.web.start()
        installation.worker()
    for _ in range(3):
        for installation in (one, two):
            installation.complete()
    assert "another installation sends to the same queue" in one._workers[0].log() + two._workers[0].log()


def test_a_worker_that_would_listen_elsewhere_says_so_without_passwords_and_does_not_start() -> None:
    env = environment(
        AGENTKIT_APP="tests.acceptance.app:kit",
        AGENTKIT_REDIS_URL="redis://:hunter2@127.0.0.1:1/3",
        CELERY_BROKER_URL="redis://:hunter2@127.0.0.1:2/3",
        ACCEPTANCE_LEDGER="unused",
        PYTHONWARNINGS="ignore",
    )
    words = [sys.executable, "-m", "celery", "-A", "agentkit.tasks", "worker"]
    done = subprocess.run(words, cwd=ROOT, env=env, capture_output=True, text=True, timeout=30)
    assert done.returncode == 1
    [line] = done.stderr.strip().splitlines()
    assert line.startswith("agentkit: this worker would listen on redis://:**@127.0.0.1:2/3, ")
    assert "redis://:**@127.0.0.1:1/3" in line
    assert "hunter2" not in done.stderr + done.stdout


APPLICATION = """
from agentkit import Agent, AgentKit, ScriptedModel, Settings, tool

def squares():
    return [n * n for n in range(4)]

@tool
def fork() -> str:
    "Use processes, as numeric code does."
    import multiprocessing, time
    context = multiprocessing.get_context("fork")
    sleeper = context.Process(target=time.sleep, args=(30,))
    sleeper.start()
    time.sleep(0.3)
    sleeper.terminate()
    sleeper.join(5)
    for _ in range(10):  # one of the two is often ended before it has begun
        pool = context.Pool(2)
        result = pool.apply(squares)
        pool.terminate()
        pool.join()
    return f"{sleeper.exitcode} {result}"

settings = Settings(redis_url="URL", key_prefix="code:")
calls = [[{"type": "toolCall", "name": "fork", "arguments": {}}], "Done."]
kit = AgentKit([Agent("a", ScriptedModel(calls), tools=[fork])], settings=settings)
"""


class Application(Process):
    """A worker of an application whose settings stand in its code."""

    def __init__(self, folder: Path, url: str) -> None:
        (folder / "settings_in_code.py").write_text(APPLICATION.replace("URL", url))
        env = environment(AGENTKIT_APP="settings_in_code:kit", PYTHONPATH=f"{ROOT}:{folder}")
        words = ["celery", "-A", "agentkit.tasks", "worker", "-l", "info", "--without-gossip", "--without-mingle"]
        super().__init__("worker-code", words, env, folder, cwd=folder)

    def is_ready(self) -> bool:
        return " ready.\n" in self.log()


def test_settings_in_code_are_the_workers_and_what_its_tools_fork_does_not_stop_it(
    stack: Stack, tmp_path: Path
) -> None:
    worker = Application(tmp_path, stack.store.url)
    client = [sys.executable, "-c", "import sys, settings_in_code as a; print(a.kit.start('a', 'x').wait(20).messages)"]
    env = environment(PYTHONPATH=f"{ROOT}:{tmp_path}")
    try:
        worker.start()
        assert "concurrency: 32 (thread)" in worker.log(), "no pool was typed"
        for _ in range(2):
            done = subprocess.run(client, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=40)
            assert "-15 [0, 1, 4, 9]" in done.stdout, done.stderr
        assert worker.process is not None
        assert worker.process.poll() is None
        assert "shutdown" not in worker.log()
        with redis.Redis.from_url(stack.store.url) as client_of_store:
            assert client_of_store.exists("code:runs")
    finally:
        worker.kill()
