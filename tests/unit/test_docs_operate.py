"""Every command of docs/how-to/operate.md does what it says, over HTTP and directly on the store."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any, cast

import fakeredis
import pytest
import redis

from agentkit import Agent, AgentKit, ScriptedModel, Settings
from agentkit.core.workers import Worker
from agentkit.errors import ProviderError
from agentkit.runtime.worker import this_worker
from agentkit.store.memory import MemoryStore
from agentkit.store.protocol import Store
from agentkit.store.redis import RedisStore
from tests.apps import FakeQueue
from tests.cli import BACKENDS, cli_of
from tests.tools import refund
from tests.turns import call

PAGE = (Path(__file__).parents[2] / "docs" / "how-to" / "operate.md").read_text()
OTHERS = "## In an application of yours"  # its commands: tests/acceptance/test_docs_flask.py
BLOCKS = re.findall(r"^```sh\n(.*?)^```$", re.sub(f"^{OTHERS}.*?^## ", "## ", PAGE, flags=re.M | re.S), re.M | re.S)
COMMANDS = sorted({line for block in BLOCKS for line in block.splitlines()})


def refuse(messages: list[Any]) -> Any:
    raise ProviderError("overloaded", status=529)


def installation(store: Store | None = None) -> tuple[AgentKit, str, str]:
    """A kit with a worker, and a run that is paused, ann's, one that failed and one that runs; the paused one's ids.

    `store`: by default one in memory.
    """
    queue = FakeQueue()
    agents = [
        Agent("NAME", ScriptedModel([[call("refund", cents=500)], "Done."]), tools=[refund]),
        Agent("down", ScriptedModel(refuse)),
    ]
    kit = AgentKit(agents, settings=Settings(), store=store or MemoryStore(), queue=queue)
    about: Worker = this_worker(queues=("agentkit",))
    kit.store.heartbeat(about.name, 10**9, about)
    paused = kit.start("NAME", "go", owner="ann").id
    kit.start("down", "go")
    while queue.enqueued:
        kit.execute(*queue.enqueued.pop(0))
    running = kit.start("NAME", "go").id
    assert kit.store.claim(running, 1, 60_000) is not None
    return kit, paused, kit.get(paused).pending[0]["decisionId"]


def _fakeredis() -> RedisStore:
    """A store that can be exported."""
    client = fakeredis.FakeRedis(server=fakeredis.FakeServer(version=(7,)))
    return RedisStore("", client=cast(redis.Redis, client))


def test_the_page_has_ten_questions_and_each_its_commands() -> None:
    questions = re.split(r"^## ", PAGE, flags=re.MULTILINE)
    numbered = [question for question in questions if re.match(r"\d+\. ", question)]
    assert len(numbered) == 10
    assert all("```sh\nagentkit " in question for question in numbered)
    assert all(line.startswith("agentkit ") for line in COMMANDS)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_of_the_page_is_carried_out(
    command: str, backend: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    kit, paused, item = installation(_fakeredis() if command.startswith("agentkit export") else None)
    monkeypatch.chdir(tmp_path)
    words = [{"ID": paused, "ITEM": item}.get(word, word) for word in shlex.split(command)[1:]]
    code, out, err = cli_of(kit, backend, monkeypatch, capsys)(*words)
    assert (code, out != "" or words[0] == "export") == (0, True), err


def test_a_users_data_are_exported_and_then_gone(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    kit, paused, _ = installation(_fakeredis())
    monkeypatch.chdir(tmp_path)
    cli = cli_of(kit, "server", monkeypatch, capsys)
    [question] = re.findall(r"^## 8\. .*?^## ", PAGE, re.MULTILINE | re.DOTALL)
    [block] = re.findall(r"^```sh\n(.*?)^```$", question, re.MULTILINE | re.DOTALL)
    for line in block.splitlines():
        assert cli(*shlex.split(line)[1:])[0] == 0
    assert paused in (tmp_path / "ann.jsonl").read_text()
    assert {run.owner for run in kit.runs()} == {None}
