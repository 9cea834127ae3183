"""What must hold when the faults are over, checked from the outside: over HTTP, in the ledger, and in the store's keys.

Each check yields its violations, a sentence each, and goes on with the next run.
"""

from __future__ import annotations

import itertools
import json
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from importlib import resources
from typing import Any

import httpx
import redis

from agentkit.core.audit import BrokenChainError
from agentkit.core.messages import text_of_json
from agentkit.store.connection import connect
from agentkit.store.redis import RedisStore
from agentkit.testing.store_audit_contract import check_chain
from chaos.app import ANSWER, CALLS
from chaos.report import Played
from chaos.stage import Stage
from tests.acceptance.stack import WebProcess, events_of
from tests.event_rules import check_log
from tests.waiting import wait_until

__all__ = ["CHECKS", "check"]

_NOTIFIED_SECONDS = 60
_NOTIFICATIONS = {
    "tool_decision_pending": "decision.pending",
    "tool_in_doubt": "decision.pending",
    "agent_pause": "run.paused",
    "agent_end": "run.completed",
}
_KOMBU = re.compile(r"_kombu\.|unacked|agentkit(-\d+)?$|.*\.reply\.(agentkit-\d+:)?celery\.pidbox$")


def check(stage: Stage, runs: list[Played]) -> Iterator[str]:
    """Run all checks and yield the violations."""
    for name, run_check in CHECKS.items():
        try:
            for problem in run_check(stage, runs):
                yield f"{name}: {problem}"
        except (AssertionError, httpx.HTTPError, redis.RedisError) as error:
            yield f"{name}: cannot be checked: {error!r}"


def _ended(stage: Stage, runs: list[Played]) -> Iterator[str]:
    for run in runs:
        final = stage.webs_of(run.number)[0].get(run.run_id)
        if final["status"] != "completed":
            yield f"run {run.run_id} is {final['status']}: {final.get('error')}, pending {final['pending']}"
    for installation in range(len(stage.prefixes)):
        accepted = {run.run_id for run in runs if run.number % len(stage.prefixes) == installation}
        listed = _listed(stage.webs_of(installation)[0])
        if accepted != listed:
            yield f"accepted and not listed: {accepted - listed}; listed and never accepted: {listed - accepted}"


def _listed(web: WebProcess) -> set[str]:
    listed: set[str] = set()
    cursor: dict[str, str] = {}
    while True:
        page = web.http.get("/runs", params={"limit": "200", **cursor}).json()
        listed |= {run["id"] for run in page["runs"]}
        if "nextCursor" not in page:
            return listed
        cursor = {"cursor": page["nextCursor"]}


def _logs(stage: Stage, runs: list[Played]) -> Iterator[str]:
    """Contiguous seqs, one agent_end, folds to the messages; the same to all, and as it was seen live."""
    for run in runs:
        try:
            webs = stage.webs_of(run.number)
            final = webs[0].get(run.run_id)
            assert final.get("endedAt"), "it has not ended, so its log has no end to read to"
            logs = [events_of(web.sse(run.run_id)) for web in webs]
            check_log(logs[0], final["messages"], final["status"])
            assert final["lastSeq"] == len(logs[0]), f"lastSeq {final['lastSeq']}, and {len(logs[0])} events"
            assert all(log == logs[0] for log in logs), "web processes return different logs"
            assert run.events == logs[0][: len(run.events)], "the log is not what was seen live"
            called = [message["toolName"] for message in final["messages"] if message["role"] == "toolResult"]
            assert called == list(CALLS), f"the calls were {called}"
            assert text_of_json(final["messages"][-1]) == ANSWER, "the answer is not the model's"
        except (AssertionError, httpx.HTTPError) as error:
            yield f"run {run.run_id}: {error!r}"


def _effects(stage: Stage, runs: list[Played]) -> Iterator[str]:
    """The n-th execution of a `once` call has n-1 verdicts `retry` before it; what is idempotent was executed."""
    begun: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for entry in stage.ledger.entries():
        begun[entry["key"]].append(entry)
    for run in runs:
        keys = [f"{run.run_id}:{turn}:0" for turn in range(1, len(CALLS) + 1)]
        for key, name, call in zip(keys, CALLS, _call_ids(run), strict=False):
            times = sorted(entry["at"] for entry in begun[key])
            if name != "charge":
                if run.ended and not times:
                    yield f"{name} of {key} was never executed"
                continue
            retries = [
                event["timestamp"] for event in _resolved(run)
                if event["toolCallId"] == call and event["decision"]["verdict"] == "retry"
            ]  # fmt: skip
            for n, at in enumerate(times):
                if sum(retry <= at for retry in retries) < n:
                    yield f"{name} of {key} was executed at {times}, with verdicts to retry at {retries}"
                    break
    for key in begun.keys() - {f"{run.run_id}:{n}:0" for run in runs for n in range(1, len(CALLS) + 1)}:
        yield f"an execution with the unknown key {key}"


def _decisions(stage: Stage, runs: list[Played]) -> Iterator[str]:
    """Each item is consumed once: the same answer got 202, another one 409, and the tool got the accepted one."""
    executed = stage.ledger.entries(tool="refund")
    for run in runs:
        resolved = {event["decisionId"]: event for event in _resolved(run)}
        asked = [
            event["decisionId"] for event in run.events if event["type"] in ("tool_decision_pending", "tool_in_doubt")
        ]
        if sorted(asked) != sorted(event["decisionId"] for event in _resolved(run)):
            yield f"run {run.run_id} asked {asked}, and resolved {list(resolved)}"
        for answer in run.answers:
            is_accepted = (
                answer.decision_id in resolved and resolved[answer.decision_id].get("decision") == answer.value
            )
            expected = (202, None) if is_accepted else (409, "decision_conflict")
            if (answer.status, answer.code) != expected:
                yield f"run {run.run_id}: {answer}, but resolved was {resolved.get(answer.decision_id)}"
        values = [event["decision"] for event in _resolved(run) if "approved" in event["decision"]]
        for entry in executed:
            if entry["run"] == run.run_id and [entry["decision"]] != values:
                yield f"run {run.run_id}: refund was executed with {entry['decision']}, decided was {values}"


def _notifications(stage: Stage, runs: list[Played]) -> Iterator[str]:
    """Each item, pause and end of a run was notified of: at least once, always as the same event, and of nothing else.

    What waits is given a while: the last faults may have delayed it.
    """
    with suppress(AssertionError):
        wait_until(
            lambda: not any(_wrong_notifications(stage, runs)) and not _outboxes(stage),
            timeout=_NOTIFIED_SECONDS,
            every=0.2,
        )
    yield from _wrong_notifications(stage, runs)


def _wrong_notifications(stage: Stage, runs: list[Played]) -> Iterator[str]:
    events: dict[str, dict[str, Any]] = {}
    for entry in stage.notifications.entries():
        event = entry["event"]
        if events.setdefault(event["id"], event) != event:
            yield f"a notification has changed: {events[event['id']]}, and then {event}"
    for run in runs:
        if not run.ended:
            continue
        seen = [(e["type"], e["data"].get("decisionId")) for e in events.values() if e["data"]["runId"] == run.run_id]
        due = [
            (_NOTIFICATIONS[event["type"]], event.get("decisionId"))
            for event in run.events
            if event["type"] in _NOTIFICATIONS
        ]
        if sorted(map(str, seen)) != sorted(map(str, due)):
            yield f"run {run.run_id} was to notify of {due}, and did of {seen}"


def _outboxes(stage: Stage) -> list[bytes]:
    with closing(connect(stage.store.url)) as client:
        return list(client.scan_iter("*}:o", count=1000))


def _record(stage: Stage, runs: list[Played]) -> Iterator[str]:
    """Each item that was settled has one entry, after what the last faults have delayed, and nothing else has."""
    expected = Counter(event["decisionId"] for run in runs for event in _resolved(run))
    recorded: Counter[str] = Counter()
    for prefix in stage.prefixes:
        store = RedisStore(stage.store.url, prefix=prefix)
        try:
            check_chain(store)
            recorded.update(json.loads(line)["decisionId"] for line in store.chain_lines(0, 1_000_000))
        except BrokenChainError as error:
            yield f"the chain of {prefix} does not hold: {error}"
        finally:
            store.close()
    if recorded != expected:
        yield f"answers without an entry: {expected - recorded}; entries without an answer: {recorded - expected}"


def _keys(stage: Stage, _runs: list[Played]) -> Iterator[str]:
    """No key without a time to live but those that common.lua declares as permanent, and the broker's own."""
    text = (resources.files("agentkit.store") / "scripts" / "common.lua").read_text()
    names = re.findall(r"^--\s+P([\w:{}]+)\s.*permanent", text, re.MULTILINE)
    patterns = [re.escape(prefix + name).replace("NAME", ".*") for prefix in stage.prefixes for name in names]
    permanent = re.compile("|".join(patterns))
    client = connect(stage.store.url)
    try:
        for raw in client.scan_iter(count=1000):
            key = raw.decode()
            if permanent.fullmatch(key) or (stage.broker is stage.store and _KOMBU.match(key)):
                continue
            if client.pttl(key) == -1:
                yield f"{key} has no time to live"
    finally:
        client.close()


CHECKS: dict[str, Callable[[Stage, list[Played]], Iterator[str]]] = {
    "every accepted run completed, and no other is there": _ended,
    "every log keeps the rules, and is what was seen live": _logs,
    "no once tool was repeated without a verdict": _effects,
    "every decision was consumed once": _decisions,
    "whoever is to be notified was, of all of it": _notifications,
    "every answer is recorded once, in a chain that holds": _record,
    "no key is left without a time to live": _keys,
}


def _resolved(run: Played) -> list[dict[str, Any]]:
    return [event for event in run.events if event["type"] == "tool_decision_resolved"]


def _call_ids(run: Played) -> list[str]:
    ends = (event["message"] for event in run.events if event["type"] == "message_end")
    blocks = itertools.chain.from_iterable(m["content"] for m in ends if m["role"] == "assistant")
    return [block["id"] for block in blocks if block["type"] == "toolCall"]
