from __future__ import annotations

import io
import json
from collections.abc import Iterator
from typing import Any, cast

import pytest

from agentkit.cli.main import main
from agentkit.cli.runs import watch
from agentkit.cli.terminal import RunView, Terminal
from agentkit.client import ApiError, Client

USAGE = {"totalTokens": 1234, "cost": {"total": 0.0}}
SCHEMA = {"type": "object", "properties": {"approved": {"type": "boolean"}}, "required": ["approved"]}


def pending(number: int = 1, **more: Any) -> dict[str, Any]:
    item = {"decisionId": f"d{number}", "toolCallId": f"c{number}", "toolName": f"tool{number}", "kind": "decision"}
    return {**item, "input": {"cents": number}, "schema": SCHEMA, **more}


class FakeClient:
    """A server with one run: it pauses with `items`, and completes when each has been answered."""

    def __init__(self, *items: dict[str, Any], refuse: tuple[ApiError, ...] = (), status: str = "completed") -> None:
        self.items = list(items)
        self.refuse = list(refuse)
        self.status = status
        self.sent: list[dict[str, Any]] = []
        self.seq = 0
        self.retry_seconds = 0.0

    def events(self, run_id: str, after: int = 0, *, until_pause: bool = False) -> Iterator[dict[str, Any]]:
        assert (after, until_pause) == (self.seq, True)
        self.seq += 1
        if self.items:
            yield {"seq": self.seq, "type": "agent_pause", "pending": self.items}
        else:
            yield {"seq": self.seq, "type": "agent_end", "status": self.status, "usage": USAGE}

    def get(self, run_id: str) -> dict[str, Any]:
        return {"id": run_id, "status": "paused" if self.items else self.status, "pending": list(self.items)}

    def resume(self, run_id: str, **given: Any) -> dict[str, Any]:
        self.sent.append(given)
        if self.refuse:
            error = self.refuse.pop(0)
            if error.status == 409:
                self.items = [item for item in self.items if item["decisionId"] != given["decision_id"]]
            raise error
        self.items = [item for item in self.items if item["decisionId"] != given["decision_id"]]
        return self.get(run_id)


def watched(client: FakeClient, typed: str, monkeypatch: pytest.MonkeyPatch) -> tuple[int, str]:
    monkeypatch.setattr("sys.stdin", io.StringIO(typed))
    out = io.StringIO()
    status = watch(cast(Client, client), {"id": "r1"}, Terminal(out))
    return status, out.getvalue()


def test_a_run_that_asks_nothing_is_watched_to_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    assert watched(FakeClient(), "", monkeypatch) == (0, "✓ completed  1,234 tokens\n")


def test_a_run_that_fails_is_an_exit_status(monkeypatch: pytest.MonkeyPatch) -> None:
    assert watched(FakeClient(status="aborted"), "", monkeypatch)[0] == 1


def test_every_pending_item_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    client = FakeClient(pending(1), pending(2), pending(3, kind="client_execute", schema=None))
    status, out = watched(client, "y\n/reject too much\n[1]\n", monkeypatch)
    assert status == 0
    assert client.sent == [
        {"decision": {"approved": True}, "tool_call_id": "c1", "decision_id": "d1"},
        {"reject": "too much", "tool_call_id": "c2", "decision_id": "d2"},
        {"result": [1], "tool_call_id": "c3", "decision_id": "d3"},
    ]
    assert "● tool2  cents 2" in out


def test_a_decision_that_the_server_finds_invalid_is_asked_for_again(monkeypatch: pytest.MonkeyPatch) -> None:
    refusal = ApiError(422, "decision_invalid", "no", [{"path": "/approved", "message": "must be true"}])
    client = FakeClient(pending(), refuse=(refusal,))
    status, out = watched(client, "n\ny\n", monkeypatch)
    assert status == 0
    assert "  /approved: must be true\n" in out
    assert [sent["decision"] for sent in client.sent] == [{"approved": False}, {"approved": True}]


def test_an_answer_that_somebody_else_gave_first_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    client = FakeClient(pending(), refuse=(ApiError(409, "decision_conflict", "another was accepted"),))
    status, out = watched(client, "y\n", monkeypatch)
    assert status == 0
    assert "no answer needed any more: another was accepted" in out


def test_where_nobody_answers_it_says_how_to_and_leaves_the_run(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    client = FakeClient(pending(1), pending(2))
    assert watched(client, "y\n", monkeypatch)[0] == 3
    assert """agentkit runs resume r1 '{"approved": true}'""" in capsys.readouterr().err
    assert len(client.sent) == 1


def test_ctrl_c_leaves_the_run_running_and_says_how_to_rejoin(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Interrupted(FakeClient):
        def get(self, run_id: str) -> dict[str, Any]:
            raise KeyboardInterrupt

    assert watched(Interrupted(), "", monkeypatch)[0] == 130
    assert "agentkit runs events r1" in capsys.readouterr().err


def shown(*events: dict[str, Any], color: bool = False) -> str:
    out = io.StringIO()
    view = RunView(Terminal(out, color=color))
    for seq, event in enumerate(events, 1):
        view.feed({"seq": seq, **event})
    return out.getvalue()


def delta(kind: str, text: str) -> dict[str, Any]:
    update = {"type": f"{kind}_delta", "contentIndex": 0, "delta": text}
    return {"type": "message_update", "assistantMessageEvent": update}


def test_text_streams_as_it_comes_and_thinking_is_dimmed() -> None:
    end = {"type": "message_end", "message": {"role": "assistant", "content": [], "stopReason": "stop"}}
    events = (delta("thinking", "hm"), delta("thinking", "m"), delta("text", "Hel"), delta("text", "lo"), end)
    assert shown(*events) == "hmm\nHello\n"
    assert "\x1b[2mhm\x1b[0m" in shown(*events, color=True)


def test_what_a_model_writes_does_not_steer_the_terminal() -> None:
    assert shown(delta("text", "a\x1b[2Jb\x9b1mc\r\n\td")) == "a[2Jb1mc\n\td"


def test_tool_calls_and_their_results_are_short_lines() -> None:
    start = {"type": "tool_execution_start", "toolCallId": "c", "toolName": "t", "args": {"a": 1, "b": "x\ny"}}
    result = {"content": [{"type": "text", "text": "long " * 100}]}
    end = {"type": "tool_execution_end", "toolCallId": "c", "toolName": "t", "result": result, "isError": True}
    first, second = shown(start, end).splitlines()
    assert first == "● t  a 1  b x y"
    assert len(second) < 120
    assert second.endswith("…")


def test_a_discarded_answer_is_reported() -> None:
    assert "the answer so far is discarded: worker lost" in shown(
        delta("text", "He"), {"type": "message_discard", "reason": "worker lost"}
    )


def test_no_color_is_honoured(monkeypatch: pytest.MonkeyPatch) -> None:
    class Tty(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.delenv("NO_COLOR", raising=False)
    assert Terminal(Tty()).color
    monkeypatch.setenv("NO_COLOR", "1")
    assert not Terminal(Tty()).color


@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        (["run"], 2, "Missing argument 'AGENT'"),
        (["walk"], 2, "No such command 'walk'"),
        (["runs", "resume", "r1"], 2, "give exactly one of"),
        (["runs", "resume", "r1", "{"], 2, "the decision is not valid JSON"),
        (["runs", "resume", "r1", "{}", "--reject", "x"], 2, "give exactly one of"),
        (["runs", "ls", "--url", "http://127.0.0.1:1"], 1, "http://127.0.0.1:1"),
        (["run", "support", "hi", "--url", "http://127.0.0.1:1"], 1, "start one with `agentkit dev`"),
        (["dev", "--app", "no.such:kit"], 1, "there is no module 'no'"),
        (["dev", "--app", "agentkit.errors:kit"], 1, "has no AgentKit named 'kit'"),
    ],
)
def test_a_mistake_is_one_clear_line(
    words: list[str], status: int, said: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AGENTKIT_APP", raising=False)
    monkeypatch.setenv("AGENTKIT_DATA_DIR", "unused")  # dev sets it, and it must be put back
    with pytest.raises(SystemExit) as ended:
        main(words)
    err = capsys.readouterr().err
    assert ended.value.code == status
    assert said in err
    assert err.startswith("agentkit: ")
    assert err.count("\n") == 1


def test_the_version_and_the_help_are_there(capsys: pytest.CaptureFixture[str]) -> None:
    for words in (["--version"], ["--help"], ["dev", "--help"], ["runs", "resume", "--help"]):
        with pytest.raises(SystemExit) as ended:
            main(words)
        assert ended.value.code == 0
    assert json.dumps({"approved": True}) in capsys.readouterr().out
