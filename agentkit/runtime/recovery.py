"""Recovery without an operator: every worker checks the runs whose time has come.

That is a step whose message was lost, a lease that ran out, an item that expired, an outbox that a crash left, an
ended run whose keys are gone, an item that is in the inbox and does not wait, or the other way round. There is no
leader: taking an overdue run holds it for a moment, so each is checked once.

A run that seems stuck may just stand in a long queue, and enqueueing it again makes the queue longer. So recovery
enqueues hardly anything where the queue is crowded: the runs left over are checked again a little later, spread over
time.
"""

from __future__ import annotations

import logging
import threading
import time

import msgspec

from agentkit.agents import BoundAgent
from agentkit.core.ids import now_ms
from agentkit.core.record import STATUS_LISTS, Change, RunRecord, RunState, Step
from agentkit.core.workers import Worker
from agentkit.errors import AgentKitError, AgentNotFoundError, RunNotFoundError, StoreUnavailableError
from agentkit.loop import expire, fail, remind
from agentkit.runtime.answers import AnswerTrim
from agentkit.runtime.children import Children
from agentkit.runtime.commit import Committer
from agentkit.runtime.deadlines import TIME_IS_OVER, time_left
from agentkit.runtime.forgotten import begin_walk, is_walk, walk_on
from agentkit.runtime.inbox import repair_items
from agentkit.runtime.shutdown import StopFlag
from agentkit.runtime.upgrade import index_items, index_items_of_older, index_runs
from agentkit.runtime.worker import this_worker
from agentkit.store.protocol import DueRun

__all__ = ["Recovery"]

log = logging.getLogger(__name__)

_MAX_HOLD_MS = 4000
_BATCH = 100
_SLACK_MS = 50
_HOLDERS_FIRST_SECONDS = 2.0
"""After an outage of the store, in which leases ran out: their holders are there, and write or renew at once."""
_OLDER_WORKERS_SECONDS = 600.0
"""After the start of a worker: by then a deploy has stopped those of the version before."""
_CROWDED = 200
"""Messages waiting in the queue from which on recovery adds hardly any."""
_TRICKLE = 10
"""Messages per batch however long the queue is: a lost one is made up for also where the queue never gets short."""
_SPREAD_MS = 10
"""How much later each run is checked again than the one put off before it."""


class Recovery:
    """One worker's timer. `start` and `stop` it with the worker, or call `sweep` yourself."""

    def __init__(
        self,
        committer: Committer,
        children: Children,
        *,
        lease_seconds: float,
        retention_seconds: int,
        audit_seconds: int,
        worker: Worker | None = None,
    ) -> None:
        self._store = committer.store
        self._committer = committer
        self._children = children
        self._queue = committer.queue
        self._outbox = committer.outbox
        self._observers = committer.observers
        self._lease_ms = round(lease_seconds * 1000)
        self._hold_ms = min(_MAX_HOLD_MS, self._lease_ms)  # a taker may die as well
        self._retention_ms = retention_seconds * 1000
        self._trim = AnswerTrim(committer.store, audit_seconds)
        self._period = min(1.0, lease_seconds / 4)
        self._capacity: dict[str, int] = {}
        self._put_off = 0
        self._stop = StopFlag()
        self._worker = worker or this_worker()

    def start(self) -> None:
        """Check due runs in a thread of their own, until `stop`; heartbeats have another, so that none is late."""
        threading.Thread(target=self._run, name="agentkit-recovery", daemon=True).start()
        threading.Thread(target=self._send_heartbeats, name="agentkit-heartbeat", daemon=True).start()

    def stop(self) -> None:
        self._stop.set()

    def _send_heartbeats(self) -> None:
        while not self._stop.is_set():
            try:
                about = msgspec.structs.replace(self._worker, clock_ms=now_ms() - self._store.now())
                self._store.heartbeat(about.name, max(5000, round(self._period * 5000)), about)
            except StoreUnavailableError:
                pass  # `_run` says so
            except Exception:
                log.exception("the heartbeat of this worker failed, and goes on")
            self._stop.wait(self._period)

    def _run(self) -> None:
        away = upgraded = upgraded_late = False
        late = time.monotonic() + _OLDER_WORKERS_SECONDS
        while not self._stop.is_set():
            try:
                if away:
                    self._stop.wait(_HOLDERS_FIRST_SECONDS)
                    begin_walk(self._store)
                    away = False
                if not upgraded:
                    index_runs(self._store)
                    index_items(self._store)
                    upgraded = True
                if not upgraded_late and time.monotonic() >= late:
                    index_items_of_older(self._store)
                    upgraded_late = True
                while self.sweep() == _BATCH and not self._stop.is_set():
                    pass
                self._trim.run()
            except StoreUnavailableError as error:
                away = True
                log.warning("recovery waits for the store, and tries again: %s", error)
            except Exception:
                log.exception("recovery failed, and goes on")
            self._stop.wait(self._period)

    def sweep(self) -> int:
        """Check the runs whose time has come, at most a batch; how many there were."""
        due = self._store.due(_BATCH, self._hold_ms)
        self._capacity.clear()
        for run in due:
            try:
                self._check(run)
            except StoreUnavailableError:
                raise
            except RunNotFoundError:
                self._store.unlist(run.run_id)  # it has expired, or was deleted, maybe since this check began
            except Exception as error:  # whatever is wrong with one run, the others are checked
                known = isinstance(error, AgentKitError)
                log.error(
                    "run %s could not be checked, and is checked again after a lease time: %s",
                    run.run_id,
                    error,
                    exc_info=None if known else error,
                )
                self._store.reschedule(run, self._store.now() + self._lease_ms)
        if len(due) < _BATCH:
            self._put_off = 0
        return len(due)

    def _check(self, run: DueRun) -> None:
        if is_walk(run):
            walk_on(self._committer, run)
            return
        try:
            state = self._store.load(run.run_id)
        except RunNotFoundError:
            self._check_gone(run)
            return
        checks = [] if not state.outbox or (at := self._outbox.recover(run.run_id)) is None else [at]
        now = self._store.now()
        record = state.record
        if record.terminal or not record.steps:
            self._settle(record)
        in_flight = repair_items(self._store, record, older_than_ms=self._lease_ms // 2)
        if record.terminal:
            self._store.reschedule(run, min([*checks, (record.ended_at or now) + self._retention_ms + 1000]))
            return
        agent = self._agent(record.agent)
        if self._committer.update(record.id, lambda state: expire(state, agent, now), state=state) is not None:
            log.info("run %s: an item expired", record.id)
            self._store.reschedule(run, min([*checks, now + self._lease_ms]))
            return
        if (before := self._committer.remind_ms()) is not None:
            update = self._committer.update(record.id, lambda state: remind(state, before, now), state=state)
            if update is not None:
                log.info("run %s: an item is about to expire, and people are reminded of it", record.id)
                return  # the commit has scheduled what comes next
        checks += [until + _SLACK_MS for until in state.live.values()]
        checks += self._committer.item_checks(record)
        if in_flight:
            checks.append(now + self._lease_ms)
        if self._children.reconcile(record):
            checks.append(now + self._lease_ms)
            if agent is not None and not record.steps:
                checks += self._check_time(record, agent, now)
        for step in record.steps:
            due = state.waits.get(step.number, step.at)
            if due is not None and due > now:
                checks.append(due)
            elif step.number not in state.live:
                begun = step.number in state.claimed and step.number not in state.waits
                checks.append(now + self._enqueue_again(record, step, begun=begun, waited=due is not None))
        if not checks and run.scheduled:
            checks.append(now + self._lease_ms)  # by then what it was scheduled for is true, or scheduled again
        self._store.reschedule(run, min(checks, default=None))

    def _check_gone(self, run: DueRun) -> None:
        """Forget a run that has expired or was deleted, once its outbox is empty."""
        at = self._outbox.recover(run.run_id)
        if at is None:
            self._store.unlist(run.run_id)
        else:
            self._store.reschedule(run, at)

    def _settle(self, record: RunRecord) -> None:
        """Have a run that waits stand in the list of its status, and one that has ended in no other status's.

        It entered the list by the commit that made it so, unless a worker of an older version made it.
        """
        self._store.index(record.id, record.owner, agent=record.agent, status=record.status_list)
        if self._store.was_deleted(record.id):  # it is in lists again, and nobody else takes it out
            raise RunNotFoundError(f"run {record.id} was deleted while it was checked")
        if record.terminal:
            others = [status for status in STATUS_LISTS if status != record.status_list]
            self._store.unindex(record.id, others, record.owner)

    def _check_time(self, record: RunRecord, agent: BoundAgent, now: int) -> list[int]:
        """End a run that only waits for children when its time is over; when to check it again."""
        left = time_left(record, agent, now)
        if left is None:
            return []
        if left > 0:
            return [now + round(left * 1000) + 1]

        def transition(state: RunState) -> Change | None:
            waits = not state.record.terminal and not state.record.steps
            return fail(state, *TIME_IS_OVER, now) if waits else None

        self._committer.update(record.id, transition)
        return []

    def _enqueue_again(self, record: RunRecord, step: Step, *, begun: bool, waited: bool) -> int:
        """Enqueue a step again, if its queue is not crowded; in how many ms to check it again.

        `begun`: whether somebody has claimed it and has not given it back. `waited`: whether it has waited for its
        time, and had no message.
        """
        queue = self._committer.queue_of(record, step)
        name = self._queue.name(step.kind, queue)
        if name not in self._capacity:
            self._capacity[name] = max(_TRICKLE, _CROWDED - self._queue.queued(name))
        if self._capacity[name] <= 0:
            self._put_off += 1
            return min(self._lease_ms, round(self._period * 1000) + self._put_off * _SPREAD_MS)
        self._capacity[name] -= 1
        log.info("run %s: step %s was due and nobody had it; enqueued again", record.id, step.number)
        self._committer.enqueue(record, step.number)
        if begun or not waited:
            self._observers.recovered(record.id, step.number, step.kind, "worker" if begun else "message")
        return self._lease_ms

    def _agent(self, name: str) -> BoundAgent | None:
        try:
            return self._committer.agents.bind(name)
        except AgentNotFoundError:
            return None
