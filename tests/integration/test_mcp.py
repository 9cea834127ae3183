"""Tools of MCP servers: real servers by the official SDK, of both revisions and transports, and hostile ones."""

from __future__ import annotations

import functools
import socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from agentkit import Agent, AgentKit, ConfigurationError, MCPServer, RetryPolicy, Run, ScriptedModel, Settings
from agentkit.errors import DecisionValidationError, InvalidRequestError, ProviderError, ToolNotRegisteredError
from agentkit.mcp import connection
from tests.mcp_servers import PNG, command, executed
from tests.servers import free_port
from tests.waiting import wait_until

Make = Callable[..., MCPServer]


def call(name: str, **arguments: Any) -> list[dict[str, Any]]:
    return [{"type": "toolCall", "name": name, "arguments": arguments}]


def kit_of(server: MCPServer, *turns: Any) -> AgentKit:
    return AgentKit([Agent("desk", ScriptedModel([*turns, "done"]), tools=[server])])


def result_of(run: Run) -> dict[str, Any]:
    results = [message for message in run.messages if message["role"] == "toolResult"]
    assert results, run
    return results[-1]


def text_of(run: Run) -> str:
    return "".join(block.get("text", "") for block in result_of(run)["content"])


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "executed.jsonl"


@pytest.fixture
def make(log: Path) -> Iterator[Make]:
    """Makes servers that are commands, and ends them after the test."""
    made: list[MCPServer] = []

    def start(*options: str, **declared: Any) -> MCPServer:
        declared = {"retry": RetryPolicy(attempts=2, base=0.01), **declared}
        server = MCPServer(name="shop", command=command(*options, "--log", str(log)), **declared)
        made.append(server)
        return server

    yield start
    for server in made:
        server.close()


@pytest.fixture(params=["2026-07-28", "2025-11-25"])
def revision(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """The revision of the protocol that is spoken: the current one, and the one before."""
    if request.param == "2025-11-25":
        monkeypatch.setattr(connection, "Client", functools.partial(connection.Client, mode="legacy"))
    found: str = request.param
    return found


@pytest.fixture(params=["stdio", "http"])
def server(request: pytest.FixtureRequest, make: Make, log: Path, revision: str) -> Iterator[MCPServer]:
    """The SDK's server over each transport."""
    if request.param == "stdio":
        yield make()
        return
    port = free_port()
    process = subprocess.Popen(
        command("--http", str(port), "--log", str(log)), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    found = MCPServer(f"http://127.0.0.1:{port}/mcp", name="shop", retry=RetryPolicy(attempts=2, base=0.01))
    try:
        wait_until(lambda: _listens(port), timeout=20, what="the server to listen")
        yield found
        found.close()
    finally:
        process.kill()
        process.wait()


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def test_each_tool_of_a_server_is_a_tool_of_the_agent(server: MCPServer) -> None:
    tools = {tool.name: tool for tool in server.tools()}

    assert tools["shop__look_up"].description == "Look an order up."
    assert tools["shop__look_up"].parameters["required"] == ["order"]
    assert (tools["shop__look_up"].decision, tools["shop__look_up"].effects) == (None, "idempotent")
    assert tools["shop__refund"].decision is not None
    assert tools["shop__refund"].effects == "once"
    assert tools["shop__explain"].effects == "once"
    odd = next(name for name in tools if name.startswith("shop__odd_name_with_characters_"))
    assert tools[odd].label == "odd name/with.characters"


def test_a_call_gives_text_and_structured_content(server: MCPServer, log: Path) -> None:
    run = kit_of(server, call("shop__look_up", order="A-1")).run("desk", "go")

    assert run.status == "completed", run.error
    assert result_of(run)["details"] == {"order": "A-1", "cents": 900}
    assert '"cents": 900' in text_of(run)
    assert [each["tool"] for each in executed(log)] == ["look_up"]


def test_images_and_links_are_content(server: MCPServer) -> None:
    run = kit_of(server, call("shop__picture")).run("desk", "go")

    text, image, link = result_of(run)["content"]
    assert text["text"] == "a dot"
    assert image == {"type": "image", "data": PNG, "mimeType": "image/png"}
    assert "https://example.com/a.png" in link["text"]


def test_a_tool_that_fails_is_an_error_result(server: MCPServer) -> None:
    run = kit_of(server, call("shop__fail")).run("desk", "go")

    assert run.status == "completed"
    assert result_of(run)["isError"]
    assert "no such order" in text_of(run)


def test_a_destructive_tool_waits_for_an_approval(server: MCPServer, log: Path) -> None:
    kit = kit_of(server, call("shop__refund", order="A-1"))
    run = kit.run("desk", "go")

    assert run.status == "paused"
    assert executed(log) == []
    with pytest.raises(DecisionValidationError):
        kit.resume(run.id, {"approved": False})
    kit.resume(run.id, {"approved": True})

    assert kit.get(run.id).status == "completed"
    assert [each["tool"] for each in executed(log)] == ["refund"]


def test_what_a_server_asks_in_a_call_is_a_pending_item_that_outlives_its_connection(
    server: MCPServer, log: Path
) -> None:
    kit = kit_of(server, call("shop__explain", order="A-1"))
    run = kit.run("desk", "go")

    (item,) = run.pending
    assert (item["kind"], item["reason"]) == ("decision", "shop asks: why A-1?")
    with pytest.raises(DecisionValidationError):
        kit.resume(run.id, {"why": 3})
    with pytest.raises(InvalidRequestError):
        kit.resume(run.id, {"why": "rain"}, input={"order": "A-2"})
    server.close()
    kit.resume(run.id, {"why": "rain"})

    assert kit.get(run.id).status == "completed"
    assert text_of(kit.get(run.id)) == "because rain"
    assert [(each["tool"], each.get("why")) for each in executed(log)] == [("explain", "rain")]


def test_a_rejected_question_ends_the_call(server: MCPServer, log: Path) -> None:
    kit = kit_of(server, call("shop__explain", order="A-1"))
    run = kit.run("desk", "go")
    kit.resume(run.id, reject="no comment")

    assert kit.get(run.id).status == "completed"
    assert "no comment" in text_of(kit.get(run.id))
    assert executed(log) == []


def test_progress_is_shown_and_an_end_of_time_cancels_the_call(make: Make, log: Path, revision: str) -> None:
    server = make(timeout=1.0)
    kit = kit_of(server, call("shop__slow"))
    run = kit.run("desk", "go")

    assert "did not finish within 1 seconds" in text_of(run)
    wait_until(lambda: "slow was cancelled" in [each["tool"] for each in executed(log)], what="the server to notice")


def test_an_idempotent_call_is_repeated_where_its_server_died(make: Make, log: Path, revision: str) -> None:
    run = kit_of(make(), call("shop__vanish_once")).run("desk", "go")

    assert text_of(run) == "here again"
    assert [each["tool"] for each in executed(log)] == ["vanish_once"] * 2


def test_a_person_says_what_became_of_a_call_whose_server_died(make: Make, log: Path, revision: str) -> None:
    kit = kit_of(make(), call("shop__vanish"))
    run = kit.run("desk", "go")

    (item,) = run.pending
    assert item["kind"] == "in_doubt"
    assert len(executed(log)) == 1
    kit.resume(run.id, {"verdict": "done", "result": "it vanished"})
    assert kit.get(run.id).status == "completed"
    assert len(executed(log)) == 1


def test_a_list_that_changes_is_read_again(make: Make, revision: str) -> None:
    server = make()
    kit = kit_of(server, call("shop__grow"))
    kit.run("desk", "go")
    if revision == "2025-11-25":  # a server of the current revision says so to who listens, and `refresh` does the rest
        wait_until(lambda: "shop__grown" in [tool.name for tool in server.tools()], what="the new tool")
    assert "shop__grow" in [tool.name for tool in server.tools()]


def test_a_tool_that_went_while_a_run_was_paused_is_not_executed(make: Make, log: Path) -> None:
    server = make(tools=lambda name: name in wanted)
    wanted = {"refund"}
    kit = kit_of(server, call("shop__refund", order="A-1"))
    run = kit.run("desk", "go")
    wanted.clear()
    server.refresh()

    with pytest.raises(ToolNotRegisteredError):
        kit.resume(run.id, {"approved": True})
    assert kit.get(run.id).status == "paused"
    assert executed(log) == []


def test_a_server_that_cannot_be_reached_fails_the_model_call_and_says_so(tmp_path: Path) -> None:
    server = MCPServer(f"http://127.0.0.1:{free_port()}/mcp", name="crm", retry=None)
    with pytest.raises(ProviderError) as raised:
        server.tools()
    assert raised.value.retryable
    run = AgentKit([Agent("desk", ScriptedModel(["done"]), tools=[server])]).run("desk", "go")
    assert run.status == "failed"
    assert run.error is not None
    assert "the MCP server 'crm' cannot be reached" in run.error["message"]
    assert "127.0.0.1" not in run.error["message"]


def test_an_optional_server_that_cannot_be_reached_is_left_out() -> None:
    server = MCPServer(f"http://127.0.0.1:{free_port()}/mcp", name="crm", retry=None, optional=True)
    run = AgentKit([Agent("desk", ScriptedModel(["done"]), tools=[server])]).run("desk", "go")
    assert run.status == "completed"


def test_headers_are_asked_for_each_request(log: Path) -> None:
    from http.server import BaseHTTPRequestHandler, HTTPServer
    from threading import Thread

    seen: list[str | None] = []

    class Refusing(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["content-length"]))
            seen.append(self.headers["authorization"])
            self.send_response(401)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    http = HTTPServer(("127.0.0.1", 0), Refusing)
    Thread(target=http.serve_forever, daemon=True).start()
    tokens = iter(["one", "two", "three", "four"])
    url = f"http://127.0.0.1:{http.server_port}/mcp"
    server = MCPServer(url, name="crm", retry=None, headers=lambda: {"authorization": f"Bearer {next(tokens)}"})
    with pytest.raises(ProviderError):
        server.tools()
    http.shutdown()
    http.server_close()
    assert seen[:2] == ["Bearer one", "Bearer two"]


# -- servers that misbehave


def test_tools_that_can_be_none_are_left_out_and_the_others_stay(make: Make) -> None:
    tools = {tool.name: tool for tool in make("--hostile", "lies").tools()}

    assert set(tools) == {"shop__good", "shop__long", "shop__typed"}
    assert tools["shop__good"].description == "good"
    assert len(tools["shop__long"].description) <= 8_192


def test_a_result_that_is_not_what_the_tool_promised_is_an_error_result(make: Make) -> None:
    run = kit_of(make("--hostile", "lies"), call("shop__typed")).run("desk", "go")

    assert result_of(run)["isError"]
    assert "no valid result" in text_of(run)


def test_a_server_that_lists_too_many_tools_gives_some(make: Make) -> None:
    assert len(make("--hostile", "many").tools()) == 500


def test_a_server_that_hangs_is_given_up(make: Make) -> None:
    with pytest.raises(ProviderError, match="did not"):
        make("--hostile", "hangs", connect_timeout=0.5, retry=None).tools()


def test_who_asks_while_a_server_has_just_been_found_to_hang_does_not_wait_for_it_again(make: Make) -> None:
    server = make("--hostile", "hangs", connect_timeout=0.5)
    with pytest.raises(ProviderError) as first:
        server.tools()
    with pytest.raises(ProviderError) as second:
        server.tools()
    assert second.value is first.value


def test_a_flood_of_progress_and_a_huge_result_do_no_harm(make: Make) -> None:
    agent = Agent("desk", ScriptedModel([call("shop__good", n=1), "done"]), tools=[make("--hostile", "floods")])
    run = AgentKit([agent], settings=Settings(max_result_bytes=1_000_000)).run("desk", "go")

    assert run.status == "completed"
    assert "AGENTKIT_MAX_RESULT_BYTES" in text_of(run)


def test_a_server_gets_no_model_of_ours(make: Make) -> None:
    run = kit_of(make("--hostile", "asks"), call("shop__good", n=1)).run("desk", "go")

    assert "error" in text_of(run)


def test_a_server_that_ignores_its_end_is_ended_with_what_it_started(make: Make, log: Path) -> None:
    server = make("--hostile", "deaf")
    server.tools()
    (started,) = executed(log)
    server.close()

    for pid in (started["pid"], started["child"]):
        wait_until(lambda pid=pid: not _lives(pid), timeout=15, what=f"process {pid} to end")


def _lives(pid: int) -> bool:
    return psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE


@pytest.mark.parametrize(
    ("declared", "text"),
    [
        ({"name": "shop"}, "either url= or command="),
        ({"name": "shop", "url": "ftp://x"}, "must begin with https://"),
        ({"name": "a__b", "url": "http://x"}, "single '_'"),
        ({"name": "shop", "command": "server --x"}, "must be a list"),
        ({"name": "shop", "command": ["x"], "headers": {}}, "are for url="),
        ({"name": "shop", "url": "http://x", "decision": "yes"}, "decision must be"),
        ({"name": "shop", "url": "http://x", "effects": "twice"}, "effects"),
        ({"name": "shop", "url": "http://x", "tools": "look_up"}, "a list of names"),
        ({"name": "shop", "url": "http://x", "timeout": -1}, "timeout"),
    ],
)
def test_what_is_declared_wrongly_is_said(declared: dict[str, Any], text: str) -> None:
    with pytest.raises(ConfigurationError, match=text):
        MCPServer(**declared)


def test_what_is_declared_counts_for_every_tool(make: Make) -> None:
    schema = {"type": "object", "properties": {"ok": {"type": "boolean"}}}
    server = make(decision=schema, effects="idempotent", tools=["look_up", "refund"], approvals=2)

    assert {tool.name: (tool.decision, tool.effects, tool.approvals) for tool in server.tools()} == {
        "shop__look_up": (schema, "idempotent", 2),
        "shop__refund": (schema, "idempotent", 2),
    }


def test_a_tool_of_the_agent_may_not_take_the_name_of_a_servers(make: Make) -> None:
    from agentkit import tool

    with pytest.raises(ConfigurationError, match="shop__mine"):
        Agent("desk", "scripted:x", tools=[make(), tool(name="shop__mine")(lambda: "")])
