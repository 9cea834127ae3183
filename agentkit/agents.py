"""The agent, its limits and its retry policy: frozen definitions, which are code and never stored."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field, replace
from typing import Any, ClassVar, Literal

from agentkit.core.backoff import Backoff
from agentkit.core.bounds import Bounds
from agentkit.core.keywords import refuse_unknown_keywords
from agentkit.core.messages import AssistantMessage, Json, TextBlock, Usage
from agentkit.core.run import Run
from agentkit.core.struct import Wire, check
from agentkit.errors import ConfigurationError, InvalidRequestError, ProviderError
from agentkit.providers.models import Capabilities, capabilities
from agentkit.providers.protocol import Provider, ToolSpec
from agentkit.tools import Tool, tool

__all__ = ["Agent", "AgentDefinition", "BoundAgent", "ContextHook", "Limits", "RetryPolicy"]

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")

ContextHook = Callable[[list[Json], Run], list[Json]]
"""`transform_context(messages, run)`: the messages that the model is sent in place of the conversation `messages`.

Both are messages as the protocol has them, `{"role": "user", "content": …, "timestamp": …}` and so on; the hook may
change what it was passed. It is called before each model call, and again when a step is executed again, perhaps in
another process. What it raises fails the run.
"""


@dataclass(frozen=True, slots=True)
class Limits:
    """What a run may use; None is without limit.

    `max_turns`: model calls. `max_tokens`: the run's `usage.totalTokens`. `max_cost`: US dollars. `timeout`: seconds
    that the run is queued or running; time spent paused does not count.
    """

    max_turns: int | None = None
    max_tokens: int | None = None
    max_cost: float | None = None
    timeout: float | None = None

    def check_lowered(self, overrides: Mapping[str, Any]) -> None:
        """Check that the limits of one run, by their wire names, are at most these.

        Raises InvalidRequestError that names the first which is higher.
        """
        for name, limit in self._named().items():
            if limit is not None and overrides.get(name, limit) > limit:
                text = f"limits.{name} may only lower the agent's limit, which is {limit:g}"
                raise InvalidRequestError(text, errors=[{"path": f"/limits/{name}", "message": text}])

    def lowered(self, overrides: Mapping[str, Any]) -> Json:
        """Return `overrides`, limits by their wire names, of which none is higher than here."""
        lower = {name: limit for name, limit in self._named().items() if limit is not None}
        return {name: min(value, lower.get(name, value)) for name, value in overrides.items()}

    def _named(self) -> dict[str, float | None]:
        return {
            "maxTurns": self.max_turns,
            "maxTokens": self.max_tokens,
            "maxCost": self.max_cost,
            "timeout": self.timeout,
        }

    def override(self, overrides: Mapping[str, Any]) -> Limits:
        """Return these limits with those of one run, by their wire names (`maxTurns` …), in front."""
        return Limits(
            overrides.get("maxTurns", self.max_turns),
            overrides.get("maxTokens", self.max_tokens),
            overrides.get("maxCost", self.max_cost),
            overrides.get("timeout", self.timeout),
        )


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """Try a model call again after a failure that may pass (408, 409, 425, 429, 5xx, a broken connection or stream).

    `attempts`: calls in all, the first among them, at least 1. `base` and `cap`: seconds; before the nth retry the wait
    is drawn evenly from 0 to `base * 2**(n-1)`, at most `cap` (`agentkit.core.backoff`). `deadline`: seconds from the
    first failure, after which no further call begins; a vendor's Retry-After is honoured beyond `cap`, but within it.
    Raises ConfigurationError for other values.
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
        """Return the seconds to wait before the next call after `tries` calls; None where there is to be none.

        `waited`: seconds since the first failure.
        """
        if not error.retryable or tries >= self.attempts:
            return None
        delay = Backoff(self.base, self.cap).delay(tries)
        if error.retry_after is not None:
            delay = max(delay, error.retry_after)
        return delay if waited + delay <= self.deadline else None


@refuse_unknown_keywords
@dataclass(frozen=True)
class Agent:
    """An agent's definition, made once and never stored: a run keeps the agent's name.

    `name`: 1 to 64 letters, digits, "_", "-" or ".". `model`: a name `provider:model` or a provider object such as
    ScriptedModel; or a list of them, of which each is asked when the one before it has failed for good.
    `instructions`: the system prompt, a text or a text block with a `cache` mark. `tools`: functions decorated with
    `@tool`.

    `cache`: "auto" where what stays the same from call to call is to be marked for the vendor's prompt cache.
    `models`: more names that a start may choose from in place of `model`; it may choose no others.
    `parallel_tool_calls`: whether the tool calls of one turn are executed side by side. `max_turns` (model calls),
    `max_tokens`, `max_cost` (US dollars) and `timeout` (seconds, pauses not counted) limit every run; None: no limit.
    `retry`: when a failed model call is tried again, by default as the kit says. `transform_context`: what the model is
    sent in place of the conversation, which stays as it is; see ContextHook.

    What every vendor understands has a parameter here, which each provider spells as its vendor does; None leaves it to
    the vendor: `temperature`, `top_p`, `stop` (texts that end an answer), `tool_choice` ("auto", "none", "required", or
    a function by name), `reasoning_effort`, and `max_output_tokens`, the limit of one answer. `connect_timeout` and
    `read_timeout` are seconds of one call. `options`: all else, by the vendor's own names, which goes to the vendor as
    it is.

    `replace` makes a changed copy, as `dataclasses.replace` does. Raises ConfigurationError for whatever is declared
    wrongly, and for an unknown keyword UnknownKeywordError, which is a TypeError, too.
    """

    unknown_keyword_hint: ClassVar[str] = "What only the vendor knows goes into options={…}."

    name: str
    model: Any
    instructions: str | Json = ""
    tools: Sequence[Tool] = ()
    _: KW_ONLY
    cache: Literal["auto"] | None = None
    models: Sequence[str] = ()
    parallel_tool_calls: bool = True
    max_turns: int | None = 100
    max_tokens: int | None = None
    max_cost: float | None = None
    timeout: float | None = None
    retry: RetryPolicy | None = None
    transform_context: ContextHook | None = None
    temperature: float | None = None
    top_p: float | None = None
    stop: str | Sequence[str] | None = None
    tool_choice: str | Json | None = None
    reasoning_effort: str | None = None
    max_output_tokens: int | None = None
    connect_timeout: float | None = None
    read_timeout: float | None = None
    options: Mapping[str, Any] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not _NAME.fullmatch(self.name):
            raise ConfigurationError(f"agent name {self.name!r}: use 1 to 64 letters, digits, '_', '-' or '.'")
        what = f"agent {self.name!r}"
        _instructions(self.name, self.instructions)
        if self.cache not in (None, "auto"):
            raise ConfigurationError(f"{what}: cache must be 'auto' or left out, not {self.cache!r}")
        if isinstance(self.models, str):
            raise ConfigurationError(f"{what}: models must be a list of names, not the text {self.models!r}")
        if self.retry is not None and not isinstance(self.retry, RetryPolicy):
            raise ConfigurationError(f"{what}: retry must be a RetryPolicy, not {self.retry!r}")
        if not isinstance(self.options, Mapping):
            raise ConfigurationError(f"{what}: options must be a mapping of the vendor's options")
        for name in _COMMON_OPTIONS:
            if getattr(self, name) is not None and name in self.options:
                raise ConfigurationError(f"{what}: {name} is named twice, as a parameter and in options")
        set_field = object.__setattr__
        set_field(self, "tools", _checked_tools(what, self.tools))
        set_field(self, "models", tuple(self.models))
        set_field(self, "options", dict(self.options))

    @property
    def limits(self) -> Limits:
        """The limits of every run."""
        return Limits(self.max_turns, self.max_tokens, self.max_cost, self.timeout)

    @property
    def prompt(self) -> TextBlock:
        """The instructions as a text block, with their cache mark."""
        return _instructions(self.name, self.instructions)

    @property
    def model_options(self) -> Json:
        """What a provider is passed as `ModelRequest.options`: `options`, and the common ones that are set."""
        common = {name: getattr(self, name) for name in _COMMON_OPTIONS}
        return {**self.options, **{name: value for name, value in common.items() if value is not None}}

    def replace(self, **changes: Any) -> Agent:
        """Make a copy with other values for some of the parameters; all others are kept, and all are checked again.

        Raises ConfigurationError and UnknownKeywordError as Agent does.
        """
        return replace(self, **changes)

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
        """Make this agent a tool of another: a call starts a run of its own, whose answer is the call's result.

        The calling run holds no process meanwhile. `name`: by default the agent's, with "_" for ".". `description`:
        what the calling model reads of the agent, say what it is good for. The others are those of `tool`. Raises
        ConfigurationError as `tool` does.
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


_COMMON_OPTIONS = (
    "temperature",
    "top_p",
    "stop",
    "tool_choice",
    "reasoning_effort",
    "max_output_tokens",
    "connect_timeout",
    "read_timeout",
)


def _checked_tools(what: str, tools: Iterable[Tool]) -> tuple[Tool, ...]:
    """Return the tools of an agent. Raises ConfigurationError for what is no tool, and for two of one name."""
    tools = tuple(tools)
    for item in tools:
        if not isinstance(item, Tool):
            raise ConfigurationError(f"{what}: {item!r} is no tool; decorate the function with @tool")
    names = [item.name for item in tools]
    duplicates = sorted({n for n in names if names.count(n) > 1})
    if duplicates:
        raise ConfigurationError(f"{what} has two tools named {duplicates[0]!r}")
    return tools


def _instructions(name: str, instructions: str | Json) -> TextBlock:
    """Read the instructions of the agent `name`, a text or a text block. Raises ConfigurationError otherwise."""
    if isinstance(instructions, str):
        return TextBlock(instructions)
    try:
        return check({"type": "", **instructions}, TextBlock)
    except (TypeError, InvalidRequestError) as error:
        raise ConfigurationError(
            f"agent {name!r}: instructions must be a text, or a text block whose cache is short or long"
        ) from error


_SUB_AGENT_PARAMETERS: Json = {
    "type": "object",
    "properties": {"input": {"type": "string", "minLength": 1, "description": "What the agent is to do."}},
    "required": ["input"],
    "additionalProperties": False,
}


class ToolDefinition(Wire):
    """A tool as `GET /agents` shows it. `parameters` and `decision` are JSON Schemas."""

    name: str
    label: str
    description: str
    parameters: Json
    runs: Literal["server", "client"]
    effects: Literal["idempotent", "once"]
    decision: Json | None = None


class AgentDefinition(Wire):
    """An agent as `GET /agents` shows it. `capabilities` are those of `model`; `fallbacks` take its place in order.

    `models`: those that a start may name.
    """

    name: str
    model: str
    fallbacks: list[str]
    models: list[str]
    capabilities: Capabilities
    tools: list[ToolDefinition]


class BoundAgent:
    """An agent with the providers that answer for it: what a step needs to run.

    `models`: the provider and the name of each model, in the order in which they are asked; `provider` and `model` are
    the first's. `retry` is the agent's policy, or else the kit's. `bounds` are the application's.
    """

    def __init__(
        self,
        agent: Agent,
        models: Sequence[tuple[Provider, str]],
        retry: RetryPolicy | None = None,
        bounds: Bounds | None = None,
    ) -> None:
        self.agent = agent
        self.bounds = bounds or Bounds()
        self.provider, self.model = models[0]
        self.retry = agent.retry or retry
        self._models = models
        self._tools = {item.name: item for item in agent.tools}

    @property
    def choices(self) -> int:
        """The number of models."""
        return len(self._models)

    @property
    def allowed_models(self) -> list[str]:
        """The models that a start may name: the agent's own and those of `Agent(models=…)`."""
        own = [f"{provider.name}:{model}" for provider, model in self._models]
        return list(dict.fromkeys([*own, *self.agent.models]))

    def choice(self, number: int) -> BoundAgent:
        """Return the agent with its model number `number` (from 0, at most the last) and those after it."""
        number = min(number, len(self._models) - 1)
        return self if number == 0 else BoundAgent(self.agent, self._models[number:], self.retry, self.bounds)

    @property
    def name(self) -> str:
        return self.agent.name

    @property
    def model_name(self) -> str:
        """The first model's name, with its provider's: `provider:model`."""
        return f"{self.provider.name}:{self.model}"

    def tool(self, name: str) -> Tool | None:
        """Find the tool of that name."""
        return self._tools.get(name)

    def tool_specs(self) -> tuple[ToolSpec, ...]:
        """List the tools as a model sees them."""
        return tuple(ToolSpec(t.name, t.description, t.parameters, t.cache) for t in self.agent.tools)

    def definition(self) -> AgentDefinition:
        """Describe the agent as `GET /agents` shows it."""
        return AgentDefinition(
            name=self.name,
            model=self.model_name,
            fallbacks=[f"{provider.name}:{model}" for provider, model in self._models[1:]],
            models=self.allowed_models,
            capabilities=capabilities(self.model_name),
            tools=[
                ToolDefinition(t.name, t.label, t.description, t.parameters, t.runs, t.effects, t.decision)
                for t in self.agent.tools
            ],
        )

    def empty_message(self, timestamp: int) -> AssistantMessage:
        """Make the assistant message before any content, as `message_start` shows it. `timestamp`: milliseconds."""
        return AssistantMessage(
            content=[],
            api=self.provider.api,
            provider=self.provider.name,
            model=self.model,
            usage=Usage.of(),
            stop_reason="stop",
            timestamp=timestamp,
        )
