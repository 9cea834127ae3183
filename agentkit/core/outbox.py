"""What a commit causes outside its run: an entry of the record of answers, a notification.

An entry is written in the commit itself, so that no crash loses it, and removed when its act is done, so that every act
is done at least once. Entries of several kinds stand in one outbox, that of their run. Pure.
"""

from __future__ import annotations

from dataclasses import dataclass

from agentkit.core.messages import Json

__all__ = ["OutboxEntry"]


@dataclass(frozen=True, slots=True)
class OutboxEntry:
    """One act that is due outside a run. `id`: names it within its run; entries are carried out in the order of ids.

    `kind`: says what `data` means and who carries it out. `at`: not to be carried out before then (ms), 0 for at once.
    `tries`: how often somebody has taken it so far.
    """

    id: str
    kind: str
    data: Json
    at: int = 0
    tries: int = 0
