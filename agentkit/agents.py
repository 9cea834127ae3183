"""The agent, its limits and its retry policy: frozen definitions, which are code and never stored."""

from __future__ import annotations

import math
import random
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from agentkit.core.messages import AssistantMessage, Block, Json, Message, zero_usage
from agentkit.core.run import Run
from agentkit.errors import ConfigurationError, ProviderError
from agentkit.providers.models import capabilities
from agentkit.providers.protocol import Provider, ToolSpec
from agentkit.tools import Tool, tool

__all__ = ["Agent", "BoundAgent", "Limits", "RetryPolicy"]

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")


ContextHook = Callable[[list[Message], Run], list[Message]]


@dataclass(frozen=True, slots=True)
class Limits:
    """What a run may use; None is without limit.

    `max_turns`: model calls. `max_tokens`: the run's `usage.totalTokens`. `max_cost`: US dollars.
    `timeout`: seconds that the run is queued or running; time spent paused does not count.
    """

    max_turns: int | None = None
    max_tokens: int | None = None
    max_cost: float | None = None
    timeout: float | None = None

    def override(self, given: Mapping[str, Any]) -> Limits:
        """These limits with those of one run, by their wire names, in front."""
        return Limits(
            given.get("maxTurns", self.max_turns),
            given.get("maxTokens", self.max_tokens),
            given.get("maxCost", self.max_cost),
            given.get("timeout", self.timeout),
        )


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """Try a model call again after a failure that may pass (408, 409, 425, 429, 5xx, a broken connection or stream).

    `attempts`: calls in all, the first among them. `base`: seconds; before the nth retry the wait is drawn
    evenly from 0 to base * 2**(n-1) ("full jitter": Brooker, Exponential Backoff and Jitter, AWS 2015), at
    most `cap` seconds. `deadline`: seconds from the first failure, after which no further call begins; a
    vendor's Retry-After is honoured beyond `cap`, but within it.
    """

    attempts: int = 3
    base: float = 0.5
    cap: float = 30.0
    deadline: float = 120.0

    def __post_init__(self) -> None:
        if not isinstance(self.attempts, int) or self.attempts < 1:
            raise ConfigurationError(f"RetryPolicy: attempts must be a whole number over 0, not {self.attempts!r}")
        for name in ("base", "cap", "deadline"):
            value = getattr(self, name)
            if not isinstance(value, int | float) or not math.isfinite(value) or value < 0:
                raise ConfigurationError(f"RetryPolicy: {name} must be a number of seconds, not {value!r}")

    def delay(self, error: ProviderError, tries: int, waited: float) -> float | None:
        """Seconds to wait before the next call after `tries` calls; None where there is to be none.

        `waited`: seconds since the first failure.
        """
        if not error.retryable or tries >= self.attempts:
            return None
        delay = random.uniform(0, min(self.cap, self.base * 2 ** min(tries - 1, 60)))
        if error.retry_after is not None:
            delay = max(delay, error.retry_after)
        return delay if waited + delay <= self.deadline else None


@dataclass(frozen=True)
class Agent:
    """An agent's definition.

    `model`: a name `provider:model`, or a provider object such as ScriptedModel; of a list, each is asked when
    the one before it has failed for good. `retry`: when a failed call is tried again, by default as the kit
    says. `transform_context(messages, run)` gives the messages that the model sees in place of the
    conversation, which stays as it is; it may run again in another process. `instructions`: the
    system prompt, a text or a text block with a `cache` mark. `cache="auto"`: what stays the same from call to
    call is marked for the vendor's prompt cache. `tools`: functions decorated with `@tool`. `max_turns`,
    `max_tokens`, `max_cost` (US dollars) and `timeout` (seconds, pauses not counted) limit every run.
    `parallel_tool_calls`: the tool calls of one turn are executed side by side. The rest are model options
    (`temperature`, `max_tokens` of one answer as `max_output_tokens`, `top_p`, `reasoning_effort`, `stop`,
    `tool_choice`) that go to the provider as they are.
    """

    name: str
    model: Any
    instructions: str = ""
    instructions_cache: Literal["short", "long"] | None = None
    cache: Literal["auto"] | None = None
    tools: tuple[Tool, ...] = ()
    parallel_tool_calls: bool = True
    limits: Limits = field(default_factory=Limits)
    retry: RetryPolicy | None = None
    transform_context: ContextHook | None = None
    options: Mapping[str, Any] = field(default_factory=dict)

    def __init__(
        self,
        name: str,
        model: Any,
        instructions: str | Block = "",
        tools: Iterable[Tool] = (),
        *,
        cache: Literal["auto"] | None = None,
        parallel_tool_calls: bool = True,
        max_turns: int | None = 100,
        max_tokens: int | None = None,
        max_cost: float | None = None,
        timeout: float | None = None,
        retry: RetryPolicy | None = None,
        transform_context: ContextHook | None = None,
        **options: Any,
    ) -> None:
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            raise ConfigurationError(f"agent name {name!r}: use 1 to 64 letters, digits, '_', '-' or '.'")
        tools = tuple(tools)
        for item in tools:
            if not isinstance(item, Tool):
                raise ConfigurationError(f"agent {name!r}: {item!r} is no tool; decorate the function with @tool")
        names = [item.name for item in tools]
        twice = sorted({n for n in names if names.count(n) > 1})
        if twice:
            raise ConfigurationError(f"agent {name!r} has two tools named {twice[0]!r}")
        set_field = object.__setattr__
        set_field(self, "name", name)
        set_field(self, "model", model)
        words, mark = _instructions(name, instructions)
        set_field(self, "instructions", words)
        set_field(self, "instructions_cache", mark)
        if cache not in (None, "auto"):
            raise ConfigurationError(f"agent {name!r}: cache must be 'auto' or left out, not {cache!r}")
        set_field(self, "cache", cache)
        set_field(self, "tools", tools)
        set_field(self, "parallel_tool_calls", parallel_tool_calls)
        set_field(self, "limits", Limits(max_turns, max_tokens, max_cost, timeout))
        if retry is not None and not isinstance(retry, RetryPolicy):
            raise ConfigurationError(f"agent {name!r}: retry must be a RetryPolicy, not {retry!r}")
        set_field(self, "retry", retry)
        set_field(self, "transform_context", transform_context)
        set_field(self, "options", dict(options))

    def as_tool(
        self,
        name: str | None = None,
        description: str | None = None,
        *,
        label: str | None = None,
        decision: Json | None = None,
        decision_timeout: float | None = None,
        on_expire: Any = "reject",
    ) -> Tool:
        """This agent as a tool of another: a call starts a run of its own, whose answer is the call's result.

        The calling run holds no process meanwhile. `description` tells its model what the agent is good for.
        """

        def answer(input: str) -> str:
            raise NotImplementedError(f"{self.name} answers in a run of its own")

        declared = tool(
            name=name or self.name.replace(".", "_"),
            label=label,
            description=description or f"Ask the agent {self.name}; it answers in words.",
            parameters=_SUB_AGENT_PARAMETERS,
            decision=decision,
            decision_timeout=decision_timeout,
            on_expire=on_expire,
        )(answer)
        return replace(declared, agent=self)


def _instructions(name: str, given: str | Block) -> tuple[str, Literal["short", "long"] | None]:
    """The words of an agent's instructions, and their cache mark."""
    if isinstance(given, str):
        return given, None
    mark = given.get("cache") if isinstance(given, dict) else None
    if not isinstance(given, dict) or given.get("type") != "text" or mark not in (None, "short", "long"):
        raise ConfigurationError(
            f"agent {name!r}: instructions must be a text, or a text block whose cache is short or long"
        )
    return str(given.get("text", "")), mark


_SUB_AGENT_PARAMETERS: Json = {
    "type": "object",
    "properties": {"input": {"type": "string", "minLength": 1, "description": "What the agent is to do."}},
    "required": ["input"],
    "additionalProperties": False,
}


class BoundAgent:
    """An agent with the providers that answer for it: what a step needs to run.

    `models`: the provider and the name of each model, in the order in which they are asked; `provider` and
    `model` are the first's. `retry` is the agent's policy, or else the kit's.
    """

    def __init__(self, agent: Agent, models: Sequence[tuple[Provider, str]], retry: RetryPolicy | None = None) -> None:
        self.agent = agent
        self.provider, self.model = models[0]
        self.retry = agent.retry or retry
        self._models = models
        self._tools = {item.name: item for item in agent.tools}

    @property
    def choices(self) -> int:
        """How many models there are."""
        return len(self._models)

    def choice(self, number: int) -> BoundAgent:
        """The agent with its model of that number, from 0, and those after it; the last where there are fewer."""
        number = min(number, len(self._models) - 1)
        return self if number == 0 else BoundAgent(self.agent, self._models[number:], self.retry)

    @property
    def name(self) -> str:
        return self.agent.name

    @property
    def model_name(self) -> str:
        return f"{self.provider.name}:{self.model}"

    def tool(self, name: str) -> Tool | None:
        return self._tools.get(name)

    def tool_specs(self) -> tuple[ToolSpec, ...]:
        return tuple(ToolSpec(t.name, t.description, t.parameters, t.cache) for t in self.agent.tools)

    def definition(self) -> Json:
        """The agent as `GET /agents` shows it."""
        return {
            "name": self.name,
            "model": self.model_name,
            "fallbacks": [f"{provider.name}:{model}" for provider, model in self._models[1:]],
            "capabilities": capabilities(self.model_name).to_json(),
            "tools": [
                {
                    "name": t.name,
                    "label": t.label,
                    "description": t.description,
                    "parameters": t.parameters,
                    "runs": t.runs,
                    "effects": t.effects,
                    **({"decision": t.decision} if t.decision is not None else {}),
                }
                for t in self.agent.tools
            ],
        }

    def empty_message(self, timestamp: int) -> AssistantMessage:
        """The assistant message before any content, as `message_start` shows it."""
        return {
            "role": "assistant",
            "content": [],
            "api": self.provider.api,
            "provider": self.provider.name,
            "model": self.model,
            "usage": zero_usage(),
            "stopReason": "stop",
            "timestamp": timestamp,
        }
