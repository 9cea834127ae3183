"""Tools of MCP servers (https://modelcontextprotocol.io), extra `[mcp]`.

    Agent("desk", "openai:gpt-6", tools=[refund, MCPServer(name="crm", url="https://crm.example/mcp", headers=login)])

    server.py      what an application declares, and the list of tools that it becomes
    tools.py       one tool of a server as a tool of an agent
    results.py     what a server answers, as the result of a call or as a question
    connection.py  the connection of a process to a server, on an event loop of its own
    guard.py       ends a server's process where the process that started it is gone

Knows neither runs nor stores. The official SDK speaks the protocol; it is imported when a server is declared.
"""

from agentkit.mcp.server import MCPServer

__all__ = ["MCPServer"]
