"""The agent, its limits and its retry policy: frozen definitions, which are code and never stored."""

from __future__ import annotations

import logging
import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field, replace
from typing import Any, ClassVar, Literal

from agentkit.core.backoff import Backoff
from agentkit.core.bounds import Bounds
from agentkit.core.keywords import refuse_unknown_keywords
from agentkit.core.limits import Limits
from agentkit.core.messages import AssistantMessage, Json, TextBlock, Usage
from agentkit.core.ready import MOST_URGENT
from agentkit.core.run import Run
from agentkit.core.struct import Wire, check
from agentkit.errors import ConfigurationError, InvalidRequestError, ProviderError
from agentkit.providers.choice import BoundModel, Model, ModelChoice, bind_model, full_name
from agentkit.providers.connection import Connection, HeadersSource, KeySource
from agentkit.providers.models import Capabilities, capabilities
from agentkit.providers.names import vendor_of
from agentkit.providers.protocol import Provider, ToolSpec
from agentkit.tools import DecisionWhen, Tool, ToolSource, bound_tool, check_queue, tool

__all__ = ["Agent", "AgentDefinition", "BoundAgent", "ContextHook", "Limits", "RetryPolicy"]

log = logging.getLogger(__name__)

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")

ContextHook = Callable[[list[Json], Run], list[Json]]
"""`transform_context(messages, run)`: the messages that the model is sent in place of the conversation `messages`.

Both are messages as the protocol has them, `{"role": "user", "content": …, "timestamp": …}` and so on; the hook may
change what it was passed. It is called before each model call, and again when a step is executed again, perhaps in
another process. What it raises fails the run.
"""


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

    `name`: 1 to 64 letters, digits, "_", "-" or ".". `model`: a name `provider:model`, a Model, or a provider object
    such as ScriptedModel; or a list of them, of which each is asked when the one before it has failed for good.
    `instructions`: the system prompt, a text or a text block with a `cache` mark. `tools`: functions decorated with
    `@tool`, and sources of tools such as `MCPServer`.

    `cache`: "auto" where what stays the same from call to call is to be marked for the vendor's prompt cache.
    `models`: more names, or Models, that a start may choose from in place of `model`; it may choose no others.
    `parallel_tool_calls`: whether the tool calls of one turn are executed side by side. `max_turns` (model calls),
    `max_tokens`, `max_cost` (US dollars) and `timeout` (seconds, pauses not counted) limit every run; None: no limit.
    `retry`: when a failed model call is tried again, by default as the kit says. `transform_context`: what the model is
    sent in place of the conversation, which stays as it is; see ContextHook. `queue`: the broker's queue that its steps
    are sent to, by default AGENTKIT_QUEUE; a worker serves those that its `-Q` names. `priority`: from 0 to 9, the most
    urgent; what a worker executes next is of the highest that waits in the queues that it serves.

    What every vendor understands has a parameter here, which each provider spells as its vendor does; None leaves it to
    the vendor: `temperature`, `top_p`, `stop` (texts that end an answer), `tool_choice` ("auto", "none", "required", or
    a function by name, as OpenAI spells it), `reasoning_effort`, and `max_output_tokens`, the limit of one answer. A
    `tool_choice` that makes the model call tools holds for the first model call after each user message, since a run
    would never end otherwise; with `reset_tool_choice=False` it holds for every call. `connect_timeout` and
    `read_timeout` are seconds of one call. `options`: all else, by the vendor's own names, which goes to the vendor as
    it is; of these, `parallel_tool_calls: False`, which has the model make one call a turn, is understood by all that
    can.

    `base_url`, `api_key` and `headers` take the place of the provider's settings, for models that are named by a text
    and all of one vendor; a Model has its own. `api_key`: a text, or a function that is asked for each request and
    returns the key, or the key and until when it may be kept. `headers`: a mapping, or a function that returns one and
    is asked for each request. Both functions are ordinary ones.

    `replace` makes a changed copy, as `dataclasses.replace` does. Raises ConfigurationError for whatever is declared
    wrongly, and for an unknown keyword UnknownKeywordError, which is a TypeError, too.
    """

    unknown_keyword_hint: ClassVar[str] = "What only the vendor knows goes into options={…}."

    name: str
    model: ModelChoice | Sequence[ModelChoice]
    instructions: str | Json = ""
    tools: Sequence[Tool | ToolSource] = ()
    _: KW_ONLY
    cache: Literal["auto"] | None = None
    models: Sequence[str | Model] = ()
    parallel_tool_calls: bool = True
    max_turns: int | None = 100
    max_tokens: int | None = None
    max_cost: float | None = None
    timeout: float | None = None
    retry: RetryPolicy | None = None
    transform_context: ContextHook | None = None
    queue: str | None = None
    priority: int = 0
    temperature: float | None = None
    top_p: float | None = None
    stop: str | Sequence[str] | None = None
    tool_choice: str | Json | None = None
    reset_tool_choice: bool = True
    reasoning_effort: str | None = None
    max_output_tokens: int | None = None
    connect_timeout: float | None = None
    read_timeout: float | None = None
    options: Mapping[str, Any] = field(default_factory=dict, repr=False)
    base_url: str | None = field(default=None, repr=False)
    api_key: KeySource | None = field(default=None, repr=False)
    headers: HeadersSource | None = field(default=None, repr=False)
    connection: Connection = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not _NAME.fullmatch(self.name):
            raise ConfigurationError(f"agent name {self.name!r}: use 1 to 64 letters, digits, '_', '-' or '.'")
        what = f"agent {self.name!r}"
        _instructions(self.name, self.instructions)
        if self.cache not in (None, "auto"):
            raise ConfigurationError(f"{what}: cache must be 'auto' or left out, not {self.cache!r}")
        if isinstance(self.models, str):
            raise ConfigurationError(f"{what}: models must be a list of names, not the text {self.models!r}")
        if not self.choices:
            raise ConfigurationError(f"{what} has no model")
        for choice in (*self.choices, *self.models):
            if not isinstance(choice, str | Model) and not hasattr(choice, "stream"):
                raise ConfigurationError(f"{what}: {choice!r} is no model: name provider:model, or a Model")
        if self.retry is not None and not isinstance(self.retry, RetryPolicy):
            raise ConfigurationError(f"{what}: retry must be a RetryPolicy, not {self.retry!r}")
        check_queue(self.queue, what)
        priority = self.priority
        if isinstance(priority, bool) or not isinstance(priority, int) or not 0 <= priority <= MOST_URGENT:
            raise ConfigurationError(
                f"{what}: priority must be a whole number from 0 to {MOST_URGENT} (most urgent), not {priority!r:.100}"
            )
        if not isinstance(self.options, Mapping):
            raise ConfigurationError(f"{what}: options must be a mapping of the vendor's options")
        for name in _COMMON_OPTIONS:
            if getattr(self, name) is not None and name in self.options:
                raise ConfigurationError(f"{what}: {name} is named twice, as a parameter and in options")
        set_field = object.__setattr__
        set_field(self, "tools", _checked_tools(what, self.tools))
        set_field(self, "models", tuple(self.models))
        set_field(self, "options", dict(self.options))
        set_field(self, "connection", self._checked_connection())

    def _checked_connection(self) -> Connection:
        """Return what is declared for the models. Raises ConfigurationError where it could reach another vendor."""
        try:
            connection = Connection(self.base_url, self.api_key, self.headers)
        except ConfigurationError as error:
            raise ConfigurationError(f"agent {self.name!r}: {error}") from error
        if connection.is_declared and len(vendors := self._vendors()) != 1:
            raise ConfigurationError(
                f"agent {self.name!r}: base_url, api_key and headers are for models of one vendor that are named by a "
                f"text, and here are {', '.join(sorted(vendors)) or 'none'}: give each its own with Model(…)"
            )
        return connection

    def _vendors(self) -> set[str]:
        """Return the providers' names of the models that have no connection of their own."""
        choices = [choice for choice in (*self.choices, *self.models) if not isinstance(choice, Model)]
        return {vendor_of(full_name(choice).partition(":")[0]) for choice in choices}

    @property
    def choices(self) -> tuple[ModelChoice, ...]:
        """The models of `model`, in the order in which they are asked."""
        return (
            (self.model,) if isinstance(self.model, str) or not isinstance(self.model, Sequence) else tuple(self.model)
        )

    def bind(self, name: str) -> BoundModel:
        """Find the model `provider:model` among the agent's, or else by its name.

        Raises ConfigurationError for one of no known provider.
        """
        named = (choice for choice in (*self.choices, *self.models) if full_name(choice) == name)
        return self.bind_choice(next(named, name))

    def bind_choice(self, choice: ModelChoice) -> BoundModel:
        """Find the provider of a model, with the agent's connection where that is for it."""
        is_ours = vendor_of(full_name(choice).partition(":")[0]) in self._vendors()
        return bind_model(choice, self.connection if is_ours else Connection())

    @property
    def own_tools(self) -> tuple[Tool, ...]:
        """The tools that are declared, without those of sources."""
        return tuple(item for item in self.tools if isinstance(item, Tool))

    @property
    def tool_sources(self) -> tuple[ToolSource, ...]:
        """The sources of further tools."""
        return tuple(item for item in self.tools if not isinstance(item, Tool))

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
        decision_when: DecisionWhen | None = None,
        remember: bool = False,
        approvals: int = 1,
        owner_may_approve: bool = False,
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
            decision_when=decision_when,
            remember=remember,
            approvals=approvals,
            owner_may_approve=owner_may_approve,
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


def _checked_tools(what: str, tools: Iterable[Tool | ToolSource]) -> tuple[Tool | ToolSource, ...]:
    """Return the tools of an agent. Raises ConfigurationError for what is no tool, and for two of one name."""
    tools = tuple(bound_tool(item) for item in tools)
    for item in tools:
        if isinstance(item, Tool):
            item.check_bound()
        elif not isinstance(item, ToolSource):
            raise ConfigurationError(f"{what}: {item!r} is no tool; decorate the function with @tool")
    names = [item.name for item in tools]
    duplicates = sorted({n for n in names if names.count(n) > 1})
    if duplicates:
        raise ConfigurationError(f"{what} has two tools named {duplicates[0]!r}")
    for source in (item for item in tools if not isinstance(item, Tool)):
        taken = next((name for name in names if name.startswith(f"{source.name}__")), None)
        if taken is not None:
            raise ConfigurationError(
                f"{what}: the name {taken!r} could be that of a tool of {source.name!r}: rename one"
            )
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
    """A tool as `GET /agents` shows it. `parameters` and `decision` are JSON Schemas.

    `decision_when`: whether only some calls need the decision. `approvals`: how many principals must give it, where it
    is more than one. `remember`: whether an answer may count for later calls in the run.
    """

    name: str
    label: str
    description: str
    parameters: Json
    runs: Literal["server", "client"]
    effects: Literal["idempotent", "once"]
    decision: Json | None = None
    decision_when: bool = False
    approvals: int | None = None
    remember: bool = False


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

    `models`: in the order in which they are asked; `provider`, `model`, `connection` and `options` are the first's.
    `retry` is the agent's policy, or else the kit's. `bounds` are the application's, and so is `redact`, which every
    text of an error goes through before it leaves.
    """

    def __init__(
        self,
        agent: Agent,
        models: Sequence[BoundModel],
        retry: RetryPolicy | None = None,
        bounds: Bounds | None = None,
        redact: Callable[[str], str] = str,
    ) -> None:
        self.agent = agent
        self.redact = redact
        self.bounds = bounds or Bounds()
        self.provider, self.model, self.connection, options = models[0]
        self.options = {**agent.model_options, **options}
        self.retry = agent.retry or retry
        self._models = models
        self._tools = {item.name: item for item in agent.own_tools}

    @property
    def choices(self) -> int:
        """The number of models."""
        return len(self._models)

    @property
    def allowed_models(self) -> list[str]:
        """The models that a start may name: the agent's own and those of `Agent(models=…)`."""
        own = [model.full_name for model in self._models]
        return list(dict.fromkeys([*own, *map(full_name, self.agent.models)]))

    def choice(self, number: int) -> BoundAgent:
        """Return the agent with its model number `number` (from 0, at most the last) and those after it."""
        number = min(number, len(self._models) - 1)
        if number == 0:
            return self
        return BoundAgent(self.agent, self._models[number:], self.retry, self.bounds, self.redact)

    def with_providers(self, provider_of: Callable[[BoundModel], Provider]) -> BoundAgent:
        """Return the agent with other providers for its models, which keep their names and options."""
        models = [model._replace(provider=provider_of(model)) for model in self._models]
        return BoundAgent(self.agent, models, self.retry, self.bounds, self.redact)

    @property
    def name(self) -> str:
        return self.agent.name

    @property
    def api(self) -> str:
        """The wire that the first model's answers come on."""
        return self._models[0].api

    @property
    def model_name(self) -> str:
        """The first model's name, with its provider's: `provider:model`."""
        return self._models[0].full_name

    def tool(self, name: str) -> Tool | None:
        """Find the tool of that name; one of a source, as this process has last listed it."""
        source = self._source_of(name)
        if source is None:
            return self._tools.get(name)
        return next((item for item in source.known_tools() if item.name == name), None)

    def find_tool(self, name: str) -> Tool | None:
        """Find the tool of that name, as its source lists it now.

        Raises ProviderError where that cannot be reached.
        """
        source = self._source_of(name)
        if source is None:
            return self._tools.get(name)
        return next((item for item in source.tools() if item.name == name), None)

    def _source_of(self, name: str) -> ToolSource | None:
        return next((source for source in self.agent.tool_sources if name.startswith(f"{source.name}__")), None)

    def known_tools(self) -> list[Tool]:
        """List the tools; those of sources, as this process has last listed them."""
        return [
            each for item in self.agent.tools for each in ([item] if isinstance(item, Tool) else item.known_tools())
        ]

    def tool_specs(self) -> tuple[ToolSpec, ...]:
        """List the tools as a model sees them. Raises ProviderError where a source cannot be reached."""
        for source in self.agent.tool_sources:
            source.tools()
        return tuple(ToolSpec(t.name, t.description, t.parameters, t.cache) for t in self.known_tools())

    def definition(self) -> AgentDefinition:
        """Describe the agent as `GET /agents` shows it. A source that cannot be reached shows what it had."""
        for source in self.agent.tool_sources:
            try:
                source.tools()
            except ProviderError as error:
                log.warning("the tools of agent %s are not all known: %s", self.name, error)
        return AgentDefinition(
            name=self.name,
            model=self.model_name,
            fallbacks=[model.full_name for model in self._models[1:]],
            models=self.allowed_models,
            capabilities=capabilities(self.model_name),
            tools=[_definition(item) for item in self.known_tools()],
        )

    def empty_message(self, timestamp: int) -> AssistantMessage:
        """Make the assistant message before any content, as `message_start` shows it. `timestamp`: milliseconds."""
        return AssistantMessage(
            content=[],
            api=self.api,
            provider=self.provider.name,
            model=self.model,
            usage=Usage.of(),
            stop_reason="stop",
            timestamp=timestamp,
        )


def _definition(item: Tool) -> ToolDefinition:
    return ToolDefinition(
        name=item.name,
        label=item.label,
        description=item.description,
        parameters=item.parameters,
        runs=item.runs,
        effects=item.effects,
        decision=item.decision,
        decision_when=item.decision_when is not None,
        approvals=item.approvals if item.approvals > 1 else None,
        remember=item.remember,
    )
