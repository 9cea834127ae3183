"""Runs that wait, written straight into a store."""

from __future__ import annotations

from dataclasses import replace

from msgspec import structs

from agentkit.core.calls import Call
from agentkit.core.events import PendingItem
from agentkit.core.ids import new_id
from agentkit.core.inbox import listed_items
from agentkit.core.record import Status
from agentkit.store.protocol import Store
from agentkit.testing.store_changes import first_change

__all__ = ["add"]


def add(
    store: Store, owner: str | None = "ann", agent: str = "a", count: int = 1, status: Status = Status.PAUSED
) -> str:
    """A run of this status that waits for `count` items."""
    run_id = new_id()
    change = first_change(run_id, owner=owner)
    items = [
        PendingItem(
            decision_id=new_id(),
            tool_call_id=f"c{n}",
            tool_name="t",
            kind="decision",
            input={},
            schema={},
            created_at=7,
        )
        for n in range(count)
    ]
    calls = tuple(Call(item.tool_call_id, "t", {}, "pending", item=item) for item in items)
    record = structs.replace(change.record, agent=agent, status=status, calls=calls, steps=())
    store.index(run_id, owner, agent=agent, status=record.status_list)
    store.list_items(listed_items(record, items))
    store.create(replace(change, record=record, opened=()))
    return run_id
