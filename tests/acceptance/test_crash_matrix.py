"""The crash matrix: a process dies by SIGKILL at every boundary and each run still ends right.

Two workers are armed alike: the one that comes to the point first dies, the other takes over while the dead one is
started again. Nothing but agentkit's own recovery helps a run on.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from typing import Any

import httpx
import pytest

from agentkit.core.ids import new_id
from agentkit.store.connection import connect
from tests.acceptance.conftest import make_broker
from tests.acceptance.model import script
from tests.acceptance.stack import Stack, events_of
from tests.brokers import Broker
from tests.redis_contract import ttls_of
from tests.servers import ClusterServers
from tests.turns import call
from tests.waiting import wait_until

pytestmark = pytest.mark.brokers("redis", "rabbitmq")

LEASE_SECONDS = "0.5"
MAX_ATTEMPTS = 3
ANSWER = "All of it is done: looked up, paid for and approved, as you can read in these many words."

# Steps: 1 model, 2 look_up, 3 model, 4 pay (once), 5 model and pause, 6 approve, 7 model. Commits: the same.
WORK = script(
    [{"type": "text", "text": "First I look the order up."}, call("look_up", order_id="A-1")],
    [call("pay", cents=5)],
    [call("approve")],
    ANSWER,
    delay=0.02,
)
RESULTS = ["A-1 was delivered", "paid 5", "approved: True"]
SUB_AGENT = script(
    [call("support", input=script([call("refund", order_id="A-1", cents=250)], "The money is back."))], "I had it done."
)
SIDE_BY_SIDE = script([call("meet"), call("meet")], "They have met.")


def around(name: str, *passes: int) -> list[str]:
    return [f"{when} {name} {number}" for number in passes for when in ("before", "after")]


# Where nothing happens between two points, as after one write and before the next, one of them stands for both.
WORKER_POINTS = [
    "before step 1",
    "after claim 1",
    "before append 1",
    "after append 4",
    *around("tool", 1, 2),
    *around("commit", 1, 5),
    "before commit 4",
    "before commit 7",
    "before schedule 1",
    "after renew 1",
    "after step 1",
]
RECOVERY_POINTS = ["after due 1", "after enqueue 1", "after reschedule 1"]
# Calls that are side by side have an act of their own; that of the last begins the next turn.
SIDE_BY_SIDE_POINTS = around("commit_call", 1, 2)
CHILD_RUN_POINTS = [*around("create", 1), *around("notify parent", 1), "before notify parent 2"]
HAND_BACK_POINTS = ["before release 1", *around("enqueue", 1)]
START_POINTS = ["before remember 1", "after remember 1", "after schedule 1", "after index 1", "after create 1"]
FORK_POINTS = ["after messages_from 1", "after remember 1", *around("create", 1)]
ANSWER_POINTS = ["before schedule 1", *around("commit", 1)]
# Commits: the run's end, its child's. Deletions: the child, the run.
DELETE_POINTS = [*around("commit", 1, 2), "after forbid 1", *around("delete", 1, 2)]

PERMANENT = ("agentkit:runs:", "agentkit:{due:", "agentkit:{audit}", "agentkit:{inbox}", "agentkit:{metrics}")
PERMANENT_KEYS = {"agentkit:due", "agentkit:listed", "agentkit:runs"}


class CrashStack(Stack):
    """A stack whose workers, or web processes, die where a failpoint says so."""

    def __init__(
        self,
        folder: Any,
        broker: Broker | None,
        pool: tuple[str, ...] = ("-P", "threads", "-c", "8"),
        steps_per_message: int = 1,
        store: ClusterServers | None = None,
    ) -> None:
        self.worker_fault = folder / "worker.fault"
        self.web_fault = folder / "web.fault"
        settings = {
            "AGENTKIT_FAILPOINT": str(self.worker_fault),
            "AGENTKIT_LEASE_SECONDS": LEASE_SECONDS,
            "AGENTKIT_MAX_ATTEMPTS": str(MAX_ATTEMPTS),
            "AGENTKIT_STOP_GRACE_SECONDS": "0",
            "AGENTKIT_STEPS_PER_MESSAGE": str(steps_per_message),
        }
        super().__init__(folder, settings, {"AGENTKIT_FAILPOINT": str(self.web_fault)}, broker, pool, store)

    def revive(self) -> None:
        """Start workers that died. The wait for them is another's: the one that lives goes on."""
        for worker in self.workers:
            if worker.process is not None and worker.process.poll() is not None:
                worker.kill()
            if worker.process is None:
                worker.launch()

    def recover(self) -> None:
        """Be as at the start: all workers run, and nothing dies."""
        self.revive()
        self.worker_fault.write_text("")
        self.web_fault.write_text("")

    def ask(self, path: str, body: Any, key: str = "") -> dict[str, Any]:
        """POST to one web process, and where that dies, the same to the other: what any client does."""
        headers = {"Idempotency-Key": key} if key else {}
        try:
            response = self.web_a.http.post(path, json=body, headers=headers)
        except httpx.TransportError:
            response = self.web_b.http.post(path, json=body, headers=headers)
        assert response.status_code == 202, response.text
        run: dict[str, Any] = response.json()
        return run

    def begin(self, agent: str, message: str) -> str:
        return str(self.ask("/runs", {"agent": agent, "input": message}, key=new_id())["id"])

    def finish(self, run_id: str) -> dict[str, Any]:
        """The ended run; decisions are given, doubts are settled by the ledger, dead workers are started again."""

        def ended() -> dict[str, Any] | None:
            self.revive()
            run = self.web_b.get(run_id)
            for item in run["pending"] if run["status"] == "paused" else ():
                self.ask(
                    f"/runs/{run_id}/resume",
                    {"decision": self.decision(run_id, item), "decisionId": item["decisionId"]},
                )
            return run if "endedAt" in run else None

        return wait_until(ended, timeout=20, what="the run to end", every=0.03) or {}

    def decision(self, run_id: str, item: dict[str, Any]) -> dict[str, Any]:
        if item["kind"] == "decision":
            return {"approved": True}
        assert (item["kind"], item["toolName"]) == ("in_doubt", "pay")
        happened = self.ledger.entries(run=run_id, tool="pay")
        return {"verdict": "done", "result": "paid 5"} if happened else {"verdict": "retry"}

    def check(self, run_id: str, status: str = "completed") -> list[dict[str, Any]]:
        """What must hold for every run that ended, whoever died on its way."""
        events = self.checked(run_id, status)
        resolved = [event["decisionId"] for event in events if event["type"] == "tool_decision_resolved"]
        assert len(resolved) == len(set(resolved)), "a decision is consumed once"
        paid = self.ledger.entries(run=run_id, tool="pay")
        assert len(paid) <= 1, "a once tool is not repeated"
        with suppress(AssertionError):  # the next line says which keys
            wait_until(lambda: not self.kept(run_id), what="recovery to make up for what the dead have left")
        assert self.kept(run_id) == set(), "keys without a time to live"
        return events

    def kept(self, run_id: str) -> set[str]:
        """The keys without a time to live that are of this run, or are not among those that stay."""
        with closing(connect(self.store.url)) as client:
            stay = {key for key, ttl in ttls_of(client, "agentkit:*").items() if ttl is None}
        return {key for key in stay if run_id in key or not key.startswith(PERMANENT)} - PERMANENT_KEYS


@pytest.fixture(scope="session")
def crash_stack(
    broker: str, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[CrashStack]:
    stack = CrashStack(tmp_path_factory.mktemp("crashes"), make_broker(broker, "crashes", request))
    try:
        stack.start(*stack.processes)
        yield stack
    finally:
        stack.close()


@pytest.fixture
def shared_stack(crash_stack: CrashStack) -> CrashStack:
    """Under this name a failed test shows how the logs of the processes end (conftest)."""
    if not crash_stack.broker.running:
        crash_stack.broker.start()
    crash_stack.recover()
    return crash_stack


def do_work(stack: CrashStack, *faults: str, agent: str = "till", message: str = WORK) -> dict[str, Any]:
    """Carry a run through these deaths, one after the other, while somebody watches; the ended run."""
    stack.worker_fault.write_text(faults[0])
    run_id = stack.begin(agent, message)
    threads = ThreadPoolExecutor()
    watching = threads.submit(stack.web_b.sse, run_id)
    threads.shutdown(wait=False)  # where this fails, the watcher ends with the stack
    for fault in faults[1:]:
        wait_until(lambda: not stack.worker_fault.read_text(), what=f"the death before {fault}")
        stack.worker_fault.write_text(fault)
    run = stack.finish(run_id)
    events = stack.check(run_id)
    assert events_of(watching.result(timeout=10)) == events
    wait_until(lambda: not stack.worker_fault.read_text(), what="somebody to come to the point")
    return run


def check_work(stack: CrashStack, run: dict[str, Any]) -> None:
    results = [m["content"][0]["text"] for m in run["messages"] if m["role"] == "toolResult"]
    assert results == RESULTS
    assert run["messages"][-1]["content"] == [{"type": "text", "text": ANSWER}]
    assert len(stack.ledger.entries(run=run["id"], tool="pay")) == 1
    for tool in ("look_up", "approve"):
        keys = {entry["key"] for entry in stack.ledger.entries(run=run["id"], tool=tool)}
        assert len(keys) == 1, "attempts of one call share its key"


def meet(stack: CrashStack, point: str) -> None:
    """Have a worker die with two tool calls side by side."""
    run = do_work(stack, point, agent="desk", message=SIDE_BY_SIDE)
    results = [m["content"][0]["text"] for m in run["messages"] if m["role"] == "toolResult"]
    assert results == ["met", "met"]


@pytest.mark.parametrize("point", WORKER_POINTS)
def test_a_worker_dies_and_another_takes_over(shared_stack: CrashStack, point: str) -> None:
    check_work(shared_stack, do_work(shared_stack, point))


@pytest.mark.parametrize("point", RECOVERY_POINTS)
def test_a_worker_dies_and_then_the_one_that_recovers(shared_stack: CrashStack, point: str) -> None:
    check_work(shared_stack, do_work(shared_stack, "before claim 2", point))


@pytest.mark.parametrize("point", SIDE_BY_SIDE_POINTS)
def test_a_worker_dies_with_two_tool_calls_side_by_side(shared_stack: CrashStack, point: str) -> None:
    meet(shared_stack, point)


@pytest.mark.parametrize("point", CHILD_RUN_POINTS)
def test_a_worker_dies_between_a_run_and_its_sub_agent(shared_stack: CrashStack, point: str) -> None:
    run = do_work(shared_stack, point, agent="boss", message=SUB_AGENT)
    [result] = [message for message in run["messages"] if message["role"] == "toolResult"]
    assert result["content"][0]["text"] == "The money is back."
    child = result["details"]["runId"]
    shared_stack.check(child)
    assert {entry["key"] for entry in shared_stack.ledger.entries(tool="refund", run=child)} == {f"{child}:1:0"}


@pytest.mark.parametrize("point", HAND_BACK_POINTS)
def test_a_worker_dies_while_it_hands_its_step_back(shared_stack: CrashStack, point: str) -> None:
    stack = shared_stack
    for worker in stack.workers:
        worker.wait_until_ready()
    message = script(ANSWER, name=point, delay=0.06)
    run_id = stack.begin("till", message)
    [asked] = wait_until(lambda: stack.ledger.entries(model=point), what="the model call")
    worker_at = wait_until(lambda: stack.worker_at(asked["port"]), what="the worker that asks")
    stack.worker_fault.write_text(point)
    assert worker_at.process is not None
    worker_at.process.terminate()
    run = stack.finish(run_id)
    stack.check(run_id)
    assert run["messages"][-1]["content"] == [{"type": "text", "text": ANSWER}]
    wait_until(lambda: not stack.worker_fault.read_text(), what="somebody to come to the point")


@pytest.mark.parametrize("point", START_POINTS)
def test_a_web_process_dies_while_it_starts_a_run(shared_stack: CrashStack, point: str) -> None:
    stack = shared_stack
    key = new_id()
    body = {"agent": "till", "input": script("Here I am.")}
    stack.web_fault.write_text(point)
    run_id = stack.ask("/runs", body, key)["id"]
    wait_until(lambda: not stack.web_fault.read_text(), what="somebody to come to the point")
    assert stack.ask("/runs", body, key)["id"] == run_id
    stack.finish(run_id)
    stack.check(run_id)


@pytest.mark.parametrize("point", FORK_POINTS)
def test_a_web_process_dies_while_it_starts_a_run_from_another(shared_stack: CrashStack, point: str) -> None:
    stack = shared_stack
    source = stack.begin("till", script([call("look_up", order_id="A-1")], "It is there."))
    stack.finish(source)
    before, key = stack.web_b.get(source), new_id()
    body = {"from": {"runId": source, "turn": 1}}
    stack.web_fault.write_text(point)
    run_id = stack.ask("/runs", body, key)["id"]
    wait_until(lambda: not stack.web_fault.read_text(), what="somebody to come to the point")
    assert stack.ask("/runs", body, key)["id"] == run_id
    run = stack.finish(run_id)
    stack.check(run_id)
    assert run["messages"][:3] == before["messages"][:3]
    assert (len(run["messages"]), run["origin"]) == (4, {"runId": source, "turn": 1})
    assert stack.web_b.get(source) == before


@pytest.mark.parametrize("point", ANSWER_POINTS)
def test_a_web_process_dies_while_it_takes_an_answer(shared_stack: CrashStack, point: str) -> None:
    stack = shared_stack
    run_id = stack.begin("till", script([call("approve")], "Done."))
    wait_until(lambda: stack.web_b.get(run_id)["status"] == "paused", what="the pause")
    stack.web_fault.write_text(point)
    stack.finish(run_id)
    wait_until(lambda: not stack.web_fault.read_text(), what="somebody to come to the point")
    stack.check(run_id)
    assert len(stack.ledger.entries(run=run_id, tool="approve")) == 1


@pytest.mark.parametrize("point", around("notify parent", 1))
def test_a_web_process_dies_while_it_takes_an_answer_for_a_sub_agent(shared_stack: CrashStack, point: str) -> None:
    stack = shared_stack
    run_id = stack.begin("boss", SUB_AGENT)
    wait_until(lambda: stack.web_b.get(run_id)["status"] == "paused", what="the pause")
    stack.web_fault.write_text(point)
    stack.finish(run_id)
    wait_until(lambda: not stack.web_fault.read_text(), what="somebody to come to the point")
    events = stack.check(run_id)
    [child] = [e["partialResult"]["runId"] for e in events if e["type"] == "tool_execution_update"]
    stack.check(child)
    assert len(stack.ledger.entries(run=child, tool="refund")) == 1


@pytest.mark.parametrize("point", around("commit", 1))
def test_a_web_process_dies_while_it_aborts_a_run(shared_stack: CrashStack, point: str) -> None:
    stack = shared_stack
    run_id = stack.begin("till", script([call("approve")], "Never said."))
    wait_until(lambda: stack.web_b.get(run_id)["status"] == "paused", what="the pause")
    stack.web_fault.write_text(point)
    stack.ask(f"/runs/{run_id}/abort", {})
    wait_until(lambda: not stack.web_fault.read_text(), what="somebody to come to the point")
    wait_until(lambda: stack.web_b.get(run_id)["status"] == "aborted", what="the end")
    stack.check(run_id, "aborted")


@pytest.mark.brokers("redis")
@pytest.mark.parametrize("point", DELETE_POINTS)
def test_a_web_process_dies_while_it_deletes_a_run_and_its_sub_agents(shared_stack: CrashStack, point: str) -> None:
    stack = shared_stack
    run_id = stack.begin("boss", SUB_AGENT)
    wait_until(lambda: stack.web_b.get(run_id)["status"] == "paused", what="the pause")
    child = stack.web_b.get(run_id)["pending"][0]["runId"]
    stack.web_fault.write_text(point)
    with pytest.raises(httpx.TransportError):
        stack.web_a.http.delete(f"/runs/{run_id}", params={"force": 1})
    wait_until(lambda: not stack.web_fault.read_text(), what="somebody to come to the point")
    again = stack.web_b.http.delete(f"/runs/{run_id}", params={"force": 1})
    assert again.status_code == (404 if point == "after delete 2" else 204), again.text
    assert [stack.web_b.http.get(f"/runs/{each}").status_code for each in (run_id, child)] == [404, 404]
    with closing(connect(stack.store.url)) as client:
        marks = {key: ttl for each in (run_id, child) for key, ttl in ttls_of(client, f"*{each}*").items()}
    # Who held a step of the run is noted for as long as its lease (`why`), and gone by itself.
    left = {key: ttl for key, ttl in marks.items() if ":h:" not in key}
    assert all(key.endswith(":x") for key in left), marks
    assert all(ttl is not None for ttl in marks.values()), marks


SENT = {"steer": script("In between."), "followUp": script("And after.")}


def pause_with_messages(stack: CrashStack, web_fault: str = "") -> str:
    """Bring a run to a pause in which a follow-up and a steer wait; `web_fault` strikes as the first is sent."""
    run_id = stack.begin("till", script([call("approve")], "Never asked for."))
    wait_until(lambda: stack.web_b.get(run_id)["status"] == "paused", what="the pause")
    stack.web_fault.write_text(web_fault)
    for when in ("followUp", "steer"):
        stack.ask(f"/runs/{run_id}/messages", {"message": SENT[when], "when": when}, key=new_id())
        wait_until(lambda: not stack.web_fault.read_text(), what="somebody to come to the point")
    return run_id


def check_sent(stack: CrashStack, run: dict[str, Any]) -> None:
    assert [m["content"] for m in run["messages"] if m["role"] == "user"][1:] == [SENT["steer"], SENT["followUp"]]
    assert run["messages"][-1]["content"] == [{"type": "text", "text": "And after."}]
    events = stack.check(run["id"])
    assert (run["queued"], "unsent" in events[-1]) == ([], False)


@pytest.mark.parametrize("point", around("commit", 1))
def test_a_web_process_dies_while_it_takes_a_message(shared_stack: CrashStack, point: str) -> None:
    stack = shared_stack
    run_id = pause_with_messages(stack, point)
    assert [each["message"] for each in stack.web_b.get(run_id)["queued"]] == [SENT["followUp"], SENT["steer"]]
    check_sent(stack, stack.finish(run_id))


@pytest.mark.parametrize("point", around("commit", 1, 2))
def test_a_worker_dies_while_a_turn_takes_what_was_sent(shared_stack: CrashStack, point: str) -> None:
    stack = shared_stack
    run_id = pause_with_messages(stack)
    stack.worker_fault.write_text(point)
    run = stack.finish(run_id)
    wait_until(lambda: not stack.worker_fault.read_text(), what="somebody to come to the point")
    check_sent(stack, run)


@pytest.mark.parametrize("point", around("commit", 1))
def test_a_web_process_dies_while_it_ends_a_run_in_which_messages_wait(shared_stack: CrashStack, point: str) -> None:
    stack = shared_stack
    run_id = pause_with_messages(stack)
    stack.web_fault.write_text(point)
    stack.ask(f"/runs/{run_id}/abort", {})
    wait_until(lambda: not stack.web_fault.read_text(), what="somebody to come to the point")
    wait_until(lambda: stack.web_b.get(run_id)["status"] == "aborted", what="the end")
    end = stack.check(run_id, "aborted")[-1]
    assert [each["message"] for each in end["unsent"]] == [SENT["followUp"], SENT["steer"]]


def test_a_web_process_dies_between_the_abort_of_a_run_and_of_its_sub_agents(shared_stack: CrashStack) -> None:
    stack = shared_stack
    run_id = stack.begin("boss", SUB_AGENT)
    [item] = wait_until(lambda: stack.web_b.get(run_id)["pending"], what="the pause")
    child = item["runId"]
    with closing(connect(stack.store.url)) as client:
        wait_until(lambda: client.zscore("agentkit:due", child) is None, what="recovery to let go of who waits")
    stack.web_fault.write_text("after commit 1")
    stack.ask(f"/runs/{run_id}/abort", {})
    wait_until(lambda: not stack.web_fault.read_text(), what="somebody to come to the point")
    wait_until(lambda: stack.web_b.get(child)["status"] == "aborted", what="the end of the sub-agent's run")
    stack.check(run_id, "aborted")
    stack.check(child, "aborted")


@pytest.mark.parametrize("agent", ["till", "haunted"])
def test_a_step_that_kills_each_worker_ends_its_run(shared_stack: CrashStack, agent: str) -> None:
    stack = shared_stack
    run_id = stack.begin(agent, script([call("fatal")], "Never said."))
    run = stack.finish(run_id)
    assert (run["status"], run["error"]["code"]) == ("failed", "step_failed")
    stack.check(run_id, "failed")
    deaths = stack.ledger.entries(tool="fatal", run=run_id) + stack.ledger.entries(context=run_id)
    assert len(deaths) == MAX_ATTEMPTS
    assert len({death["pid"] for death in deaths}) == MAX_ATTEMPTS
    after = stack.begin("till", script("We live."))
    stack.finish(after)
    stack.check(after)
