"""Conditions, remembered answers and votes over real processes, two principals and more, and deaths in between."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from tests.acceptance.model import script
from tests.acceptance.stack import Stack, WebProcess
from tests.turns import call
from tests.waiting import wait_until

YES = {"approved": True}
PEOPLE = ["ann", "bob", "carl", "dora", "emil", "fred"]
REFUND = script([call("refund", "refund", cents=500)], "Done.")
TRANSFER = script([call("transfer", "transfer", cents=500)], "Done.")


class Bank(Stack):
    """The stack of tests.acceptance.bank, whose workers and web processes die where a failpoint says so."""

    def __init__(self, folder: Any) -> None:
        self.worker_fault = folder / "worker.fault"
        self.web_fault = folder / "web.fault"
        settings = {
            "AGENTKIT_APP": "tests.acceptance.bank:kit",
            "AGENTKIT_FAILPOINT": str(self.worker_fault),
            "AGENTKIT_LEASE_SECONDS": "0.5",
        }
        super().__init__(folder, settings, {"AGENTKIT_FAILPOINT": str(self.web_fault)})

    def revive(self) -> None:
        """Start again what died."""
        for process in self.processes:
            if process.process is not None and process.process.poll() is not None:
                process.kill()
        self.repair()

    def outlive(self, run_id: str, *statuses: str) -> dict[str, Any]:
        """The run once it has one of these statuses; what dies meanwhile is started again."""

        def there() -> dict[str, Any] | None:
            self.revive()
            run = self.web_b.get(run_id)
            return run if run["status"] in statuses else None

        return wait_until(there, timeout=20, what=f"the run to be {' or '.join(statuses)}", every=0.05) or {}

    def results(self, run_id: str) -> list[str]:
        messages = self.web_b.get(run_id)["messages"]
        return [message["content"][0]["text"] for message in messages if message["role"] == "toolResult"]


@pytest.fixture(scope="module")
def bank(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bank]:
    bank = Bank(tmp_path_factory.mktemp("bank"))
    try:
        bank.start(*bank.processes)
        yield bank
    finally:
        bank.close()


@pytest.fixture
def stack(bank: Bank) -> Bank:
    bank.worker_fault.write_text("")
    bank.web_fault.write_text("")
    bank.revive()
    return bank


def answer(web: WebProcess, run_id: str, who: str, body: Any = None, key: str = "") -> httpx.Response:
    headers = {"Authorization": f"Bearer {who}", **({"Idempotency-Key": key} if key else {})}
    return web.http.post(f"/runs/{run_id}/resume", json=body or {"decision": YES}, headers=headers)


@pytest.mark.parametrize(
    ("point", "asked"),
    [
        ("before decision_when 1", [True]),
        ("after decision_when 1", [True, False]),
        ("before commit 1", [True, False]),
        ("after commit 1", [True]),
        ("before decision_when 2", [True]),
    ],
)
def test_a_worker_dies_in_the_step_that_asks_and_what_was_committed_counts(
    stack: Bank, point: str, asked: list[bool]
) -> None:
    """The condition says something else each time: a call whose answer is committed is not asked about again."""
    message = script(*([call("refund", name, cents=5)] for name in ("one", "two")), "Done.")
    stack.worker_fault.write_text(point)
    run_id = stack.web_a.begin("bank", message)
    while (run := stack.outlive(run_id, "paused", "completed"))["status"] == "paused":
        [item] = run["pending"]
        assert item["reason"] == "decision_when says that this call needs the decision"
        verdicts = [entry["verdict"] for entry in stack.ledger.entries(condition=run_id, call=item["toolCallId"])]
        assert verdicts[-1] is True, "the last verdict is the one of the answer that was committed"
        assert (
            answer(stack.web_b, run_id, "ann", {"decision": YES, "decisionId": item["decisionId"]}).status_code == 202
        )
        assert item not in stack.web_b.get(run_id)["pending"]
    wait_until(lambda: not stack.worker_fault.read_text(), what="somebody to come to the point")
    events = stack.checked(run_id)
    assert [entry["verdict"] for entry in stack.ledger.entries(condition=run_id, call="one")] == asked
    pending = [event["toolCallId"] for event in events if event["type"] == "tool_decision_pending"]
    expected = []
    for name in ("one", "two"):
        verdicts = [entry["verdict"] for entry in stack.ledger.entries(condition=run_id, call=name)]
        assert (name in pending) is verdicts[-1]
        expected.append(f"refunded 5: {'ann' if verdicts[-1] else 'nobody was asked'}")
    assert stack.results(run_id) == expected


@pytest.mark.parametrize("point", ["before commit 3", "after commit 3", "before commit 5", "after claim 4"])
def test_a_remembered_answer_outlives_the_worker_that_applies_it(stack: Bank, point: str) -> None:
    message = script(*([call("credit", name, cents=5)] for name in ("one", "two", "three")), "Done.")
    stack.worker_fault.write_text(point)
    run_id = stack.web_a.begin("bank", message)
    stack.outlive(run_id, "paused")
    assert answer(stack.web_a, run_id, "ann", {"decision": YES, "remember": True}).status_code == 202
    stack.outlive(run_id, "completed")
    wait_until(lambda: not stack.worker_fault.read_text(), what="somebody to come to the point")
    events = stack.checked(run_id)
    resolved = [event for event in events if event["type"] == "tool_decision_resolved"]
    assert [(event["toolCallId"], event.get("remembered")) for event in resolved] == [
        ("one", None),
        ("two", True),
        ("three", True),
    ]
    assert stack.results(run_id) == ["credited 5: ann"] * 3


def test_two_and_more_principals_vote_over_two_web_processes_at_once(stack: Bank) -> None:
    for _ in range(5):
        run_id = stack.web_a.begin("bank", TRANSFER)
        [item] = stack.wait_for(run_id, "paused")["pending"]
        body = {"decision": YES, "decisionId": item["decisionId"]}
        with ThreadPoolExecutor(12) as pool:
            votes = [
                pool.submit(answer, web, run_id, who, body) for who in PEOPLE for web in (stack.web_a, stack.web_b)
            ]
        assert Counter(vote.result().status_code for vote in votes) == {202: 12}
        stack.wait_for(run_id, "completed")
        events = stack.checked(run_id)
        counted = [event["decidedBy"] for event in events if event["type"] == "tool_decision_vote"]
        [resolved] = [event for event in events if event["type"] == "tool_decision_resolved"]
        voters = [vote["decidedBy"] for vote in resolved["votes"]]
        assert (voters[:2], voters[2], len(set(voters))) == (counted, resolved["decidedBy"], 3)
        assert stack.results(run_id) == [f"transferred 500: {' '.join(sorted(voters))}"]
        assert len(stack.ledger.entries(tool="transfer", run=run_id)) == 1


def test_of_different_decisions_one_side_has_its_way_and_the_other_is_told(stack: Bank) -> None:
    run_id = stack.web_a.begin("bank", TRANSFER)
    stack.wait_for(run_id, "paused")
    assert answer(stack.web_a, run_id, "ann").status_code == 202
    conflict = answer(stack.web_b, run_id, "bob", {"decision": {"approved": False}})
    assert (conflict.status_code, conflict.json()["code"]) == (409, "decision_conflict")
    for who in ("olga", "eve"):
        refused = answer(stack.web_b, run_id, who)
        assert (refused.status_code, refused.json()["code"]) == (403, "forbidden")
    [item] = stack.web_b.get(run_id)["pending"]
    assert ([vote["decidedBy"] for vote in item["votes"]], item["proposal"]) == (["ann"], {"decision": YES})
    assert answer(stack.web_b, run_id, "bob", {"reject": {"reason": "too much"}}).status_code == 202
    stack.wait_for(run_id, "completed")
    stack.checked(run_id)
    assert stack.results(run_id) == ["rejected: too much"]
    assert not stack.ledger.entries(tool="transfer", run=run_id)


@pytest.mark.parametrize("point", ["before commit 1", "after commit 1"])
@pytest.mark.parametrize("before", [0, 2])
def test_a_web_process_dies_while_it_takes_a_vote(stack: Bank, point: str, before: int) -> None:
    """The vote is sent again to another: it counts once, whether it was the last one or not."""
    run_id = stack.web_a.begin("bank", TRANSFER)
    stack.wait_for(run_id, "paused")
    for who in PEOPLE[:before]:
        assert answer(stack.web_b, run_id, who).status_code == 202
    stack.web_fault.write_text(point)
    with pytest.raises(httpx.TransportError):
        answer(stack.web_a, run_id, "fred", key="k")
    wait_until(lambda: not stack.web_fault.read_text(), what="somebody to come to the point")
    assert answer(stack.web_b, run_id, "fred", key="k").status_code == 202
    for who in PEOPLE[before:2]:
        assert answer(stack.web_b, run_id, who).status_code == 202
    stack.outlive(run_id, "completed")
    stack.checked(run_id)
    assert stack.results(run_id) == ["transferred 500: ann bob fred"]
    assert len(stack.ledger.entries(tool="transfer", run=run_id)) == 1
