"""The backoff of everything that retries: how long to wait before the next attempt. Pure."""

from __future__ import annotations

import random
from dataclasses import dataclass

__all__ = ["Backoff"]

_random = random.SystemRandom()  # not Python's one sequence, which an application may seed and a fork repeats
_MAX_DOUBLINGS = 60  # beyond them every cap is reached, and a float may overflow


@dataclass(frozen=True, slots=True)
class Backoff:
    """Exponential backoff with full jitter (Brooker, Exponential Backoff and Jitter, AWS 2015).

    The wait before retry number n is drawn evenly from 0 to `base * 2**(n - 1)` seconds, at most `cap` seconds: many
    that failed together do not come back together. `base` and `cap` are seconds, 0 or more.
    """

    base: float
    cap: float

    def longest(self, attempt: int) -> float:
        """Return the upper bound in seconds of the wait before retry number `attempt`, which counts from 1."""
        return float(min(self.cap, self.base * 2 ** min(attempt - 1, _MAX_DOUBLINGS)))

    def delay(self, attempt: int) -> float:
        """Draw the seconds to wait before retry number `attempt`, which counts from 1."""
        return _random.uniform(0, self.longest(attempt))
