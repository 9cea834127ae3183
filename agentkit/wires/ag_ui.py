"""AG-UI, for the routes: all that needs its published package, in one place."""

from __future__ import annotations

from typing import Any

from ag_ui import core

from agentkit.agents import BoundAgent
from agentkit.wires.ag_ui_events import AgUiTranslator
from agentkit.wires.ag_ui_input import read_input

__all__ = ["AgUiTranslator", "capabilities", "read_input"]


def capabilities(agent: BoundAgent) -> Any:
    """Say what an agent can do, as the JSON that the standard has for it. What is left out is not declared."""
    tools = agent.known_tools()
    children = [
        core.SubagentInfo(name=tool.agent.name, description=tool.description)
        for tool in tools
        if tool.agent is not None
    ]
    declared = core.AgentCapabilities(
        identity=core.IdentityCapabilities(name=agent.name, type="agentkit"),
        transport=core.TransportCapabilities(streaming=True, websocket=False, http_binary=False),
        tools=core.ToolsCapabilities(
            supported=bool(tools),
            items=[
                core.Tool(name=tool.name, description=tool.description, parameters=tool.parameters)
                for tool in tools
                if tool.runs == "server"
            ],
            parallel_calls=agent.agent.parallel_tool_calls,
            client_provided=any(tool.runs == "client" for tool in tools),
        ),
        state=core.StateCapabilities(snapshots=True, deltas=False),
        multi_agent=core.MultiAgentCapabilities(supported=bool(children), subagents=children),
        human_in_the_loop=core.HumanInTheLoopCapabilities(
            supported=True, approvals=True, interventions=True, interrupts=True, approve_with_edits=True
        ),
    )
    return declared.model_dump(by_alias=True, mode="json")
