"""`agentkit runs ls|abort|retry|delete` over many runs, over HTTP and directly on the store."""

from __future__ import annotations

import json
from typing import Any

import pytest

from agentkit import Agent, AgentKit, ScriptedModel, Settings
from agentkit.cli.filters import read_seconds
from agentkit.errors import ForbiddenError, ProviderError, StoreUnavailableError
from agentkit.store.memory import MemoryStore
from tests.apps import FakeQueue
from tests.cli import BACKENDS, PLACES, Cli, cli_of
from tests.tools import refund
from tests.turns import call


class Shop:
    """A kit with an agent that is asked for a refund, one that ends, and one whose vendor refuses."""

    def __init__(self) -> None:
        self.queue = FakeQueue()
        self.is_down = True
        agents = [
            Agent("shop", ScriptedModel([[call("refund", cents=500)], "Done."]), tools=[refund]),
            Agent("hello", ScriptedModel(["Hello."])),
            Agent("broken", ScriptedModel(self._answer)),
        ]
        self.kit = AgentKit(agents, settings=Settings(), store=MemoryStore(), queue=self.queue)

    def _answer(self, messages: list[Any]) -> Any:
        if self.is_down:
            raise ProviderError("overloaded", status=529)
        return "Here again."

    def work(self) -> None:
        while self.queue.enqueued:
            self.kit.execute(*self.queue.enqueued.pop(0))

    def run(self, agent: str, **more: Any) -> str:
        run_id = self.kit.start(agent, "go", **more).id
        self.work()
        return run_id

    def status(self, run_id: str) -> str:
        return self.kit.get(run_id).status

    def ids(self) -> set[str]:
        return {run.id for run in self.kit.runs()}


@pytest.fixture
def shop() -> Shop:
    return Shop()


@pytest.fixture(params=BACKENDS)
def cli(
    request: pytest.FixtureRequest, shop: Shop, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Cli:
    return cli_of(shop.kit, request.param, monkeypatch, capsys)


@pytest.fixture
def place(request: pytest.FixtureRequest) -> str:
    """What the command line calls the place of the runs."""
    return PLACES[request.node.callspec.params["cli"]]


# -- ls


def test_runs_are_listed_by_what_they_have(shop: Shop, cli: Cli) -> None:
    paused = shop.run("shop", metadata={"customer": 42, "tenant": "a=b"}, owner="ann")
    failed, done = shop.run("broken"), shop.run("hello", metadata={"customer": "42"})

    def listed(*options: str) -> list[str]:
        code, out, _ = cli("runs", "ls", "--jsonl", *options)
        assert code == 0
        return [json.loads(line)["id"] for line in out.splitlines()]

    assert listed() == [done, failed, paused]
    assert listed("--status", "paused") == [paused]
    assert listed("--agent", "hello") == [done]
    assert listed("--owner", "ann") == [paused]
    assert listed("--error", "provider_error") == [failed]
    assert listed("--error", "limit_turns") == []
    assert listed("--metadata", "customer=42") == [done, paused]  # a number is compared as its JSON
    assert listed("--metadata", "customer=42", "--metadata", "tenant=a=b") == [paused]
    assert listed("--older-than", "1h") == []
    assert listed("--newer-than", "1h", "--limit", "2") == [done, failed]
    assert listed("--text", paused[-6:]) == [paused]


def test_a_list_is_a_table_or_json(shop: Shop, cli: Cli) -> None:
    assert cli("runs", "ls") == (0, "No runs.\n", "")
    shop.run("broken")
    _, out, _ = cli("runs", "ls")
    assert "STATUS" in out.splitlines()[0]
    assert "provider_error" in out.splitlines()[1]
    assert json.loads(cli("runs", "ls", "--json")[1])[0]["agent"] == "broken"


@pytest.mark.parametrize(
    ("text", "seconds"), [("90", 90), ("90s", 90), ("15m", 900), ("15min", 900), ("3h", 10_800), ("2D", 172_800)]
)
def test_a_length_of_time_has_a_unit(text: str, seconds: int) -> None:
    assert read_seconds(text) == seconds


@pytest.mark.parametrize(
    "words",
    [
        ("ls", "--older-than", "soon"),
        ("ls", "--metadata", "customer"),
        ("abort",),
        ("abort", "r1", "--all"),
        ("abort", "--status", "failed"),
        ("retry", "--status", "completed"),
        ("retry", "a", "b", "--watch"),
        ("delete", "--status", "paused"),
    ],
)
def test_what_cannot_be_meant_is_one_line(cli: Cli, words: tuple[str, ...]) -> None:
    code, out, err = cli("runs", *words)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert "Traceback" not in err


# -- abort


def test_nothing_is_done_that_was_not_confirmed(shop: Shop, cli: Cli, place: str) -> None:
    run_id = shop.run("shop")
    code, out, err = cli("runs", "abort", "--agent", "shop", "--dry-run")
    assert (code, run_id in out, err) == (0, True, f"1 run of {place} would be aborted.\n")
    code, _, err = cli("runs", "abort", "--agent", "shop")  # there is no terminal
    assert (code, "--yes" in err) == (2, True)
    assert shop.status(run_id) == "paused"


@pytest.mark.parametrize(("typed", "status"), [("y", "aborted"), ("n", "paused"), ("", "paused")])
def test_a_person_is_asked(shop: Shop, cli: Cli, monkeypatch: pytest.MonkeyPatch, typed: str, status: str) -> None:
    run_id = shop.run("shop")
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    monkeypatch.setattr("click.confirm", lambda text, **_: typed == "y" and text == "Abort 1 run?")
    assert cli("runs", "abort", "--agent", "shop")[0] == (0 if typed == "y" else 1)
    assert shop.status(run_id) == status


def test_all_that_options_select_are_aborted(shop: Shop, cli: Cli, place: str) -> None:
    paused = [shop.run("shop") for _ in range(13)]
    done = shop.run("hello")
    queued = shop.kit.start("hello", "go").id
    code, out, err = cli("runs", "abort", "--all", "--yes", "--reason", "the bill")
    assert code == 0
    assert err == f"14 runs of {place} would be aborted.\n14 runs aborted\n"
    assert "… and 4 more" in out
    assert {shop.status(run_id) for run_id in (*paused, queued)} == {"aborted"}
    assert shop.status(done) == "completed"
    error = shop.kit.get(queued).error
    assert error is not None
    assert "the bill" in error["message"]
    assert cli("runs", "abort", "--all", "--yes") == (0, "No runs.\n", "")


@pytest.mark.parametrize("options", [(), ("--agent", "shop", "--yes")])
def test_a_store_that_is_away_from_the_start_is_not_waited_for(
    shop: Shop, cli: Cli, monkeypatch: pytest.MonkeyPatch, options: tuple[str, ...]
) -> None:
    calls = []

    def away(*_: Any, **__: Any) -> Any:
        calls.append(1)
        raise StoreUnavailableError("the store is away")

    monkeypatch.setattr(AgentKit, "page", away)
    monkeypatch.setattr(AgentKit, "abort", away)
    code, _, err = cli("runs", "abort", *(options or ("one", "two")))
    assert (code, err.splitlines()[-1].startswith("agentkit: "), len(calls)) == (1, True, 1)


def test_a_store_that_goes_away_meanwhile_is_waited_for(shop: Shop, cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    ids = [shop.run("shop") for _ in range(2)]
    abort, away = AgentKit.abort, [StoreUnavailableError("the store is away")]

    def flaky(kit: AgentKit, run_id: str, *args: Any, **more: Any) -> Any:
        if run_id == ids[1] and away:
            raise away.pop()
        return abort(kit, run_id, *args, **more)

    monkeypatch.setattr(AgentKit, "abort", flaky)
    assert cli("runs", "abort", *ids)[::2] == (0, "2 runs aborted\n")
    assert away == []


def test_the_rest_is_done_where_one_fails(shop: Shop, cli: Cli, place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    ids = sorted(shop.run("shop") for _ in range(3))
    abort = AgentKit.abort

    def refused(kit: AgentKit, run_id: str, *args: Any, **more: Any) -> Any:
        if run_id == ids[0]:
            raise ForbiddenError("not this one")
        return abort(kit, run_id, *args, **more)

    monkeypatch.setattr(AgentKit, "abort", refused)
    code, _, err = cli("runs", "abort", "--agent", "shop", "--yes")
    assert code == 1
    assert err == f"3 runs of {place} would be aborted.\nagentkit: {ids[0]}: not this one\n2 runs aborted; 1 failed\n"
    assert [shop.status(run_id) for run_id in ids] == ["paused", "aborted", "aborted"]


def test_runs_that_are_named_need_no_confirmation(shop: Shop, cli: Cli) -> None:
    run_id, done = shop.run("shop"), shop.run("hello")
    assert cli("runs", "abort", run_id) == (0, f"{run_id}  aborted\n", "")
    assert cli("runs", "abort", done) == (0, f"{done}  completed\n", "")
    code, out, err = cli("runs", "abort", "missing", run_id)
    assert (code, out) == (1, f"{run_id}  aborted\n")
    assert err.startswith("agentkit: missing: there is no run missing\n")


# -- retry


def test_each_failed_run_is_retried_once_however_often_it_is_asked_for(shop: Shop, cli: Cli) -> None:
    failed = [shop.run("broken", metadata={"n": n}) for n in range(2)]
    shop.is_down = False
    for _ in range(2):
        code, out, _ = cli("runs", "retry", "--error", "provider_error", "--yes")
        assert (code, out.count("retried as")) == (0, 2)
    new = shop.ids() - set(failed)
    shop.work()
    assert len(new) == 2
    assert {shop.status(run_id) for run_id in new} == {"completed"}
    assert {shop.kit.get(run_id).metadata["n"] for run_id in new} == {0, 1}


# -- delete


def test_ended_runs_are_deleted_and_others_by_force_alone(shop: Shop, cli: Cli) -> None:
    done, paused = shop.run("hello"), shop.run("shop")
    code, _, err = cli("runs", "delete", paused)
    assert (code, err.startswith(f"agentkit: {paused}: ")) == (1, True)
    assert cli("runs", "delete", "--all", "--yes")[0] == 0
    assert shop.ids() == {paused}
    assert cli("runs", "delete", done)[0] == 1
    assert cli("runs", "delete", "--all", "--force", "--yes")[0] == 0
    assert shop.ids() == set()


def test_what_others_deleted_meanwhile_is_left_out(shop: Shop, cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    ids = sorted(shop.run("hello") for _ in range(3))
    delete = AgentKit.delete

    def quicker(kit: AgentKit, run_id: str, **more: Any) -> None:
        if run_id == ids[0]:
            delete(kit, ids[1], **more)
        delete(kit, run_id, **more)

    monkeypatch.setattr(AgentKit, "delete", quicker)
    code, _, err = cli("runs", "delete", "--all", "--yes")
    assert (code, shop.ids()) == (0, set())
    assert err.endswith("2 runs deleted; 1 left out, which had ended or gone\n")
