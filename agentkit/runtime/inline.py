"""Steps that the caller of a kit executes in its own thread, in place of workers: what `kit.testing` stands on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from agentkit.agents import BoundAgent

if TYPE_CHECKING:
    from agentkit.runtime.engine import Engine

__all__ = ["Inline", "Substitute"]


@dataclass(frozen=True, slots=True)
class Inline:
    """How steps are executed where nobody may wait: a wait before a retry gives the step back, however short it is.

    A `def` tool without a timeout is executed in the thread of its step. `on_tool_error` is called with what a tool
    raised, before the result that the model is told is made of it.
    """

    on_tool_error: Callable[[BaseException], None]


class Substitute(Protocol):
    """Stands in for a kit's store, workers and models, until the kit is given back."""

    @property
    def engine(self) -> Engine:
        """What the kit's runs live in meanwhile."""
        ...

    def bind(self, bound: BoundAgent) -> BoundAgent:
        """Return the agent with other providers."""
        ...

    def drain(self) -> None:
        """Execute what is due."""
        ...
