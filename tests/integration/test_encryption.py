"""Encryption at rest on a real server: nothing in plain, keys that are replaced, keys that are missing."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis

from agentkit import Agent, AgentKit, Codec, DecryptionError, FernetCodec, ScriptedModel, ToolContext, ToolError, tool
from agentkit.core.messages import Json
from agentkit.errors import IdempotencyConflictError
from agentkit.queue.protocol import InlineQueue
from agentkit.runtime.idempotency import digest
from agentkit.settings import Settings
from agentkit.store.redis import RedisStore
from agentkit.web import create_app
from tests.event_rules import check_log
from tests.keys import new_key
from tests.tools import YES, photo, refund_with
from tests.turns import call, with_ids
from tests.waiting import wait_until

PREFIX = "enc:"
WORD = "canary"


@tool
def sing(song: str, ctx: ToolContext) -> str:
    """Sing a song."""
    ctx.update(f"{song} half way")
    return f"{song} was sung"


@tool
def fail(what: str) -> str:
    """Fail at it."""
    raise ToolError(f"{what} cannot be had")


ask = refund_with(name="ask")
helper = Agent("helper", ScriptedModel([f"the {WORD} helps"], chunk_size=100))
TURNS: list[Any] = [
    [
        {"type": "thinking", "thinking": f"{WORD}?"},
        {"type": "text", "text": f"A {WORD}."},
        call("sing", song=f"{WORD} song"),
        call("fail", what=f"{WORD} seed"),
        call("helper", input=f"{WORD} question"),
    ],
    [call("ask", cents=1), call("photo")],
    f"So much for the {WORD}.",
]


class Place:
    """Kits on one database, whose steps a test executes by hand, and all that is published meanwhile."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.client = redis.Redis.from_url(url)
        self.queue = InlineQueue()
        self.published: list[bytes] = []
        self._channels = self.client.pubsub(ignore_subscribe_messages=True)
        self._channels.psubscribe(f"{PREFIX}*")
        self._stores: list[RedisStore] = []
        wait_until(lambda: self.client.pubsub_numpat() >= 1, what="the subscription")

    def kit(self, codec: Codec | None) -> AgentKit:
        """Make a kit of a process that has this codec."""
        store = RedisStore(self.url, prefix=PREFIX)
        self._stores.append(store)
        model = ScriptedModel([with_ids(turn) for turn in TURNS], chunk_size=100)
        agent = Agent("a", model, tools=[sing, fail, ask, photo, helper.as_tool()])
        settings = Settings(flush_seconds=0.0, lease_seconds=2.0, key_prefix=PREFIX)
        return AgentKit([agent], settings=settings, store=store, queue=self.queue, codec=codec)

    def work(self, kit: AgentKit, after: Callable[[], object] = lambda: None) -> None:
        while self.queue.waiting:
            kit.execute(*self.queue.waiting.popleft())
            after()

    def stored(self) -> bytes:
        """All that the server holds, and has published."""
        found = [self.value(key) for key in self.client.scan_iter(f"{PREFIX}*")]
        while (message := self._channels.get_message(timeout=0.01)) is not None:
            self.published.append(message["data"])
        return b"\n".join(found + self.published)

    def value(self, key: bytes) -> bytes:
        read: dict[bytes, Callable[[], Any]] = {
            b"hash": lambda: sorted(self.client.hgetall(key).items()),
            b"list": lambda: self.client.lrange(key, 0, -1),
            b"stream": lambda: self.client.xrange(key),
            b"string": lambda: self.client.get(key),
            b"zset": lambda: self.client.zrange(key, 0, -1, withscores=True),
        }
        return key + b" " + repr(read[self.client.type(key)]()).encode()

    def close(self) -> None:
        for store in self._stores:
            store.close()
        self._channels.close()
        self.client.close()


@pytest.fixture
def place(redis_url: str) -> Iterator[Place]:
    place = Place(redis_url)
    yield place
    place.close()


def checked(kit: AgentKit, run_id: str, status: str = "completed") -> list[Any]:
    """The events of a run, after a look that all is well with them."""
    run = kit.get(run_id)
    assert run.status == status, run.error
    events = [json.loads(event.data) for event in kit.store.events(run_id, 0, 1000).events]
    check_log(events, run.messages or [], run.status)
    return events


def play(place: Place, kit: AgentKit, after: Callable[[], object] = lambda: None) -> str:
    """A run with everything that people, models and tools write: a stream, tools, decisions, messages sent to it."""
    run_id = kit.start("a", f"my {WORD}", metadata={"title": f"about a {WORD}"}, idempotency_key="k", owner="ann").id
    after()
    place.work(kit, after)
    kit.send(run_id, f"{WORD}, hurry", "steer", idempotency_key="s")
    kit.send(run_id, f"and a {WORD} more", "followUp")
    after()
    finish(place, kit, run_id, after)
    return run_id


def finish(place: Place, kit: AgentKit, run_id: str, after: Callable[[], object] = lambda: None) -> None:
    """Execute and answer whatever a run waits for, until it ends."""
    place.work(kit, after)
    while pending := kit.get(run_id).pending:
        item = pending[0]
        if item["kind"] == "client_execute":
            kit.resume(run_id, result=f"a {WORD} picture", decision_id=item["decisionId"])
        else:
            edited = {"cents": 2} if item["toolName"] == "ask" else None
            answer = {**YES, "why": WORD}
            kit.resume(
                run_id,
                answer,
                decision_id=item["decisionId"],
                input=edited,
                decided_by="bob",
                idempotency_key=item["decisionId"],
            )
        after()
        place.work(kit, after)


@pytest.mark.parametrize("encrypted", [False, True], ids=["plain", "encrypted"])
def test_what_people_models_and_tools_write_stands_nowhere_in_plain(place: Place, encrypted: bool) -> None:
    kit = place.kit(FernetCodec(new_key()) if encrypted else None)
    seen: list[bytes] = []
    run_id = play(place, kit, lambda: seen.append(place.stored()))
    aborted = kit.start("a", f"another {WORD}").id
    kit.abort(aborted, f"no {WORD} today")
    seen.append(place.stored())
    events = checked(kit, run_id)
    words = json.dumps(events)
    for text in (
        f"{WORD}?",
        f"A {WORD}.",
        f"{WORD} song half way",
        f"{WORD} song was sung",
        f"{WORD} seed cannot",
        "picture",
    ):
        assert text in words
    everything = b"\n".join(seen)
    asked = digest(
        {"agent": "a", "given": f"my {WORD}", "metadata": {"title": f"about a {WORD}"}, "limits": {}, "model": None}
    )
    assert (WORD.encode() in everything) is not encrypted
    assert (b"text_delta" in b"\n".join(place.published)) is not encrypted
    assert (asked.encode() in everything) is not encrypted, "the digest of a body, which shows a small one"
    for plain in (run_id, "ann", "helper", "completed"):
        assert plain.encode() in everything, "what scripts and indexes need"
    assert [run.owner for run in kit.page(owner="ann")[0] if run.id == run_id] == ["ann"]


def test_an_abort_that_a_tool_is_to_learn_of_is_encrypted(place: Place) -> None:
    kit = place.kit(FernetCodec(new_key()))
    run_id = kit.start("a", "go").id
    claim = kit.store.claim(run_id, 1, 60_000)
    assert claim is not None
    kit.abort(run_id, f"no {WORD}")
    record = kit.store.load(run_id).record
    assert record.abort is not None
    assert record.abort.reason == f"no {WORD}"
    assert WORD.encode() not in place.stored()


def test_the_newest_key_writes_and_older_ones_are_read(place: Place) -> None:
    old, new = new_key(), new_key()
    first = place.kit(FernetCodec([old]))
    run_id = first.start("a", f"my {WORD}").id
    place.work(first)
    both = place.kit(FernetCodec([new, old]))
    assert both.get(run_id).messages == first.get(run_id).messages
    finish(place, both, run_id)
    checked(both, run_id)
    second = both.start("a", "go").id
    place.work(both)
    alone = place.kit(FernetCodec([new]))
    assert alone.get(second).status == "paused"
    with pytest.raises(DecryptionError):
        alone.get(run_id)
    assert [run.id for run in alone.page(agent="a")[0]] == [second]
    with pytest.raises(DecryptionError):
        first.get(second)


def test_runs_from_before_the_codec_are_read_and_go_on_encrypted(place: Place) -> None:
    plain = place.kit(None)
    run_id = plain.start("a", "go", idempotency_key="k", metadata={"n": 1}).id
    place.work(plain)
    before = place.stored()
    seen = checked(plain, run_id, "paused")
    kit = place.kit(FernetCodec(new_key()))
    assert checked(kit, run_id, "paused") == seen
    assert kit.start("a", "go", idempotency_key="k", metadata={"n": 1}).id == run_id
    with pytest.raises(IdempotencyConflictError):
        kit.start("a", "gone", idempotency_key="k", metadata={"n": 1})
    kit.resume(run_id, {**YES, "why": "an eagle"}, tool_call_id="ask")
    kit.send(run_id, "an eagle", "steer")
    finish(place, kit, run_id)
    assert checked(kit, run_id)[: len(seen)] == seen
    assert "an eagle" in json.dumps(kit.get(run_id).messages)
    assert b"an eagle" not in place.stored()
    assert before.count(b"\\x02") == 0
    with pytest.raises(DecryptionError):
        plain.get(run_id)


def frozen(place: Place, run_id: str) -> dict[bytes, bytes]:
    """What the server holds of a run, but for when it is checked next."""
    return {key: place.value(key) for key in place.client.scan_iter(f"*{run_id}*")}


REQUESTS: list[tuple[str, str, Json | None]] = [
    ("GET", "", None),
    ("GET", "/events", None),
    ("GET", "/events?after=3", None),
    ("POST", "/resume", {"decision": YES, "toolCallId": "ask"}),
    ("POST", "/resume", {"reject": {"reason": "no"}}),
    ("POST", "/abort", {"reason": "enough"}),
    ("POST", "/messages", {"message": "hurry", "when": "steer"}),
    ("DELETE", "", None),
]


@pytest.mark.parametrize("status", ["queued", "paused", "aborted"])
@pytest.mark.parametrize("other", [None, FernetCodec(new_key())], ids=["no key", "another key"])
def test_what_no_key_decrypts_is_refused_by_every_call_and_stays_as_it_is(
    place: Place, other: Codec | None, status: str, caplog: pytest.LogCaptureFixture
) -> None:
    kit = place.kit(FernetCodec(new_key()))
    run_id = kit.start("a", f"my {WORD}").id
    if status != "queued":
        place.work(kit)
    if status == "aborted":
        kit.abort(run_id)
    before = frozen(place, run_id)
    stranger = place.kit(other)
    web = create_app(stranger).test_client()
    for method, path, body in REQUESTS:
        caplog.clear()
        response = web.open(f"/runs/{run_id}{path}", method=method, json=body)
        problem = json.loads(response.data)
        assert (response.status_code, problem["code"]) == (500, "decryption_failed"), (method, path)
        assert run_id in problem["detail"]
        assert "untouched" in problem["detail"]
        assert "AGENTKIT" not in problem["detail"], "clients learn no names of settings"
        assert "AGENTKIT_ENCRYPTION_KEYS" in caplog.text
    with pytest.raises(DecryptionError, match=rf"{run_id}.*AGENTKIT_ENCRYPTION_KEYS"):
        stranger.get(run_id)
    assert web.get("/runs").json == {"runs": []}
    for step in re.findall(r"b's:(\d+)'", before[f"{PREFIX}{{{run_id}}}".encode()].decode()):
        caplog.clear()
        for _ in range(7):
            stranger.execute(run_id, int(step))
        assert "AGENTKIT_ENCRYPTION_KEYS" in caplog.text
    place.client.zadd(f"{PREFIX}due", {run_id: 1})
    assert stranger.recovery().sweep() == 1
    assert place.client.zscore(f"{PREFIX}due", run_id) is not None
    assert frozen(place, run_id) == before
    if status != "aborted":
        finish(place, kit, run_id)
        checked(kit, run_id)


def test_a_key_that_goes_missing_in_the_midst_of_a_run_counts_no_attempt(place: Place) -> None:
    """Its record is written by the new key, and some of its messages by the old one."""
    old, new = new_key(), new_key()
    late, both, alone = (place.kit(FernetCodec(keys)) for keys in ([old, new], [new, old], [new]))
    run_id = both.start("a", "go").id
    place.work(late)
    both.resume(run_id, YES, tool_call_id="ask")
    both.resume(run_id, reject="no", tool_call_id="photo")
    while place.queue.waiting:
        message = place.queue.waiting.popleft()
        step = both.store.load(run_id).record.step(message[1])
        if step is not None and step.kind == "model":
            for _ in range(7):
                alone.execute(*message)
        both.execute(*message)
    checked(both, run_id)


def test_followers_get_decrypted_events_as_they_come_and_strangers_an_error(place: Place) -> None:
    kit, stranger = place.kit(FernetCodec(new_key())), place.kit(FernetCodec(new_key()))
    handle = kit.start("a", f"my {WORD}")
    subscription, foreign = kit.store.subscribe(handle.id), stranger.store.subscribe(handle.id)
    try:
        kit.execute(*place.queue.waiting.popleft())
        live: list[Any] = []

        def got() -> bool:
            live.extend(json.loads(event.data) for event in subscription.get(0.5) or ())
            return any(event["type"] == "message_update" for event in live)

        wait_until(got, what="a delta")
        assert f"A {WORD}." in json.dumps(live)
        assert foreign.get(5) == [], "to read the log"
        with pytest.raises(DecryptionError):
            stranger.store.events(handle.id, 0, 10)
    finally:
        subscription.close()
        foreign.close()


def test_a_repeated_call_is_known_by_its_encrypted_receipt(place: Place) -> None:
    kit = place.kit(FernetCodec(new_key()))
    run_id = kit.start("a", "go").id
    place.work(kit)
    for _ in range(2):
        kit.send(run_id, "hurry", "steer", idempotency_key="s")
    with pytest.raises(IdempotencyConflictError):
        kit.send(run_id, "slowly", "steer", idempotency_key="s")
    assert len(kit.store.load(run_id).record.queued) == 1
