"""`agentkit decisions` and `agentkit audit`: what people see of the inbox, and what a file says of the record."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest

from agentkit.cli import audit, options
from agentkit.cli.main import main
from agentkit.client import Client
from agentkit.core.audit import BrokenChainError
from agentkit.store.memory import MemoryStore
from agentkit.testing.store_audit_contract import answer
from agentkit.web import create_app
from tests.apps import App
from tests.tools import YES, locate, refund
from tests.turns import call

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def app(monkeypatch: pytest.MonkeyPatch) -> Iterator[App]:
    app = App([call("refund", cents=5), call("locate")], "done", tools=[refund, locate])
    web = create_app(app.kit)
    monkeypatch.setattr(
        options,
        "_client",
        lambda url, token: Client("http://server.test", retry_seconds=0, transport=httpx.WSGITransport(web)),
    )
    return app


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """Run a command; its exit status, and what it wrote."""

    def run(*words: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as exit:
            main(words)
        captured = capsys.readouterr()
        assert isinstance(exit.value.code, int)
        return exit.value.code, captured.out, captured.err

    return run


# -- decisions


def test_what_waits_is_listed_in_a_table_with_what_it_belongs_to(app: App, run: Run) -> None:
    app.kit.start("a", "go", owner="ann", metadata={"title": "Order \x1b[2J7"})
    app.work()
    items = list(app.kit.pending())
    status, out, _ = run("decisions", "ls")
    lines = out.splitlines()
    assert (status, lines[0].split()) == (0, ["ID", "AGENT", "TOOL", "KIND", "OWNER", "SINCE", "TITLE"])
    assert [line.split()[:5] for line in lines[1:]] == [
        [item.decision_id, "a", item.tool_name, item.kind, "ann"] for item in items
    ]
    assert lines[1].endswith("Order \\x1b[2J7")
    for words, wanted in (
        (["--tool", "locate"], items[1:]),
        (["--kind", "decision"], items[:1]),
        (["--owner", "ann", "--limit", "1"], items[:1]),
    ):
        assert [line.split()[0] for line in run("decisions", "ls", *words)[1].splitlines()[1:]] == [
            item.decision_id for item in wanted
        ]
    assert run("decisions", "ls", "--agent", "b")[1] == "Nothing waits.\n"
    assert run("decisions", "ls", "--state", "resolved")[1] == "No answers.\n"


def test_an_item_is_answered_by_its_id_alone_and_then_listed_as_answered(app: App, run: Run) -> None:
    run_id = app.run()
    first, second = app.kit.pending()
    status, out, _ = run("decisions", "answer", first.decision_id, json.dumps(YES), "--input", '{"cents": 3}')
    assert (status, "refund" in out, run_id in out) == (0, True, True)
    assert run("decisions", "answer", second.decision_id, "--reject", "no")[0] == 0
    newest, oldest = run("decisions", "ls", "--state", "resolved")[1].splitlines()[1:]
    assert newest.split()[:6] == [second.decision_id, "a", "locate", "client_execute", "-", "rejected"]
    assert oldest.split()[5:7] == ["decided", "-"]
    [answered] = app.kit.answers(tool="refund")
    assert (answered.decision, answered.edited_input) == (YES, {"cents": 3})


def test_without_an_answer_it_is_asked_for(app: App, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    app.run()
    item = next(app.kit.pending())
    monkeypatch.setattr("sys.stdin", io.StringIO("y\n"))
    assert run("decisions", "answer", item.decision_id)[0] == 0
    assert next(app.kit.answers()).decision == YES
    left = next(app.kit.pending())
    status, _, err = run("decisions", "answer", left.decision_id)
    assert (status, "was not answered" in err) == (1, True)


@pytest.mark.parametrize(
    ("words", "status", "says"),
    [
        (["decisions", "answer", "no-such-item", "true"], 1, "see agentkit decisions ls"),
        (["decisions", "answer", "x", "true", "--reject", "no"], 2, "exactly one"),
        (["decisions", "answer", "x", "{"], 2, "not valid JSON"),
        (["decisions", "answer", "x", "--remember"], 2, "need the decision"),
        (["decisions", "ls", "--state", "x"], 2, "resolved"),
        (["audit", "verify", "no-such-file"], 2, "does not exist"),
        (["audit", "export", "--since", "yesterday"], 1, "is no date or time"),
    ],
)
def test_a_mistake_is_one_clear_line(app: App, run: Run, words: list[str], status: int, says: str) -> None:
    found, _, err = run(*words)
    assert (found, says in err, err.count("\n")) == (status, True, 1), err


# -- audit


def recorded(count: int) -> MemoryStore:
    store = MemoryStore()
    for number in range(count):
        store.record_answer(answer(owner=f"ann {number}"))
    return store


def written(store: MemoryStore, since: int | None = None) -> str:
    out = io.StringIO()
    audit.export(store, since, out, lambda text: None)
    return out.getvalue()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    file = tmp_path / "answers.jsonl"
    file.write_text(written(recorded(5)))
    return file


def test_an_export_goes_to_the_standard_output_and_is_found_to_be_whole(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = recorded(3)
    monkeypatch.setattr(audit, "open_store", lambda settings: store)
    status, out, err = run("audit", "export")
    assert (status, err, len(out.splitlines())) == (0, "", 3)
    file = tmp_path / "x"
    file.write_text(out)
    status, out, err = run("audit", "verify", str(file))
    assert (status, err) == (0, "")
    assert out == f"the chain holds: 3 entries, 1 to 3; the hash of the last is {store.chain().head}\n"


@pytest.mark.parametrize(
    ("change", "line", "says"),
    [
        (lambda lines: [*lines[:3], *lines[4:]], 4, "one is missing"),
        (lambda lines: [lines[0], *lines[2:]], 2, "entry 2 should stand here"),
        (lambda lines: lines[:-1], 5, "missing at the end"),
        (lambda lines: [*lines[:2], lines[3], lines[2], *lines[4:]], 3, "stands elsewhere"),
        (lambda lines: [lines[1], lines[0], *lines[2:]], 1, "first line is missing"),
        (lambda lines: [*lines[:2], lines[2].replace("ann 2", "eve"), *lines[3:]], 3, "entry 3 was changed"),
        (lambda lines: [lines[0].replace("ann 0", "eve"), *lines[1:]], 1, "entry 1 was changed"),
        (lambda lines: [lines[0].replace('"last": 5', '"last": 4'), *lines[1:-1]], 5, "not the one that the first"),
        (lambda lines: [lines[0].replace('"chain": {', '"chain":  {'), *lines[1:]], 1, "was changed"),
        (lambda lines: [*lines, lines[-1]], 6, "after the last"),
        (lambda lines: lines[1:], 1, "first line is missing"),
        (lambda lines: ['{"chain": {"format": "x"}}\n', *lines[1:]], 1, "no export"),
        (lambda lines: [], 1, "empty"),
        (lambda lines: [*lines[:2], "{\n", *lines[3:]], 3, "no JSON"),
        (lambda lines: [*lines[:2], "é\n", *lines[3:]], 3, "was changed"),
        (lambda lines: [*lines[:-1], lines[-1].rstrip()], 5, "cut off"),
    ],
)
def test_what_is_wrong_with_a_file_is_said_with_its_line(
    run: Run, file: Path, change: Callable[[list[str]], list[str]], line: int, says: str
) -> None:
    file.write_text("".join(change(file.read_text().splitlines(keepends=True))))
    status, out, err = run("audit", "verify", str(file))
    assert (status, out) == (1, "")
    assert f"the chain does not hold: line {line}: " in err
    assert says in err


def test_an_export_since_a_time_begins_with_the_first_entry_then(tmp_path: Path) -> None:
    store = MemoryStore()
    hour = 3_600_000
    times = [1, 2, 3, 3, 2, 5, 6]  # the fifth was recorded by recovery, later than its time says
    for at in times:
        store.record_answer(_at(at * hour))
    for since, first in ((0, 1), (2, 2), (3, 3), (4, 6), (6, 7)):
        file = tmp_path / f"{since}"
        file.write_text(written(store, since * hour))
        chain = audit.verify(file, lambda text: None)
        assert (chain.first, chain.last) == (first, 7)
    assert written(store, 9 * hour) == ""
    assert written(MemoryStore(), 5) == written(MemoryStore()) == ""


def test_each_line_of_an_export_is_an_entry() -> None:
    store = recorded(3)
    lines = [json.loads(line) for line in written(store).splitlines()]
    assert [line["owner"] for line in lines] == ["ann 0", "ann 1", "ann 2"]
    assert lines[0].pop("chain")["head"] == store.chain().head
    assert lines == [json.loads(line) for line in store.chain_lines(0, 3)]


def _at(at: int) -> Any:

    return msgspec.structs.replace(answer(), at=at)


def test_an_export_of_a_store_that_lacks_entries_says_so() -> None:
    store = recorded(3)
    store._lines.pop()
    with pytest.raises(BrokenChainError, match="no entry 3, though its last is 3"):
        written(store)
    store = recorded(3)
    del store._lines[0]
    assert len(written(store).splitlines()) == 2, "verify finds it"


@pytest.mark.parametrize(
    ("text", "ms"),
    [
        ("1970-01-02", 86_400_000),
        ("1970-01-01T00:00:01", 1000),
        ("1970-01-01T01:00:00+01:00", 0),
    ],
)
def test_a_time_is_read_in_utc_unless_it_says_otherwise(text: str, ms: int) -> None:
    assert audit.read_time(text) == ms


def test_long_work_shows_its_progress(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audit, "_PROGRESS", 2)
    monkeypatch.setattr(audit, "_BATCH", 2)
    monkeypatch.setattr(audit, "open_store", lambda settings: recorded(5))
    status, out, err = run("audit", "export")
    assert (status, "2 of 5 entries" in err) == (0, True)
    file = tmp_path / "x"
    file.write_text(out)
    assert "2 lines" in run("audit", "verify", str(file))[2]
