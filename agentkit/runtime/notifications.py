"""Notifies people: the application's handlers and webhooks get the events that commits cause.

    commit (change and entries) ─► enqueue ─► take ─► send ─► remove
                                      ▲         └─ fails ─► due again, by recovery
                                      └─────────────────────────┘

Rules that this module alone knows:

1. There is an entry in the run's outbox for each event and each recipient, so each has its own fate.
2. The entry stays until the recipient has it: the message of the task may be lost, late or doubled, and the worker may
   die. Whoever takes an entry holds it and renews the hold; a dead one's is due again after a lease time.
3. What fails is tried again with backoff, for a day from the event on. What ends its worker counts as failed.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable
from typing import Protocol

from agentkit.core.backoff import Backoff
from agentkit.core.messages import Json
from agentkit.core.notifications import notifications_of
from agentkit.core.outbox import OutboxEntry
from agentkit.core.record import Change
from agentkit.errors import AgentKitError
from agentkit.queue.protocol import StepQueue
from agentkit.runtime.failpoints import failpoint
from agentkit.runtime.inline import Inline
from agentkit.runtime.timer import Timer
from agentkit.store.protocol import Store

__all__ = ["DeliveryError", "Notifications", "Recipient", "RecipientGoneError"]

log = logging.getLogger(__name__)

DAY_MS = 86_400_000
_BACKOFF = Backoff(base=4.0, cap=3600.0)
_LEAST_SECONDS = 1.0
_CROWDED = 200
"""Messages waiting in the queue from which on recovery adds no more for notifications."""


class DeliveryError(Exception):
    """A recipient did not get an event. The text says why, without a secret."""


class RecipientGoneError(DeliveryError):
    """It is to get no event any more."""


class Recipient(Protocol):
    """Who gets notifications: a handler or a webhook. `str()` names it in logs, without a secret."""

    name: str
    """Unique among the recipients of a kit, and the same in all processes."""
    types: frozenset[str]

    def send(self, event: Json, timestamp: int) -> None:
        """Have it get the event. `timestamp`: the time by the store's clock (ms).

        Whatever it raises, the recipient has not got it; RecipientGoneError: and is to get no event any more.
        """
        ...


class Notifications:
    """Notifies the recipients of one kit, in one process: an `Act` of the outbox."""

    kind = "notify"

    def __init__(
        self,
        store: Store,
        queue: StepQueue,
        recipients: Callable[[], Iterable[Recipient]],
        *,
        lease_seconds: float,
        remind_before: float | None = None,
        stopping: Callable[[], bool] = lambda: False,
        inline: Inline | None = None,
    ) -> None:
        """`recipients`: lists them; handlers may be declared at any time. `remind_before`: seconds."""
        self._store = store
        self._queue = queue
        self._recipients = recipients
        self._lease_ms = round(lease_seconds * 1000)
        self._remind_ms = None if remind_before is None else round(remind_before * 1000)
        self._stopping = stopping
        self._inline = inline
        self._timer = Timer()

    @property
    def remind_ms(self) -> int | None:
        """How long before an item's expiry people are reminded of it; None where nobody is to be."""
        wanted = self._remind_ms is not None and any("decision.expiring" in each.types for each in self._recipients())
        return self._remind_ms if wanted else None

    # -- the act

    def entries(self, change: Change) -> Iterable[OutboxEntry]:
        """Make an entry for each event that the change causes and each recipient of it."""
        recipients = list(self._recipients())
        if not recipients:
            return
        types = frozenset[str]().union(*(each.types for each in recipients))
        for event in notifications_of(change, types):
            for recipient in recipients:
                if event["type"] in recipient.types:
                    yield OutboxEntry(f"{event['id']}:{recipient.name}", self.kind, {"to": recipient.name, **event})

    def carry_out(self, run_id: str, entry: OutboxEntry, *, again: bool) -> int:
        """Enqueue the task that sends it; recovery enqueues it again after a lease time."""
        if not again or self._queue.queued(self._queue.notify_queue()) < _CROWDED:
            self._queue.notify(run_id, entry.id)
        return self._store.now() + self._lease_ms

    # -- the task

    def has_recipient(self, entry_id: str) -> bool:
        """Whether the recipient of a notification is known here."""
        _, _, name = entry_id.partition(":")
        return any(each.name == name for each in self._recipients())

    def deliver(self, run_id: str, entry_id: str) -> bool:
        """Send one notification, if it is due and nobody else does; whether it was there.

        Never raises for what the recipient does: it is tried again.
        """
        if self._stopping():
            self._queue.notify(run_id, entry_id)
            return True
        entry = self._store.take_entry(run_id, entry_id, self._lease_ms)
        if entry is None:
            return False
        event = {name: value for name, value in entry.data.items() if name != "to"}
        recipient = next((each for each in self._recipients() if each.name == entry.data["to"]), None)
        what = f"run {run_id}: {event['type']} {event['id']}"
        age = self._store.now() - int(event["timestamp"])
        if entry.tries > 1 and age >= DAY_MS:
            self._give_up(run_id, entry, f"{what} has not reached {recipient or entry.data['to']} in a day")
        elif recipient is None:
            log.warning("%s is for %s, which this process does not know", what, entry.data["to"])
            self._postpone(run_id, entry)
        elif self._store.is_refused(recipient.name):
            self._store.remove_entries(run_id, [entry.id])
        else:
            self._send(run_id, entry, recipient, event, what)
        return True

    def _send(self, run_id: str, entry: OutboxEntry, recipient: Recipient, event: Json, what: str) -> None:
        hold = _Hold(self._store, self._timer, run_id, entry, self._lease_ms)
        hold.begin()
        failpoint("before delivery")
        try:
            recipient.send(event, self._store.now())
        except RecipientGoneError as error:
            log.error("%s: %s wants no more: %s", what, recipient, error)
            self._store.refuse(recipient.name)
        except Exception as error:
            hold.end()
            self._failed(what, recipient, error)
            self._postpone(run_id, entry)
            return
        except BaseException as error:  # in a test, its own failure; else the process is about to end
            hold.end()
            if self._inline is not None:
                self._inline.on_tool_error(error)
                self._postpone(run_id, entry)
                return
            raise
        hold.end()
        failpoint("after delivery")
        self._store.remove_entries(run_id, [entry.id])

    def _failed(self, what: str, recipient: Recipient, error: Exception) -> None:
        known = isinstance(error, DeliveryError)
        log.warning(
            "%s did not reach %s, and is tried again: %s",
            what,
            recipient,
            error if known else type(error).__name__,
            exc_info=None if known else error,
        )
        if self._inline is not None:
            self._inline.on_tool_error(error)

    def _postpone(self, run_id: str, entry: OutboxEntry) -> None:
        delay = max(_LEAST_SECONDS, _BACKOFF.delay(entry.tries))
        at = self._store.now() + round(delay * 1000)
        self._store.schedule(run_id, at)
        self._store.postpone_entry(run_id, entry, at)

    def _give_up(self, run_id: str, entry: OutboxEntry, text: str) -> None:
        log.error("%s, and is dropped after %d tries", text, entry.tries - 1)
        self._store.remove_entries(run_id, [entry.id])


class _Hold:
    """Renews the hold on a taken entry, until `end`.

    An entry that was taken before, and whose taker may have died of it, is due again later each time.
    """

    def __init__(self, store: Store, timer: Timer, run_id: str, entry: OutboxEntry, hold_ms: int) -> None:
        self._store = store
        self._timer = timer
        self._run_id = run_id
        self._entry = entry
        self._period = hold_ms / 3000
        backoff = _BACKOFF.longest(entry.tries - 1) if entry.tries > 1 else 0.0
        self._hold_ms = hold_ms + round(backoff * 1000)
        self._lock = threading.Lock()
        self._ended = False

    def begin(self) -> None:
        """Renew it from now on."""
        if self._entry.tries > 1:
            self._store.postpone_entry(self._run_id, self._entry, self._store.now() + self._hold_ms)
        self._timer.call_later(self._period, self._renew)

    def end(self) -> None:
        """Renew it no more."""
        with self._lock:
            self._ended = True

    def _renew(self) -> None:
        with self._lock:
            if self._ended:
                return
            try:
                self._store.postpone_entry(self._run_id, self._entry, self._store.now() + self._hold_ms)
            except AgentKitError as error:
                log.warning("a notification of run %s may be sent twice: %s", self._run_id, error)
        self._timer.call_later(self._period, self._renew)
