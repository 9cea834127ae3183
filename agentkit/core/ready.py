"""Steps that are ready to be executed, and how urgent an agent's are. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from agentkit.core.record import StepKind

__all__ = ["MOST_URGENT", "ReadyStep"]

MOST_URGENT = 9
"""The highest priority; 0 is the lowest, and the default."""


@dataclass(frozen=True, slots=True)
class ReadyStep:
    """A step that stands in the ready set of a queue, and what a message of it says."""

    run_id: str
    number: int
    kind: StepKind
