from __future__ import annotations

import io
import json
import shlex
import sys
import threading
from collections.abc import Iterator
from contextlib import nullcontext
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, cast

import pytest

from agentkit import Agent, AgentKit, ScriptedModel, Settings
from agentkit.cli.answering import resume, watch
from agentkit.cli.backend import Direct, place_of
from agentkit.cli.decisions import Answer
from agentkit.cli.main import main
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
        def events(self, *_: Any, **__: Any) -> Iterator[dict[str, Any]]:
            raise KeyboardInterrupt

    assert watched(Interrupted(), "", monkeypatch)[0] == 130
    assert "agentkit runs events r1" in capsys.readouterr().err


def test_ctrl_c_where_an_answer_is_asked_for_says_how_to_give_it_later(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Interrupted(io.StringIO):
        def readline(self, *_: Any) -> str:
            raise KeyboardInterrupt

    monkeypatch.setattr("sys.stdin", Interrupted())
    assert watch(cast(Client, FakeClient(pending())), {"id": "r1"}, Terminal(io.StringIO())) == 130
    err = capsys.readouterr().err
    assert """agentkit runs resume r1 '{"approved": true}'""" in err
    assert "agentkit runs events" not in err


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
    assert shown(delta("text", "a\x1b[2Jb\x9b1mc\r\n\td")) == "a\\x1b[2Jb\\x9b1mc\n\td"


def test_a_result_is_a_short_line() -> None:
    start = {"type": "tool_execution_start", "toolCallId": "c", "toolName": "t", "args": {"a": 1, "b": "x y"}}
    result = {"content": [{"type": "text", "text": "long " * 100}]}
    end = {"type": "tool_execution_end", "toolCallId": "c", "toolName": "t", "result": result, "isError": True}
    first, second = shown(start, end).splitlines()
    assert first == "● t  a 1  b x y"
    assert len(second) < 120
    assert second.endswith("…")


HIDDEN = {
    "\x1b[8m": "\\x1b[8m",
    "\x9b8m": "\\x9b8m",
    "\x7f": "\\x7f",
    "\b\b": "\\x08\\x08",
    "\r": "\\x0d",
    "\u202egpj": "\\u202egpj",
    "\u2066": "\\u2066",
    "\u200f": "\\u200f",
    "\u061c": "\\u061c",
    "\u200b": "\\u200b",
    "\u2028": "\\u2028",
    "\ufeff": "\\ufeff",
    "\U000e0041": "\\U000e0041",
}


@pytest.mark.parametrize("hidden", HIDDEN)
@pytest.mark.parametrize(
    "place", ["name", "key", "value", "nested", "nested key", "reason", "label", "title", "choice"]
)
def test_what_cannot_be_seen_is_shown_where_a_person_decides(
    monkeypatch: pytest.MonkeyPatch, hidden: str, place: str
) -> None:
    def at(name: str) -> str:
        return f"x{hidden}y" if name == place else "x"

    fields = {at("label"): {"enum": [at("choice")], "description": at("title")}}
    item = pending(schema={"type": "object", "properties": fields, "required": list(fields)})
    item.update(toolName=at("name"), reason=at("reason"))
    item["input"] = {at("key"): at("value"), "nested": [{at("nested key"): at("nested")}]}
    out = watched(FakeClient(item), "1\n", monkeypatch)[1]
    assert hidden not in out
    # JSON has one more way to write a character of one byte or of more than two.
    ways = [HIDDEN[hidden], json.dumps(hidden)[1:-1], hidden.encode("unicode_escape").decode()]
    assert any(f"x{way}y" in out.replace("\\u001b", "\\x1b") for way in ways), out


@pytest.mark.parametrize(
    "value", ["echo fine; " * 40 + "rm -rf /", "true\n" * 50 + "rm -rf /", "x" * 5000 + "\trm -rf /"]
)
@pytest.mark.parametrize("kind", ["decision", "in_doubt", "client_execute"])
def test_all_that_will_be_executed_is_shown(monkeypatch: pytest.MonkeyPatch, kind: str, value: str) -> None:
    item = pending(kind=kind, input={"command": value, "more": {"list": [value]}})
    watched_text = watched(FakeClient(item), "", monkeypatch)[1]
    assert watched_text.count("rm -rf /") == 2
    assert watched_text.count("fine") == value.count("fine") * 2
    assert "…" not in watched_text


def test_an_argument_cannot_pass_for_another_or_for_an_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    args = {"order": "A-1  cents 1", "note": "x\n◆ decided", "flag": "true", "empty": "", "cents": 100_000}
    out = watched(FakeClient(pending(input=args)), "y\n", monkeypatch)[1].splitlines()
    assert "    order A-1  cents 1" in out
    assert "    │ ◆ decided" in out
    assert '    flag "true"' in out
    assert '    empty ""' in out
    assert "    cents 100000" in out


def test_an_answer_on_the_command_line_shows_and_names_its_item(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    client = FakeClient(pending(1), pending(2, input={"command": "x" * 200 + "\u202e"}))
    resume(cast(Client, client), "r1", Answer("decision", {"approved": True}), Terminal(), tool_call_id="c2")
    assert client.sent == [{"decision": {"approved": True}, "tool_call_id": "c2", "decision_id": "d2"}]
    assert "x" * 200 + "\\u202e" in capsys.readouterr().out


VOTES = {"approvals": 3, "votes": [{"decidedBy": "ann", "decidedAt": 1}, {"decidedBy": "bob\u202e", "decidedAt": 2}]}


def test_who_has_decided_what_is_shown_and_another_vote_is_for_the_same_arguments(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    proposal = {"decision": {"approved": True}, "input": {"cents": 400}}
    first = FakeClient(pending(approvals=3, votes=[], reason="over 100"))
    out = watched(first, "y\n", monkeypatch)[1]
    assert "  over 100\n  needs the same decision of 3 principals\n" in out
    assert "input" not in first.sent[0]
    later = FakeClient(pending(**VOTES, proposal=proposal))
    out = watched(later, "y\n", monkeypatch)[1]
    assert "● tool1  cents 400" in out
    assert '; ann, bob\\u202e gave {"approved": true}, with these arguments in place of the model\'s' in out
    assert later.sent[0]["input"] == {"cents": 400}


def test_an_answer_may_be_for_later_calls_too_where_that_is_offered(monkeypatch: pytest.MonkeyPatch) -> None:
    question = "the same for later calls of this tool in this run (y/n, Enter for false): "
    for typed, remembered in (("y\ny\n", True), ("y\n\n", None), ("/reject no\nmaybe\ny\n", True)):
        client = FakeClient(pending(remember=True))
        assert question in watched(client, typed, monkeypatch)[1]
        assert client.sent[0].get("remember") is remembered
    assert question not in watched(FakeClient(pending()), "y\n", monkeypatch)[1]


def test_who_may_not_vote_is_told_and_waits_for_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    class Refused(FakeClient):
        def resume(self, run_id: str, **given: Any) -> dict[str, Any]:
            self.items = []  # the others have decided
            raise ApiError(403, "forbidden", "'olga' started the run")

    status, out = watched(Refused(pending(approvals=2, votes=[])), "y\n", monkeypatch)
    assert status == 0
    assert "  others must decide: 'olga' started the run\n" in out
    with pytest.raises(ApiError):
        watched(Refused(pending()), "y\n", monkeypatch)


def test_votes_and_remembered_answers_are_lines_of_a_run() -> None:
    vote = {"type": "tool_decision_vote", "decidedBy": "ann\n", "votes": 1, "approvals": 2, "decision": {"ok": True}}
    resolved = {"type": "tool_decision_resolved", "outcome": "decided", "decidedBy": "ann", "decision": True}
    assert shown(vote, {**resolved, "remember": True}, {**resolved, "remembered": True}) == (
        '◆ 1 of 2 have decided, the last of them ann  {"ok": true}\n'
        "◆ decided by ann, also for later calls  true\n"
        "◆ decided by ann, as remembered  true\n"
    )


def test_arguments_and_memory_on_the_command_line(monkeypatch: pytest.MonkeyPatch) -> None:
    client = FakeClient(pending())
    monkeypatch.setattr(sys.modules["agentkit.cli.options"], "Client", lambda *args, **options: nullcontext(client))
    words = ["runs", "resume", "r1", '{"approved": true}', "--input", '{"cents": 3}', "--remember"]
    with pytest.raises(SystemExit) as ended:
        main(words)
    assert ended.value.code == 0
    assert client.sent == [
        {
            "decision": {"approved": True},
            "input": {"cents": 3},
            "remember": True,
            "tool_call_id": "c1",
            "decision_id": "d1",
        }
    ]


def test_a_command_to_answer_by_cannot_run_another(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    schema = {"type": "object", "properties": {"a'; rm -rf / #": {"type": "boolean"}}}
    watched(FakeClient(pending(schema=schema)), "", monkeypatch)
    line = next(line for line in capsys.readouterr().err.splitlines() if "resume" in line)
    assert shlex.split(line)[3:] == ["r1", json.dumps({"a'; rm -rf / #": True})]


@pytest.mark.parametrize("by_option", [True, False])
@pytest.mark.parametrize(
    "words",
    [
        ["run", "support", "hi"],
        ["runs", "ls"],
        ["runs", "show", "r1"],
        ["runs", "events", "r1"],
        ["runs", "abort", "r1"],
        ["runs", "extend", "r1", "--by", "1"],
        ["runs", "resume", "r1", "{}"],
    ],
)
def test_every_command_sends_the_token(
    words: list[str], by_option: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked: list[str | None] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.headers["Authorization"])
            self.send_response(401)
            self.send_header("Content-Length", "0")
            self.end_headers()

        do_POST = do_GET

        def log_message(self, *_: object) -> None:
            pass

    monkeypatch.setenv("AGENTKIT_TOKEN", "from-env")
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        with pytest.raises(SystemExit):
            main([*words, "--url", f"http://127.0.0.1:{server.server_port}", *(["--token", "typed"] * by_option)])
        server.shutdown()
    assert set(asked) == {"Bearer typed" if by_option else "Bearer from-env"}
    assert capsys.readouterr().err.count("\n") == 1


def test_a_discarded_answer_is_reported() -> None:
    assert "the answer so far is discarded: worker lost" in shown(
        delta("text", "He"), {"type": "message_discard", "reason": "worker lost"}
    )


def test_a_place_is_named_without_its_passwords() -> None:
    assert place_of(Client("http://ann:secret@shop.test/kit/")) == "the server http://***@shop.test/kit"
    kit = AgentKit((Agent("a", ScriptedModel(["x"])),), settings=Settings(redis_url="redis://:secret@store.test:1/2"))
    with Direct(kit) as direct:
        assert place_of(direct) == "the store redis://***@store.test:1/2"


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
        (["run", "support", "hi", "--url", "localhost:8000"], 2, "expected an http:// or https:// URL"),
        (["runs", "ls", "--token", "a\nb"], 2, "--token is '***'"),
        (["runs", "ls", "--token", ""], 2, "--token is '***'"),
        (["runs", "resume", "r1", "NaN"], 2, "the decision is not valid JSON"),
        (["runs", "resume", "r1", "[" * 100_000], 2, "the decision is not valid JSON"),
        (["runs", "resume", "r1", "--result", "1" * 5000], 2, "--result is not valid JSON"),
        (["dev", "--host", "no.such.host.invalid", "--port", "0"], 1, "cannot listen on no.such.host.invalid"),
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
