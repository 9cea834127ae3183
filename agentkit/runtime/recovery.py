"""Recovery without an operator: every worker looks at the runs whose time has come.

That is a step whose nudge was lost, a lease that ran out, an item that expired, an ended run whose keys are
gone. There is no leader: taking an overdue run holds it for a moment, so each is looked at once.

A run that looks stuck may just stand in a long queue, and nudging it again makes the queue longer. So nudges stop
where the queue is crowded: the runs left over are looked at again a little later, spread over time.
"""

from __future__ import annotations

import logging
import os
import socket
import threading

from agentkit.agents import BoundAgent
from agentkit.core.ids import now_ms
from agentkit.core.record import Step
from agentkit.errors import (
    AgentKitError,
    AgentNotFoundError,
    RunNotFoundError,
    StoreUnavailableError,
    VersionConflictError,
)
from agentkit.loop import expire, fail
from agentkit.queue.protocol import StepQueue
from agentkit.runtime.commit import Agents, Committer, next_expiry
from agentkit.runtime.deadlines import TIME_IS_OVER, time_left
from agentkit.store.protocol import DueRun, Store

__all__ = ["Recovery"]

log = logging.getLogger(__name__)

_MAX_HOLD_MS = 4000
_BATCH = 100
_SLACK_MS = 50
_HOLDERS_FIRST_SECONDS = 2.0
"""After an outage of the store, in which leases ran out: their holders are there, and write or renew at once."""
_CROWD = 200
"""Nudges waiting in the queue from which on recovery adds hardly any."""
_TRICKLE = 10
"""Nudges per batch however long the queue is: a lost one is made up for also where the queue never gets short."""
_PUT_OFF_MS = 10
"""How much later each run is looked at again than the one put off before it."""


class Recovery:
    """One worker's timer. `start` and `stop` it with the worker, or call `sweep` yourself."""

    def __init__(
        self, store: Store, agents: Agents, queue: StepQueue, *, lease_seconds: float, retention_seconds: int
    ) -> None:
        self._store = store
        self._committer = Committer(store, queue, agents, lease_seconds)
        self._agents = agents
        self._queue = queue
        self._lease_ms = round(lease_seconds * 1000)
        self._hold_ms = min(_MAX_HOLD_MS, self._lease_ms)  # a taker may die as well
        self._retention_ms = retention_seconds * 1000
        self._period = min(1.0, lease_seconds / 4)
        self._room = 0
        self._put_off = 0
        self._stop = threading.Event()
        self._name = f"{socket.gethostname()}:{os.getpid()}"

    def start(self) -> None:
        threading.Thread(target=self._run, name="agentkit-recovery", daemon=True).start()

    def stop(self) -> None:
        self._stop.set()

    def _run(self) -> None:
        away = False
        while not self._stop.is_set():
            try:
                self._store.beat(self._name, max(5000, round(self._period * 5000)))
                if away:
                    away = False
                    self._stop.wait(_HOLDERS_FIRST_SECONDS)
                while self.sweep() == _BATCH and not self._stop.is_set():
                    pass
            except StoreUnavailableError as error:
                away = True
                log.warning("recovery waits for the store: %s", error)
            except Exception:
                log.exception("recovery failed, and goes on")
            self._stop.wait(self._period)

    def sweep(self) -> int:
        """Look at the runs whose time has come, at most a batch; how many there were."""
        due = self._store.due(_BATCH, self._hold_ms)
        if due:
            self._room = max(_TRICKLE, _CROWD - self._queue.queued())
        for run in due:
            try:
                self._look(run)
            except VersionConflictError:
                pass  # it is changing under our eyes, so it is alive: the next look will tell
            except StoreUnavailableError:
                raise
            except Exception as error:  # whatever is wrong with one run, the others are looked at
                known = isinstance(error, AgentKitError)
                log.error("run %s cannot be looked at: %s", run.run_id, error, exc_info=None if known else error)
                self._store.settle(run, now_ms() + self._lease_ms)
        if len(due) < _BATCH:
            self._put_off = 0
        return len(due)

    def _look(self, run: DueRun) -> None:
        try:
            state = self._store.load(run.run_id)
        except RunNotFoundError:
            self._store.unlist(run.run_id)
            return
        now = now_ms()
        record = state.record
        if record.terminal:
            self._store.settle(run, (record.ended_at or now) + self._retention_ms + 1000)
            return
        agent = self._agent(record.agent)
        change = expire(state, agent, now)
        if change is not None:
            log.info("run %s: an item expired", record.id)
            self._committer.commit(change, state.version)
            self._store.settle(run, now + self._lease_ms)
            return
        looks = [until + _SLACK_MS for until in state.live.values()]
        if (expires := next_expiry(record)) is not None:
            looks.append(expires)
        if self._committer.visit(record):
            looks.append(now + self._lease_ms)
            left = time_left(record, agent) if agent is not None and not record.steps else None
            if left is not None and left <= 0:  # nobody else would notice
                self._committer.commit(fail(state, *TIME_IS_OVER, now), state.version)
            elif left is not None:
                looks.append(now + round(left * 1000) + 1)
        for step in record.steps:
            if step.at is not None and step.at > now:
                looks.append(step.at)
            elif step.number not in state.live:
                looks.append(now + self._enqueue_again(record.id, step))
        self._store.settle(run, min(looks, default=None))

    def _enqueue_again(self, run_id: str, step: Step) -> int:
        """Nudge a step, if the queue has room for it; in how many ms to look at it again."""
        if self._room <= 0:
            self._put_off += 1
            return min(self._lease_ms, round(self._period * 1000) + self._put_off * _PUT_OFF_MS)
        self._room -= 1
        log.info("run %s: nudging step %s again", run_id, step.number)
        self._queue.enqueue(run_id, step.number, step.kind)
        return self._lease_ms

    def _agent(self, name: str) -> BoundAgent | None:
        try:
            return self._agents.bind(name)
        except AgentNotFoundError:
            return None
