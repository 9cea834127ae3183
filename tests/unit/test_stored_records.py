"""Records that lie in stores are read by every later version: the frozen corpus in tests/golden/records/."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from agentkit.core.record import SCHEMA_VERSION, RunRecord, RunState, Status, Step
from agentkit.core.run import Run
from agentkit.errors import UnsupportedSchemaVersionError
from agentkit.store.encoding import decode_resolution
from agentkit.store.protocol import StoredResolution
from tests.golden.make_records import FOLDER, RUNS, main

FILES = sorted(FOLDER.parent.glob("v*/*.json"))


def read(path: Path) -> dict[str, Any]:
    body: dict[str, Any] = json.loads(path.read_text())
    return body


def decode(body: dict[str, Any]) -> RunRecord:
    return RunRecord.decode(json.dumps(body["fixed"]), json.dumps(body["state"]), body["status"])


def named(name: str) -> RunRecord:
    return decode(read(FOLDER / f"{name}.json"))


def test_the_corpus_is_there() -> None:
    assert {path.stem for path in FILES if path.parent == FOLDER} == set(RUNS)


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_a_stored_record_is_read_and_written_as_it_was(path: Path) -> None:
    body = read(path)
    record = decode(body)
    assert {**json.loads(record.encode_state()), **body["state"]} == json.loads(record.encode_state())
    assert record.messages == len(body["messages"])
    assert record.status == body["status"]
    shown = Run.of(RunState(record, 1, 1), body["messages"]).to_json()
    assert shown["pending"] == [c["item"] for c in body["state"].get("calls", ()) if c["state"] == "pending"]


def test_a_queued_record() -> None:
    record = named("queued")
    assert (record.status, record.turn, record.steps) == (Status.QUEUED, 1, (Step(1, "model"),))
    assert record.limits == {"maxTokens": 1000}


def test_a_running_record() -> None:
    record = named("running")
    assert [call.state for call in record.calls] == ["ready", "done"]
    assert record.steps == (Step(2, "tool", 0),)
    assert record.steers == ({"content": "hurry"},)
    assert record.follow_ups == ({"content": [{"type": "text", "text": "and then"}]},)
    assert record.abort == {"reason": "enough"}


def test_a_record_paused_on_one_decision() -> None:
    record = named("paused_one_decision")
    (item,) = record.pending
    assert (record.status, item["kind"], item["input"]) == (Status.PAUSED, "decision", {"cents": 5})
    assert record.calls[0].on_expire == {"approved": False}
    assert item["expiresAt"] == item["createdAt"] + 3_600_000


def test_a_record_paused_on_two_items() -> None:
    record = named("paused_two_pending")
    assert [item["kind"] for item in record.pending] == ["client_execute", "in_doubt"]
    answered = record.calls[0]
    assert (answered.state, answered.args) == ("answered", {"cents": 4})
    assert answered.answer == {"decision": {"approved": True}, "input": {"cents": 4}}
    assert record.calls[2].started


def test_ended_records() -> None:
    assert named("completed").error is None
    assert named("completed").ended_at is not None
    assert named("failed").error == {"code": "provider_error", "message": "overloaded"}
    assert named("aborted").error == {"code": "aborted", "message": "enough"}
    for name in ("completed", "failed", "aborted"):
        assert named(name).terminal
        assert named(name).steps == named(name).calls == ()


@pytest.mark.parametrize("version", [SCHEMA_VERSION + 1, 99])
def test_a_record_of_a_future_version_is_refused(version: int) -> None:
    body = read(FOLDER / "queued.json")
    body["fixed"]["schemaVersion"] = version
    body["state"] = "in a form that nobody knows yet"
    with pytest.raises(UnsupportedSchemaVersionError, match=rf"schemaVersion {version}, this agentkit reads up to"):
        decode(body)


@pytest.mark.parametrize("version", ["missing", None, "1", 0, -1, 1.0, True])
def test_a_record_without_a_version_is_refused(version: Any) -> None:
    body = read(FOLDER / "queued.json")
    del body["fixed"]["schemaVersion"]
    if version != "missing":
        body["fixed"]["schemaVersion"] = version
    with pytest.raises(UnsupportedSchemaVersionError, match="no agentkit has written"):
        decode(body)


def test_a_resolution_that_says_neither_when_nor_who_is_read() -> None:
    old = decode_resolution("d1", b'7 ["t1","decided",{"decision":true}]')
    assert old == StoredResolution("d1", "t1", "decided", {"decision": True}, seq=7)
    assert (old.decided_at, old.decided_by) == (None, None)


def holds(now: Any, before: Any) -> bool:
    """Whether `now` says all that `before` says."""
    if isinstance(now, dict) and isinstance(before, dict):
        return all(key in now and holds(now[key], value) for key, value in before.items())
    if isinstance(now, list) and isinstance(before, list):
        return len(now) == len(before) and all(map(holds, now, before))
    return bool(now == before)


def test_this_version_still_writes_what_it_wrote(tmp_path: Path) -> None:
    """Fields may come to a version as long as their absence has a meaning; none goes, and none changes."""
    main(tmp_path)
    for name in RUNS:
        before, now = read(FOLDER / f"{name}.json"), read(tmp_path / f"{name}.json")
        assert now["messages"] == before["messages"], name
        for half in ("fixed", "state", "status"):
            assert holds(now[half], before[half]), (name, half)
