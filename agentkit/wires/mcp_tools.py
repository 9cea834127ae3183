"""agentkit as an MCP server: runs are started, followed and answered by the tools that it lists.

A tool calls the interface that every client calls, over HTTP or within this process, with the credentials of its
caller: it can do nothing that the caller could not. The SDK speaks the protocol.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import islice
from typing import TYPE_CHECKING, Any

from mcp.server.mcpserver import MCPServer
from mcp.server.mcpserver.exceptions import ToolError
from mcp_types import ToolAnnotations

from agentkit import __version__
from agentkit.client import ApiError, ServerUnreachableError
from agentkit.core.messages import Json
from agentkit.errors import AgentKitError

if TYPE_CHECKING:
    from agentkit.cli.backend import Backend

__all__ = ["make_server"]

MAX_WAIT_SECONDS = 30.0
_LOOK_SECONDS = 0.25
_MAX_LISTED = 50

_READS = ToolAnnotations(read_only_hint=True, idempotent_hint=True, open_world_hint=False)
_STARTS = ToolAnnotations(read_only_hint=False, destructive_hint=False, idempotent_hint=False, open_world_hint=True)
_DECIDES = ToolAnnotations(read_only_hint=False, destructive_hint=True, idempotent_hint=True, open_world_hint=True)

_INSTRUCTIONS = (
    "Runs of agents. Start one with start_run, follow it with get_run. A run that is paused waits for somebody: its "
    "`pending` items say what for. Answer with answer only what the person whom you work for has decided."
)


def make_server(api: Callable[[], Backend]) -> MCPServer[Any]:
    """Make the server. `api`: what reaches the runs for whoever calls a tool."""
    with _logging_left_alone():
        server: MCPServer[Any] = MCPServer("agentkit", version=__version__, instructions=_INSTRUCTIONS)

    @server.tool(annotations=_READS)
    def list_agents() -> dict[str, Any]:
        """List the agents that runs can be started of, with their models and tools."""
        shown = [
            {"name": agent["name"], "model": agent["model"], "tools": [tool["name"] for tool in agent["tools"]]}
            for agent in _ask(lambda: api().agents())
        ]
        return {"agents": shown}

    @server.tool(annotations=_STARTS)
    def start_run(
        agent: str, input: str, metadata: dict[str, Any] | None = None, idempotency_key: str | None = None
    ) -> dict[str, Any]:
        """Start a run of an agent on a user's message, and return it at once.

        With the same idempotency_key, the same run is returned instead of another one started.
        """
        run = _ask(lambda: api().start(agent, input, metadata=metadata, idempotency_key=idempotency_key))
        return _shown(run)

    @server.tool(annotations=_READS)
    def get_run(run_id: str, wait_seconds: float = 0.0) -> dict[str, Any]:
        """Return a run: its status, its answer so far, and the pending items that it waits for.

        wait_seconds (0 to 30): wait as long for it to pause or end.
        """
        until = time.monotonic() + min(max(0.0, wait_seconds), MAX_WAIT_SECONDS)
        while True:
            run = _ask(lambda: api().get(run_id))
            if run["status"] not in ("queued", "running") or time.monotonic() >= until:
                return _shown(run)
            time.sleep(_LOOK_SECONDS)

    @server.tool(annotations=_READS)
    def list_pending(agent: str | None = None, limit: int = 20) -> dict[str, Any]:
        """List what waits for somebody's answer over all runs, oldest first; at most 50 items."""
        wanted = min(max(1, limit), _MAX_LISTED)
        found = _ask(lambda: list(islice(api().decisions(agent=agent), wanted + 1)))
        return {"pending": found[:wanted], "more": len(found) > wanted}

    @server.tool(annotations=_DECIDES)
    def answer(run_id: str, decision_id: str, decision: Any = None, reject: str | None = None) -> dict[str, Any]:
        """Answer a pending item of a run: a decision that satisfies the item's schema, or the reason of a rejection.

        For a tool that a client executes, give its result as decision. Only one answer counts.
        """
        if (decision is None) == (reject is None):
            raise ToolError("give either decision, or reject with a reason")
        client = api()
        items = _ask(lambda: client.get(run_id)["pending"])
        kind = next((item["kind"] for item in items if item["decisionId"] == decision_id), "decision")
        given = (
            {"reject": reject}
            if reject is not None
            else {"result" if kind == "client_execute" else "decision": decision}
        )
        return _shown(_ask(lambda: client.resume(run_id, decision_id=decision_id, **given)))

    @server.tool(annotations=_DECIDES)
    def abort_run(run_id: str, reason: str | None = None) -> dict[str, Any]:
        """End a run that has not ended."""
        return _shown(_ask(lambda: api().abort(run_id, reason)))

    return server


@contextmanager
def _logging_left_alone() -> Iterator[None]:
    """Keep the SDK from configuring this process's logging, which it does where the root logger has no handler."""
    root, placeholder = logging.getLogger(), logging.NullHandler()
    root.addHandler(placeholder)
    try:
        yield
    finally:
        root.removeHandler(placeholder)


def _ask(call: Callable[[], Any]) -> Any:
    """Call the interface. What it refuses is an error result in its own words."""
    try:
        return call()
    except (ApiError, ServerUnreachableError, AgentKitError) as error:
        raise ToolError(str(error)) from error


def _shown(run: Json) -> Json:
    """Return what a model needs of a run."""
    wanted = ("id", "agent", "status", "error", "pending", "usage", "metadata")
    shown = {key: run[key] for key in wanted if run.get(key) not in (None, [], {})}
    answers = [message for message in run.get("messages") or () if message["role"] == "assistant"]
    if answers:
        shown["answer"] = "".join(block.get("text", "") for block in answers[-1]["content"] if block["type"] == "text")
    return shown
