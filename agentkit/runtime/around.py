"""Enters what the application puts around every step: `AgentKit(around_step=…)`, and that of its middleware."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from typing import Any

from agentkit.hooks import AroundStep, StepInfo

__all__ = ["nested", "nothing_around"]


def nothing_around(_: StepInfo) -> AbstractContextManager[Any]:
    """Put nothing around a step."""
    return nullcontext()


def nested(around: Sequence[AroundStep]) -> AroundStep:
    """Make one of several, of which the first is the outermost."""
    if not around:
        return nothing_around
    if len(around) == 1:
        return around[0]

    @contextmanager
    def all_around(step: StepInfo) -> Iterator[None]:
        with ExitStack() as stack:
            for each in around:
                stack.enter_context(each(step))
            yield

    return all_around
