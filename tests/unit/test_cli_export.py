"""`agentkit export` and `agentkit import`: files, pipes, what is selected, and what is said."""

from __future__ import annotations

import io
import json
import stat
import sys
from pathlib import Path
from typing import Any, cast

import fakeredis
import pytest
import redis

from agentkit import Agent, AgentKit, ScriptedModel, Settings
from agentkit.errors import StoreUnavailableError
from agentkit.queue.protocol import InlineQueue
from agentkit.store.redis import RedisStore
from tests.cli import Cli, cli_of


class Shop:
    """A kit on a store that can be exported, and its command line."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        self.queue = InlineQueue()
        client = fakeredis.FakeRedis(server=fakeredis.FakeServer(version=(7,)))
        store = RedisStore("", client=cast(redis.Redis, client))
        agents = [Agent("hello", ScriptedModel(["Hello."])), Agent("other", ScriptedModel(["Hello."]))]
        self.kit = AgentKit(agents, settings=Settings(), store=store, queue=self.queue)
        self._tools = monkeypatch, capsys

    def start(self, agent: str = "hello", **more: Any) -> str:
        run_id = self.kit.start(agent, "go", **more).id
        while self.queue.waiting:
            self.kit.execute(*self.queue.waiting.popleft())
        return run_id

    def ids(self) -> list[str]:
        return [run.id for run in self.kit.runs()]

    @property
    def cli(self) -> Cli:
        return cli_of(self.kit, "direct", *self._tools)


@pytest.fixture
def shop(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Shop:
    return Shop(monkeypatch, capsys)


@pytest.fixture
def empty(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Shop:
    return Shop(monkeypatch, capsys)


def lines_of(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def exported(text: str) -> list[str]:
    return [line["id"] for line in lines_of(text) if line["kind"] == "agentkit.run"]


def test_a_file_is_for_its_owner_alone_and_is_imported(shop: Shop, empty: Shop, tmp_path: Path) -> None:
    ids = [shop.start(owner="ann"), shop.start("other")]
    path = tmp_path / "backup.jsonl"
    path.write_text("of yesterday")
    assert shop.cli("export", str(path)) == (0, "", "2 runs exported\n")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [each.name for each in tmp_path.iterdir()] == ["backup.jsonl"]
    opening, *runs, ending = lines_of(path.read_text())
    assert (opening["kind"], opening["whole"], ending["kind"], ending["runs"]) == (
        "agentkit.export",
        True,
        "agentkit.end",
        2,
    )
    assert [(run["id"], run["agent"], run.get("owner"), run["version"]) for run in runs] == [
        (ids[0], "hello", "ann", 2),
        (ids[1], "other", None, 2),
    ]
    assert empty.cli("import", str(path), "--dry-run") == (0, "", "2 runs would be imported\n")
    assert empty.ids() == []
    assert empty.cli("import", str(path)) == (0, "", "2 runs imported\n")
    assert empty.ids() == shop.ids()
    assert empty.cli("import", str(path)) == (0, "", "0 runs imported; 2 had been imported before\n")


def test_runs_are_selected_by_id_and_by_what_they_are(shop: Shop) -> None:
    first, second = shop.start(owner="ann"), shop.start("other")
    for words, wanted in (
        (["--run", first], [first]),
        (["--owner", "ann"], [first]),
        (["--agent", "other", "--status", "completed"], [second]),
        (["--status", "paused"], []),
        ([], [first, second]),
    ):
        code, out, err = shop.cli("export", *words)
        assert (code, exported(out)) == (0, wanted), err
        assert lines_of(out)[0]["whole"] is (not words)
    code, _, err = shop.cli("export", "--run", first, "--owner", "ann")
    assert (code, "not both" in err) == (2, True)
    assert shop.cli("export", "--run", "nobody") == (1, "", "agentkit: there is no run nobody\n")


@pytest.mark.parametrize("words", [(), ("--owner", "ann"), ("--run", "one")])
def test_a_store_that_is_away_is_said_at_once(
    shop: Shop, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, words: tuple[str, ...]
) -> None:
    calls = []

    def away(*_: Any, **__: Any) -> Any:
        calls.append(1)
        raise StoreUnavailableError("the store is away")

    monkeypatch.setattr(AgentKit, "page", away)
    for name in ("listing", "loads"):
        monkeypatch.setattr(shop.kit.store, name, away)
    assert shop.cli("export", str(tmp_path / "backup.jsonl"), *words) == (1, "", "agentkit: the store is away\n")
    assert calls == [1]
    assert list(tmp_path.iterdir()) == []


def test_pipes_carry_an_export(
    shop: Shop, empty: Shop, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shop.start()
    _, out, _ = shop.cli("export", "-")
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(out.encode())))
    assert empty.cli("import", "-") == (0, "", "1 run imported\n")


def test_runs_that_are_there_are_named_and_can_be_left_out(shop: Shop, tmp_path: Path) -> None:
    run_id = shop.start()
    path = str(tmp_path / "backup.jsonl")
    shop.cli("export", path)
    code, _, err = shop.cli("import", path)
    assert code == 1
    assert f"agentkit: line 2: run {run_id} is in the store already\n" in err
    assert "nothing was imported" in err
    code, _, err = shop.cli("import", path, "--skip-existing")
    assert (code, err) == (0, "0 runs imported; 1 left out, which are in the store or were deleted from it\n")


def test_a_line_that_cannot_be_used_makes_the_status_1(shop: Shop, tmp_path: Path) -> None:
    path = tmp_path / "backup.jsonl"
    shop.cli("export", str(path))
    path.write_text(path.read_text() + "{}\n")
    code, _, err = shop.cli("import", str(path))
    assert (code, "agentkit: line 3: it is no line of an export" in err) == (1, True)
    assert err.endswith("0 runs imported; 2 failed\n")


def test_files_that_cannot_be_opened_are_named(shop: Shop, tmp_path: Path) -> None:
    assert "is-not-there.jsonl cannot be read: No such file" in shop.cli("import", "is-not-there.jsonl")[2]
    assert "cannot be written: No such file" in shop.cli("export", str(tmp_path / "away" / "backup.jsonl"))[2]


def test_an_export_that_fails_leaves_the_file_of_before(
    shop: Shop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop.start()
    path = tmp_path / "backup.jsonl"
    path.write_text("of yesterday")

    def full(*args: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("agentkit.cli.export.os.fsync", full)
    code, _, err = shop.cli("export", str(path))
    assert (code, "No space left on device" in err) == (1, True)
    assert [(each.name, each.read_text()) for each in tmp_path.iterdir()] == [("backup.jsonl", "of yesterday")]
