"""A store, the way to its workers, and what executes steps in this process: what stands behind a kit."""

from __future__ import annotations

import threading

from agentkit.ids import now_ms
from agentkit.record import Change
from agentkit.runtime.nudging import InlineNudger, Nudger
from agentkit.runtime.recovery import Recovery
from agentkit.runtime.steps import Agents, StepRunner, commit_change, nudge_all, pushes_of
from agentkit.settings import Settings
from agentkit.store.base import Commit, Store

__all__ = ["Engine", "celery_nudger", "redis_store"]


class Engine:
    """Made once per process: connections and threads do not survive a fork."""

    def __init__(self, store: Store, nudger: Nudger, agents: Agents, settings: Settings) -> None:
        self.store = store
        self.nudger = nudger
        self._agents = agents
        self._settings = settings
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

    def create(self, change: Change) -> None:
        """Make the run of `change`, unless one of its id is there, and tell of its first step."""
        run_id = change.record.id
        self.store.note(run_id, self._soon())
        self.store.index(run_id)
        pushes = pushes_of(self.nudger, change)
        if self.store.create(change, pushes) and not pushes:
            nudge_all(self.nudger, change)

    def commit(self, change: Change, version: int) -> Commit:
        """Make a change from outside a step true. Raises VersionConflictError."""
        if change.opened:
            self.store.note(change.record.id, self._soon())
        return commit_change(self.store, self.nudger, change, version)

    def drain(self) -> None:
        """Execute what is due, where nobody else does."""
        if isinstance(self.nudger, InlineNudger):
            while self.nudger.waiting:
                self.runner.run(*self.nudger.waiting.popleft())

    def _soon(self) -> int:
        """When to look whether a nudge arrived: well within a lease time."""
        return now_ms() + round(self._settings.lease_seconds * 500)


def redis_store(settings: Settings) -> Store:
    from agentkit.store.redis import RedisStore  # not needed, and not loaded, where a kit is used inline

    return RedisStore(
        settings.redis_url,
        prefix=settings.key_prefix,
        retention_seconds=settings.retention_seconds,
        max_events=settings.max_events,
    )


def celery_nudger(settings: Settings) -> Nudger:
    from agentkit.nudge import CeleryNudger  # likewise

    return CeleryNudger(settings)
