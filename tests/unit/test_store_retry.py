"""How steps outlast a store that is away."""

from __future__ import annotations

import pytest

from agentkit.errors import StoreError, StoreUnavailableError
from agentkit.runtime.store_retry import RetryingStore, StoreRetry
from agentkit.store.protocol import Commit
from agentkit.testing.store_changes import LEASE_MS, new_run, step_done
from tests.flaky_store import FlakyStore


def test_a_claim_and_a_commit_whose_replies_were_lost_in_an_outage_are_done_once() -> None:
    flaky = FlakyStore(lose={"claim": 1, "commit": 1})
    store = RetryingStore(flaky, StoreRetry())
    run_id = new_run(store)
    claim = store.claim(run_id, 1, LEASE_MS)
    assert claim is not None
    assert claim.lease.attempt == 1
    commit = store.commit(step_done(claim), claim.state.version, claim.lease)
    assert (flaky.count["claim"], flaky.count["commit"]) == (2, 2)
    assert isinstance(commit, Commit)
    assert commit.version == store.load(run_id).version == claim.state.version + 1


def failing(error: Exception, calls: list[None]) -> None:
    calls.append(None)
    raise error


def test_a_stopping_process_and_one_that_waited_long_enough_give_up() -> None:
    with pytest.raises(StoreUnavailableError):
        StoreRetry(seconds=0).call(lambda: failing(StoreUnavailableError(), []))
    calls: list[None] = []
    with pytest.raises(StoreUnavailableError):
        StoreRetry(lambda: len(calls) > 2, stopping_seconds=0).call(lambda: failing(StoreUnavailableError(), calls))
    assert len(calls) == 3


def test_an_error_that_is_no_outage_is_not_tried_again() -> None:
    calls: list[None] = []
    with pytest.raises(StoreError):
        StoreRetry().call(lambda: failing(StoreError(), calls))
    assert len(calls) == 1
