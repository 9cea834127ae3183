"""The lists of pending items that a store keeps: one a combination of agent, tool, kind and owner, and one a run.

So what any filter selects is a list of its own: a page reads what it shows, and a count is the length of a list. Its
members are the ids of the items, which sort by their creation. An item enters its lists before the commit that makes it
pending, and leaves them after the one that settles it, since no act spans a run and a list: a list may hold items that
are not pending; it lacks none.
"""

from __future__ import annotations

import itertools

from agentkit.core.inbox import ItemFilter, ListedItem
from agentkit.core.struct import dumps

__all__ = ["item_list", "item_lists", "run_list"]


def item_list(wanted: ItemFilter) -> str:
    """Name the list of the items that a filter selects."""
    return dumps((wanted.agent, wanted.tool, wanted.kind, wanted.owner))


def run_list(run_id: str) -> str:
    """Name the list of the items of a run."""
    return f":run:{run_id}"


def item_lists(item: ListedItem) -> list[str]:
    """Name all lists that an item belongs to."""
    owners = (None,) if item.owner is None else (None, item.owner)
    filters = itertools.product((None, item.agent), (None, item.tool), (None, item.kind), owners)
    return [run_list(item.run_id), *(item_list(ItemFilter(*each)) for each in filters)]
