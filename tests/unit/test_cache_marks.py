"""Cache marks on instructions, tools and agents reach the provider as hints."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from agentkit import Agent, AgentKit, ConfigurationError, tool
from agentkit.core.cancellation import Cancellation
from agentkit.core.messages import Usage
from agentkit.providers.protocol import Finish, ModelRequest, Part, TextDelta


class Listening:
    name = "listening"
    api = "listening"
    model = "m"

    def __init__(self) -> None:
        self.requests: list[ModelRequest] = []

    def stream(self, request: ModelRequest, cancel: Cancellation) -> Iterator[Part]:
        self.requests.append(request)
        yield TextDelta("heard")
        yield Finish("stop", Usage.of())


@tool(cache="long")
def marked(x: int) -> int:
    """A tool whose definition may be cached."""
    return x


def test_marks_on_instructions_tools_messages_and_the_agent_reach_the_provider() -> None:
    model = Listening()
    instructions = {"type": "text", "text": "Be brief.", "cache": "short"}
    kit = AgentKit([Agent("a", model, instructions, [marked], cache="auto")])
    run = kit.run("a", messages=[{"role": "user", "content": "hi", "cache": "long"}])
    [request] = model.requests
    assert (request.instructions, request.instructions_cache, request.cache) == ("Be brief.", "short", "auto")
    assert [spec.cache for spec in request.tools] == ["long"]
    assert request.messages[0].cache == "long"
    assert run.status == "completed"


@pytest.mark.parametrize(
    "wrong", [{"cache": "long"}, {"instructions": {"type": "text", "text": "x", "cache": "eternal"}}]
)
def test_a_wrong_mark_is_an_error_when_it_is_declared(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError):
        Agent("a", "scripted:echo", **wrong)


def test_a_wrong_mark_on_a_tool_is_an_error_when_it_is_declared() -> None:
    with pytest.raises(ConfigurationError, match="cache"):
        tool(cache="eternal")(marked.fn)  # type: ignore[call-overload]
