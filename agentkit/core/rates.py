"""Rates: what all workers together may ask of a model, and how a call asks for its share. Pure.

What counts, where it is kept and who comes next is the store's (`agentkit.store.shares`); when a step asks, and what
becomes of one that has to wait, is `agentkit.runtime.rates`.
"""

from __future__ import annotations

import math
import re
from dataclasses import KW_ONLY, dataclass
from typing import Literal

from agentkit.core.keywords import refuse_unknown_keywords
from agentkit.errors import ConfigurationError

__all__ = ["CallRequest", "CallSlot", "CallWait", "Rate", "RateBound", "WaitingStep"]

RateBound = Literal["concurrent", "requests", "tokens"]


@refuse_unknown_keywords
@dataclass(frozen=True, slots=True)
class Rate:
    """What all workers together may ask of the models that `model` names.

    `model`: a name `provider:model`, in which "*" stands for any text; "*" alone is every model. `requests`: calls that
    may begin within any `per` seconds. `tokens`: the tokens of all kinds that the calls which began within any `per`
    seconds may use. `concurrent`: calls that may go on at a time. None: without bound. All rates that name a model
    count. Raises ConfigurationError for other values.
    """

    model: str
    _: KW_ONLY
    requests: int | None = None
    tokens: int | None = None
    per: float = 60.0
    concurrent: int | None = None

    def __post_init__(self) -> None:
        model = self.model
        if not isinstance(model, str) or not (model == "*" or ":" in model) or not model.isprintable():
            raise ConfigurationError(
                f"Rate: {model!r:.100} names no model: write provider:model, with * for any text, as in 'openai:*'"
            )
        for name in ("requests", "tokens", "concurrent"):
            value = getattr(self, name)
            if value is not None and (not isinstance(value, int) or isinstance(value, bool) or value < 1):
                raise ConfigurationError(
                    f"Rate {model!r}: {name} must be a whole number over 0, or left out, not {value!r:.100}"
                )
        if self.requests is self.tokens is self.concurrent is None:
            raise ConfigurationError(f"Rate {model!r} bounds nothing: give requests, tokens or concurrent")
        per = self.per
        if isinstance(per, bool) or not isinstance(per, int | float) or not math.isfinite(per) or not 0 < per <= 10**7:
            raise ConfigurationError(f"Rate {model!r}: per must be a number of seconds over 0, not {per!r:.100}")

    @property
    def name(self) -> str:
        """What its counts are kept under: other bounds of the same name take over what was counted."""
        return f"{self.model}/{self.per:g}"

    @property
    def per_ms(self) -> int:
        return max(1, round(self.per * 1000))

    def matches(self, model: str) -> bool:
        """Whether it counts for the model `provider:model`."""
        return re.fullmatch(".*".join(map(re.escape, self.model.split("*"))), model, re.DOTALL) is not None

    def describe(self, bound: RateBound) -> str:
        """Say what one of its bounds allows, for people."""
        if bound == "concurrent":
            return f"{self.model} may have {self.concurrent} calls at a time"
        return f"{self.model} may have {getattr(self, bound)} {bound} in {self.per:g} s"


@dataclass(frozen=True, slots=True)
class WaitingStep:
    """A model step that waits for a call, and what it takes to enqueue it. `queue`: as `StepQueue.enqueue` takes it."""

    run_id: str
    number: int
    queue: str | None = None


@dataclass(frozen=True, slots=True)
class CallRequest:
    """A model call that asks for its share of `rates`. `id` names the call, and `step` what waits where it has to.

    `owner`: whose turn it takes among those that wait. `tokens`: an estimate of what it will use.
    """

    id: str
    step: WaitingStep
    rates: tuple[Rate, ...]
    owner: str = ""
    tokens: int = 0


@dataclass(frozen=True, slots=True)
class CallSlot:
    """A share that a call has, until it is given back or its lease ends. `woken`: steps whose turn it now is."""

    id: str
    rates: tuple[Rate, ...]
    woken: tuple[WaitingStep, ...] = ()


@dataclass(frozen=True, slots=True)
class CallWait:
    """A call has to wait because of the bound `bound` of `rate`; the step asks again after `delay_ms` at the latest.

    `woken`: steps whose turn it now is.
    """

    rate: Rate
    bound: RateBound
    delay_ms: int
    woken: tuple[WaitingStep, ...] = ()
