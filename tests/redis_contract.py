"""What only a store on Redis has to promise: its keys, and calls that the client sends twice."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any, ClassVar

import pytest
import redis
from msgspec import structs
from redis.crc import key_slot

from agentkit.codec import Codec
from agentkit.core.ids import new_id
from agentkit.core.inbox import ListedItem
from agentkit.core.messages import QueuedMessage
from agentkit.core.rates import CallRequest, Rate, WaitingStep
from agentkit.core.ready import ReadyStep
from agentkit.core.record import AbortRequest, Change, Step
from agentkit.errors import InvalidRequestError, LeaseLostError, RunNotTerminalError
from agentkit.store.protocol import Commit, Conflict, LeaseStatus, Push, Store, Totals
from agentkit.store.redis import RedisStore
from agentkit.testing.store_audit_contract import answer, check_chain
from agentkit.testing.store_changes import (
    LEASE_MS,
    MakeStore,
    append,
    calls_of,
    claimed,
    ended,
    event,
    first_change,
    new_run,
    next_turn,
    result_of,
    step_done,
)
from agentkit.testing.store_contract import HURRY, StoreContract, queue
from agentkit.testing.store_outbox_contract import FIRST, commit_entries

__all__ = ["ITEM", "PREFIX", "RedisStoreContract", "echoing", "ttls_of"]

PREFIX = "test:"
ITEM = ListedItem(new_id(), new_id(), "a", "t", "decision", "ann")


def ttls_of(client: redis.Redis, pattern: str) -> dict[str, int | None]:
    """The keys that match, with their times to live (ms), None for those without."""
    found: dict[str, int | None] = {}
    for key in client.scan_iter(pattern, count=1000):
        ttl = client.pttl(key)
        if ttl != -2:  # it has expired since
            found[key.decode()] = None if ttl == -1 else ttl
    return found


def echoing(client_class: type[Any]) -> type[Any]:
    """A client that, while `lossy`, loses the reply of every script and sends it again, as redis-py does."""

    class Echo(client_class):  # type: ignore[misc, valid-type]
        lossy = False
        called: ClassVar[list[tuple[str, tuple[str, ...]]]] = []
        """The digest and the keys of each script call."""

        def note(self, *args: Any) -> None:
            if args[0] == "EVALSHA":
                self.called.append((args[1], args[3 : 3 + int(args[2])]))

        def pipeline(self, *args: Any, **options: Any) -> Any:
            pipe = super().pipeline(*args, **options)
            execute = pipe.execute_command

            def noting(*args: Any, **options: Any) -> Any:
                self.note(*args)
                return execute(*args, **options)

            pipe.execute_command = noting
            return pipe

        def execute_command(self, *args: Any, **options: Any) -> Any:
            self.note(*args)
            if self.lossy and args[0] in ("EVALSHA", "EVAL", "FCALL"):
                super().execute_command(*args, **options)
            return super().execute_command(*args, **options)

    return Echo


class RedisStoreContract(StoreContract):
    """Override `client` with a client of the kind that `echoing` makes, on an empty database; `codec` for one."""

    codec: ClassVar[Codec | None] = None

    @pytest.fixture
    def client(self) -> Any:
        raise NotImplementedError

    @pytest.fixture
    def make_store(self, client: Any) -> Iterator[MakeStore]:
        stores: list[Store] = []

        def make(**options: Any) -> Store:
            stores.append(RedisStore("redis://unused", prefix=PREFIX, client=client, **options))
            if self.codec is not None:
                stores[-1].use_codec(self.codec)
            return stores[-1]

        yield make
        for store in stores:
            store.close()

    def ttls(self, store: Any, run_id: str) -> list[int | None]:
        return list(ttls_of(store._client, f"*{run_id}*").values())

    def test_a_commit_whose_reply_was_lost_answers_as_the_first_time(self, store: Store, client: Any) -> None:
        run_id = new_run(store)
        claim = claimed(store, run_id)
        client.lossy = True
        change = step_done(claim, opens=(Step(2, "model"),))
        commit = store.commit(change, claim.state.version, claim.lease)
        client.lossy = False
        assert isinstance(commit, Commit)
        assert (commit.first_seq, commit.last_seq, commit.version) == (5, 5, store.load(run_id).version)
        assert len(store.messages(run_id)[1]) == 2
        assert claimed(store, run_id, 2).lease.attempt == 1

    def test_a_claim_whose_reply_was_lost_answers_as_the_first_time(self, store: Store, client: Any) -> None:
        run_id = new_run(store)
        client.lossy = True
        lease = claimed(store, run_id).lease
        client.lossy = False
        assert lease.attempt == 1
        append(store, lease, [event("x")], 1)

    def test_a_creation_whose_reply_was_lost_is_a_creation(self, store: Store, client: Any) -> None:
        change = first_change("r1")
        client.lossy = True
        assert store.create(change)
        client.lossy = False
        assert store.load("r1").last_seq == 2
        assert not store.create(change)

    def test_an_append_and_a_release_whose_replies_were_lost_are_done_once(self, store: Store, client: Any) -> None:
        run_id = new_run(store)
        lease = claimed(store, run_id).lease
        client.lossy = True
        append(store, lease, [event("x")], 1)
        store.release(lease)
        client.lossy = False
        assert store.load(run_id).last_seq == 5
        assert claimed(store, run_id).lease.attempt == 2

    def test_pushed_messages_go_into_their_queues_with_the_commit_or_not_at_all(
        self, store: Store, client: Any
    ) -> None:
        run_id = new_run(store)
        stale, claim = claimed(store, run_id, lease_ms=0), claimed(store, run_id)
        with pytest.raises(LeaseLostError):
            store.commit(step_done(stale), claim.state.version, stale.lease, [Push("queue", "stale")])
        late = store.commit(step_done(claim), claim.state.version - 1, claim.lease, [Push("queue", "late")])
        assert isinstance(late, Conflict)
        assert client.lrange("queue", 0, -1) == []
        client.lossy = True
        store.commit(step_done(claim), claim.state.version, claim.lease, [Push("queue", "one"), Push("queue", "two")])
        client.lossy = False
        assert client.lrange("queue", 0, -1) == [b"two", b"one"]

    def test_what_the_last_call_pushes_goes_into_its_queue_when_that_ends(self, store: Store, client: Any) -> None:
        _, claims = calls_of(store, 2)
        client.lossy = True
        for n, pushed in ((1, []), (0, [b"call 0"])):
            last = replace(next_turn(claims[n], lends=True), pushes=[Push("queue", f"call {n}")])
            done = store.commit_call(claims[n].lease, n, result_of(n), last=last)
            assert isinstance(done, Commit)
            assert (done.was_last, done.claim is not None) == (n == 0, n == 0)
            assert client.lrange("queue", 0, -1) == pushed
        client.lossy = False

    def test_how_much_is_queued_is_counted_down_to_nothing(self, store: Store, client: Any) -> None:
        run_id = new_run(store)
        for message in (HURRY, QueuedMessage("ü" * 10, "followUp"), HURRY):
            queue(store, run_id, message)
        key = f"{PREFIX}{{{run_id}}}"
        for left in (2, 1, 0):
            state = store.load(run_id)
            assert int(client.hget(key, "qb")) == sum(map(len, client.lrange(f"{key}:q", 0, -1)))
            store.commit(
                Change(state.record.with_queued((state.record.queued or ())[:left]), state.record), state.version
            )
        assert (client.hget(key, "qb"), client.exists(f"{key}:q")) == (b"0", 0)

    def test_what_a_commit_sends_does_not_grow_with_what_is_queued(
        self, store: Store, client: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        sizes: list[int] = []
        for count in (0, 9):
            run_id = new_run(store)
            for _ in range(count):
                queue(store, run_id, QueuedMessage("x" * 100_000, "followUp"))
            claim = claimed(store, run_id)
            with monkeypatch.context() as patch:
                patch.setattr(client, "note", lambda *args: sizes.append(len(str(args))))
                store.commit(step_done(claim, opens=(Step(2, "model"),)), claim.state.version, claim.lease)
            assert len(store.load(run_id).record.queued or ()) == count
        assert sizes[1] < sizes[0] + 100

    def test_a_queue_that_the_server_has_lost_stops_no_commit_half_way(self, store: Store, client: Any) -> None:
        run_id = new_run(store)
        queue(store, run_id, HURRY)
        state = store.load(run_id)
        assert client.delete(f"{PREFIX}{{{run_id}}}:q") == 1
        record = structs.replace(state.record.with_queued([]), turn=7)
        change = Change(record, state.record, events=(event("x"),))
        assert isinstance(store.commit(change, state.version), Commit)
        assert (store.load(run_id).record.turn, store.load(run_id).record.queued) == (7, ())

    def test_idempotency_keys_and_threads_have_a_time_to_live(self, store: Store, client: Any) -> None:
        store.remember("k", "digest", "run")
        store.extend_thread("t", "run", None, {"message": "digest"})
        assert set(ttls_of(client, f"{PREFIX}*")) == {f"{PREFIX}idem:k", f"{PREFIX}thread:t"}
        assert None not in ttls_of(client, f"{PREFIX}*").values()

    def test_scripts_that_the_server_has_forgotten_are_sent_again(self, store: Store, client: Any) -> None:
        run_id = new_run(store)
        client.script_flush()
        lease = claimed(store, run_id).lease
        client.script_flush()
        assert store.renew([lease], LEASE_MS) == [LeaseStatus.HELD]

    def test_every_script_call_stays_in_one_slot_of_a_cluster(self, store: Any, client: Any) -> None:
        client.called.clear()
        run_id = new_run(store)
        claim = claimed(store, run_id)
        append(store, claim.lease, [event("x")], 1)
        store.renew([claim.lease], LEASE_MS)
        store.messages(run_id)
        store.messages_from(run_id, 0, 100)
        store.loads([run_id])
        store.commit(step_done(claim, opens=(Step(2, "model"),)), claim.state.version, claim.lease)
        store.release(claimed(store, run_id, 2).lease)
        store.events(run_id, 0, 10)
        store.request_abort(run_id, AbortRequest("enough"), store.load(run_id).version)
        store.schedule(run_id, 1)
        for run in store.due(1, 1000):
            store.reschedule(run, None)
        with pytest.raises(RunNotTerminalError):
            store.delete(run_id)
        store.delete(ended(store))
        store.forbid(new_id())
        commit_entries(store, run_id, FIRST)
        taken = store.take_entry(run_id, FIRST.id, LEASE_MS)
        assert taken is not None
        assert store.postpone_entry(run_id, taken, 0)
        store.remove_entries(run_id, [FIRST.id])
        _, claims = calls_of(store, 2)
        for n, claim in enumerate(claims):
            store.commit_call(claim.lease, n, result_of(n), last=next_turn(claim, lends=True))
        assert store.events(claims[0].lease.run_id, 0, 50).events, "what they refer to is read too"
        store.record_answer(answer(owner="ann"))
        store.trim_answers(store.now() + 1000, 10)
        store.report("p", 1, {"n": 1}, {"open": 1}, 1000)
        rates = (Rate("m:*", concurrent=1), Rate("*", tokens=1))
        request = CallRequest("call", WaitingStep(run_id, 1), rates)
        slot = store.take_call(request, LEASE_MS, LEASE_MS)
        store.settle_call(slot, 1, LEASE_MS, LEASE_MS)
        store.leave_calls(request)
        store.extend_thread("t", run_id, None, {"message": "digest"})
        ready = ReadyStep(run_id, 1, "model")
        store.add_ready("q", [ready], "ann", 0)
        store.take_ready(["q", "other"], ready)
        store.admit_run("ann}", run_id, 1, 1, 1)
        store.count_cost("ann}", run_id, 1, 0, 1)
        kept = store.read_run(run_id)
        assert kept is not None
        store.stage_run(kept)
        store.activate_run(run_id, kept.mark, kept.expires_at)
        store.record_answer(answer(owner="ann"))
        store.restore_answers(store.stored_answers(0, 1))
        slots = [{key_slot(key.encode()) for key in keys} for _, keys in client.called]
        assert all(len(of_one_call) == 1 for of_one_call in slots)
        assert len(set.union(*slots)) > 1, "the due index has a slot of its own"
        assert {digest for digest, _ in client.called} == set(store._scripts._digests.values()), "every script is here"

    def test_a_commit_that_pushes_leaves_its_slot_for_the_queues_alone(self, store: Store, client: Any) -> None:
        """Only a server that is the broker too gets pushes, and a Cluster cannot be a broker of Celery."""
        run_id = new_run(store)
        claim = claimed(store, run_id)
        client.called.clear()
        store.commit(step_done(claim), claim.state.version, claim.lease, [Push("one", "x"), Push("two", "y")])
        [(_, keys)] = client.called
        assert keys[-2:] == ("one", "two")
        assert len({key_slot(key.encode()) for key in keys[:-2]}) == 1

    def test_the_record_of_answers_is_in_one_slot_and_leaves_no_list_behind(self, store: Store, client: Any) -> None:
        store.record_answer(answer(owner="ann"))
        keys = list(ttls_of(client, f"{PREFIX}*"))
        assert len(keys) == 8
        assert len({key_slot(key.encode()) for key in keys}) == 1
        store.trim_answers(store.now() + 60_000, 10)
        assert set(ttls_of(client, f"{PREFIX}*")) == {f"{PREFIX}{{audit}}"}

    def test_an_answer_whose_reply_was_lost_is_recorded_once(self, store: Store, client: Any) -> None:
        client.lossy = True
        for _ in range(3):
            store.record_answer(answer())
        client.lossy = False
        assert check_chain(store) == 3

    def test_a_report_whose_reply_was_lost_is_added_once(self, store: Store, client: Any) -> None:
        client.lossy = True
        store.report("p", 1, {"n": 1, "seconds": 0.5}, {"open": 1}, 60_000)
        client.lossy = False
        assert store.totals() == Totals({"n": 1, "seconds": 0.5}, {"open": 1})

    def test_of_a_process_nothing_stays_but_what_it_counted(self, store: Store, client: Any) -> None:
        store.report("one", 1, {"n": 1}, {"open": 1}, 60_000)
        store.report("two", 1, {"n": 1}, {"open": 1}, 1000)
        ttls = ttls_of(client, f"{PREFIX}*")
        assert {key for key, ttl in ttls.items() if ttl is None} == {f"{PREFIX}{{metrics}}"}
        assert 50_000 < (ttls[f"{PREFIX}{{metrics}}:l"] or 0) <= 60_000, "as long as the levels that count longest"
        store.report("two", 2, {}, {}, 1000)
        assert client.hkeys(f"{PREFIX}{{metrics}}:l") == [b"one"]

    def test_processes_that_know_an_earlier_end_of_the_chain_append_after_the_last(self, make_store: MakeStore) -> None:
        one, two = make_store(), make_store()
        for store in (one, two, two, one, one, two):
            store.record_answer(answer())
        assert check_chain(one) == check_chain(two) == 6

    def test_all_lists_of_pending_items_are_in_one_slot_of_a_cluster(self, store: Store, client: Any) -> None:
        store.list_items([ITEM])
        keys = list(ttls_of(client, f"{PREFIX}*"))
        assert len(keys) == 18
        assert len({key_slot(key.encode()) for key in keys}) == 1
        store.unlist_items([ITEM])
        assert ttls_of(client, f"{PREFIX}*") == {}

    def test_every_key_has_the_prefix(self, store: Store, client: Any) -> None:
        run_id = new_run(store)
        store.schedule(run_id, 1)
        store.index(run_id)
        store.heartbeat("w", 1000)
        store.list_items([ITEM])
        store.record_answer(answer())
        assert all(key.startswith(PREFIX) for key in ttls_of(client, "*"))

    @pytest.mark.parametrize(
        "ask",
        [
            lambda store: store.load("\ud800"),
            lambda store: store.messages("\ud800"),
            lambda store: store.load(new_run(store), decision_id="\ud800"),
            lambda store: store.resolution(new_run(store), decision_id=None, tool_call_id="\ud800"),
            lambda store: store.events("\ud800", 0, 10),
            lambda store: store.listing("\ud800", 10),
            lambda store: store.listing(None, 10, "\ud800"),
            lambda store: store.delete("\ud800"),
        ],
    )
    def test_an_id_or_a_name_that_is_no_text_is_refused_with_a_clear_error(self, store: Store, ask: Any) -> None:
        with pytest.raises(InvalidRequestError, match="surrogate"):
            ask(store)
