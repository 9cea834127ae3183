"""Tools whose decisions have every kind of schema that a person meets as a form. Each returns what was decided."""

from __future__ import annotations

import json
from typing import Any

from agentkit import Tool, tool

__all__ = ["TOOLS"]


def _asking(name: str, schema: dict[str, Any], **options: Any) -> Tool:
    def returned(decision: Any, since: str | None = None) -> str:
        return json.dumps({"decision": decision, "since": since} if since else decision, sort_keys=True)

    parameters = options.pop("parameters", {"type": "object", "properties": {}})
    about = f"Ask for {name}."
    return tool(name=name, description=about, parameters=parameters, decision=schema, **options)(returned)


def _object(required: list[str] | None = None, **properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": list(properties) if required is None else required}


_STEP = {
    "type": "object",
    "title": "Step",
    "properties": {"name": {"type": "string"}, "next": {"$ref": "#/$defs/step"}},
    "required": ["name"],
}

TOOLS = [
    _asking("yes_or_no", {"type": "boolean", "description": "Shall it be?"}),
    _asking("only_yes", _object(approved={"const": True, "type": "boolean"})),
    _asking(
        "verdict",
        {"oneOf": [{"const": "approve", "title": "Approve it"}, {"const": "deny", "title": "Deny it"}]},
    ),
    _asking("level", {"type": "object", "properties": {"level": {"enum": ["low", "high"], "default": "low"}}}),
    _asking(
        "way",
        _object(
            by={
                "oneOf": [
                    _object(kind={"const": "card"}, number={"type": "string", "minLength": 4}),
                    _object(kind={"const": "cash"}, cents={"type": "integer", "minimum": 1}),
                ]
            }
        ),
    ),
    _asking(
        "times",
        _object(
            at={"type": "string", "format": "time"},
            on={"type": "string", "format": "date"},
            when={"type": "string", "format": "date-time"},
        ),
        parameters=_object([], since={"type": "string", "format": "date-time"}),
    ),
    _asking(
        "pair",
        _object(pair={"type": "array", "prefixItems": [{"type": "string", "title": "Name"}, {"type": "integer"}]}),
    ),
    _asking(
        "tall",
        _object(**{f"field_{number}": {"type": "string"} for number in range(20)}),
    ),
    _asking("tree", {"$ref": "#/$defs/step", "$defs": {"step": _STEP}}),
    _asking(
        "maybe",
        _object(
            name={"anyOf": [{"type": "string", "minLength": 3}, {"type": "null"}]},
            limit={"anyOf": [{"type": "integer", "maximum": 9}, {"type": "null"}]},
        ),
    ),
    _asking(
        "reasoned",
        {
            **_object(["grant"], grant={"enum": ["yes", "no"]}),
            "if": {"properties": {"grant": {"const": "no"}}, "required": ["grant"]},
            "then": {"properties": {"why": {"type": "string"}}, "required": ["why"]},
        },
    ),
]
