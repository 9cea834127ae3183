"""The inbox: the pending items of all runs, as they are listed, filtered and shown.

A run owns the items of its own calls. Those of its sub-agents' runs, which it lists too, are owned by these: so each
item of an installation is in the inbox once. Nothing here does I/O.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from agentkit.core.events import ItemKind, PendingItem
from agentkit.core.record import RunRecord
from agentkit.core.struct import Wire

__all__ = ["InboxItem", "ItemFilter", "ListedItem", "PendingCount", "listed_items", "own_items", "title_of"]


@dataclass(frozen=True, slots=True)
class ListedItem:
    """What the inbox's index knows of a pending item. None of it changes while the item is pending."""

    decision_id: str
    run_id: str
    agent: str
    tool: str
    kind: ItemKind
    owner: str | None = None


@dataclass(frozen=True, slots=True)
class ItemFilter:
    """Which items are wanted; None: any. `owner`: that of their run."""

    agent: str | None = None
    tool: str | None = None
    kind: ItemKind | None = None
    owner: str | None = None

    def selects(self, item: ListedItem) -> bool:
        """Whether an item is among the wanted."""
        wanted = ((self.agent, item.agent), (self.tool, item.tool), (self.kind, item.kind), (self.owner, item.owner))
        return all(one in (None, other) for one, other in wanted)


class InboxItem(PendingItem, kw_only=True):
    """A pending item beside those of other runs. `run_id`: the run that owns the item, where it is answered.

    `owner`: the principal that started the run, null where nobody was named. `title`: the run's `metadata.title`, where
    that is a text.
    """

    run_id: str
    agent: str
    owner: str | None
    title: str | None = None

    @classmethod
    def of(cls, record: RunRecord, item: PendingItem) -> InboxItem:
        """Show an item of the run of `record`."""
        fields = {name: getattr(item, name) for name in PendingItem.__struct_fields__}
        shown = {"run_id": record.id, "agent": record.agent, "owner": record.owner}
        return cls(**{**fields, **shown}, title=title_of(record))


class PendingCount(Wire):
    """How many items are pending, and when the oldest of them was created (ms); null where none is.

    `more`: true where there may be more than were counted. Where the application's `may` is asked, which it is for the
    run of each item, a count reads 1,000 items at the most.
    """

    pending: int
    oldest_created_at: int | None
    more: bool | None = None


def title_of(record: RunRecord) -> str | None:
    """Return the title in a run's metadata, where that is a text."""
    title = record.metadata.get("title")
    return title if isinstance(title, str) else None


def own_items(record: RunRecord) -> dict[str, PendingItem]:
    """Return the pending items that the run owns, of the calls that were read, by their ids."""
    if record.terminal:
        return {}
    items = (call.item for call in record.calls if call.state == "pending")
    return {item.decision_id: item for item in items if item is not None}


def listed_items(record: RunRecord, items: Iterable[PendingItem]) -> list[ListedItem]:
    """Say of items of the run of `record` what the index is to know of them."""
    return [
        ListedItem(item.decision_id, record.id, record.agent, item.tool_name, item.kind, record.owner) for item in items
    ]
