"""A store, the way to its workers, and what executes steps in this process: what stands behind a kit."""

from __future__ import annotations

import threading
import time

from agentkit.faults import guarded
from agentkit.record import TERMINAL, Status
from agentkit.runtime.commits import Agents, Committer
from agentkit.runtime.nudging import InlineNudger, Nudger
from agentkit.runtime.recovery import Recovery
from agentkit.runtime.steps import StepRunner
from agentkit.runtime.stopping import Stop
from agentkit.settings import Settings
from agentkit.store.base import Store

__all__ = ["Engine", "celery_nudger", "redis_store"]


_LOOK_SECONDS = 0.02


class Engine:
    """Made once per process: connections and threads do not survive a fork."""

    def __init__(
        self, store: Store, nudger: Nudger, agents: Agents, settings: Settings, stop: Stop | None = None
    ) -> None:
        self.store = store
        self.nudger = nudger
        self.committer = Committer(store, nudger, agents, settings.lease_seconds)
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
                    self.nudger,
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
            self.nudger,
            lease_seconds=self._settings.lease_seconds,
            retention_seconds=self._settings.retention_seconds,
        )

    def drain(self, run_id: str) -> None:
        """Execute what is due, where nobody else does, until the run ends or pauses; waits for what is due later."""
        assert isinstance(self.nudger, InlineNudger)
        recovery = self.recovery()
        while True:
            while self.nudger.waiting:
                self.runner.run(*self.nudger.waiting.popleft())
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
    return guarded(store)


def celery_nudger(settings: Settings) -> Nudger:
    from agentkit.nudge import CeleryNudger  # likewise

    return guarded(CeleryNudger(settings))
