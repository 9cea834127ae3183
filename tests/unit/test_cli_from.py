"""`agentkit runs retry` and `agentkit runs fork`, against the whole web layer in this process."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any

import httpx
import pytest

from agentkit import Agent, AgentKit, ScriptedModel, Settings
from agentkit.cli.main import main
from agentkit.client import Client
from agentkit.errors import ProviderError
from agentkit.store.memory import MemoryStore
from agentkit.web import create_app
from tests.apps import FakeQueue
from tests.cli import BACKENDS, cli_of
from tests.tools import look
from tests.turns import call

Cli = Callable[..., tuple[int, str, str]]


class Shop:
    """A server with two agents. `down`: how often the vendor refuses the answer after a tool call."""

    def __init__(self, **hooks: Any) -> None:
        self.down = 0
        self.queue = FakeQueue()
        agents = [Agent("shop", ScriptedModel(self._answer), tools=[look]), Agent("other", ScriptedModel(["other"]))]
        self.kit = AgentKit(agents, settings=Settings(), store=MemoryStore(), queue=self.queue, **hooks)

    def _answer(self, messages: list[Any]) -> Any:
        if messages[-1]["role"] == "user":
            return [call("look", what="it")]
        if self.down:
            self.down -= 1
            raise ProviderError("overloaded", status=429)
        return "done"

    def work(self) -> None:
        while self.queue.enqueued:
            self.kit.execute(*self.queue.enqueued.pop(0))

    def ended(self, **more: Any) -> str:
        run_id = self.kit.start("shop", "go", **more).id
        self.work()
        return run_id

    def newest(self) -> Any:
        """Execute what is due, and return the run that was started last, with its messages."""
        self.work()
        return self.kit.get(next(self.kit.runs()).id)


@pytest.fixture
def shop() -> Shop:
    return Shop()


@pytest.fixture
def cli(shop: Shop, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Cli:
    transport = httpx.WSGITransport(create_app(shop.kit))

    def client(*_: Any) -> Client:
        return Client("http://server.test", retry_seconds=0, transport=transport)

    monkeypatch.setattr(import_module("agentkit.cli.options"), "_client", client)

    def run(*arguments: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as exit_:
            main(["runs", *arguments])
        out, err = capsys.readouterr()
        code: Any = exit_.value.code
        return code, out, err

    return run


def test_a_failed_run_is_tried_again_with_its_metadata(shop: Shop, cli: Cli) -> None:
    shop.down = 1
    source = shop.ended(metadata={"tenant": 7})
    assert shop.kit.get(source).status == "failed"
    code, out, _ = cli("retry", source)
    run = shop.newest()
    assert (code, out) == (0, f"{run.id}  queued\n")
    assert (run.status, run.origin, run.metadata) == ("completed", {"runId": source, "turn": 1}, {"tenant": 7})
    assert [message["role"] for message in run.messages] == ["user", "assistant", "toolResult", "assistant"]


def test_a_run_is_forked_at_a_turn(shop: Shop, cli: Cli) -> None:
    source = shop.ended()
    code, out, _ = cli("fork", source, "--turn", "1", "what else?")
    run = shop.newest()
    assert (code, out) == (0, f"{run.id}  queued\n")
    assert run.origin == {"runId": source, "turn": 1}
    assert [m["content"] for m in run.messages if m["role"] == "user"] == ["go", "what else?"]
    assert cli("fork", source, "--turn", "1")[0] == 0
    assert [message["role"] for message in shop.newest().messages] == ["user", "assistant", "toolResult", "assistant"]


def test_another_agent_may_take_over(shop: Shop, cli: Cli) -> None:
    assert cli("fork", shop.ended(), "and you?", "--agent", "other")[0] == 0
    run = shop.newest()
    assert (run.agent, run.status, run.origin["turn"]) == ("other", "completed", 2)


def test_what_cannot_be_is_one_clear_line(shop: Shop, cli: Cli) -> None:
    source = shop.ended()
    live = shop.kit.start("shop", "go").id
    for arguments, says in (
        (("retry", "nobody"), "there is no run nobody"),
        (("retry", live), "has not ended"),
        (("retry", source), "nothing to go on from"),
        (("fork", source, "x", "--turn", "9"), "has 2 whole turns"),
        (("fork", source, "x", "--agent", "nobody"), "there is no agent"),
    ):
        code, out, err = cli(*arguments)
        assert (code, out) == (1, "")
        assert err.startswith("agentkit: ")
        assert says in err
        assert err.count("\n") == 1
    assert cli("fork", source, "x", "--turn", "first")[0] == 2
    assert cli("fork")[0] == 2


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("command", ["retry", "fork"])
def test_what_goes_on_is_the_callers_and_without_a_server_the_owners(
    backend: str, command: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shop = Shop(authenticate=lambda request: "ops", may=lambda principal, action, run: True)
    shop.down = 1
    source = shop.ended(owner="ann")
    assert cli_of(shop.kit, backend, monkeypatch, capsys)("runs", command, source)[0] == 0
    run = shop.newest()
    assert run.origin == {"runId": source, "turn": 1}
    assert run.owner == {"server": "ops", "direct": "ann"}[backend]


def test_a_run_shows_where_it_is_from(shop: Shop, cli: Cli) -> None:
    source = shop.ended()
    cli("fork", source, "more", "--turn", "1")
    run = shop.newest()
    assert f"from run {source}, up to the end of turn 1\n" in cli("show", run.id)[1]
    assert "from run" not in cli("show", source)[1]
