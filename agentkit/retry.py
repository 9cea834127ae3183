"""When a failed model call is tried again: the policy that an application sets, and its arithmetic."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass

from agentkit.errors import ConfigurationError, ProviderError

__all__ = ["RetryPolicy"]


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """Try a model call again after a failure that may pass (408, 409, 425, 429, 5xx, a broken connection or stream).

    `attempts`: calls in all, the first among them. `base`: seconds; before the nth retry the wait is drawn
    evenly from 0 to base * 2**(n-1) ("full jitter": Brooker, Exponential Backoff and Jitter, AWS 2015), at
    most `cap` seconds. `deadline`: seconds from the first failure, after which no further call begins; a
    vendor's Retry-After is honoured beyond `cap`, but within it.
    """

    attempts: int = 3
    base: float = 0.5
    cap: float = 30.0
    deadline: float = 120.0

    def __post_init__(self) -> None:
        if not isinstance(self.attempts, int) or self.attempts < 1:
            raise ConfigurationError(f"RetryPolicy: attempts must be a whole number over 0, not {self.attempts!r}")
        for name in ("base", "cap", "deadline"):
            value = getattr(self, name)
            if not isinstance(value, int | float) or not math.isfinite(value) or value < 0:
                raise ConfigurationError(f"RetryPolicy: {name} must be a number of seconds, not {value!r}")

    def delay(self, error: ProviderError, tries: int, waited: float) -> float | None:
        """Seconds to wait before the next call after `tries` calls; None where there is to be none.

        `waited`: seconds since the first failure.
        """
        if not error.retryable or tries >= self.attempts:
            return None
        delay = random.uniform(0, min(self.cap, self.base * 2 ** min(tries - 1, 60)))
        if error.retry_after is not None:
            delay = max(delay, error.retry_after)
        return delay if waited + delay <= self.deadline else None
