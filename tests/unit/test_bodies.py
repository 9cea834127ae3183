"""What encrypts, and what is written where: keys, the marks of encrypted pieces, one process without the keys."""

from __future__ import annotations

import json
import re
import sys
from typing import Any

import pytest

from agentkit import Agent, AgentKit, DecryptionError, FernetCodec, ScriptedModel, Settings
from agentkit.core.events import MessageEnd, TurnEnd, stored_at
from agentkit.core.struct import encode
from agentkit.errors import ConfigurationError
from agentkit.store.bodies import Bodies
from agentkit.store.encoding import expand
from agentkit.store.memory import MemoryStore
from agentkit.testing.store_changes import append, claimed, event, log_of, new_run
from tests.apps import App, FakeQueue
from tests.keys import new_key
from tests.tools import YES, refund
from tests.turns import call


class Reversed:
    """Hides nothing, and returns every byte that a store could trip over."""

    def encode(self, data: bytes) -> bytes:
        return b"\x00\x01\x02\n\r0 1\x01\xff" + data[::-1]

    def decode(self, data: bytes) -> bytes:
        return data[10:][::-1]


class Broken:
    """A codec whose keys cannot be reached for a while."""

    def __init__(self) -> None:
        self.broken = False
        self._codec = FernetCodec(new_key())

    def encode(self, data: bytes) -> bytes:
        return self._codec.encode(data)

    def decode(self, data: bytes) -> bytes:
        if self.broken:
            raise OSError("the key server is away")
        return self._codec.decode(data)


# -- pieces


def test_without_a_codec_everything_is_written_as_it_is() -> None:
    bodies = Bodies()
    assert bodies.encrypt(b'{"a":1}') == b'{"a":1}'
    assert bodies.encrypt_event(b'{"type":"x"}') == b'{"type":"x"}'
    assert bodies.decrypt(b'{"a":1}', "r") == b'{"a":1}'


def test_what_is_encrypted_reads_back_and_shows_nothing() -> None:
    bodies = Bodies(FernetCodec(new_key()))
    body = '{"text":"Geheimnis ☃"}'.encode()
    stored = bodies.encrypt(body)
    assert re.fullmatch(rb"\x02[A-Za-z0-9+/=]+\x02", stored)
    assert bodies.decrypt(stored, "r") == body
    assert bodies.encrypt(body) != stored, "the same text twice is not seen to be the same"
    assert bodies.encrypt(b"") == b""


def test_an_events_references_stay_what_the_store_can_find() -> None:
    bodies = Bodies(FernetCodec(new_key()))
    messages = [bodies.encrypt(b'{"n":0}'), b'{"n":1}', bodies.encrypt(b'{"n":2}')]
    written: Any = TurnEnd(turn=3, message=stored_at(0), tool_results=[stored_at(1, 2)])
    stored = bodies.encrypt_event(encode(written))
    assert stored.startswith(b"{\x02")
    assert b"turn" not in stored
    whole = expand(b'{"seq":7,' + stored[1:], lambda first, count: messages[first : first + count])
    assert json.loads(bodies.decrypt(whole, "r")) == {
        "seq": 7, "type": "turn_end", "turn": 3, "message": {"n": 0}, "toolResults": [{"n": 1}, {"n": 2}],
    }  # fmt: skip
    end: Any = MessageEnd(message=stored_at(1))
    assert bodies.decrypt(bodies.encrypt_event(encode(end)), "r") == encode(end)


def test_text_of_people_is_never_taken_for_an_encrypted_piece() -> None:
    text = "\x02AAAA\x02 and \\u0002AAAA\\u0002"
    for codec in (None, FernetCodec(new_key())):
        bodies = Bodies(codec)
        assert json.loads(bodies.decrypt(bodies.encrypt(encode(text)), "r")) == text


def test_a_codec_may_return_any_bytes() -> None:
    app = App([call("refund", cents=5)], "done", tools=[refund])
    app.store.use_codec(Reversed())
    run_id = app.run()
    app.kit.resume(run_id, YES)
    app.work()
    assert app.check(run_id).status == "completed"
    store = MemoryStore()
    store.use_codec(Reversed())
    run_id = new_run(store)
    append(store, claimed(store, run_id).lease, [event("x", text="\x010 1\x01\n")], 1)
    assert log_of(store, run_id)[-1]["text"] == "\x010 1\x01\n"


# -- keys


def test_the_first_key_writes_and_each_reads() -> None:
    old, new = new_key(), new_key()
    before, both, after = (FernetCodec(keys) for keys in ([old], [new, old], f" {new} "))
    assert both.decode(before.encode(b"x")) == b"x"
    assert after.decode(both.encode(b"x")) == b"x"
    with pytest.raises(Exception, match=r"^$"):
        after.decode(before.encode(b"x"))


@pytest.mark.parametrize(
    "keys",
    [["short"], [new_key(), new_key()[:-1]], "ä" * 44, [new_key() + "\n"]],
    ids=["short", "cut", "no ASCII", "line feed"],
)
def test_what_is_no_key_is_said_in_one_line_that_shows_no_key(keys: Any) -> None:
    with pytest.raises(ConfigurationError, match="is no Fernet key") as caught:
        FernetCodec(keys)
    assert "\n" not in caught.value.message
    assert not any(key in caught.value.message for key in keys if len(key) > 10)


def test_no_key_at_all_is_said() -> None:
    for none in ([], "", "  "):
        with pytest.raises(ConfigurationError, match="at least one key"):
            FernetCodec(none)


@pytest.mark.parametrize(
    "text", ["secret", f"{new_key()},{new_key()}", f"{new_key()} x"], ids=["short", "comma", "rest"]
)
def test_a_bad_setting_is_said_in_one_line_that_shows_no_key(text: str) -> None:
    with pytest.raises(ConfigurationError, match=r"^AGENTKIT_ENCRYPTION_KEYS is '\*\*\*'; expected Fernet") as caught:
        Settings.from_env({"AGENTKIT_ENCRYPTION_KEYS": text})
    assert "\n" not in caught.value.message
    assert text not in caught.value.message


def test_keys_are_read_from_the_environment_and_stay_out_of_the_repr() -> None:
    new, old = new_key(), new_key()
    settings = Settings.from_env({"AGENTKIT_ENCRYPTION_KEYS": f"  {new}   {old} "})
    assert settings.encryption_keys == (new, old)
    assert new not in repr(settings)


def test_a_missing_package_is_said_in_one_line_that_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cryptography.fernet", None)
    settings = Settings(encryption_keys=(new_key(),))
    for make in (
        lambda: FernetCodec([new_key()]),
        lambda: AgentKit([Agent("a", ScriptedModel(["x"]))], settings=settings),
    ):
        with pytest.raises(ConfigurationError, match=r"pip install 'agentkit-celery\[crypto\]'") as caught:
            make()
        assert "\n" not in caught.value.message


def test_a_kits_codec_takes_the_place_of_the_settings_keys() -> None:
    store, codec = MemoryStore(), FernetCodec(new_key())
    agent = Agent("a", ScriptedModel(["x"]))
    settings = Settings(encryption_keys=(new_key(),))
    run_id = AgentKit([agent], settings=settings, store=store, queue=FakeQueue(), codec=codec).start("a", "go").id
    store.use_codec(codec)
    assert store.load(run_id).record.agent == "a"
    AgentKit([agent], settings=settings, store=store, queue=FakeQueue())
    with pytest.raises(DecryptionError):
        store.load(run_id)


# -- kits


def test_an_inline_run_is_kept_encrypted_and_is_read_as_any() -> None:
    agent = Agent("a", ScriptedModel([[call("refund", cents=5)], "a canary sang"]), tools=[refund])
    kit = AgentKit([agent], settings=Settings(encryption_keys=(new_key(),)))
    run = kit.run("a", "my canary", metadata={"k": "canary"})
    kit.resume(run.id, {"approved": True, "why": "canary"})
    done = kit.get(run.id)
    assert done.status == "completed"
    assert "a canary sang" in json.dumps(done.messages)
    assert kit._inline is not None
    store: Any = kit._inline[1].store
    assert "canary" not in repr(vars(store._runs[run.id])), "the bytes that it keeps"
    assert "canary" in json.dumps([json.loads(e.data) for e in store.events(run.id, 0, 100).events])


def test_a_codec_that_fails_for_a_while_loses_no_run(caplog: pytest.LogCaptureFixture) -> None:
    codec = Broken()
    app = App("done")
    app.store.use_codec(codec)
    run_id = app.start()
    codec.broken = True
    with pytest.raises(DecryptionError, match=run_id) as caught:
        app.kit.get(run_id)
    assert isinstance(caught.value.__cause__, OSError)
    for _ in range(7):
        app.kit.execute(run_id, 1)
    assert "cannot execute step 1, and gives it back to the queue" in caplog.text
    codec.broken = False
    app.work()
    assert app.check(run_id).status == "completed"
