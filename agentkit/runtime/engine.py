"""What stands behind a kit in one process: a store, the queue of its workers, and what changes and executes runs."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from agentkit.core.forks import ForkSafeLock
from agentkit.core.quotas import QuotaFunction
from agentkit.core.rates import Rate
from agentkit.core.record import TERMINAL, Status
from agentkit.core.workers import Worker
from agentkit.queue.protocol import InlineQueue, StepQueue
from agentkit.runtime.answers import RecordOfAnswers
from agentkit.runtime.children import Children
from agentkit.runtime.commit import Agents, Committer
from agentkit.runtime.deletion import delete
from agentkit.runtime.error_texts import ErrorTexts
from agentkit.runtime.failpoints import with_failpoints
from agentkit.runtime.flusher import Flusher
from agentkit.runtime.hooks import NO_HOOKS, Hooks
from agentkit.runtime.inline import Inline
from agentkit.runtime.leases import LeaseKeeper
from agentkit.runtime.metrics import Metrics
from agentkit.runtime.notifications import Notifications, Recipient
from agentkit.runtime.quotas import Quotas
from agentkit.runtime.rates import ModelRates
from agentkit.runtime.readiness import Prober, ServedQueues
from agentkit.runtime.recovery import Recovery
from agentkit.runtime.run_metrics import RunMetrics
from agentkit.runtime.shutdown import Shutdown
from agentkit.runtime.step_log import StepLog
from agentkit.runtime.steps import StepRunner
from agentkit.runtime.store_retry import StoreRetry
from agentkit.runtime.taps import Taps
from agentkit.runtime.timer import Timer
from agentkit.runtime.worker import this_worker
from agentkit.settings import Settings
from agentkit.store.protocol import Store

__all__ = ["Engine", "celery_queue", "redis_store"]


_POLL_SECONDS = 0.02
_LENGTHS_SECONDS = 0.5


class Engine:
    """Made once per process: connections and threads do not survive a fork."""

    def __init__(
        self,
        store: Store,
        queue: StepQueue,
        agents: Agents,
        settings: Settings,
        stop: Shutdown | None = None,
        texts: ErrorTexts | None = None,
        queues: Callable[[], Sequence[str]] = tuple,
        hooks: Hooks = NO_HOOKS,
        inline: Inline | None = None,
        recipients: Callable[[], Iterable[Recipient]] = tuple,
        remind_before: float | None = None,
        rates: Sequence[Rate] = (),
        worker: Callable[[], Worker] = this_worker,
        quota: QuotaFunction | None = None,
    ) -> None:
        """`hooks`: the application's. `inline`: set where the caller executes the steps.

        `queues` lists the names of those whose serving is to be shown; none where `queue` is not served by workers. It
        is called when they are first needed: it reads the configuration of the Celery application. `recipients` and
        `remind_before` as for Notifications. `rates`: what all workers together may ask of models.
        `worker`: describes the worker that this process is.
        `quota`: what a principal may have; without it nobody is held to anything.
        """
        self.store = store
        self.queue = queue
        self._settings = settings
        self._hooks = hooks
        self._rates = rates
        self._worker = worker
        self._inline = inline
        self._stop = stop or Shutdown()
        self._texts = texts or ErrorTexts()
        self._retry = StoreRetry(lambda: self._stop.requested)
        self.committer = Committer(store, queue, agents, settings.lease_seconds, self._retry)
        self.observers = self.committer.observers
        self.observers.add(StepLog())
        is_served = inline is None and not isinstance(queue, InlineQueue)
        self.metrics = Metrics(store) if is_served else Metrics(store, period=None)
        self.observers.add(RunMetrics(self.metrics, agents))
        self.committer.taps = Taps(store, hooks.taps, inline=isinstance(queue, InlineQueue))
        self._children = Children(self.committer)
        self.notifications = Notifications(
            store,
            queue,
            recipients,
            lease_seconds=settings.lease_seconds,
            remind_before=remind_before,
            stopping=lambda: self._stop.requested,
            inline=inline,
        )
        self.committer.outbox.add(self.notifications)
        self.committer.outbox.add(RecordOfAnswers(store, settings.audit_seconds))
        self.committer.remind_ms = lambda: self.notifications.remind_ms
        self.quotas = None if quota is None else Quotas(store, quota)
        if self.quotas is not None:
            self.committer.outbox.add(self.quotas)
        self._list_queues = queues
        self.served = ServedQueues(store, settings.ready_seconds)
        self._lock = ForkSafeLock()
        self._lengths_lock = ForkSafeLock()
        self._lengths: dict[str, int] | None = None
        self._lengths_until = 0.0
        self._runner: StepRunner | None = None

    @property
    def runner(self) -> StepRunner:
        """What executes steps in this process."""
        with self._lock:
            if self._runner is None:
                settings, timer = self._settings, Timer()
                keeper = LeaseKeeper(
                    self.store,
                    timer,
                    settings.lease_seconds,
                    self._stop,
                    settings.stop_grace_seconds,
                    self._worker().name,
                )
                self._runner = StepRunner(
                    self.committer,
                    self._children,
                    keeper,
                    timer,
                    self._retry,
                    self._texts,
                    Flusher(self.store, settings.flush_seconds, settings.flush_unfollowed_seconds),
                    ModelRates(self.committer.step_store, self.queue, self._rates, keeper.lease_ms),
                    lease_seconds=settings.lease_seconds,
                    max_attempts=settings.max_attempts,
                    on_progress=self._note_progress,
                    hooks=self._hooks,
                    inline=self._inline,
                    observers=self.observers,
                )
            return self._runner

    @functools.cached_property
    def queues(self) -> tuple[str, ...]:
        """The names of the queues whose serving is to be shown."""
        return tuple(self._list_queues())

    def _note_progress(self, queue: str | None) -> None:
        if queue in self.queues:
            self.served.note(queue)

    def prober(self) -> Prober:
        """Make what has the queues probed, for a worker to start."""
        return Prober(self.store, self.queue, self.queues, self._settings.ready_seconds)

    def recovery(self) -> Recovery:
        """Make what finds due and forgotten runs, for a worker to start."""
        return Recovery(
            self.committer,
            self._children,
            lease_seconds=self._settings.lease_seconds,
            retention_seconds=self._settings.retention_seconds,
            audit_seconds=self._settings.audit_seconds,
            worker=self._worker(),
        )

    def delete(self, run_id: str, *, force: bool, by: str | None) -> str | None:
        """Delete a run with the runs of its sub-agents; the run that waited for it. See `deletion.delete`."""
        return delete(self.committer, self._children, run_id, force=force, by=by)

    def queue_lengths(self) -> dict[str, int] | None:
        """Count the messages that wait in each of `queues`, as about a second ago; None where the broker is away.

        Anybody may ask, as often as they like, and each time would ask the broker.
        """
        with self._lengths_lock:
            if time.monotonic() >= self._lengths_until:
                is_up = self.queue.reachable()
                self._lengths = {name: self.queue.queued(name) for name in self.queues} if is_up else None
                self._lengths_until = time.monotonic() + _LENGTHS_SECONDS
            return self._lengths

    def drain(self, run_id: str) -> None:
        """Execute what is due, where nobody else does, until the run ends or pauses; waits for what is due later."""
        assert isinstance(self.queue, InlineQueue)
        recovery = self.recovery()
        while True:
            while waiting := self.queue.waiting:
                self.runner.run(*waiting.popleft())
            while notifications := self.queue.notifications:
                self.notifications.deliver(*notifications.popleft())
            status = self.store.load(run_id).record.status
            if status in TERMINAL or status is Status.PAUSED:
                return
            if not recovery.sweep():
                time.sleep(_POLL_SECONDS)


def redis_store(settings: Settings) -> Store:
    """Connect the store that the settings name."""
    from agentkit.store.redis import RedisStore  # not needed, and not loaded, where a kit is used inline

    store = RedisStore(
        settings.redis_url,
        prefix=settings.key_prefix,
        retention_seconds=settings.retention_seconds,
        max_events=settings.max_events,
    )
    return with_failpoints(store)


def celery_queue(settings: Settings, store_url: str, host: Any = None) -> StepQueue:
    """Connect the queue that the settings name; `store_url`: where the store is, "" for one that has no server.

    `host`: the Celery application that sends, where it is not one of our own.
    """
    from agentkit.queue.celery import CeleryQueue  # likewise

    return with_failpoints(CeleryQueue(settings, store_url, host))
