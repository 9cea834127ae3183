"""The lists of answers that a store keeps beside their chain: of agents, tools, owners, and of owners by these."""

from __future__ import annotations

from agentkit.core.audit import AnswerEntry
from agentkit.core.inbox import ItemFilter
from agentkit.store.inbox import item_list

__all__ = ["answer_list", "answer_lists"]

_ALL = item_list(ItemFilter())


def answer_list(wanted: ItemFilter) -> str | None:
    """Name the list to read for a filter, in which others may be too; None: the chain itself."""
    agent = None if wanted.tool is not None else wanted.agent
    name = item_list(ItemFilter(agent=agent, tool=wanted.tool, owner=wanted.owner))
    return None if name == _ALL else name


def answer_lists(entry: AnswerEntry) -> list[str]:
    """Name all lists that an answer belongs to."""
    owners = [None] if entry.owner is None else [None, entry.owner]
    kinds = (ItemFilter(), ItemFilter(agent=entry.agent), ItemFilter(tool=entry.tool_name))
    names = [item_list(ItemFilter(agent=kind.agent, tool=kind.tool, owner=of)) for of in owners for kind in kinds]
    return [name for name in names if name != _ALL]
