"""What every store promises of the record of answers. Part of `StoreContract`."""

from __future__ import annotations

import itertools
import threading

from agentkit.core.audit import GENESIS, AnswerEntry, Chain, Verifier, header
from agentkit.core.events import ItemKind, PendingItem
from agentkit.core.ids import new_id
from agentkit.core.inbox import ItemFilter
from agentkit.core.record import Change, Resolution
from agentkit.store.protocol import Store
from agentkit.testing.store_changes import event, new_run, wait_for

__all__ = ["AuditContract", "answer", "check_chain"]

_THREADS = 8
_EACH = 10


def answer(
    decision_id: str | None = None,
    *,
    agent: str = "a",
    tool: str = "t",
    kind: ItemKind = "decision",
    owner: str | None = None,
) -> AnswerEntry:
    """Make an entry of the record."""
    return AnswerEntry(
        at=7,
        run_id="r",
        agent=agent,
        owner=owner,
        tool_name=tool,
        tool_call_id="c",
        decision_id=decision_id or new_id(),
        kind=kind,
        created_at=5,
        input_sha256="x",
        schema_sha256="y",
        outcome="decided",
        decision={"ü": [1.5, None]},
        decided_by="ann",
        decided_at=7,
    )


def check_chain(store: Store) -> int:
    """Check the chain that a store has; the number of its last entry."""
    chain = store.chain()
    verifier = Verifier(header(chain))
    if kept := chain.last - chain.first + 1:  # what comes meanwhile is not of this chain
        for line in store.chain_lines(chain.first - 1, kept):
            verifier.add(line)
    verifier.end()
    return chain.last


class AuditContract:
    """`StoreContract` supplies `make_store` and `store`."""

    def test_answers_are_chained_in_the_order_of_their_recording(self, store: Store) -> None:
        assert store.chain() == Chain(first=1, last=0, anchor=GENESIS, head=GENESIS)
        assert store.chain_lines(0, 10) == []
        entries = [answer() for _ in range(5)]
        for entry in entries:
            store.record_answer(entry)
        assert check_chain(store) == 5
        found = store.answers(None, 10, ItemFilter())
        assert [entry.decision_id for entry in found] == [entry.decision_id for entry in entries[::-1]]
        assert [entry.number for entry in found] == [5, 4, 3, 2, 1]
        assert [entry.previous for entry in found] == [*(entry.hash for entry in found[1:]), GENESIS]
        assert found[0].decision == {"ü": [1.5, None]}
        assert len(store.chain_lines(3, 10)) == 2
        assert len(store.chain_lines(0, 2)) == 2

    def test_an_answer_that_is_recorded_again_changes_nothing(self, store: Store) -> None:
        first = answer()
        store.record_answer(first)
        store.record_answer(answer())
        store.record_answer(first)
        assert check_chain(store) == 2

    def test_answers_of_an_agent_a_tool_and_an_owner_are_listed_without_others(self, store: Store) -> None:
        choices = list(itertools.product(("a", "b"), ("t", "a"), ("ann", "a", None)))
        for agent, tool, owner in choices:
            store.record_answer(answer(agent=agent, tool=tool, owner=owner))
        for asked in itertools.product((None, "a"), repeat=3):
            wanted = ItemFilter(agent=asked[0], tool=asked[1], owner=asked[2])
            numbers = [
                number
                for number, chosen in enumerate(choices, 1)
                if all(one in (None, other) for one, other in zip(asked, chosen, strict=True))
            ]
            found = [entry.number for entry in store.answers(None, 100, wanted) if entry.satisfies(wanted)]
            assert found == numbers[::-1]
        assert [entry.number for entry in store.answers(9, 2, ItemFilter(owner="a"))] == [8, 5]
        assert store.answers(1, 2, ItemFilter()) == store.answers(None, 2, ItemFilter(owner="eve")) == []

    def test_what_is_trimmed_leaves_a_chain_that_holds_and_goes_on(self, store: Store) -> None:
        for owner in ("ann", "bob", "ann", None):
            store.record_answer(answer(owner=owner))
        lines = store.chain_lines(0, 10)
        assert store.trim_answers(0, 10) == 0
        later = store.now() + 60_000
        assert store.trim_answers(later, 2) == 2
        assert (store.chain().first, store.chain_lines(0, 10)) == (3, lines[2:])
        assert check_chain(store) == 4
        assert [entry.number for entry in store.answers(None, 10, ItemFilter(owner="ann"))] == [3]
        assert store.answers(None, 10, ItemFilter(owner="bob")) == []
        assert store.trim_answers(later, 10) == 2
        chain = store.chain()
        assert (chain.first, chain.last, chain.anchor) == (5, 4, chain.head)
        assert check_chain(store) == 4
        store.record_answer(answer())
        assert check_chain(store) == 5

    def test_the_time_of_recording_counts_for_trimming(self, store: Store) -> None:
        store.record_answer(answer())
        began = store.now()
        wait_for(lambda: store.now() > began + 20, what="the store's clock")
        middle = store.now() - 10
        store.record_answer(answer())
        assert store.trim_answers(middle, 10) == 1
        assert check_chain(store) == 2

    def test_what_was_shown_is_read_as_long_as_the_run_is_there(self, store: Store) -> None:
        run_id = new_run(store)
        item = PendingItem(
            decision_id="d", tool_call_id="t", tool_name="x", kind="decision", input={"ü": 1}, schema={}, created_at=7
        )
        state = store.load(run_id)
        resolutions = (Resolution("d", "t", "decided", None, 0, item=item), Resolution("e", "u", "decided", None, 0))
        events = (event("tool_decision_resolved"),)
        store.commit(Change(state.record, state.record, events=events, resolutions=resolutions), state.version)
        asked = [(run_id, "e"), (run_id, "d"), (new_id(), "d"), (run_id, "f")]
        assert store.shown_items(asked) == [None, item, None, None]
        assert store.shown_items([]) == []

    def test_answers_that_come_at_once_are_all_in_the_chain(self, store: Store) -> None:
        def record() -> None:
            for _ in range(_EACH):
                store.record_answer(answer())

        threads = [threading.Thread(target=record) for _ in range(_THREADS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert check_chain(store) == _THREADS * _EACH
