"""What every store promises of what is divided: no rate and no quota is exceeded, and turns go round.

Part of `StoreContract`.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Sequence

from agentkit.core.forks import ForkSafeLock
from agentkit.core.ids import random_id
from agentkit.core.rates import CallRequest, CallSlot, CallWait, Rate, WaitingStep
from agentkit.core.ready import ReadyStep
from agentkit.core.record import Step
from agentkit.store.protocol import Store
from agentkit.testing.store_changes import LEASE_MS, claimed, new_run, step_done, wait_for

__all__ = ["SharesContract"]

WAKE_MS = 60_000
TWO = Rate("m:*", concurrent=2)


def ask(run: str, *rates: Rate, owner: str = "", tokens: int = 0) -> CallRequest:
    return CallRequest(random_id(), WaitingStep(run, 1, "q"), rates, owner, tokens)


def take(store: Store, request: CallRequest, wake_ms: int = WAKE_MS) -> CallSlot | CallWait:
    return store.take_call(request, LEASE_MS, wake_ms)


def taken(store: Store, request: CallRequest) -> CallSlot:
    slot = take(store, request)
    assert isinstance(slot, CallSlot), slot
    return slot


def waits(store: Store, request: CallRequest, wake_ms: int = WAKE_MS) -> CallWait:
    wait = take(store, request, wake_ms)
    assert isinstance(wait, CallWait), wait
    return wait


def settled(store: Store, slot: CallSlot, tokens: int | None = None, wake_ms: int = WAKE_MS) -> list[str]:
    """The runs that are woken."""
    return runs_of(store.settle_call(slot, tokens, LEASE_MS, wake_ms))


def runs_of(steps: Sequence[WaitingStep]) -> list[str]:
    return sorted(step.run_id for step in steps)


def ready(run: str, number: int) -> ReadyStep:
    return ReadyStep(run, number, "tool")


def taken_name(store: Store, queue: str) -> str | None:
    found = store.take_ready([queue], None)
    if found is None:
        return None
    assert found != "absent"
    step, name = found
    assert (step.kind, name) == ("tool", queue)
    return f"{step.run_id}-{step.number}"


def order(store: Store, queue: str) -> list[str]:
    """The steps that are taken until none is left."""
    return [*iter(lambda: taken_name(store, queue) or "", "")]


class SharesContract:
    """`StoreContract` supplies `store`."""

    # -- calls at a time ---------------------------------------------------------------------------

    def test_calls_beyond_the_rate_wait_and_are_woken_one_by_one_in_their_order(self, store: Store) -> None:
        slots = [taken(store, ask(run, TWO)) for run in ("a", "b")]
        for run in ("c", "d", "e"):
            wait = waits(store, ask(run, TWO))
            assert (wait.rate, wait.bound, wait.woken) == (TWO, "concurrent", ())
            assert LEASE_MS - 1000 < wait.delay_ms < LEASE_MS + 1000
        assert settled(store, slots[0]) == ["c"]
        assert settled(store, slots[0]) == []
        slots.append(taken(store, ask("c", TWO)))
        assert settled(store, slots[1]) == ["d"]

    def test_nobody_takes_what_another_was_woken_for(self, store: Store) -> None:
        one = Rate("m:*", concurrent=1)
        slot = taken(store, ask("a", one))
        waits(store, ask("b", one))
        assert settled(store, slot) == ["b"]
        waits(store, ask("late", one))
        assert store.is_woken(ask("b", one))
        assert not store.is_woken(ask("late", one))
        taken(store, ask("b", one))

    def test_a_woken_step_that_does_not_come_loses_its_place(self, store: Store) -> None:
        one = Rate("m:*", concurrent=1)
        slot = taken(store, ask("a", one))
        waits(store, ask("b", one))
        waits(store, ask("c", one))
        assert settled(store, slot, wake_ms=20) == ["b"]
        wait_for(lambda: settled(store, slot) == ["c"], "the next one's turn")
        waits(store, ask("b", one))

    def test_a_step_that_will_not_come_waits_no_more(self, store: Store) -> None:
        slots = [taken(store, ask(run, TWO)) for run in ("a", "b")]
        for run in ("c", "d"):
            waits(store, ask(run, TWO))
        store.leave_calls(ask("c", TWO))
        assert settled(store, slots[0]) == ["d"]

    def test_turns_go_round_the_owners_that_wait(self, store: Store) -> None:
        one = Rate("m:*", concurrent=1)
        slot = taken(store, ask("a0", one, owner="ann"))
        requests = {run: ask(run, one, owner="ann") for run in ("a1", "a2", "a3")}
        requests |= {run: ask(run, one, owner="bob") for run in ("b1", "b2")}
        for request in requests.values():
            waits(store, request)
        order = []
        for _ in range(5):
            [run] = settled(store, slot)
            order.append(run)
            slot = taken(store, requests[run])
        assert Counter(run[0] for run in order[:4]) == Counter(a=2, b=2)
        assert [run for run in order if run[0] == "a"] == ["a1", "a2", "a3"]

    def test_a_share_ends_with_its_lease_unless_it_is_renewed(self, store: Store) -> None:
        one = Rate("m:*", concurrent=1)
        began = store.now()
        slot = store.take_call(ask("a", one), 300, WAKE_MS)
        assert isinstance(slot, CallSlot)
        store.renew_calls([slot], LEASE_MS)
        lost = store.take_call(ask("b", Rate("n:*", concurrent=1)), 20, WAKE_MS)
        assert isinstance(lost, CallSlot)
        request = ask("c", Rate("n:*", concurrent=1))
        wait_for(lambda: isinstance(take(store, request), CallSlot), "the lease to end")
        wait_for(lambda: store.now() > began + 300, "the first lease to have ended")
        waits(store, ask("d", one))
        store.renew_calls([lost], LEASE_MS)
        waits(store, ask("e", Rate("n:*", concurrent=1)))

    def test_a_request_that_is_made_again_takes_no_second_share(self, store: Store) -> None:
        request = ask("a", TWO)
        assert taken(store, request) == taken(store, request)
        taken(store, ask("b", TWO))

    def test_a_rate_is_never_exceeded_and_nobody_is_forgotten(self, store: Store) -> None:
        """Steps of four owners come and go in eight threads, each woken by those before it."""
        ready = [ask(f"run-{n}", TWO, owner=f"owner-{n % 4}") for n in range(60)]
        lock, going, most, done = ForkSafeLock(), 0, 0, 0
        requests = {request.step: request for request in ready}

        def work() -> None:
            nonlocal going, most, done
            while done < 60:
                with lock:
                    request = ready.pop() if ready else None
                if request is None:
                    threading.Event().wait(0.001)
                    continue
                reply = take(store, request)
                woken = list(reply.woken)
                if isinstance(reply, CallSlot):
                    with lock:
                        going += 1
                        most = max(most, going)
                    with lock:
                        going -= 1
                        done += 1
                    woken += store.settle_call(reply, None, LEASE_MS, WAKE_MS)
                with lock:
                    ready.extend(requests[step] for step in woken)

        threads = [threading.Thread(target=work) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert done == 60
        assert most <= 2

    # -- calls and tokens in a time ----------------------------------------------------------------

    def test_no_more_calls_begin_in_a_time_than_the_rate_has(self, store: Store) -> None:
        rate = Rate("m:*", requests=2, per=0.3)
        began = store.now()
        for run in ("a", "b"):
            settled(store, taken(store, ask(run, rate)))
        wait = waits(store, ask("c", rate))
        assert wait.bound == "requests"
        assert 50 <= wait.delay_ms <= 301
        wait_for(lambda: isinstance(take(store, ask("c", rate)), CallSlot), "the time to be over")
        assert store.now() - began >= 300

    def test_those_that_wait_for_a_time_learn_when_their_turn_is(self, store: Store) -> None:
        rate = Rate("m:*", requests=1, per=100)
        taken(store, ask("a", rate))
        delays = [waits(store, ask(run, rate)).delay_ms for run in ("b", "c", "d")]
        assert [round(delay / 100_000) for delay in delays] == [1, 2, 3]

    def test_tokens_are_estimated_first_and_counted_as_they_were_used(self, store: Store) -> None:
        rate = Rate("m:*", tokens=100)
        first = taken(store, ask("a", rate, tokens=80))
        wait = waits(store, ask("b", rate, tokens=30))
        assert wait.bound == "tokens"
        assert 59_000 < wait.delay_ms < 61_000
        assert settled(store, first, tokens=60) == ["b"]
        second = taken(store, ask("b", rate, tokens=30))
        assert settled(store, second, tokens=None) == []
        assert settled(store, second, tokens=40) == []
        waits(store, ask("c", rate, tokens=1))

    def test_a_call_of_more_tokens_than_a_rate_has_waits_until_none_are_in_use(self, store: Store) -> None:
        rate = Rate("m:*", tokens=100)
        taken(store, ask("a", rate, tokens=500))
        waits(store, ask("b", rate, tokens=1))

    def test_a_small_call_does_not_overtake_a_large_one(self, store: Store) -> None:
        rate = Rate("m:*", tokens=100)
        taken(store, ask("a", rate, tokens=50))
        waits(store, ask("large", rate, tokens=80))
        waits(store, ask("small", rate, tokens=1))

    # -- several rates -----------------------------------------------------------------------------

    def test_a_call_takes_its_share_of_all_of_its_rates_or_of_none(self, store: Store) -> None:
        wide, narrow = Rate("*", concurrent=2), Rate("m:*", concurrent=1)
        first = taken(store, ask("a", wide, narrow))
        wait = waits(store, ask("b", wide, narrow))
        assert wait.rate == narrow
        other = taken(store, ask("c", wide))
        assert settled(store, first) == ["b"]
        settled(store, taken(store, ask("b", wide, narrow)))
        settled(store, other)
        taken(store, ask("d", wide, narrow))

    # -- steps that wait ---------------------------------------------------------------------------

    def test_a_step_given_back_until_a_time_is_due_then_and_may_be_claimed_before(self, store: Store) -> None:
        run_id = new_run(store)
        claim = claimed(store, run_id)
        until = store.now() + LEASE_MS
        store.release(claim.lease, untouched=True, until=until)
        state = store.load(run_id)
        assert (state.live, dict(state.waits)) == ({}, {1: until})
        again = claimed(store, run_id)
        assert (again.lease.attempt, again.state.waits) == (1, {})
        assert again.lease.token > claim.lease.token
        assert store.claim(run_id, 1, LEASE_MS) is None

    def test_a_step_that_is_due_later_does_not_wait_so(self, store: Store) -> None:
        run_id = new_run(store)
        claim = claimed(store, run_id)
        opened = Step(2, "model", at=store.now() + LEASE_MS)
        store.commit(step_done(claim, opens=(opened,)), claim.state.version, claim.lease)
        assert store.load(run_id).waits == {}
        assert store.claim(run_id, 2, LEASE_MS) is None

    # -- pauses ------------------------------------------------------------------------------------

    def test_a_model_is_paused_until_the_latest_time_that_is_known(self, store: Store) -> None:
        assert store.paused_models() == {}
        until = store.now() + LEASE_MS
        for at in (until - 10, until, until - 20):
            store.pause_model("m:x", at)
        store.pause_model("m:y", store.now() + 20)
        wait_for(lambda: store.paused_models() == {"m:x": until}, "the short pause to be over")

    # -- quotas ------------------------------------------------------------------------------------

    def test_two_starts_at_once_cannot_both_take_the_last_place(self, store: Store) -> None:
        admitted = []

        def start(number: int) -> None:
            admitted.append(store.admit_run("ann", f"run-{number}", 1, 3, None))

        threads = [threading.Thread(target=start, args=(number,)) for number in range(12)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert Counter(admitted) == {"admitted": 3, "active_runs": 9}
        assert store.admit_run("bob", "other", 1, 3, None) == "admitted"

    def test_a_run_that_counts_is_admitted_again_and_leaves_once(self, store: Store) -> None:
        before = store.now()
        for _ in range(2):
            assert store.admit_run("", "a", 1, 1, None) == "admitted"
        assert store.admit_run("", "b", 1, 1, None) == "active_runs"
        [(run_id, since)] = store.active_runs("")
        assert run_id == "a"
        assert before - 100 <= since <= store.now() + 100  # read here, the store's clock is off by up to a round trip
        for _ in range(2):
            store.leave_run("", "a")
        assert store.active_runs("") == []
        assert store.admit_run("", "b", 1, 1, None) == "admitted"

    def test_a_cost_counts_once_however_often_and_in_whatever_order_it_is_told(self, store: Store) -> None:
        for before, after in ((0, 30), (30, 70), (0, 30), (70, 99), (30, 70)):
            store.count_cost("ann", "a", 7, before, after)
        assert store.admit_run("ann", "b", 7, None, 100) == "admitted"
        store.count_cost("ann", "c", 7, 10**15, 10**15 + 1)
        assert store.admit_run("ann", "d", 7, None, 100) == "cost_per_day"
        assert store.admit_run("ann", "d", 8, None, 100) == "admitted"
        assert store.admit_run("bob", "e", 7, None, 1) == "admitted"
        assert store.admit_run("bob", "f", 7, None, 0) == "cost_per_day"

    # -- ready sets --------------------------------------------------------------------------------

    def test_owners_take_turns_and_each_ones_steps_come_in_their_order(self, store: Store) -> None:
        assert not store.has_ready(["q"])
        for number in range(5):
            store.add_ready("q", [ready("ann", number)], "ann", 0)
        store.add_ready("q", [ready("bob", 0), ready("bob", 1)], "bob", 0)
        assert store.has_ready(["other", "q"])
        assert order(store, "q") == ["ann-0", "bob-0", "ann-1", "bob-1", "ann-2", "ann-3", "ann-4"]
        assert store.take_ready(["q"], None) is None
        assert not store.has_ready(["other"])

    def test_one_that_comes_late_takes_the_next_turn(self, store: Store) -> None:
        for number in range(6):
            store.add_ready("q", [ready("ann", number)], "ann", 0)
        assert [taken_name(store, "q") for _ in range(3)] == ["ann-0", "ann-1", "ann-2"]
        store.add_ready("q", [ready("bob", 0)], "bob", 0)
        assert "bob-0" in [taken_name(store, "q") for _ in range(2)]

    def test_a_step_stands_in_a_set_once_and_keeps_its_place(self, store: Store) -> None:
        for number in (0, 1, 0, 0):
            store.add_ready("q", [ready("ann", number)], "ann", 0)
        assert order(store, "q") == ["ann-0", "ann-1"]

    def test_the_most_urgent_comes_first_whoever_owns_it(self, store: Store) -> None:
        for number, priority in enumerate((0, 9, 5, 9)):
            store.add_ready("q", [ready(f"p{priority}", number)], f"owner-{number % 2}", priority)
        assert order(store, "q") == ["p9-1", "p9-3", "p5-2", "p0-0"]

    def test_of_several_queues_the_most_urgent_step_is_taken_and_else_the_first_ones(self, store: Store) -> None:
        store.add_ready("one", [ready("a", 0), ready("a", 1)], "ann", 3)
        store.add_ready("two", [ready("b", 0)], "bob", 4)
        store.add_ready("two", [ready("b", 1)], "bob", 3)
        queues = ["one", "two"]
        taken = [store.take_ready(queues, None) for _ in range(4)]
        assert taken == [(ready("b", 0), "two"), (ready("a", 0), "one"), (ready("a", 1), "one"), (ready("b", 1), "two")]
        assert store.take_ready(queues, None) is None

    def test_a_step_that_is_not_in_the_set_takes_nobodys_turn(self, store: Store) -> None:
        store.add_ready("q", [ready("ann", 0)], "ann", 0)
        assert store.take_ready(["q"], ready("ann", 1)) == "absent"
        assert store.take_ready(["other", "q"], ready("ann", 0)) == "absent"
        assert store.take_ready(["q", "other"], ready("ann", 0)) == (ready("ann", 0), "q")
