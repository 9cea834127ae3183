"""The components of the OpenAPI document, made from the structures that are on the wire.

msgspec describes each structure. What a structure does not say about what is sent is added here:

1. An optional field that has its default is left out, and never null.
2. What the server sends stays open to fields of later versions; only requests refuse unknown ones.
3. Unions that have a name are components too.
4. A stored event has its `seq` and `timestamp`, a run alone its messages, also those that wait, a listed run none, and
   an update the fields of its type.
5. A user message has its `timestamp`, and who sends one may leave it out.

The TypeScript types of clients/react are made from the same components (clients/make_types.py).
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Collection, Mapping
from typing import Any, get_args

import msgspec

from agentkit.core.calls import Rejection
from agentkit.core.doctor import Doctor
from agentkit.core.events import AssistantMessageEvent, Event
from agentkit.core.inbox import PendingCount
from agentkit.core.messages import AssistantBlock, ContentBlock, Json, Message
from agentkit.core.record import Origin, Status
from agentkit.core.requests import (
    AbortBody,
    AbortFrame,
    ExtendBody,
    FromRun,
    Limits,
    MessageBody,
    MessageFrame,
    RequestBody,
    ResumeBody,
    ResumeFrame,
    StartBody,
    StreamTokenBody,
)
from agentkit.core.run import Run, StreamReset
from agentkit.core.why import Why
from agentkit.providers.models import Capabilities
from agentkit.server.answers import (
    AgentList,
    AnswerPage,
    DecisionPage,
    Health,
    Problem,
    Readiness,
    RunPage,
    SocketError,
    SocketOk,
    StreamToken,
)
from agentkit.server.problems import STATUSES

__all__ = ["ref", "schemas"]

_UNIONS: Mapping[str, Any] = {
    "ContentBlock": ContentBlock,
    "AssistantBlock": AssistantBlock,
    "Content": str | list[ContentBlock],
    "Message": Message,
    "Event": Event | StreamReset,
    "SocketFrame": ResumeFrame | AbortFrame | MessageFrame,
    "SocketAnswer": SocketOk | SocketError,
}
"""Unions with a name of their own, each after those that it holds."""

_REQUESTS = (
    *(StartBody, ResumeBody, AbortBody, MessageBody, ExtendBody, StreamTokenBody),
    *(ResumeFrame, AbortFrame, MessageFrame),
)
_CLOSED = {cls.__name__ for cls in (*_REQUESTS, FromRun, Limits, Rejection)}
_RUN_ALONE = ("messages", "queued")
_WITH_DEFAULTS = {Capabilities.__name__}
"""Structures that are sent with the fields that have their defaults."""
_ANSWERS = (
    RunPage,
    Why,
    Doctor,
    DecisionPage,
    AnswerPage,
    PendingCount,
    StreamToken,
    AgentList,
    Health,
    Readiness,
    Problem,
)
_ALL = (*_UNIONS.values(), Status, Run, Origin, *_REQUESTS, Limits, *_ANSWERS)

_UPDATES: tuple[tuple[str, tuple[str, ...]], ...] = (
    (r"(text|thinking)_(start|end)", ()),
    (r"(text|thinking|toolcall)_delta", ("delta",)),
    (r"toolcall_(start|end)", ("toolCall",)),
)
"""Which types of an AssistantMessageEvent have which fields."""


def ref(name: str) -> Json:
    """Refer to a component."""
    return {"$ref": f"#/components/schemas/{name}"}


def schemas() -> Json:
    """Make every component, by name."""
    tops, structures = msgspec.json.schema_components(_ALL, ref_template="#/components/schemas/{name}")
    named: list[tuple[Json, Json]] = []
    components: Json = {}
    for name, union in zip(_UNIONS, tops, strict=False):
        components[name] = _described(_with_names(union, named))
        named.append((components[name], ref(name)))
    for name, schema in structures.items():
        components[name] = _structure(name, _with_names(schema, named))
    for event in get_args(Event):
        components[event.__name__]["required"] += ["seq", "timestamp"]
    components["UserMessage"]["required"].remove("timestamp")
    for request in _REQUESTS:
        components[request.__name__] |= _ways(request)
    components["AssistantMessageEvent"] = _updates(components[AssistantMessageEvent.__name__])
    components["Problem"]["properties"]["code"]["description"] = f"One of {', '.join(STATUSES)}."
    run = components["Run"]
    listed = {name: schema for name, schema in run["properties"].items() if name not in _RUN_ALONE}
    components["RunSummary"] = {**run, "properties": listed, "description": "A run without its messages."}
    components["Run"] = {**run, "required": [*run["required"], *_RUN_ALONE]}
    components["RunPage"]["properties"]["runs"]["items"] = ref("RunSummary")
    return components


def _structure(name: str, schema: Json) -> Json:
    schema = _described(schema)
    if name in _WITH_DEFAULTS:
        schema["required"] = list(schema["properties"])
    for key, field in schema.get("properties", {}).items():
        optional = key not in schema["required"]
        field = _described(_optional(field) if optional else {k: v for k, v in field.items() if k != "default"})
        if field.get("type") == "integer" and (key == "timestamp" or key.endswith("At")):
            field.setdefault("description", "Milliseconds since the Unix epoch.")
        schema["properties"][key] = field
    if name not in _CLOSED:
        schema.pop("additionalProperties", None)
    return schema


def _optional(field: Json) -> Json:
    """Describe a field that is left out where it has its default, None above all."""
    field = {key: value for key, value in field.items() if key != "default" or value is not None}
    if "anyOf" in field:
        kinds = [kind for kind in field["anyOf"] if kind != {"type": "null"}]
        if len(kinds) == 1:
            return {**{key: value for key, value in field.items() if key != "anyOf"}, **kinds[0]}
        field["anyOf"] = kinds
    return field


def _with_names(node: Any, named: list[tuple[Json, Json]]) -> Any:
    """Refer to unions that have a name, and to what stands for a structure, wherever `node` holds them."""
    if isinstance(node, list):
        return [_with_names(item, named) for item in node]
    if not isinstance(node, dict):
        return node
    node = {key: _with_names(value, named) for key, value in node.items()}
    if "$ref" in node:  # the type is that of the Python value, which is not checked any further there
        return {key: value for key, value in node.items() if key not in ("type", "anyOf")}
    return next((name for union, name in named if union == node), node)


def _described(schema: Json) -> Json:
    """Leave out the title, which is the name, and make a docstring a text about the wire."""
    schema = {key: value for key, value in schema.items() if key != "title"}
    if "description" in schema:
        text = re.sub(r"(?<!\n)\n(?!\n)", " ", inspect.cleandoc(schema["description"]))
        schema["description"] = re.sub(r"`[a-z_]+`", lambda name: _camel(name[0]), text.replace("None", "null"))
    return schema


def _camel(name: str) -> str:
    return re.sub(r"_([a-z])", lambda letter: letter[1].upper(), name)


def _ways(request: type[RequestBody]) -> Json:
    """Describe the ways in which a body may be filled in, where there are several."""
    names = [_camel(name) for name in request.exactly_one_of]
    ways = _START if request is StartBody else [_way([name], names) for name in names]
    return {"oneOf": ways} if ways else {}


def _way(required: Collection[str], names: Collection[str], optional: Collection[str] = ()) -> Json:
    """Describe one of several ways: of the `names` that the ways differ in, those that it has and those it has not."""
    return {"required": [*required], "properties": {n: False for n in names if n not in (*required, *optional)}}


_START_NAMES = ("agent", "from", "input", "messages")
_START = [
    _way(("agent", "input"), _START_NAMES),
    _way(("agent", "messages"), _START_NAMES),
    _way(("from",), _START_NAMES, optional=("agent", "input")),
]
"""What `StartBody` checks by itself."""


def _updates(schema: Json) -> Json:
    properties: Json = schema["properties"]

    def update(is_kind: Callable[[str], Any], more: tuple[str, ...]) -> Json:
        names = ["type", "contentIndex", *more]
        kinds = {"enum": [kind for kind in properties["type"]["enum"] if is_kind(kind)]}
        return {"type": "object", "properties": {**{n: properties[n] for n in names}, "type": kinds}, "required": names}

    return {
        "description": schema["description"],
        "oneOf": [update(re.compile(pattern).fullmatch, more) for pattern, more in _UPDATES],
    }
