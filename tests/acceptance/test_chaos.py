"""Chaos of a fixed seed, short enough for every day; `make chaos` is the long one. And that its checks can fail."""

from __future__ import annotations

from pathlib import Path
from random import Random
from types import SimpleNamespace
from typing import Any, cast

import pytest
import redis

from chaos import checks
from chaos.app import CALLS
from chaos.checks import CHECKS
from chaos.driver import Options, play
from chaos.report import Answer, Played
from chaos.schedule import MESSAGES, draw
from chaos.stage import Stage
from tests.acceptance.ledger import Ledger

SECONDS = 12.5
ONCE = "no once tool was repeated without a verdict"
DECISIONS = "every decision was consumed once"
NOTIFIED = "whoever is to be notified was, of all of it"
KEYS = "no key is left without a time to live"


@pytest.mark.timeout(240)
@pytest.mark.parametrize("steps_per_message", [1, 32])
def test_every_run_ends_right_whatever_is_killed_stopped_lost_and_doubled(
    tmp_path: Path, steps_per_message: int
) -> None:
    lines: list[str] = []
    options = Options(
        "everyday-1",
        SECONDS,
        tmp_path,
        runs=6,
        workers=2,
        separate_broker=True,
        steps_per_message=steps_per_message,
    )
    report = play(options, lines.append)
    assert not report.violations, "\n".join([*report.violations, *lines])
    assert len(report.runs) > 6
    assert report.ended() == len(report.runs)
    done = {what for what in report.counts if what.startswith(("fault ", "message "))}
    processes = {f"fault {kind} {who}" for kind in ("kill", "stop") for who in ("worker", "web", "store", "broker")}
    assert done == processes | {"fault freeze worker"} | {f"message {kind}" for kind in MESSAGES}


@pytest.mark.timeout(240)
def test_nothing_is_lost_on_prefork_pools_of_two_installations_on_one_redis(tmp_path: Path) -> None:
    lines: list[str] = []
    options = Options(
        "everyday-2", 8, tmp_path, runs=6, workers=2, webs=1, pool="-P prefork -c 2", prefixes=2, steps_per_message=32
    )
    report = play(options, lines.append)
    assert not report.violations, "\n".join([*report.violations, *lines])
    assert report.ended() == len(report.runs)
    assert {run.number % 2 for run in report.runs} == {0, 1}


@pytest.mark.timeout(240)
def test_nothing_is_lost_where_masters_of_a_cluster_die_and_slots_move(tmp_path: Path) -> None:
    lines: list[str] = []
    options = Options("everyday-36", 12, tmp_path, runs=6, workers=2, webs=1, separate_broker=True, cluster=True)
    report = play(options, lines.append)
    assert not report.violations, "\n".join([*report.violations, *lines])
    assert report.ended() == len(report.runs)
    assert {"fault kill store", "fault move store"} <= report.counts.keys()


def test_a_seed_is_a_schedule() -> None:
    one, again, other = (draw(Random(seed), 60, 2, 3, 2, 1) for seed in ("s", "s", "t"))
    assert one == again
    assert one != other
    assert [fault.at for fault in one] == sorted(fault.at for fault in one)


class Evidence:
    """What one run leaves behind where nothing went wrong, for tests to spoil."""

    def __init__(self, folder: Path) -> None:
        self.ledger = Ledger(folder / "ledger.jsonl")
        self.run = Played(1, "r", ended=True)
        self.decision = {"approved": True}
        for turn, name in enumerate(CALLS, 1):
            block = {"type": "toolCall", "id": f"call-{turn}", "name": name, "arguments": {}}
            message = {"role": "assistant", "content": [block]}
            self.run.events.append({"type": "message_end", "message": message})
            more = {"decision": self.decision} if name == "refund" else {}
            self.executed(turn, turn * 100, tool=name, **more)
        self.pending("d", "tool_decision_pending")
        self.resolved("d", 6, 590, self.decision)
        self.run.answers.append(Answer("d", self.decision, 202, None))

    def executed(self, turn: int, at: int, **entry: Any) -> None:
        self.ledger.add(key=f"r:{turn}:0", run="r", at=at, **entry)

    def pending(self, decision_id: str, kind: str) -> None:
        self.run.events.append({"type": kind, "decisionId": decision_id})

    def resolved(self, decision_id: str, turn: int, at: int, decision: dict[str, Any]) -> None:
        event = {"type": "tool_decision_resolved", "decisionId": decision_id, "toolCallId": f"call-{turn}"}
        self.run.events.append({**event, "timestamp": at, "decision": decision})

    def problems(self, check: str) -> list[str]:
        return list(CHECKS[check](cast(Stage, SimpleNamespace(ledger=self.ledger)), [self.run]))


@pytest.fixture
def evidence(tmp_path: Path) -> Evidence:
    evidence = Evidence(tmp_path)
    assert evidence.problems(ONCE) == []
    assert evidence.problems(DECISIONS) == []
    return evidence


def test_a_once_tool_that_was_executed_again_without_a_verdict_is_found(evidence: Evidence) -> None:
    evidence.executed(2, 250, tool="charge")
    [problem] = evidence.problems(ONCE)
    assert "charge of r:2:0 was executed at [200, 250]" in problem


@pytest.mark.parametrize(("at", "found"), [(220, 0), (260, 1)])
def test_a_once_tool_may_be_executed_again_after_the_verdict_retry_only(
    evidence: Evidence, at: int, found: int
) -> None:
    evidence.executed(2, 250, tool="charge")
    evidence.pending("doubt", "tool_in_doubt")
    evidence.resolved("doubt", 2, at, {"verdict": "retry"})
    assert len(evidence.problems(ONCE)) == found


def test_an_execution_that_belongs_to_no_call_is_found(evidence: Evidence) -> None:
    evidence.executed(9, 900, tool="charge")
    assert "r:9:0" in evidence.problems(ONCE)[0]


@pytest.mark.parametrize("answer", [
    Answer("d", {"approved": False}, 202, None),
    Answer("d", {"approved": True}, 409, "decision_conflict"),
    Answer("d", {"approved": False}, 409, "run_not_paused"),
])  # fmt: skip
def test_an_answer_that_got_what_it_should_not_is_found(evidence: Evidence, answer: Answer) -> None:
    evidence.run.answers.append(answer)
    assert len(evidence.problems(DECISIONS)) == 1


def test_a_decision_that_was_consumed_twice_is_found(evidence: Evidence) -> None:
    evidence.resolved("d", 6, 595, evidence.decision)
    assert evidence.problems(DECISIONS)


def test_a_tool_that_was_executed_with_another_decision_is_found(evidence: Evidence) -> None:
    evidence.executed(6, 650, tool="refund", decision={"approved": False})
    assert len(evidence.problems(DECISIONS)) == 1


@pytest.mark.parametrize("spoilt", ["lost", "changed", "of nothing"])
def test_a_notification_that_was_lost_or_changed_or_is_of_nothing_is_found(
    spoilt: str, redis_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checks, "_NOTIFIED_SECONDS", 0.1)
    ledger = Ledger(tmp_path / "notifications.jsonl")
    run = Played(1, "r", [{"type": "tool_decision_pending", "decisionId": "d"}, {"type": "agent_end"}], ended=True)
    stage = cast(Stage, SimpleNamespace(notifications=ledger, store=SimpleNamespace(url=redis_url)))

    def note(number: int, kind: str, **data: Any) -> None:
        ledger.add(run="r", event={"type": kind, "id": str(number), "data": {"runId": "r", **data}})

    for _ in range(2):
        note(1, "decision.pending", decisionId="d")
    assert len(list(CHECKS[NOTIFIED](stage, [run]))) == 1, "the end is missing"
    note(2, "run.completed")
    assert list(CHECKS[NOTIFIED](stage, [run])) == []
    if spoilt == "lost":
        run.events.append({"type": "agent_pause"})
    else:
        note(*((1, "decision.pending") if spoilt == "changed" else (3, "run.paused")))
    assert len(list(CHECKS[NOTIFIED](stage, [run]))) == 1


def test_a_key_without_a_time_to_live_is_found(redis_url: str) -> None:
    store = SimpleNamespace(url=redis_url)
    stage = cast(Stage, SimpleNamespace(store=store, broker=store, prefixes=["agentkit:"]))
    with redis.Redis.from_url(redis_url) as client:
        client.mset({"agentkit:due": "", "_kombu.binding.agentkit": "", "agentkit:{r}": ""})
        client.set("agentkit:idem:k", "", ex=60)
    assert list(CHECKS[KEYS](stage, [])) == ["agentkit:{r} has no time to live"]
