"""Calls the hooks that look at events (`Middleware.on_event`), after the events are in the log, and reads them there.

A thread of the process does it, so that a hook which is slow or fails holds up no run; in inline runs the caller's.
What waits is the number of runs with news, not of events: those are in their logs.

Rules that this module alone knows: a process delivers what its own writes added, in the order of `seq`, and each event
once; where another process has added events between its own, it may deliver those too. What it has not delivered when
it ends is lost to its hooks.
"""

from __future__ import annotations

import logging
import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass

from agentkit.core.messages import Json
from agentkit.core.record import RunRecord
from agentkit.core.struct import decode
from agentkit.errors import AgentKitError, StoreUnavailableError
from agentkit.hooks import RunInfo
from agentkit.runtime.hooks import Hook, call_hook, hook_name
from agentkit.store.protocol import Store

__all__ = ["Taps", "run_info"]

log = logging.getLogger(__name__)

_PAGE = 200
_KNOWN_RUNS = 10_000
"""Of so many runs a process remembers what it has delivered."""
_IDLE_SECONDS = 5.0
_RETRY_SECONDS = 1.0


@dataclass(slots=True)
class _News:
    """What is to be read of a run's log: after `after`, up to `until`, or to its end where that is None."""

    run: RunInfo
    after: int
    until: int | None


class Taps:
    """The hooks of one process. `inline`: whoever writes calls them."""

    def __init__(self, store: Store, hooks: Sequence[Hook], *, inline: bool = False) -> None:
        self._store = store
        self._hooks = hooks
        self._inline = inline
        self._changed = threading.Condition()
        self._news: dict[str, _News] = {}
        self._delivered: OrderedDict[str, int] = OrderedDict()
        self._running = False
        self._inline_lock = threading.Lock()
        self._inline_thread: int | None = None

    def written(self, record: RunRecord, after: int | None = None, until: int | None = None) -> None:
        """Note that this process has added events to a run's log.

        `after`: the seq before the first; None where they follow on what was noted before. `until`: the last one's;
        None for the end of the log.
        """
        if not self._hooks:
            return
        with self._changed:
            known = self._delivered.get(record.id, 0)
            news = self._news.get(record.id)
            after = known if after is None else max(after, known)
            if news is None:
                self._news[record.id] = _News(run_info(record), after, until)
            else:
                news.run = run_info(record)
                news.after = min(news.after, after)
                news.until = None if until is None or news.until is None else max(until, news.until)
            if not self._inline:
                if not self._running:
                    self._running = True
                    threading.Thread(target=self._run, name="agentkit-taps", daemon=True).start()
                self._changed.notify()
        if self._inline and self._inline_thread != threading.get_ident():  # else a hook writes, and gets it afterwards
            with self._inline_lock:
                self._inline_thread = threading.get_ident()
                try:
                    while self._deliver_next(wait=False):
                        pass
                finally:
                    self._inline_thread = None

    def _run(self) -> None:
        while self._deliver_next(wait=True):
            pass

    def _deliver_next(self, *, wait: bool) -> bool:
        """Deliver what is noted of one run; False where nothing came for long, or nothing is there."""
        with self._changed:
            if not self._news and wait:
                self._changed.wait(_IDLE_SECONDS)
            if not self._news:
                self._running = False
                return False
            run_id, news = next(iter(self._news.items()))
            del self._news[run_id]
        try:
            self._deliver(news)
        except StoreUnavailableError as error:
            log.warning("run %s: hooks get its events when the store is back: %s", run_id, error)
            with self._changed:
                later = self._news.setdefault(run_id, news)
                later.after = min(later.after, max(news.after, self._delivered.get(run_id, 0)))
                self._changed.wait(_RETRY_SECONDS)
        except AgentKitError as error:
            log.info("run %s: hooks do not get its last events: %s", run_id, error)
        except Exception:
            log.exception("run %s: hooks do not get its last events", run_id)
        return True

    def _deliver(self, news: _News) -> None:
        run_id = news.run.run_id
        after = max(news.after, self._delivered.get(run_id, 0))  # what was noted meanwhile may be delivered by now
        while True:
            page = self._store.events(run_id, after, _PAGE)
            for event in page.events:
                if news.until is not None and event.seq > news.until:
                    return
                self._call(news.run, decode(event.data, Json))
                after = event.seq
                with self._changed:
                    self._delivered[run_id] = after
                    self._delivered.move_to_end(run_id)
                    if len(self._delivered) > _KNOWN_RUNS:
                        self._delivered.popitem(last=False)
            if after >= page.last_seq or not page.events:
                return

    def _call(self, run: RunInfo, event: Json) -> None:
        for hook in self._hooks:
            try:
                call_hook(hook, run, event)
            except Exception as error:
                what = f"run %s: {hook_name(hook)} failed at event %s, which it does not get again"
                log.error(what, run.run_id, event.get("seq"), exc_info=error, extra={"run_id": run.run_id})


def run_info(record: RunRecord) -> RunInfo:
    """Describe a run to hooks."""
    parent = None if record.parent is None else record.parent.run_id
    return RunInfo(record.id, record.agent, record.owner, parent, record.turn, record.metadata)
