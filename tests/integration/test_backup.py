"""What a store has is exported, and restored into an empty one: the same keys and streams, and runs that go on."""

from __future__ import annotations

import functools
import io
import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from agentkit import Agent, AgentKit, FernetCodec, ScriptedModel, Settings
from agentkit.codec import key_fingerprint
from agentkit.errors import StoreError
from agentkit.queue.protocol import InlineQueue
from agentkit.runtime.backup import Export
from agentkit.runtime.restore import Import, ImportRefusedError
from agentkit.runtime.upgrade import index_items, index_runs
from agentkit.store.backup import StoredRun, seal, unseal
from agentkit.store.memory import MemoryStore
from agentkit.store.protocol import LeaseStatus
from agentkit.store.redis import RedisStore
from agentkit.web import create_app
from tests.event_rules import check_log
from tests.golden.make_store import FOLDER, agents, dump, restore
from tests.keys import new_key
from tests.tools import YES

FILES = sorted(FOLDER.glob("v*.json"))
OTHER = "other:"


class Installation:
    """A kit on a store of its own, whose steps are executed here. `agents`: by default those of the frozen stores."""

    def __init__(
        self, url: str, prefix: str = "agentkit:", key: str = "", own_agents: list[Agent] | None = None
    ) -> None:
        self.queue = InlineQueue()
        self._url = url
        self.store = RedisStore(url, prefix=prefix)
        self.prefix = prefix
        self.keys = [key_fingerprint(key)] if key else []
        codec = FernetCodec(key) if key else None
        self.kit = AgentKit(
            own_agents or agents(), settings=Settings(), store=self.store, queue=self.queue, codec=codec
        )
        self.web = create_app(self.kit).test_client()

    @functools.cached_property
    def client(self) -> redis.Redis:
        """Reads what is stored, where that is on one server."""
        return redis.Redis.from_url(self._url, decode_responses=True)

    def work(self) -> None:
        self.kit.recovery().sweep()
        while self.queue.waiting:
            self.kit.execute(*self.queue.waiting.popleft())

    def export(self, run_ids: list[str] | None = None) -> bytes:
        out = io.BytesIO()
        export = Export(self.store, out, "0", self.keys)
        export.write(run_ids)
        assert (export.failed, export.unread) == (0, 0)
        return out.getvalue()

    def load(self, file: bytes, **options: Any) -> tuple[Import, list[str]]:
        said: list[str] = []
        work = Import(self.store, self.keys, say=said.append, **options)
        work.read(io.BytesIO(file))
        return work, said

    def run_keys(self) -> dict[str, Any]:
        """The keys of the runs and of what is bound to them, but for what tells old holders from new ones."""
        found: dict[str, Any] = {}
        for name, body in dump(self.client).items():
            own = name.removeprefix(self.prefix)
            passing = own.startswith(("{metrics}", "{ready}")) or "}:h:" in own  # the note of who holds a step
            if passing or not own.startswith(("{", "idem:", "thread:", "refused")):
                continue
            value = body["value"]
            if isinstance(value, dict):
                changing = {"tok", "v", "w", "im"}
                value = {key: text for key, text in value.items() if key not in changing and not key.startswith("s:")}
            found[own] = (body["type"], value, body["ttl"] > 0)
        return found

    def stream(self, run_id: str, after: int = 0) -> list[dict[str, Any]]:
        return [json.loads(event.data) for event in self.store.events(run_id, after, 10_000).events]

    def close(self) -> None:
        self.store.close()
        if "client" in vars(self):
            self.client.close()


@pytest.fixture
def made(redis_url: str) -> Iterator[Installation]:
    installation = Installation(redis_url)
    yield installation
    installation.close()


@pytest.fixture
def other(redis_url: str) -> Iterator[Installation]:
    """Another installation on the same server, with a prefix of its own."""
    installation = Installation(redis_url, OTHER)
    yield installation
    installation.close()


@pytest.fixture(params=FILES, ids=lambda path: path.stem)
def names(request: pytest.FixtureRequest, made: Installation) -> dict[str, str]:
    """The runs of a frozen store, by their names."""
    body = json.loads(Path(request.param).read_text())
    restore(made.client, body["keys"])
    index_runs(made.store)
    index_items(made.store)
    made.store.refuse("https://gone.example")
    found: dict[str, str] = body["names"]
    return found


def test_an_import_has_the_same_keys_and_times_to_live(
    names: dict[str, str], made: Installation, other: Installation
) -> None:
    file = made.export()
    work, said = other.load(file)
    assert (work.imported, work.failed, said) == (len(made.store.listing(None, 1000)), 0, [])
    before, after = made.run_keys(), other.run_keys()
    assert {name: kind for name, (kind, *_) in after.items()} == {name: kind for name, (kind, *_) in before.items()}
    assert after == before
    for name, run_id in names.items():
        assert other.web.get(f"/runs/{run_id}").data == made.web.get(f"/runs/{run_id}").data, name
        assert other.store.events(run_id, 0, 10_000) == made.store.events(run_id, 0, 10_000), name
    for path in (
        "/runs?limit=100",
        "/runs?status=paused&limit=100",
        "/runs?owner=ann&limit=100",
        "/decisions?limit=100",
    ):
        assert other.web.get(path).data == made.web.get(path).data, path


def test_restored_runs_go_on_to_their_ends(names: dict[str, str], made: Installation, other: Installation) -> None:
    other.load(made.export())
    other.work()
    while items := other.web.get("/decisions?limit=100").json["decisions"]:
        for item in items:
            decision = {"verdict": "retry"} if item["kind"] == "in_doubt" else YES
            edited = {"cents": 4} if item.get("proposal") else None
            other.kit.resume(item["runId"], decision, decision_id=item["decisionId"], input=edited, decided_by="cleo")
        other.work()
    for name, run_id in names.items():
        run = other.kit.get(run_id)
        assert run.status == ("aborted" if name == "aborted" else "completed"), name
        check_log(other.stream(run_id), run.messages or [], str(run.status))


def test_what_was_under_way_is_held_by_nobody_and_is_not_done_twice(made: Installation, other: Installation) -> None:
    run_id = made.kit.start("payer", "pay", owner="ann").id
    made.kit.execute(*made.queue.waiting.popleft())
    step = made.queue.waiting.popleft()[1]
    held = made.store.claim(run_id, step, 60_000)
    assert held is not None
    other.load(made.export())
    assert other.store.load(run_id).live == {}
    assert other.store.renew([held.lease], 60_000) == [LeaseStatus.LOST]
    other.work()
    [item] = other.kit.get(run_id).pending
    assert item["kind"] == "in_doubt"
    claim = made.store.renew([held.lease], 60_000)
    assert claim == [LeaseStatus.HELD], "the export has changed nothing"


def test_a_watcher_goes_on_from_what_it_has_seen_and_one_who_has_seen_more_is_told(
    made: Installation, other: Installation
) -> None:
    run_id = made.kit.start("asker", "hi").id
    made.work()
    other.load(made.export())
    path, last = f"/runs/{run_id}/events?until=pause", made.store.load(run_id).last_seq
    for after in range(last):
        headers = {"Last-Event-ID": str(after)}
        assert other.web.get(path, headers=headers).data == made.web.get(path, headers=headers).data
    told = other.web.get(path, headers={"Last-Event-ID": str(last + 1)})
    assert (told.status_code, told.json["code"]) == (400, "invalid_last_event_id")


def test_who_held_a_step_before_cannot_write_after(made: Installation, other: Installation) -> None:
    run_id = made.kit.start("talker", "hi").id
    file = made.export()
    step = made.queue.waiting.popleft()[1]
    held = made.store.claim(run_id, step, 60_000)
    assert held is not None
    other.load(file)
    new = other.store.claim(run_id, step, 60_000)
    assert new is not None
    assert new.lease.token > held.lease.token
    assert new.lease.attempt == 1
    assert other.store.renew([held.lease], 60_000) == [LeaseStatus.LOST]
    assert other.store.renew([new.lease], 60_000) == [LeaseStatus.HELD]


# -- what is bound to runs, and what is of none


def test_idempotency_keys_threads_and_the_record_of_answers_come_along(made: Installation, other: Installation) -> None:
    first = made.kit.start("talker", "hi", idempotency_key="k", owner="ann").id
    asked = made.kit.start("asker", "hi", owner="ann").id
    made.work()
    made.kit.resume(asked, YES, decided_by="bob", idempotency_key="answer")
    made.work()
    made.store.extend_thread("talk", first, None, {"m1": "digest"})
    other.load(made.export())
    assert other.kit.start("talker", "hi", idempotency_key="k", owner="ann").id == first
    assert other.store.thread("talk", ["m1"]) == made.store.thread("talk", ["m1"])
    assert other.kit.resume(asked, YES, decided_by="bob", idempotency_key="answer").id == asked
    assert other.store.chain() == made.store.chain()
    assert other.store.chain_lines(0, 10) == made.store.chain_lines(0, 10) != []
    again = other.kit.start("asker", "hi", owner="ann").id
    other.work()
    other.kit.resume(again, YES, decided_by="bob")
    old, new = (json.loads(line) for line in other.store.chain_lines(0, 10))
    assert (new["number"], new["previous"]) == (2, old["hash"])
    work, said = other.load(made.export(), skip_existing=True)
    assert (work.failed, said, other.store.chain().last) == (0, [], 2), "the same answers are there, and one more"


def test_a_trimmed_record_of_answers_keeps_its_anchor(made: Installation, other: Installation) -> None:
    for _ in range(3):
        run_id = made.kit.start("asker", "hi").id
        made.work()
        made.kit.resume(run_id, YES)
    assert made.store.trim_answers(made.store.now() + 1, 2) == 2
    other.load(made.export())
    assert other.store.chain() == made.store.chain()
    assert other.store.chain().first == 3


def test_another_record_of_answers_takes_none(made: Installation, other: Installation) -> None:
    for installation in (made, other):
        run_id = installation.kit.start("asker", "hi").id
        installation.work()
        installation.kit.resume(run_id, YES)
    before = other.store.chain()
    work, said = other.load(made.export())
    assert (work.imported, work.failed) == (1, 1)
    assert "answers of its own" in said[0]
    assert other.store.chain() == before


def test_what_runs_take_of_a_quota_is_counted_again_once(made: Installation, other: Installation) -> None:
    run_id = made.kit.start("asker", "hi", owner="ann").id
    day = made.store.now() // 86_400_000
    made.store.admit_run("ann", run_id, day, 1, None)
    made.store.count_cost("ann", run_id, day, 0, 700)
    file = made.export()
    for _ in range(2):
        other.load(file)
    assert [each for each, _ in other.store.active_runs("ann")] == [run_id]
    assert other.store.admit_run("ann", "another", day, 1, None) == "active_runs"
    assert other.store.admit_run("ann", "another", day, None, 700) == "cost_per_day"
    assert other.store.admit_run("ann", "another", day, 2, 701) == "admitted"


# -- families


def sub_agent(made: Installation) -> tuple[str, str]:
    """A run that waits for the run of its sub-agent, which waits for a decision; their ids."""
    parent = made.kit.start("boss", "go").id
    made.work()
    [child] = [call.child for call in made.store.load(parent).record.calls]
    assert child is not None
    return parent, child


def test_an_export_of_a_run_has_those_that_it_waits_for_and_those_that_wait_for_it(made: Installation) -> None:
    tree = sub_agent(made)
    made.kit.start("talker", "hi")
    for run_id in tree:
        lines = [unseal(line) for line in made.export([run_id]).splitlines(keepends=True)]
        assert sorted(line.id for line in lines if isinstance(line, StoredRun)) == sorted(tree)


def test_a_run_whose_sub_agents_run_is_lost_is_left_out_and_the_other_way_round(
    made: Installation, other: Installation
) -> None:
    alone = made.kit.start("talker", "hi").id
    tree = sub_agent(made)
    lines = made.export().splitlines(keepends=True)
    for lost in tree:
        kept = [line for line in lines if b'"id":"%b"' % lost.encode() not in line]
        work, said = other.load(b"".join(kept))
        left = next(run_id for run_id in tree if run_id != lost)
        assert (work.failed, other.store.listing(None, 10)) == (1, [alone])
        assert f"run {left} belongs together with run {lost}" in said[0]
    work, _ = other.load(b"".join(lines))
    assert (work.imported, work.there) == (2, 1)
    other.work()
    [item] = other.kit.get(tree[0]).pending
    other.kit.resume(tree[0], YES, decision_id=item["decisionId"])
    other.work()
    assert other.kit.get(tree[0]).status == "completed"


def test_a_run_that_waits_for_a_deleted_one_is_exported_and_learns_of_it_after_the_import(
    made: Installation, other: Installation
) -> None:
    parent, child = sub_agent(made)
    made.client.delete(*(name for name in dump(made.client) if child in name))  # as a deletion that died leaves it
    work, said = other.load(made.export())
    assert (work.imported, work.failed, said) == (1, 0, [])
    other.work()
    run = other.kit.get(parent)
    assert run.status == "completed"
    assert "was deleted" in str(run.messages)


def test_workers_that_are_there_meet_no_half_of_a_tree_of_runs(
    made: Installation, other: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    families = [sub_agent(made) for _ in range(3)]
    for name in ("activate_run", "index", "list_items", "schedule"):
        method = getattr(RedisStore, name)

        def then_a_worker_looks(store: RedisStore, *args: Any, method: Any = method, **options: Any) -> Any:
            done = method(store, *args, **options)
            if store is other.store and not looking:
                looking.append(True)
                other.work()
                looking.clear()
            return done

        monkeypatch.setattr(RedisStore, name, then_a_worker_looks)
    looking: list[bool] = []
    other.load(made.export())
    for parent, child in families:
        assert (other.kit.get(parent).status, other.kit.get(child).status) == ("paused", "paused")
        [item] = other.kit.get(parent).pending
        other.kit.resume(parent, YES, decision_id=item["decisionId"])
        other.work()
        assert other.kit.get(parent).status == "completed"
        assert "was deleted" not in str(other.kit.get(parent).messages)


# -- lines that cannot be used, and runs that are there


def test_a_damaged_line_is_named_and_costs_nothing_else(made: Installation, other: Installation) -> None:
    ids = [made.kit.start("talker", f"hi {number}").id for number in range(3)]
    lines = made.export().splitlines(keepends=True)
    lines[2] = lines[2].replace(b"hi 1", b"hi 7")
    work, said = other.load(b"".join([*lines[:3], b"{cut off\n", *lines[3:]]))
    assert (work.imported, work.failed) == (2, 2)
    assert [text.partition(":")[0] for text in said] == ["line 3", "line 4"]
    assert "its sha256 is another one" in said[0]
    assert sorted(other.store.listing(None, 10)) == [ids[0], ids[2]]


def test_a_file_that_ends_too_early_says_so_and_its_runs_count(made: Installation, other: Installation) -> None:
    made.kit.start("talker", "hi")
    made.kit.start("talker", "hi")
    file = made.export()
    work, said = other.load(file[: file.index(b"\n", file.index(b"agentkit.run")) + 30])
    assert (work.imported, work.failed) == (1, 2)
    assert "cut off" in said[0]
    assert "not the last one of an export" in said[1]


def test_whatever_is_damaged_in_a_file_is_named_and_nothing_of_it_is_taken(
    made: Installation, other: Installation
) -> None:
    ids = [made.kit.start("asker", f"hi {number}", owner="ann", idempotency_key=f"{number}").id for number in range(4)]
    made.work()
    made.kit.resume(ids[0], YES)
    file = made.export()
    whole = len(file.splitlines())
    newlines = [place for place, byte in enumerate(file) if byte == 10]
    chance = random.Random(19)
    for number in range(150):
        place = chance.choice(newlines) if number < 5 else chance.randrange(len(file))
        bit = 1 << chance.randrange(8)
        spoiled = file[:place] + bytes([file[place] ^ bit]) + file[place + 1 :]
        work, said = other.load(spoiled, dry_run=True)
        line = file.count(b"\n", 0, place) + 1
        lost = 2 if file[place : place + 1] == b"\n" else 1  # without its end a line takes the next one along
        assert work.failed >= 1, (place, bit)
        assert said[0].startswith(f"line {line}: ") or line == whole, (place, bit, said)
        assert work.imported >= len(ids) - lost
    for cut in [*newlines, *(chance.randrange(len(file)) for _ in range(50))]:
        work, said = other.load(file[:cut], dry_run=True)
        assert work.failed >= 1 or file[cut:] == b"\n"
        left = set(file[:cut].splitlines()) & set(file.splitlines())
        assert work.imported == sum(b'"kind":"agentkit.run"' in line for line in left)


@pytest.mark.parametrize(
    ("line", "text"),
    [
        (b'{"kind":"agentkit.run","version":1,"run":{}}', "which shows runs and does not hold what is stored of them"),
        (b'{"kind":"agentkit.run","version":3,"more":1}', "of version 3 of this form, and this agentkit reads up to 2"),
        (b'{"kind":"shopping list","version":2}', "changed or damaged"),
        (b"[1]", "no line of an export"),
        (b"\xff", "no line of an export"),
    ],
)
def test_what_is_no_line_of_this_form_is_named(other: Installation, line: bytes, text: str) -> None:
    work, said = other.load(line + b"\n")
    assert work.failed == 2
    assert said[0].startswith("line 1: ")
    assert text in said[0]


def test_a_run_that_a_newer_agentkit_has_written_is_named(made: Installation, other: Installation) -> None:
    run_id = made.kit.start("talker", "hi").id
    [opening, raw, ending] = made.export().splitlines(keepends=True)
    run = unseal(raw)
    assert isinstance(run, StoredRun)
    run.fields["fixed"] = run.fields["fixed"].replace('"schemaVersion":5', '"schemaVersion":6')
    work, said = other.load(opening + seal(run) + ending)
    assert (work.imported, work.failed) == (0, 1)
    assert "has schemaVersion 6, this agentkit reads up to 5: upgrade" in said[0]
    assert other.store.loads([run_id]) == [None]


def test_parts_of_different_moments_are_no_run(made: Installation, other: Installation) -> None:
    made.kit.start("talker", "hi")
    [opening, raw, ending] = made.export().splitlines(keepends=True)
    for spoil in (
        lambda run: run.events.pop(),
        lambda run: run.events.reverse(),
        lambda run: run.messages.clear(),
        lambda run: run.fields.pop("state"),
        lambda run: run.fields.update(status="paused!"),
    ):
        run = unseal(raw)
        assert isinstance(run, StoredRun)
        spoil(run)
        work, said = other.load(opening + seal(run) + ending)
        assert (work.imported, work.failed) == (0, 1), said
    assert dump(other.client).keys() == {name for name in dump(other.client) if not name.startswith(OTHER)}


def test_runs_that_are_there_are_named_and_nothing_is_imported_unless_they_are_skipped(
    made: Installation, other: Installation
) -> None:
    first = made.kit.start("talker", "hi").id
    other.load(made.export())
    second = made.kit.start("talker", "hi").id
    made.work()
    file = made.export()  # the first has gone on since
    said: list[str] = []
    with pytest.raises(ImportRefusedError, match="1 run is in the store already"):
        Import(other.store, say=said.append).read(io.BytesIO(file))
    assert said == [f"line 2: run {first} is in the store already"]
    assert other.store.listing(None, 10) == [first]
    work, _ = other.load(file, skip_existing=True)
    assert (work.imported, work.skipped, work.failed) == (1, 1, 0)
    assert other.store.listing(None, 10) == [second, first]
    assert other.kit.get(first).status == "queued"


def test_an_import_given_again_does_what_is_left(
    made: Installation, other: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = [made.kit.start("talker", f"hi {number}").id for number in range(4)]
    file, activate = made.export(), RedisStore.activate_run
    done: list[str] = []

    def dies(store: RedisStore, run_id: str, *more: Any) -> Any:
        if len(done) == 2:
            raise KeyboardInterrupt
        done.append(run_id)
        return activate(store, run_id, *more)

    monkeypatch.setattr(RedisStore, "activate_run", dies)
    with pytest.raises(KeyboardInterrupt):
        other.load(file)
    monkeypatch.undo()
    other.work()  # those that are there go on meanwhile
    work, _ = other.load(file)
    assert (work.imported, work.there, work.failed) == (2, 2, 0)
    other.work()
    assert {other.kit.get(run_id).status for run_id in ids} == {"completed"}
    left = [name for name in dump(other.client) if "}:i" in name]
    assert left == []


def test_two_imports_of_one_file_do_not_mix(made: Installation, other: Installation, redis_url: str) -> None:
    run_id = made.kit.start("asker", "hi").id
    made.work()
    [_, raw, _] = made.export().splitlines(keepends=True)
    run = unseal(raw)
    assert isinstance(run, StoredRun)
    second = RedisStore(redis_url, prefix=OTHER)
    other.store.stage_run(run)
    second.stage_run(run)
    with pytest.raises(StoreError, match="another import lays it down"):
        other.store.activate_run(run_id, run.mark, None)
    assert other.store.loads([run_id]) == [None]
    assert second.activate_run(run_id, run.mark, None) == "absent"
    assert other.store.activate_run(run_id, run.mark, None) == "restored"
    assert other.web.get(f"/runs/{run_id}").data == made.web.get(f"/runs/{run_id}").data
    assert not [name for name in dump(other.client) if "}:i" in name]
    second.close()


def test_nothing_is_seen_of_an_import_before_all_is_laid_down(
    made: Installation, other: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = [made.kit.start("talker", "hi").id for _ in range(3)]
    stage = RedisStore.stage_run
    seen: list[Any] = []

    def staged(store: RedisStore, run: StoredRun) -> None:
        stage(store, run)
        seen.extend([*store.listing(None, 10), *(each for each in store.loads(ids) if each), store.backlog()[0]])
        assert all(body["ttl"] > 0 for name, body in dump(other.client).items() if "}:i" in name)

    monkeypatch.setattr(RedisStore, "stage_run", staged)
    other.load(made.export())
    assert seen == [0, 0, 0]
    assert sorted(other.store.listing(None, 10)) == sorted(ids)


def test_a_dry_run_says_what_would_be_done_and_writes_nothing(made: Installation, other: Installation) -> None:
    made.kit.start("asker", "hi", idempotency_key="k", owner="ann")
    made.work()
    work, said = other.load(made.export(), dry_run=True)
    assert (work.imported, said) == (1, [])
    assert not [name for name in dump(other.client) if name.startswith(OTHER)]


def test_a_run_that_was_deleted_here_does_not_come_back(made: Installation) -> None:
    run_id = made.kit.start("talker", "hi").id
    file = made.export()
    made.kit.delete(run_id, force=True)
    with pytest.raises(ImportRefusedError):
        made.load(file)
    work, _ = made.load(file, skip_existing=True)
    assert (work.imported, work.skipped) == (0, 1)
    assert made.store.loads([run_id]) == [None]


def test_a_run_whose_time_is_over_is_left_out(made: Installation, other: Installation) -> None:
    made.kit.start("talker", "hi")
    made.work()
    [opening, raw, ending] = made.export().splitlines(keepends=True)
    run = unseal(raw)
    assert isinstance(run, StoredRun)
    assert run.expires_at is not None
    run.expires_at = made.store.now() - 1
    work, said = other.load(opening + seal(run) + ending)
    assert (work.imported, work.expired, work.failed, said) == (0, 1, 0, [])


# -- encryption


def test_what_is_encrypted_is_exported_as_it_is_stored_and_needs_its_key(redis_url: str) -> None:
    key, wrong = new_key(), new_key()
    encrypted = Installation(redis_url, "encrypted:", key)
    run_id = encrypted.kit.start("asker", "the canary", owner="ann", idempotency_key="canary").id
    encrypted.work()
    file = encrypted.export()
    assert b"canary" not in file
    without = Installation(redis_url, "without:")
    out = io.BytesIO()
    export = Export(RedisStore(redis_url, prefix="encrypted:"), out, "0")
    export.write(None)
    assert (export.written, export.unread, export.failed) == (1, 1, 0)
    with pytest.raises(ImportRefusedError, match=f"keys {key_fingerprint(key)} .* this process has none"):
        without.load(file)
    other_key = Installation(redis_url, "wrong:", wrong)
    with pytest.raises(ImportRefusedError, match=f"this process has {key_fingerprint(wrong)}"):
        other_key.load(file)
    work, said = other_key.load(out.getvalue())  # without the keys' names
    assert (work.imported, work.failed) == (0, 1)
    assert f"run {run_id} was encrypted by a key that this process does not have" in said[0]
    right = Installation(redis_url, "right:", key)
    work, _ = right.load(file)
    assert work.imported == 1
    assert right.web.get(f"/runs/{run_id}").data == encrypted.web.get(f"/runs/{run_id}").data
    assert right.kit.start("asker", "the canary", owner="ann", idempotency_key="canary").id == run_id
    right.kit.resume(run_id, YES)
    right.work()
    assert right.kit.get(run_id).status == "completed"
    for installation in (encrypted, without, other_key, right):
        installation.close()


# -- while others write


def test_each_run_is_exported_as_it_was_at_one_moment(made: Installation, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between the parts of a run that are read, its steps go on; what is read fits together all the same."""
    monkeypatch.setattr("agentkit.store.redis_backup._PAGE", 2)
    run_id = made.kit.start("wide", "go").id
    made.work()
    read = RedisStore._messages_of
    answered = iter(made.kit.get(run_id).pending[:6])

    def goes_on(store: RedisStore, *args: Any) -> Any:
        item = next(answered, None)
        if item is not None:
            made.kit.resume(run_id, YES, decision_id=item["decisionId"])
            made.work()
        return read(store, *args)

    monkeypatch.setattr(RedisStore, "_messages_of", goes_on)
    states = []
    for _ in range(7):
        run = made.store.read_run(run_id)
        assert run is not None
        states.append(made.store.state_of(run).record)
    assert [len(record.pending) for record in states] == [24, 23, 22, 21, 20, 19, 18]


def test_a_log_whose_beginning_was_trimmed_is_restored_from_there_on(redis_url: str) -> None:
    model = ScriptedModel(["a long answer in many deltas"], chunk_size=1)
    made = Installation(redis_url, own_agents=[Agent("a", model)])
    made.store._max_events = 10
    other = Installation(redis_url, OTHER)
    run_id = made.kit.start("a", "go").id
    made.work()
    other.load(made.export())
    page = other.store.events(run_id, 0, 1000)
    assert page == made.store.events(run_id, 0, 1000)
    assert page.first_seq > 1
    for installation in (made, other):
        installation.close()


def test_a_store_in_memory_has_nothing_to_back_up() -> None:
    with pytest.raises(StoreError, match="this store is in memory"):
        Export(MemoryStore(), io.BytesIO(), "0").write(None)
