"""What spans runs in the store in memory: the due index, the list of runs, idempotency keys, workers' heartbeats."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace

from agentkit.codec import Codec
from agentkit.core.inbox import ItemFilter, ListedItem
from agentkit.core.record import ENDED_LISTS, Lease, StatusList
from agentkit.core.workers import Worker
from agentkit.store.bodies import Bodies
from agentkit.store.lists import list_name, lists_of
from agentkit.store.protocol import DueRun, StoredThread, ThreadMessage

__all__ = ["MemoryIndex"]


class MemoryIndex:
    """The part of `MemoryStore` that knows no run's record. `changed` guards all of it."""

    def __init__(self, retention_seconds: int, clock: Callable[[], int]) -> None:
        self._clock = clock
        self._retention_ms = retention_seconds * 1000
        self._lists: dict[str, set[str]] = {}
        self._items: dict[str, ListedItem] = {}
        self._due: dict[str, float] = {}
        self._keys: dict[str, tuple[bytes, str, int]] = {}
        self._threads: dict[str, tuple[StoredThread, int]] = {}
        self._workers: dict[str, int] = {}
        self._about: dict[str, Worker] = {}
        self._holders: dict[tuple[str, int], tuple[int, str]] = {}
        self._served: dict[str, int] = {}
        self._probes: dict[str, int] = {}
        self._refused: set[str] = set()
        self._bodies = Bodies()
        self.changed = threading.Condition(threading.RLock())

    def use_codec(self, codec: Codec) -> None:
        with self.changed:
            self._bodies = Bodies(codec)

    def now(self) -> int:
        return self._clock()

    def schedule(self, run_id: str, at: int) -> None:
        with self.changed:
            self._due[run_id] = math.ceil(min(self._due.get(run_id, at), at)) - 0.25

    def due(self, limit: int, hold_ms: int) -> list[DueRun]:
        with self.changed:
            now = self.now()
            ready = sorted((at, run_id) for run_id, at in self._due.items() if at <= now)[:limit]
            taken = []
            for at, run_id in ready:
                is_scheduled = at % 1 in (0.75, 0.25)  # as in scripts/take.lua
                mark = self._due[run_id] = now + hold_ms + (0.25 if is_scheduled else 0.5)
                taken.append(DueRun(run_id, mark, scheduled=is_scheduled))
            return taken

    def reschedule(self, run: DueRun, at: int | None) -> None:
        with self.changed:
            score = self._due.get(run.run_id)
            if score == run.mark:
                if at is None:
                    del self._due[run.run_id]
                else:
                    self._due[run.run_id] = at
            elif score is not None and at is not None and at < score:
                self._due[run.run_id] = at - 0.25  # as in scripts/reschedule.lua

    def refuse(self, recipient: str) -> None:
        with self.changed:
            self._refused.add(recipient)

    def is_refused(self, recipient: str) -> bool:
        with self.changed:
            return recipient in self._refused

    def remember(self, key: str, digest: str, run_id: str) -> tuple[str, str]:
        with self.changed:
            bound = self._keys.get(key)
            if bound is None or bound[2] <= self.now():
                # The digest would show what a small request was.
                stored = self._bodies.encrypt(digest.encode())
                bound = self._keys[key] = (stored, run_id, self.now() + self._retention_ms)
            return self._bodies.decrypt(bound[0], bound[1]).decode(), bound[1]

    def remembered(self, key: str) -> tuple[str, str] | None:
        with self.changed:
            bound = self._keys.get(key)
            if bound is None or bound[2] <= self.now():
                return None
            return self._bodies.decrypt(bound[0], bound[1]).decode(), bound[1]

    def thread(self, name: str, messages: Sequence[str] = ()) -> StoredThread | None:
        with self.changed:
            thread, until = self._threads.get(name, (None, 0))
            if thread is None or until <= self.now():
                return None
            self._threads[name] = thread, self.now() + self._retention_ms
            found = {each: thread.messages[each] for each in messages if each in thread.messages}
            return replace(thread, messages={each: self._decrypted(found[each]) for each in found})

    def extend_thread(self, name: str, run_id: str, after: str | None, messages: Mapping[str, str]) -> bool:
        with self.changed:
            thread, until = self._threads.get(name, (None, 0))
            if until <= self.now():
                thread = None
            known = {} if thread is None else thread.messages
            if after != (thread and thread.run_id) or not known.keys().isdisjoint(messages):
                return False
            before = thread.before if thread is not None and run_id == after else after
            added = {each: self._encrypted(ThreadMessage(run_id, digest)) for each, digest in messages.items()}
            self._threads[name] = StoredThread(run_id, before, {**known, **added}), self.now() + self._retention_ms
            return True

    def _encrypted(self, message: ThreadMessage) -> ThreadMessage:
        return replace(message, digest=self._bodies.encrypt(message.digest.encode()).decode())

    def _decrypted(self, message: ThreadMessage) -> ThreadMessage:
        return replace(message, digest=self._bodies.decrypt(message.digest.encode(), message.run_id).decode())

    def index(
        self,
        run_id: str,
        owner: str | None = None,
        *,
        agent: str | None = None,
        status: StatusList | None = None,
    ) -> None:
        with self.changed:
            for name in lists_of(owner, agent, status):
                self._lists.setdefault(name, set()).add(run_id)

    def unindex(self, run_id: str, statuses: Collection[StatusList], owner: str | None = None) -> None:
        with self.changed:
            for status in statuses:
                for of in {None, owner}:
                    self._lists.get(list_name(of, None, status), set()).discard(run_id)

    def unlist(self, run_id: str) -> None:
        with self.changed:
            for ids in self._lists.values():
                ids.discard(run_id)
            self.unlist_items(self.items_of(run_id))
            self._due.pop(run_id, None)

    def listing(
        self,
        before: str | None,
        limit: int,
        owner: str | None = None,
        *,
        agent: str | None = None,
        status: StatusList | None = None,
    ) -> list[str]:
        with self.changed:
            ids = self._lists.get(list_name(owner, agent, status), set())
            return sorted((i for i in ids if before is None or i < before), reverse=True)[:limit]

    def has_lists(self) -> bool:
        return True

    def set_has_lists(self) -> None:
        """They are kept from the first run on."""

    def list_items(self, items: Sequence[ListedItem]) -> None:
        with self.changed:
            self._items.update({item.decision_id: item for item in items})

    def unlist_items(self, items: Sequence[ListedItem]) -> None:
        with self.changed:
            for item in items:
                self._items.pop(item.decision_id, None)

    def items(self, after: str | None, limit: int, wanted: ItemFilter) -> list[ListedItem]:
        with self.changed:
            found = [item for item in self._selected(wanted) if after is None or item.decision_id > after]
            return sorted(found, key=lambda item: item.decision_id)[:limit]

    def count_items(self, *wanted: ItemFilter) -> list[int]:
        with self.changed:
            return [len(self._selected(each)) for each in wanted]

    def _selected(self, wanted: ItemFilter) -> list[ListedItem]:
        return [item for item in self._items.values() if wanted.selects(item)]

    def items_of(self, run_id: str) -> list[ListedItem]:
        with self.changed:
            return [item for item in self._items.values() if item.run_id == run_id]

    def has_items(self) -> bool:
        return True

    def set_has_items(self) -> None:
        """They are kept from the first run on."""

    def heartbeat(self, worker: str, ttl_ms: int, about: Worker | None = None) -> None:
        with self.changed:
            self._workers[worker] = self.now() + ttl_ms
            if about is not None:
                self._about[worker] = about

    def about_workers(self) -> list[Worker]:
        with self.changed:
            return [self._about.get(name) or Worker(name) for name in self.workers()]

    def note_holders(self, leases: Sequence[Lease], worker: str, ttl_ms: int) -> None:
        with self.changed:
            self._holders.update({(lease.run_id, lease.step): (lease.token, worker) for lease in leases})

    def next_check(self, run_id: str | None = None) -> int | None:
        with self.changed:
            at = self.next_due() if run_id is None else self._due.get(run_id)
            return None if at is None else math.floor(at)

    def unscheduled(self, run_ids: Sequence[str]) -> list[str]:
        with self.changed:
            return [run_id for run_id in run_ids if run_id not in self._due]

    def workers(self) -> list[str]:
        with self.changed:
            return sorted(worker for worker, until in self._workers.items() if until > self.now())

    def mark_served(self, queue: str, ttl_ms: int) -> None:
        with self.changed:
            self._served[queue] = self.now() + ttl_ms

    def served(self, queues: Sequence[str]) -> list[str]:
        with self.changed:
            return [queue for queue in queues if self._served.get(queue, 0) > self.now()]

    def begin_probe(self, queue: str, ttl_ms: int) -> bool:
        with self.changed:
            now = self.now()
            is_next = self._probes.get(queue, 0) <= now
            if is_next:
                self._probes[queue] = now + ttl_ms
            return is_next

    def next_due(self) -> float | None:
        """Return when the first run of the due index is due (ms); None where it is empty."""
        with self.changed:
            return min(self._due.values(), default=None)

    def backlog(self) -> tuple[int, int]:
        with self.changed:
            return len(self._due), sum(at <= self.now() for at in self._due.values())

    def count_ended(self) -> int:
        with self.changed:
            return sum(len(self._lists.get(list_name(None, None, status), ())) for status in ENDED_LISTS)
