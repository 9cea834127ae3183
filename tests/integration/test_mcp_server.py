"""agentkit as an MCP server: the official client over standard input and output and over HTTP, in every web layer."""

from __future__ import annotations

import asyncio
import json
import logging
import sys
import threading
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from mcp import Client, StdioServerParameters
from mcp.client.streamable_http import streamable_http_client
from werkzeug.serving import make_server

from agentkit import Agent, AgentKit, ScriptedModel
from agentkit.store.memory import MemoryStore
from agentkit.web import create_app
from agentkit.wires.mcp_tools import make_server as make_mcp_server
from tests.apps import FakeQueue
from tests.tools import refund

REFUND = [[{"type": "toolCall", "name": "refund", "arguments": {"cents": 900}}], "refunded"]


def authenticate(request: Any) -> str | None:
    return {"Bearer ann": "ann", "Bearer bob": "bob"}.get(request.headers.get("authorization", ""))


@pytest.fixture
def queue() -> FakeQueue:
    return FakeQueue()


@pytest.fixture
def kit(queue: FakeQueue) -> AgentKit:
    agent = Agent("desk", ScriptedModel(REFUND), tools=[refund])
    return AgentKit([agent], store=MemoryStore(), queue=queue, authenticate=authenticate)


@pytest.fixture
def url(kit: AgentKit) -> Iterator[str]:
    server = make_server("127.0.0.1", 0, create_app(kit), threaded=True)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def by_client(url: str, token: str | None, use: Callable[[Client], Coroutine[Any, Any, Any]], **options: Any) -> Any:
    async def talk() -> Any:
        headers = {"authorization": f"Bearer {token}"} if token else {}
        async with (
            httpx2.AsyncClient(headers=headers, timeout=30) as http,
            Client(streamable_http_client(f"{url}/mcp", http_client=http), **options) as client,
        ):
            return await use(client)

    return asyncio.run(talk())


def call(url: str, token: str, name: str, **arguments: Any) -> Any:
    async def use(client: Client) -> Any:
        result = await client.call_tool(name, arguments)
        text = result.content[0].text  # type: ignore[union-attr]
        return text if result.is_error else json.loads(text)

    return by_client(url, token, use)


@pytest.mark.parametrize("mode", ["auto", "legacy"])
def test_the_tools_are_listed_with_what_they_do(url: str, mode: str) -> None:
    async def use(client: Client) -> Any:
        return (await client.list_tools()).tools

    tools = {tool.name: tool for tool in by_client(url, "ann", use, mode=mode)}
    assert set(tools) == {"list_agents", "start_run", "get_run", "list_pending", "answer", "abort_run"}
    assert tools["get_run"].annotations.read_only_hint
    assert tools["answer"].annotations.destructive_hint


def test_a_run_is_started_found_waiting_and_answered(url: str, kit: AgentKit, queue: FakeQueue) -> None:
    assert call(url, "ann", "list_agents")["agents"][0]["name"] == "desk"
    run = call(url, "ann", "start_run", agent="desk", input="refund", idempotency_key="one")
    assert call(url, "ann", "start_run", agent="desk", input="refund", idempotency_key="one")["id"] == run["id"]
    work(queue, kit)
    waiting = call(url, "ann", "get_run", run_id=run["id"], wait_seconds=5)
    assert waiting["status"] == "paused"
    (item,) = call(url, "ann", "list_pending")["pending"]
    assert item["runId"] == run["id"]
    refused = call(url, "ann", "answer", run_id=run["id"], decision_id=item["decisionId"], decision={"approved": 3})
    assert "approved" in refused
    call(url, "ann", "answer", run_id=run["id"], decision_id=item["decisionId"], decision={"approved": True})
    work(queue, kit)
    ended = call(url, "ann", "get_run", run_id=run["id"])
    assert (ended["status"], ended["answer"]) == ("completed", "refunded")


def test_a_caller_can_do_nothing_that_its_credentials_may_not(url: str, kit: AgentKit, queue: FakeQueue) -> None:
    run = call(url, "ann", "start_run", agent="desk", input="refund")
    work(queue, kit)
    assert "run" in call(url, "bob", "get_run", run_id=run["id"])
    assert call(url, "bob", "list_pending")["pending"] == []
    assert isinstance(call(url, "bob", "abort_run", run_id=run["id"]), str)
    assert kit.get(run["id"]).status == "paused"


def test_who_is_nobody_is_refused(url: str) -> None:
    answer = httpx2.post(f"{url}/mcp", json={"jsonrpc": "2.0", "id": 1, "method": "tools/list"})
    assert answer.status_code == 401
    assert httpx2.get(f"{url}/mcp", headers={"authorization": "Bearer ann"}).status_code == 405


def test_what_is_no_message_is_refused(url: str) -> None:
    headers = {"authorization": "Bearer ann", "accept": "application/json, text/event-stream"}
    for body in ({}, {"jsonrpc": "2.0", "id": 1, "method": "nothing/here"}, {"jsonrpc": "1.0"}):
        answer = httpx2.post(f"{url}/mcp", json=body, headers=headers)
        assert "error" in answer.json() or answer.status_code >= 400


def test_it_speaks_on_standard_input_and_output_with_the_rights_of_its_token(url: str, kit: AgentKit) -> None:
    program = "from agentkit.cli import main; main()"

    async def talk() -> Any:
        target = StdioServerParameters(
            command=sys.executable,
            args=["-c", program, "mcp", "--url", url],
            env={"AGENTKIT_TOKEN": "ann"},
            cwd=Path(__file__).parents[2],
        )
        async with Client(target) as client:
            result = await client.call_tool("start_run", {"agent": "desk", "input": "refund"})
            return json.loads(result.content[0].text)  # type: ignore[union-attr]

    run = asyncio.run(talk())
    assert kit.get(run["id"]).owner == "ann"


def test_the_logging_of_the_process_stays_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    root = logging.getLogger()
    monkeypatch.setattr(root, "handlers", [])
    level = root.level
    make_mcp_server(lambda: None)  # type: ignore[arg-type, return-value]  # no tool is called
    assert (root.handlers, root.level) == ([], level)


def work(queue: FakeQueue, kit: AgentKit) -> None:
    """Execute the steps that are due, as a worker would."""
    while queue.enqueued:
        kit.execute(*queue.enqueued.pop(0))
