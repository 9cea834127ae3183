"""Keeps the leases of a process's steps alive, and learns by that what becomes of their runs.

All leases are renewed in one round trip, every `HEARTBEAT_SECONDS` or thrice a lease time, whichever is
shorter: the same round trip says that a run is to be aborted, which a step must learn within a second. A step that has
just written, and learned it by that, is left out until a tenth of its lease is over. As often it is checked whether the
worker is to stop.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from agentkit.core.calls import Call
from agentkit.core.cancellation import Cancellation
from agentkit.core.rates import CallSlot
from agentkit.core.record import Lease, RunState, Step
from agentkit.errors import StoreError
from agentkit.runtime.shutdown import Shutdown
from agentkit.runtime.timer import Timer
from agentkit.store.protocol import Claim, LeaseStatus, Store

__all__ = ["Held", "LeaseKeeper"]

log = logging.getLogger(__name__)

HEARTBEAT_SECONDS = 0.25


@dataclass(eq=False)
class Held:
    """A step in execution. `cancel` fires with the reason abort, lost, stop or deadline.

    `waiting`: between two tries of a model call, with nothing under way that a stop would spoil. `slot`: the share that
    its model call has of what all workers may ask. `next_claim`: of the run's next step, where that was claimed by the
    commit of this one.
    """

    claim: Claim
    cancel: Cancellation = field(default_factory=Cancellation)
    since: float = field(default_factory=time.monotonic)
    waiting: bool = False
    slot: CallSlot | None = None
    next_claim: Claim | None = None
    noted: float = 0.0
    """When the store was last told who holds it."""
    observed: float = 0.0
    """When the store last said what becomes of it."""
    renewed: float = field(default_factory=time.monotonic)

    @property
    def lease(self) -> Lease:
        return self.claim.lease

    @property
    def state(self) -> RunState:
        return self.claim.state

    @property
    def call(self) -> Call | None:
        return self.claim.call

    @property
    def step(self) -> Step | None:
        """The step as its run has it."""
        return self.state.record.step(self.lease.step)

    def observe(self, status: LeaseStatus) -> None:
        """Cancel what is executed, where a round trip said that the step is lost or the run is to be aborted."""
        self.observed = time.monotonic()
        if status is LeaseStatus.LOST:
            self.cancel.cancel("lost")
        elif status is LeaseStatus.ABORT:
            self.cancel.cancel("abort")


class LeaseKeeper:
    """Of one process. `stop`: what asks it to stop; `grace_seconds`: how long model calls may go on then.

    `worker`: the name of the worker that the process is, or belongs to.
    """

    def __init__(
        self,
        store: Store,
        timer: Timer,
        lease_seconds: float,
        stop: Shutdown | None = None,
        grace_seconds: float = 0.0,
        worker: str = "",
    ) -> None:
        self._store = store
        self._timer = timer
        self.lease_ms = round(lease_seconds * 1000)
        self._period = min(HEARTBEAT_SECONDS, lease_seconds / 3)
        self._stop = stop or Shutdown()
        self._grace_seconds = grace_seconds
        self._worker = worker
        self._grace_ends: float | None = None
        self._lock = threading.Lock()
        self._held: list[Held] = []
        self._beating = False

    def hold(self, claim: Claim) -> Held:
        held = Held(claim)
        with self._lock:
            self._held.append(held)
            if not self._beating:
                self._beating = True
                self._timer.call_later(self._period, self._beat)
        return held

    def drop(self, held: Held) -> None:
        with self._lock:
            self._held.remove(held)

    def busy(self) -> int:
        """Count the steps that this process executes."""
        with self._lock:
            return len(self._held)

    def stopping(self) -> bool:
        """Whether this worker is to stop: it must begin nothing that another could do."""
        return self._stop.requested

    def _beat(self) -> None:
        with self._lock:
            held = list(self._held)
            if not held:
                self._beating = False
                return
        started = time.monotonic()
        older = [each for each in held if started - each.since >= self._period]  # most steps are over before that
        due = [each for each in older if self._is_due(each, started)]
        try:
            if self._stop.requested:
                self._stop_model_calls(held, started)
            statuses = self._store.renew([each.lease for each in due], self.lease_ms) if due else []
            for each, status in zip(due, statuses, strict=True):
                each.renewed = started
                _observe(each, status)
            if slots := [each.slot for each in older if each.slot is not None]:
                self._store.renew_calls(slots, self.lease_ms)
            self._note(older, started)
        except StoreError as error:
            log.warning("the leases of %d steps could not be renewed, which is tried again: %s", len(older), error)
        except Exception:
            log.exception("the heartbeat of %d steps failed, which is tried again", len(older))
        finally:
            self._timer.call_later(max(0.02, self._period - (time.monotonic() - started)), self._beat)

    def _is_due(self, held: Held, now: float) -> bool:
        return now - held.observed >= self._period or now - held.renewed >= self.lease_ms / 10_000

    def _note(self, held: Sequence[Held], now: float) -> None:
        """Note who holds these steps, thrice a lease time: what is over before the first heartbeat never is."""
        due = [each for each in held if not each.noted or now - each.noted >= self.lease_ms / 3000]
        if due:
            self._store.note_holders([each.lease for each in due], self._worker, self.lease_ms)
            for each in due:
                each.noted = now

    def _stop_model_calls(self, held: list[Held], now: float) -> None:
        """Stop model calls whose grace is over where they are, so that other workers take them; tools are finished."""
        if self._grace_ends is None:
            self._grace_ends = now + self._grace_seconds
        over = self._stop.at_once or now >= self._grace_ends
        for each in held:
            step = each.step
            if step is not None and step.kind == "model" and (over or each.waiting):
                each.cancel.cancel("stop")


def _observe(held: Held, status: LeaseStatus) -> None:
    """Have a step act on its status; what fails in that keeps no other step from learning of its own."""
    try:
        held.observe(status)
    except Exception:
        log.exception("step %s of run %s could not be cancelled", held.lease.step, held.lease.run_id)
