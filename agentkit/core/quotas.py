"""Quotas: what one principal may have of an installation. Pure."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import KW_ONLY, dataclass
from typing import Literal

from agentkit.core.keywords import refuse_unknown_keywords
from agentkit.errors import ConfigurationError

__all__ = ["Admission", "Quota", "QuotaFunction"]

Admission = Literal["admitted", "active_runs", "cost_per_day"]
"""What became of a start: the run counts as active now, or which bound of the quota is used up."""


@refuse_unknown_keywords
@dataclass(frozen=True, slots=True)
class Quota:
    """What a principal may have. None: without bound.

    `active_runs`: runs that have not ended, paused ones among them; 0 lets none begin. `cost_per_day`: US dollars that
    its runs may cost in a day of UTC before no more of them may begin. Raises ConfigurationError for other values.
    """

    _: KW_ONLY
    active_runs: int | None = None
    cost_per_day: float | None = None

    def __post_init__(self) -> None:
        runs, cost = self.active_runs, self.cost_per_day
        if runs is not None and (not isinstance(runs, int) or isinstance(runs, bool) or runs < 0):
            raise ConfigurationError(
                f"Quota: active_runs must be a whole number from 0, or left out for no bound, not {runs!r:.100}"
            )
        is_number = isinstance(cost, int | float) and not isinstance(cost, bool) and math.isfinite(cost)
        if cost is not None and not (is_number and cost >= 0):
            raise ConfigurationError(
                f"Quota: cost_per_day must be a number of dollars from 0, or left out for no bound, not {cost!r:.100}"
            )


QuotaFunction = Callable[[str | None], Quota | None]
"""`quota(principal)`: what a principal may have, None for no bounds. Of runs that nobody is named for, it is None."""
