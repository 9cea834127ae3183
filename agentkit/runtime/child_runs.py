"""Which runs are those of a run's sub-agents.

The run names them where they were started, so that nothing is kept beside it: in the calls of the open turn, in the
results of earlier ones, and, of those that its end cut off, in its record.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from agentkit.core.messages import Json
from agentkit.core.record import RunRecord
from agentkit.errors import UnreadableRunError
from agentkit.store.protocol import Store

__all__ = ["children_of"]

_BATCH = 100


def children_of(store: Store, run_id: str) -> list[str]:
    """List the runs of the run's sub-agents that are there, the oldest turn's last.

    Raises RunNotFoundError for the run, and UnreadableRunError for it or one of them.
    """
    state, messages = store.messages(run_id)
    named = list(dict.fromkeys(_named(state.record, messages)))
    found: list[str] = []
    for first in range(0, len(named), _BATCH):
        ids = named[first : first + _BATCH]
        for child, child_state in zip(ids, store.loads(ids), strict=True):
            if isinstance(child_state, UnreadableRunError):
                raise child_state
            parent = None if child_state is None else child_state.record.parent
            if parent is not None and parent.run_id == run_id:  # any tool may write a run's id into its details
                found.append(child)
    return found


def _named(record: RunRecord, messages: Sequence[Json]) -> Iterator[str]:
    details = [call.result.details for call in record.calls if call.result]
    details += [message.get("details") for message in messages if message["role"] == "toolResult"]
    named = [*(call.child for call in record.calls), *record.orphans]
    named += [each.get("runId") for each in details if isinstance(each, dict)]
    return (child for child in named if isinstance(child, str))
