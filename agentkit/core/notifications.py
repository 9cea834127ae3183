"""Of what people are notified: the types of events that handlers and webhooks get, and what an event says.

They are made of a change, which is about to become true. Pure.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Any, Literal, get_args

from agentkit.core.events import (
    AgentEnd,
    AgentPause,
    PendingItem,
    ToolClientExecutePending,
    ToolDecisionPending,
    ToolInDoubt,
)
from agentkit.core.ids import new_id
from agentkit.core.messages import Json
from agentkit.core.record import Change, RunRecord
from agentkit.core.struct import to_json

__all__ = ["NOTIFICATION_TYPES", "RUN_ENDS", "NotificationType", "notifications_of"]

NotificationType = Literal[
    "decision.pending", "decision.expiring", "run.paused", "run.completed", "run.failed", "run.aborted"
]
RUN_ENDS: tuple[NotificationType, ...] = ("run.completed", "run.failed", "run.aborted")
NOTIFICATION_TYPES: tuple[NotificationType, ...] = get_args(NotificationType)


def notifications_of(change: Change, types: Collection[str]) -> Iterator[Json]:
    """Make the events of these types that a change causes: `{type, id, timestamp, data}`, in the order of their ids.

    A sub-agent's item is an event of its own run alone, though the runs that wait for it list it too.
    """
    record = change.record
    for event in change.events:
        match event:
            case ToolDecisionPending() | ToolClientExecutePending() | ToolInDoubt():
                item = _item(record, event.decision_id)
                if item is not None and "decision.pending" in types:
                    reason = {} if event.reason is None else {"reason": event.reason}
                    yield _event("decision.pending", record, {**to_json(item), **reason})
            case AgentPause() if "run.paused" in types:
                yield _event("run.paused", record, {"pending": to_json(event.pending)})
            case AgentEnd() if f"run.{event.status}" in types:
                end = {"usage": to_json(event.usage), "turn": record.turn}
                if event.error is not None:
                    end["error"] = to_json(event.error)
                yield _event(f"run.{event.status}", record, end)
    if "decision.expiring" in types:
        for item in _reminded(change):
            yield _event("decision.expiring", record, to_json(item))


def _event(kind: str, record: RunRecord, more: Json) -> Json:
    title = record.metadata.get("title")
    data: dict[str, Any] = {**more, "runId": record.id, "agent": record.agent, "owner": record.owner}
    if record.parent is not None:
        data["parentRunId"] = record.parent.run_id
    if isinstance(title, str):
        data["title"] = title
    return {"type": kind, "id": new_id(record.updated_at), "timestamp": record.updated_at, "data": data}


def _item(record: RunRecord, decision_id: str) -> PendingItem | None:
    """Find an item that is pending for one of the calls that were read; None where it was answered in the same act."""
    items = (call.item for call in record.calls if call.state == "pending" and call.item is not None)
    return next((item for item in items if item.decision_id == decision_id), None)


def _reminded(change: Change) -> Iterator[PendingItem]:
    """List the items whose reminder a change notes."""
    before = {} if change.before is None else dict(change.before.indexed_calls)
    for index, call in change.record.indexed_calls:
        known = before.get(index)
        if call.item is not None and known is not None and call.reminded not in (None, known.reminded):
            yield call.item
