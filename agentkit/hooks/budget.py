"""Budget warning: somebody is told when a run has used a share of its limits, before it ends by them."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from agentkit.core.messages import Json
from agentkit.errors import ConfigurationError
from agentkit.hooks.base import Middleware, ModelCall, StepInfo

__all__ = ["BudgetUse", "BudgetWarning"]

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class BudgetUse:
    """What a run has used of one limit. `cost` is in US dollars; `share`: the one that was passed, from 0 to 1."""

    what: Literal["cost", "tokens"]
    used: float
    limit: float
    share: float


class BudgetWarning(Middleware):
    """Calls `warn(ctx, use)` when a model call takes a run's cost or tokens past a share of `max_cost`, `max_tokens`.

    `shares`: from 0 to 1. `warn`: a plain function, by default a warning in the log. It is called once for each share
    and limit, and again where the model call is executed again; what it raises is logged. Sub-agents' runs count in
    their own.
    """

    def __init__(self, *shares: float, warn: Callable[[StepInfo, BudgetUse], object] | None = None) -> None:
        self._shares: Sequence[float] = sorted(shares or (0.8,))
        for share in self._shares:
            if not 0 < share <= 1:
                raise ConfigurationError(f"a share of a budget is over 0 and at most 1, not {share!r}")
        self._warn = warn or _log

    def around_model_call(self, ctx: StepInfo, request: ModelCall, call: Callable[..., Any]) -> Any:
        """Warn after an answer that passes a share."""
        answer = call(request)
        for use in self._passed(ctx, answer["usage"]):
            try:
                self._warn(ctx, use)
            except Exception:
                log.exception("run %s: the warning of its budget failed", ctx.run_id, extra=ctx.log_fields())
        return answer

    def _passed(self, ctx: StepInfo, usage: Json) -> Iterator[BudgetUse]:
        limits, before = ctx.limits, ctx.usage
        used: list[tuple[Literal["cost", "tokens"], float, float, float | None]] = [
            ("cost", before.cost.total, usage["cost"]["total"], limits.max_cost),
            ("tokens", before.total_tokens, usage["totalTokens"], limits.max_tokens),
        ]
        for what, was, more, limit in used:
            for share in self._shares if limit is not None else ():
                assert limit is not None
                if was < share * limit <= was + more:
                    yield BudgetUse(what, was + more, limit, share)


def _log(ctx: StepInfo, use: BudgetUse) -> None:
    text = "run %s has used %g of its %g %s, over %d %%"
    log.warning(text, ctx.run_id, use.used, use.limit, use.what, round(use.share * 100), extra=ctx.log_fields())
