"""What an application puts around every step: a context, a connection, a span (`AgentKit(around_step=…)`)."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

from agentkit.core.record import StepKind

__all__ = ["AroundStep", "StepInfo", "nothing_around"]


@dataclass(frozen=True, slots=True)
class StepInfo:
    """The step that is about to be executed, as `around_step` is passed it.

    `number`: of the step in its run, from 1. `kind`: "model" for a model call, "tool" for the execution of a tool,
    whose name is `tool`. `attempt`: which execution of the step this is, from 1. `owner`: the principal that started
    the run, None where nobody is named.
    """

    run_id: str
    number: int
    kind: StepKind
    agent: str
    attempt: int
    owner: str | None = None
    tool: str | None = None


AroundStep = Callable[[StepInfo], AbstractContextManager[Any]]
"""Makes the context manager that a step is executed within. It is entered and left in the thread that executes a model
call or a `def` tool, and around an `async def` tool in the thread that waits for it; context variables that it sets
reach either. A tool's own exception passes through it. What it raises itself fails the step as a crash would: the step
is tried again a few times, and a tool of effects "once" is in doubt."""


def nothing_around(_: StepInfo) -> AbstractContextManager[Any]:
    """Put nothing around a step."""
    return nullcontext()
