"""Ends what is done for a run when its time, its limits' `timeout`, is used up."""

from __future__ import annotations

import time
import weakref

from agentkit.agents import BoundAgent
from agentkit.core.record import RunRecord
from agentkit.runtime.leases import Held
from agentkit.runtime.timer import Timer

__all__ = ["TIME_IS_OVER", "time_left", "watch"]

TIME_IS_OVER = ("limit_time", "the run has used up its time (timeout)")
"""The error of a run that ends by it: code and message."""
_CHECK_SECONDS = 5.0


def time_left(record: RunRecord, agent: BoundAgent, now: int) -> float | None:
    """Compute the seconds that a run has left, at most 0 where its time is over; None while paused or without end.

    `now`: the time of the store's clock, ms.
    """
    timeout = agent.agent.limits.override(record.limits).timeout
    if timeout is None or record.active_since is None:
        return None
    return timeout - (record.active_ms + now - record.active_since) / 1000


def watch(timer: Timer, held: Held, agent: BoundAgent, now: int) -> None:
    """Cancel what a worker does for a run, for the reason "deadline", when the run's time is over.

    `now`: the time of the store's clock, ms.
    """
    left = time_left(held.state.record, agent, now)
    if left is None:
        return
    ends = time.monotonic() + left
    cancel = weakref.ref(held.cancel)

    def check() -> None:
        alive = cancel()
        if alive is None:
            return
        left = ends - time.monotonic()
        if left <= 0:
            alive.cancel("deadline")
        else:  # in small parts: a timer for the whole would outlive the step, by years if somebody asks for them
            timer.call_later(min(left, _CHECK_SECONDS), check)

    check()
