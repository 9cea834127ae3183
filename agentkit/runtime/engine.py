"""A store, the way to its workers, and what executes steps in this process: what stands behind a kit."""

from __future__ import annotations

import threading
import time

from agentkit.core.record import TERMINAL, Status
from agentkit.queue.protocol import InlineQueue, StepQueue
from agentkit.runtime.commit import Agents, Committer
from agentkit.runtime.failpoints import with_failpoints
from agentkit.runtime.recovery import Recovery
from agentkit.runtime.shutdown import Shutdown
from agentkit.runtime.steps import StepRunner
from agentkit.settings import Settings
from agentkit.store.protocol import Store

__all__ = ["Engine", "celery_queue", "redis_store"]


_LOOK_SECONDS = 0.02


class Engine:
    """Made once per process: connections and threads do not survive a fork."""

    def __init__(
        self, store: Store, queue: StepQueue, agents: Agents, settings: Settings, stop: Shutdown | None = None
    ) -> None:
        self.store = store
        self.queue = queue
        self.committer = Committer(store, queue, agents, settings.lease_seconds)
        self._agents = agents
        self._settings = settings
        self._stop = stop
        self._lock = threading.Lock()
        self._runner: StepRunner | None = None

    @property
    def runner(self) -> StepRunner:
        """What executes steps in this process."""
        with self._lock:
            if self._runner is None:
                self._runner = StepRunner(
                    self.store,
                    self._agents,
                    self.queue,
                    lease_seconds=self._settings.lease_seconds,
                    max_attempts=self._settings.max_attempts,
                    flush_seconds=self._settings.flush_seconds,
                    stop=self._stop,
                    stop_grace_seconds=self._settings.stop_grace_seconds,
                )
            return self._runner

    def recovery(self) -> Recovery:
        """What finds due and forgotten runs, for a worker to start."""
        return Recovery(
            self.store,
            self._agents,
            self.queue,
            lease_seconds=self._settings.lease_seconds,
            retention_seconds=self._settings.retention_seconds,
        )

    def drain(self, run_id: str) -> None:
        """Execute what is due, where nobody else does, until the run ends or pauses; waits for what is due later."""
        assert isinstance(self.queue, InlineQueue)
        recovery = self.recovery()
        while True:
            while self.queue.waiting:
                self.runner.run(*self.queue.waiting.popleft())
            status = self.store.load(run_id).record.status
            if status in TERMINAL or status is Status.PAUSED:
                return
            if not recovery.sweep():
                time.sleep(_LOOK_SECONDS)


def redis_store(settings: Settings) -> Store:
    from agentkit.store.redis import RedisStore  # not needed, and not loaded, where a kit is used inline

    store = RedisStore(
        settings.redis_url,
        prefix=settings.key_prefix,
        retention_seconds=settings.retention_seconds,
        max_events=settings.max_events,
    )
    return with_failpoints(store)


def celery_queue(settings: Settings) -> StepQueue:
    from agentkit.queue.celery import CeleryQueue  # likewise

    return with_failpoints(CeleryQueue(settings))
