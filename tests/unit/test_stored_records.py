"""Records that lie in stores are read by every later version: the frozen corpus in tests/golden/records/."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from agentkit.core.calls import ItemAnswer
from agentkit.core.events import RunError
from agentkit.core.messages import QueuedMessage, TextBlock, text_of
from agentkit.core.record import SCHEMA_VERSION, RunRecord, RunState, Status, Step
from agentkit.core.run import Run
from agentkit.core.struct import encode, to_json
from agentkit.errors import UnsupportedSchemaVersionError
from agentkit.store.encoding import decode_resolution
from agentkit.store.protocol import StoredResolution
from tests.golden.make_records import FOLDER, RUNS, main, written

FILES = sorted(FOLDER.parent.glob("v*/*.json"))
FOLDERS = sorted(FOLDER.parent.glob("v*"))
RUNS_OF_V1 = {"queued", "running", "paused_one_decision", "paused_two_pending", "completed", "failed", "aborted"}


def read(path: Path) -> dict[str, Any]:
    body: dict[str, Any] = json.loads(path.read_text())
    return body


def decode(body: dict[str, Any]) -> RunRecord:
    results = body.get("results", {})
    state = body["state"] if isinstance(body["state"], dict) else {}
    steps = {step[0]: None for step in state.get("steps", ())}
    steps |= {int(number): index for number, index in body.get("toolSteps", {}).items()}
    return RunRecord.decode(
        encode(body["fixed"]),
        encode(body["state"]),
        body["status"],
        calls=[encode(call) for call in body.get("calls", ())],
        queued=[encode(each) for each in body.get("queued", ())],
        results={int(index): encode(result) if result else b"" for index, result in results.items()},
        open_steps=steps,
        abort=encode(body["abort"]) if body.get("abort") else None,
    )


def named(name: str, folder: Path = FOLDER) -> RunRecord:
    return decode(read(folder / f"{name}.json"))


def test_the_corpus_is_there() -> None:
    for folder in FOLDERS[1:]:
        assert {path.stem for path in FILES if path.parent == folder} == set(RUNS)
    assert {path.stem for path in FILES if path.parent.name == "v1"} == RUNS_OF_V1
    assert [folder.name for folder in FOLDERS] == [f"v{version}" for version in range(1, SCHEMA_VERSION + 1)]


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_a_stored_record_is_read_as_it_was(path: Path) -> None:
    body = read(path)
    record = decode(body)
    version = int(path.parent.name.removeprefix("v"))
    assert record.schema_version == body["fixed"]["schemaVersion"] == version
    assert record.messages == len(body["messages"])
    assert record.status == body["status"]
    shown = Run.of(RunState(record, 1, 1), body["messages"]).to_json()
    calls = body["state"].get("calls", ()) if version == 1 else body["calls"]
    assert shown["pending"] == [c["item"] for c in calls if c["state"] == "pending"]


@pytest.mark.parametrize("name", RUNS)
def test_a_record_of_this_version_is_written_as_it_was(name: str) -> None:
    body = read(FOLDER / f"{name}.json")
    del body["messages"]
    assert written(decode(body)) == body


@pytest.mark.parametrize("path", [path for path in FILES if path.parent.name == "v1"], ids=lambda path: path.stem)
def test_a_record_of_version_1_is_written_in_the_present_form_and_loses_nothing(path: Path) -> None:
    body = read(path)
    now = written(decode(body))
    calls, abort = body["state"].pop("calls", []), body["state"].pop("abort", None)
    assert now["queued"] == queued_of(body["state"])
    assert [now["state"].pop(name, 0) for name in ("queuedSteers", "queuedFollowUps")] == counts_of(now["queued"])
    assert now["toolSteps"] == tool_steps_of(body["state"])
    assert (now["state"], now["status"], now["abort"]) == (body["state"], body["status"], abort)
    assert now["fixed"] == {**body["fixed"], "schemaVersion": SCHEMA_VERSION}
    results = {str(index): call.pop("result") for index, call in enumerate(calls) if "result" in call}
    assert now["calls"] == calls
    assert now["results"] == {
        index: {
            "role": "toolResult",
            "toolCallId": calls[int(index)]["id"],
            "toolName": calls[int(index)]["name"],
            **result,
            "timestamp": body["state"]["updatedAt"],
        }
        for index, result in results.items()
    }


@pytest.mark.parametrize(
    "path",
    [path for path in FILES if path.parent.name in ("v2", "v3", "v4")],
    ids=lambda path: f"{path.parent.name}-{path.stem}",
)
def test_a_record_of_version_2_to_4_is_written_in_the_present_form_and_loses_nothing(path: Path) -> None:
    body = read(path)
    now = written(decode(body))
    del body["messages"]
    if path.parent.name == "v2":
        body["queued"] = queued_of(body["state"])
        counts = [now["state"].pop(name, 0) for name in ("queuedSteers", "queuedFollowUps")]
        assert counts == counts_of(body["queued"])
    if path.parent.name != "v4":
        body["toolSteps"] = tool_steps_of(body["state"])
    body["fixed"]["schemaVersion"] = SCHEMA_VERSION
    assert now == body


def counts_of(queued: list[Any]) -> list[int]:
    whens = [each["when"] for each in queued]
    return [whens.count("steer"), whens.count("followUp")]


def tool_steps_of(state: dict[str, Any]) -> dict[str, int]:
    """Take the tool steps out of a state of a version up to 3, in their present form."""
    steps = [Step(*step) for step in state.pop("steps", ())]
    if models := [step for step in steps if step.kind == "model"]:
        state["steps"] = to_json(models)
    return {str(step.number): step.call for step in steps if step.call is not None}


def queued_of(state: dict[str, Any]) -> list[Any]:
    """Take what is queued out of a state of a version up to 2, in its present form."""
    steers = [{"message": each["content"], "when": "steer"} for each in state.pop("steers", ())]
    return steers + [{"message": each["content"], "when": "followUp"} for each in state.pop("followUps", ())]


def test_who_sent_a_queued_message_of_version_2_is_read() -> None:
    body = read(FOLDER.parent / "v2" / "running.json")
    body["state"]["steers"][0]["by"] = "ann"
    assert [each.by for each in decode(body).queued or ()] == ["ann", None]


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_a_queued_record(folder: Path) -> None:
    record = named("queued", folder)
    assert (record.status, record.turn, record.steps) == (Status.QUEUED, 1, (Step(1, "model"),))
    assert record.limits == {"maxTokens": 1000}


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_a_running_record(folder: Path) -> None:
    record = named("running", folder)
    assert [call.state for call in record.calls] == ["ready", "done"]
    assert record.steps == (Step(2, "tool", 0),)
    assert record.queued == (QueuedMessage("hurry", "steer"), QueuedMessage([TextBlock("and then")], "followUp"))
    assert record.abort is not None
    assert (record.abort.reason, record.abort.by) == ("enough", None)
    result = record.calls[1].result
    assert result is not None
    assert (result.tool_call_id, result.tool_name, result.is_error) == ("unknown", "unknown", True)
    assert text_of(result) == "there is no tool named 'unknown'; the tools are: locate, pay, refund"


def test_a_running_record_with_calls_that_ended_beside_another() -> None:
    record = named("running_beside")
    assert [call.state for call in record.calls] == ["done", "ready", "done"]
    assert [step.call for step in record.steps] == [1]
    assert (record.messages, record.flushed) == (3, 1)
    assert record.calls[0].result is None, "it is among the messages"
    assert record.calls[2].result is not None
    assert text_of(record.calls[2].result) == "three done"


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_a_record_paused_on_one_decision(folder: Path) -> None:
    record = named("paused_one_decision", folder)
    (item,) = record.pending
    assert (record.status, item.kind, item.input) == (Status.PAUSED, "decision", {"cents": 5})
    assert record.calls[0].on_expire == {"approved": False}
    assert item.expires_at == item.created_at + 3_600_000


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_a_record_paused_on_two_items(folder: Path) -> None:
    record = named("paused_two_pending", folder)
    assert [item.kind for item in record.pending] == ["client_execute", "in_doubt"]
    answered = record.calls[0]
    assert (answered.state, answered.args) == ("answered", {"cents": 4})
    assert answered.answer == ItemAnswer(decision={"approved": True}, input={"cents": 4})
    assert record.calls[2].started


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_ended_records(folder: Path) -> None:
    assert named("completed", folder).error is None
    assert named("completed", folder).ended_at is not None
    assert named("failed", folder).error == RunError("provider_error", "overloaded")
    assert named("aborted", folder).error == RunError("aborted", "enough")
    for name in ("completed", "failed", "aborted"):
        assert named(name, folder).terminal
        assert named(name, folder).steps == named(name, folder).calls == ()


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
    assert old == StoredResolution("d1", "t1", "decided", ItemAnswer(decision=True), seq=7)
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
        for part in ("fixed", "state", "status", "calls", "queued", "results", "toolSteps", "abort"):
            assert holds(now[part], before[part]), (name, part)
