"""One tool of an MCP server as a tool of an agent.

A server's words about its tools are hints of somebody who is not trusted: nothing that it says makes a call need less
than the application declares, a schema that is none costs the server that tool alone, and what is shown to the model
is bounded.
"""

from __future__ import annotations

import dataclasses
import hashlib
import logging
import re
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, Literal

import mcp_types

from agentkit.core.messages import Json
from agentkit.core.struct import encode
from agentkit.errors import ConfigurationError
from agentkit.tools import Tool, ToolContext, tool

__all__ = ["APPROVAL", "Execute", "Policy", "SourceTool", "ToolHints", "make_tools"]

log = logging.getLogger(__name__)

MAX_TOOLS = 500
MAX_DESCRIPTION = 8_192
MAX_SCHEMA_BYTES = 65_536
_NAME_LENGTH = 64

APPROVAL: Json = {
    "type": "object",
    "properties": {
        "approved": {"type": "boolean", "const": True, "title": "Approve", "description": "Let the call be executed."}
    },
    "required": ["approved"],
    "additionalProperties": False,
}
"""What is asked where nothing else is declared: an approval, or a rejection with its reason."""

Effects = Literal["idempotent", "once"]
Execute = Callable[[str, Effects, Json, ToolContext], Awaitable[Any]]


@dataclass(frozen=True, slots=True)
class ToolHints:
    """What a server says of one of its tools: `name` is the server's. None where it says nothing."""

    name: str
    title: str | None = None
    read_only: bool | None = None
    destructive: bool | None = None
    idempotent: bool | None = None
    open_world: bool | None = None


@dataclass(slots=True)
class Policy:
    """What an application declares of all tools of a server: functions of a tool's hints, and options of `tool`.

    `decision_options`: for the tools that ask for a decision. `decision_timeout`: seconds that are left for what a tool
    asks before it is executed or in the middle.
    """

    wanted: Callable[[str], bool]
    decision: Callable[[ToolHints], Json | None]
    effects: Callable[[ToolHints], Effects]
    options: Json = field(default_factory=dict)
    decision_options: Json = field(default_factory=dict)
    decision_timeout: float | None = None


def make_tools(
    server: str, listed: Iterable[mcp_types.Tool], policy: Policy, execute: Execute
) -> tuple[SourceTool, ...]:
    """Make an agent's tools of those that the server `server` lists. What can be none is left out, and logged."""
    made: dict[str, SourceTool] = {}
    for each in listed:
        if not policy.wanted(each.name):
            continue
        try:
            item = _make(server, each, policy, execute)
        except (ConfigurationError, ValueError, TypeError) as error:
            log.warning("MCP server %s: its tool %.80r is left out: %.300s", server, each.name, error)
            continue
        if item.name in made:
            log.warning("MCP server %s lists the tool %.80r twice: the first counts", server, each.name)
            continue
        if len(made) == MAX_TOOLS:
            log.warning("MCP server %s lists over %d tools: the others are left out", server, MAX_TOOLS)
            break
        made[item.name] = item
    return tuple(made.values())


def _make(server: str, listed: mcp_types.Tool, policy: Policy, execute: Execute) -> SourceTool:
    if len(encode(listed.input_schema)) > MAX_SCHEMA_BYTES:
        raise ConfigurationError(f"the schema of its arguments has over {MAX_SCHEMA_BYTES} bytes")
    hints = _hints(listed)
    theirs, effects, decision = listed.name, policy.effects(hints), policy.decision(hints)

    async def call(args: Json, ctx: ToolContext) -> Any:
        return await execute(theirs, effects, args, ctx)

    made = SourceTool.of(
        call,
        name=_name(server, theirs),
        label=(hints.title or theirs)[:_NAME_LENGTH],
        description=_shortened(listed.description or hints.title or theirs),
        parameters=listed.input_schema,
        decision=decision,
        effects=effects,
        **policy.options,
        **(policy.decision_options if decision is not None else {}),
    )
    return dataclasses.replace(made, decision_timeout=policy.decision_timeout)


def _hints(listed: mcp_types.Tool) -> ToolHints:
    said = listed.annotations or mcp_types.ToolAnnotations()
    return ToolHints(
        name=listed.name,
        title=listed.title or said.title,
        read_only=said.read_only_hint,
        destructive=said.destructive_hint,
        idempotent=said.idempotent_hint,
        open_world=said.open_world_hint,
    )


def _name(server: str, theirs: str) -> str:
    """Make `server__tool`, which models take; one of other characters, or too long, ends by a digest."""
    plain = re.sub(r"[^A-Za-z0-9_-]", "_", theirs)
    name = f"{server}__{plain}"
    if plain == theirs and len(name) <= _NAME_LENGTH:
        return name
    digest = hashlib.sha256(theirs.encode("utf-8", "surrogatepass")).hexdigest()[:8]
    return f"{name[: _NAME_LENGTH - 9]}_{digest}"


def _shortened(text: str) -> str:
    return text if len(text) <= MAX_DESCRIPTION else f"{text[: MAX_DESCRIPTION - 1]}…"


class SourceTool(Tool):
    """A tool whose function takes the arguments as they are: `async def execute(args, ctx)`."""

    def call(self, args: Json, ctx: ToolContext) -> Any:
        return self.fn(args, ctx)

    @classmethod
    def of(cls, execute: Callable[[Json, ToolContext], Awaitable[Any]], **options: Any) -> SourceTool:
        """Declare one; `options` are those of `tool`, `parameters` among them. Raises ConfigurationError."""

        async def takes_anything(**arguments: Any) -> Any:
            raise NotImplementedError

        declared = tool(**options)(takes_anything)
        values = {each.name: getattr(declared, each.name) for each in dataclasses.fields(declared)}
        return cls(**{**values, "fn": execute})
