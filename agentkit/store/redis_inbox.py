"""The inbox of the store on Redis or Valkey: pending items in lists, one a filter (agentkit/store/inbox.py).

All its keys share a cluster slot, so that an item enters and leaves all its lists in one transaction.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import redis

from agentkit.core.events import ItemKind
from agentkit.core.inbox import ItemFilter, ListedItem
from agentkit.core.struct import decode, encode
from agentkit.store.connection import translated
from agentkit.store.inbox import item_list, item_lists, run_list

__all__ = ["RedisInbox"]

_COMPLETE = ""
"""The field of the hash of items that is there where every pending item is in its lists."""

_Facts = tuple[str, str, str, ItemKind, str | None]


class RedisInbox:
    """The part of `RedisStore` that knows pending items."""

    def __init__(self, client: redis.Redis, prefix: str) -> None:
        self._client = client
        self._inbox = f"{prefix}{{inbox}}"

    @translated
    def list_items(self, items: Sequence[ListedItem]) -> None:
        if not items:
            return
        pipe = self._client.pipeline(transaction=True)
        pipe.hset(self._inbox, mapping={item.decision_id: _encode_facts(item) for item in items})
        for name, ids in _members(items).items():
            pipe.zadd(f"{self._inbox}{name}", dict.fromkeys(ids, 0))
        pipe.execute()

    @translated
    def unlist_items(self, items: Sequence[ListedItem]) -> None:
        if not items:
            return
        pipe = self._client.pipeline(transaction=True)
        pipe.hdel(self._inbox, *(item.decision_id for item in items))
        for name, ids in _members(items).items():
            pipe.zrem(f"{self._inbox}{name}", *ids)
        pipe.execute()

    @translated
    def items(self, after: str | None, limit: int, wanted: ItemFilter) -> list[ListedItem]:
        oldest = f"({after}" if after else "-"
        name = f"{self._inbox}{item_list(wanted)}"
        return self._read_items(cast(list[bytes], self._client.zrangebylex(name, oldest, "+", 0, limit)))

    @translated
    def count_items(self, *wanted: ItemFilter) -> list[int]:
        pipe = self._client.pipeline(transaction=False)
        for each in wanted:
            pipe.zcard(f"{self._inbox}{item_list(each)}")
        return cast(list[int], pipe.execute())

    @translated
    def items_of(self, run_id: str) -> list[ListedItem]:
        return self._read_items(
            cast(list[bytes], self._client.zrangebylex(f"{self._inbox}{run_list(run_id)}", "-", "+"))
        )

    def _read_items(self, ids: Sequence[bytes]) -> list[ListedItem]:
        if not ids:
            return []
        stored = cast(list[bytes | None], self._client.hmget(self._inbox, cast(list[str], ids)))
        return [
            ListedItem(decision_id.decode(), *decode(facts, _Facts))
            for decision_id, facts in zip(ids, stored, strict=True)
            if facts is not None  # it has left the inbox since
        ]

    @translated
    def has_items(self) -> bool:
        return bool(self._client.hexists(self._inbox, _COMPLETE))

    @translated
    def set_has_items(self) -> None:
        self._client.hset(self._inbox, _COMPLETE, "")


def _encode_facts(item: ListedItem) -> bytes:
    return encode((item.run_id, item.agent, item.tool, item.kind, item.owner))


def _members(items: Sequence[ListedItem]) -> dict[str, list[str]]:
    """Say which of the items belong to each list."""
    members: dict[str, list[str]] = {}
    for item in items:
        for name in item_lists(item):
            members.setdefault(name, []).append(item.decision_id)
    return members
