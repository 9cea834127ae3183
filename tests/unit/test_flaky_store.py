"""The store that fails on request does so as often as it says, and is a store otherwise."""

from __future__ import annotations

import pytest

from agentkit.errors import StoreUnavailableError
from agentkit.store.protocol import Conflict
from agentkit.testing.store_changes import claimed, new_run, step_done
from tests.flaky_store import ALWAYS, FlakyStore


def test_a_failed_call_does_nothing_and_a_lost_one_is_done() -> None:
    store = FlakyStore(fail={"index": 2}, lose={"index": 1})
    for listed in ([], [], ["r"]):
        with pytest.raises(StoreUnavailableError):
            store.index("r")
        assert store.listing(None, 10) == listed
    store.index("r")
    assert store.count == {"index": 4, "listing": 3}
    assert [call for call in store.calls if call.method == "index"] == [("index", ("r",))] * 2


def test_refused_changes_are_counted_as_conflicts() -> None:
    store = FlakyStore()
    claim = claimed(store, new_run(store))
    assert isinstance(store.commit(step_done(claim), claim.state.version - 1, claim.lease), Conflict)
    assert store.count["conflicts"] == 1


def test_a_store_may_fail_for_good_with_an_error_of_its_own_until_it_is_back() -> None:
    store = FlakyStore(error=lambda: StoreUnavailableError(retry_after=7))
    store.fail["check"] = ALWAYS
    for _ in range(3):
        with pytest.raises(StoreUnavailableError) as caught:
            store.check()
        assert caught.value.retry_after == 7
    store.fail.clear()
    store.check()


def test_a_method_that_no_store_has_cannot_fail() -> None:
    with pytest.raises(KeyError, match="comit"):
        FlakyStore(fail={"comit": 1})
