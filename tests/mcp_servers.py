"""MCP servers for tests: one by the official SDK, one that speaks the protocol by hand and misbehaves.

    python tests/mcp_servers.py [--http PORT] [--log FILE]      the first
    python tests/mcp_servers.py --hostile KIND [--log FILE]     the second

`--log`: a line of JSON for each call that is executed.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Annotated, Any

PNG = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="


def command(*options: str) -> list[str]:
    """The command of a server, for `MCPServer(command=…)`."""
    return [sys.executable, __file__, *options]


def executed(log: Path) -> list[dict[str, Any]]:
    """The calls that a server has executed, as its log has them."""
    return [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []


class Log:
    def __init__(self, path: str | None) -> None:
        self._path = path

    def add(self, tool: str, **more: Any) -> None:
        if self._path is not None:
            with Path(self._path).open("a") as file:
                file.write(json.dumps({"tool": tool, "pid": os.getpid(), **more}) + "\n")


def sdk_server(log: Log) -> Any:
    import anyio
    from mcp.server.mcpserver import Context, MCPServer
    from mcp.server.mcpserver.exceptions import ToolError
    from mcp.server.mcpserver.resolve import Elicit, Resolve
    from mcp_types import CallToolResult, ImageContent, ResourceLink, TextContent, ToolAnnotations
    from pydantic import BaseModel

    server = MCPServer("shop", log_level="ERROR")

    class Reason(BaseModel):
        why: str

    async def reason(order: str) -> Elicit[Reason]:
        return Elicit(f"why {order}?", Reason)

    @server.tool(annotations=ToolAnnotations(read_only_hint=True, idempotent_hint=True))
    def look_up(order: str) -> dict[str, Any]:
        """Look an order up."""
        log.add("look_up", order=order)
        return {"order": order, "cents": 900}

    @server.tool(annotations=ToolAnnotations(destructive_hint=True))
    def refund(order: str) -> str:
        """Refund an order."""
        log.add("refund", order=order)
        return f"refunded {order}"

    @server.tool(annotations=ToolAnnotations(read_only_hint=True))
    async def explain(order: str, why: Annotated[Reason, Resolve(reason)]) -> str:
        """Explain an order; asks why."""
        log.add("explain", order=order, why=why.why)
        return f"because {why.why}"

    @server.tool(annotations=ToolAnnotations(read_only_hint=True, idempotent_hint=True), structured_output=False)
    def picture() -> CallToolResult:
        """A picture, with where it comes from."""
        link = ResourceLink(type="resource_link", name="source", uri="https://example.com/a.png")
        image = ImageContent(type="image", data=PNG, mime_type="image/png")
        return CallToolResult(content=[TextContent(type="text", text="a dot"), image, link])

    @server.tool(annotations=ToolAnnotations(read_only_hint=True, idempotent_hint=True))
    def fail() -> str:
        """Fail."""
        raise ToolError("no such order")

    @server.tool(annotations=ToolAnnotations(read_only_hint=True, idempotent_hint=True))
    async def slow(ctx: Context[Any]) -> str:
        """Work for a minute, and report."""
        log.add("slow")
        try:
            for second in range(60):
                await ctx.report_progress(second, 60, f"second {second}")
                await anyio.sleep(0.3)
        except anyio.get_cancelled_exc_class():
            log.add("slow was cancelled")
            raise
        return "done"

    @server.tool(annotations=ToolAnnotations(read_only_hint=True))
    def vanish() -> str:
        """End the server in the middle of the call."""
        log.add("vanish")
        os._exit(1)

    @server.tool(annotations=ToolAnnotations(read_only_hint=True, idempotent_hint=True))
    def vanish_once() -> str:
        """End the server in the middle of the first call."""
        log.add("vanish_once")
        if len([each for each in executed(Path(str(log._path))) if each["tool"] == "vanish_once"]) == 1:
            os._exit(1)
        return "here again"

    @server.tool(annotations=ToolAnnotations(read_only_hint=True, idempotent_hint=True))
    async def grow(ctx: Context[Any]) -> str:
        """Have one tool more, and say so."""
        server.add_tool(look_up, name="grown")
        await ctx.session.send_tool_list_changed()
        return "grown"

    @server.tool(name="odd name/with.characters", annotations=ToolAnnotations(read_only_hint=True))
    def odd() -> str:
        """A tool whose name no model takes."""
        return "odd"

    return server


def hostile(kind: str, log: Log) -> None:
    """Speak a revision of before on standard input and output, and do what no server should."""
    names = {"type": "object", "properties": {"n": {"type": "integer"}}}
    tools: list[dict[str, Any]] = [
        {"name": "good", "inputSchema": names, "annotations": {"readOnlyHint": True, "idempotentHint": True}},
    ]
    if kind == "lies":
        tools += [
            {"name": "good", "inputSchema": {"type": "object"}, "description": "the second of that name"},
            {"name": "bad_schema", "inputSchema": {"type": "object", "properties": {"n": {"type": "nonsense"}}}},
            {"name": "huge_schema", "inputSchema": {"type": "object", "description": "x" * 100_000}},
            {"name": "long", "description": "y" * 100_000, "inputSchema": {"type": "object"}},
            {
                "name": "typed",
                "inputSchema": {"type": "object"},
                "annotations": {"readOnlyHint": True},
                "outputSchema": {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]},
            },
        ]
    if kind == "many":
        tools = [{"name": f"tool_{n}", "inputSchema": {"type": "object"}} for n in range(600)]
    if kind == "deaf":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
        log.add("started", child=child.pid)
    for line in sys.stdin:
        request = json.loads(line)
        if "id" not in request:
            continue
        method, params = request["method"], request.get("params", {})
        answer: dict[str, Any] = {"error": {"code": -32601, "message": "unknown method"}}
        if method == "initialize":
            version, info = params["protocolVersion"], {"name": "hostile", "version": "1"}
            answer = {"result": {"protocolVersion": version, "capabilities": {"tools": {}}, "serverInfo": info}}
        if method == "tools/list" and kind == "hangs":
            time.sleep(3600)
        if method == "tools/list":
            answer = {"result": {"tools": tools}}
        if method == "tools/call":
            log.add(params["name"], arguments=params["arguments"])
            text = {"type": "text", "text": "fine"}
            answer = {"result": {"content": [text], "structuredContent": {"n": "no integer"}}}
            if kind == "floods":
                token = params["_meta"]["progressToken"]
                for n in range(20_000):
                    progress = {"progressToken": token, "progress": n, "message": "z" * 2_000}
                    _send({"method": "notifications/progress", "params": progress})
                text["text"] = "w" * 3_000_000
            if kind == "asks":
                _send({"id": "q1", "method": "sampling/createMessage", "params": {"messages": [], "maxTokens": 1}})
                reply = json.loads(sys.stdin.readline())
                text["text"] = json.dumps(sorted(reply))
        _send({"id": request["id"], **answer})
        if kind == "deaf" and method == "tools/call":
            time.sleep(3600)


def _send(message: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps({"jsonrpc": "2.0", **message}) + "\n")
    sys.stdout.flush()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--http", type=int)
    parser.add_argument("--hostile")
    parser.add_argument("--log")
    options = parser.parse_args()
    log = Log(options.log)
    if options.hostile:
        hostile(options.hostile, log)
    elif options.http:
        sdk_server(log).run(transport="streamable-http", port=options.http)
    else:
        sdk_server(log).run()


if __name__ == "__main__":
    main()
