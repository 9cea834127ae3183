"""The lists of runs that a store keeps: of all, of an owner, of an agent, of a status, and each owner's by these.

A run enters the list of a status before it has that status, and leaves it later, since no act spans a run and a list.
So a list may hold runs that do not belong there; it lacks none.
"""

from __future__ import annotations

from agentkit.core.record import StatusList

__all__ = ["list_name", "lists_of"]


def list_name(owner: str | None, agent: str | None, status: StatusList | None) -> str:
    """Name the list of an owner's runs, or of all, that holds those of a status, else those of an agent, else each."""
    name = "" if agent is None and status is None else f":agent:{agent}" if status is None else f":status:{status}"
    return name if owner is None else f"{name}:of:{owner}"


def lists_of(owner: str | None, agent: str | None, status: StatusList | None) -> list[str]:
    """Name all lists that a run belongs to."""
    owners = [None] if owner is None else [None, owner]
    kinds: list[tuple[str | None, StatusList | None]] = [(None, None)]
    if agent is not None:
        kinds.append((agent, None))
    if status is not None:
        kinds.append((None, status))
    return [list_name(of, *kind) for of in owners for kind in kinds]
