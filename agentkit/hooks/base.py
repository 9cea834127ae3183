"""Hooks: what an application puts around the steps, model calls and tool calls of its runs (docs/how-to/hooks.md).

    class Timing(Middleware):
        def around_tool_call(self, ctx, call, execute):
            began = time.monotonic()
            result = execute()
            print(ctx.run_id, call.name, time.monotonic() - began)
            return result

    AgentKit([…], middleware=[Timing()])

The declarations alone: what calls them is the runtime's. Shipped ones stand beside it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any, Literal

from agentkit.core.limits import Limits
from agentkit.core.messages import Json, Usage
from agentkit.providers.protocol import ToolSpec
from agentkit.tools import Tool

__all__ = ["AroundStep", "Middleware", "ModelCall", "RunInfo", "StepInfo", "ToolCall"]


@dataclass(frozen=True, slots=True)
class RunInfo:
    """The run that a hook is about; never changed.

    `owner`: the principal that started it, None where nobody is named. `parent_run_id`: the run whose call it answers,
    None where it is no sub-agent's. `turn`: counts from 1. `metadata`: the run's, JSON, which its client wrote.
    """

    run_id: str
    agent: str
    owner: str | None = None
    parent_run_id: str | None = None
    turn: int = 0
    metadata: Mapping[str, Any] = field(default_factory=dict, repr=False)


@dataclass(frozen=True, slots=True)
class StepInfo:
    """The step that is executed, as hooks are passed it; never changed.

    `number`: of the step in its run, from 1; `step` is the same. `kind`: "model" for a model call, "tool" for the
    execution of a tool, whose name is `tool`, and the call `tool_call_id`. `attempt`: which execution of the step this
    is, from 1. `owner`, `turn`, `parent_run_id` and `metadata` as RunInfo has them. `usage`: what the run had used when
    the step began, failed model calls included; `limits`: the run's.
    """

    run_id: str
    number: int
    kind: Literal["model", "tool"]
    agent: str
    attempt: int
    owner: str | None = None
    tool: str | None = None
    turn: int = 0
    tool_call_id: str | None = None
    parent_run_id: str | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict, repr=False)
    usage: Usage = field(default_factory=Usage.of, repr=False)
    limits: Limits = field(default_factory=Limits, repr=False)
    is_aborted: Callable[[], bool] = field(default=lambda: False, repr=False, compare=False)

    @property
    def step(self) -> int:
        """The number, by the name that it has in logs, tools' contexts and metrics."""
        return self.number

    @property
    def aborted(self) -> bool:
        """Whether what is executed is of no use any more: a hook that waits should return then."""
        return self.is_aborted()

    def log_fields(self) -> dict[str, Any]:
        """Make the fields of a log record about the step, for `extra`: ids and names, nothing that users wrote."""
        return {
            "run_id": self.run_id,
            "step": self.number,
            "kind": self.kind,
            "agent": self.agent,
            "attempt": self.attempt,
            "turn": self.turn,
            "tool": self.tool,
            "tool_call_id": self.tool_call_id,
            "owner": self.owner,
            "parent_run_id": self.parent_run_id,
        }


@dataclass(frozen=True, slots=True)
class ModelCall:
    """What a model is to be asked. Change it with `dataclasses.replace`.

    `model`: its full name, `provider:model`. `messages`: the conversation as the protocol has it, dictionaries of one's
    own. `tools`: as the model sees them. `options`: the agent's model options.
    """

    model: str
    instructions: str
    messages: Sequence[Json]
    tools: Sequence[ToolSpec] = ()
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ToolCall:
    """What a tool is to be executed with. Change it with `dataclasses.replace`.

    `id`, `name`, `arguments`: as the model, or who edited them, wrote. `decision`: what a person decided, None where
    the tool asks for none. `tool`: its declaration.
    """

    id: str
    name: str
    arguments: Json
    decision: Any = None
    tool: Tool | None = field(default=None, repr=False, compare=False)


AroundStep = Callable[[StepInfo], AbstractContextManager[Any]]
"""Makes the context manager that a step is executed within. It is entered and left in the thread that executes a model
call or a `def` tool, and around an `async def` tool in the thread that waits for it; context variables that it sets
reach either. A tool's own exception passes through it. What it raises itself fails the step as a crash would: the step
is tried again a few times, and a tool of effects "once" is in doubt."""


class Middleware:
    """Hooks of an application; a subclass has those that it needs, and the others cost nothing.

    All but `around_step` may be `async def`: they are executed on the event loop of tools, and await `call`, `execute`.
    One object serves all runs and threads of a process, and other processes have others: it keeps nothing of a run.
    The first of `AgentKit(middleware=[…])` is the outermost.
    """

    holds_answers: bool = False
    """Whether what a model writes is shown to nobody, and in no log, until `around_model_call` has returned. Else it is
    streamed as it comes, and discarded where the hook returns something else."""

    def around_step(self, step: StepInfo) -> AbstractContextManager[Any]:
        """Make the context manager that a step is executed within; see `AroundStep`."""
        return nullcontext()

    def around_model_call(self, ctx: StepInfo, request: ModelCall, call: Callable[..., Any]) -> Any:
        """Make a model call: `call(request)` asks the model and returns its answer, an assistant message as JSON.

        Called for each try, also of one model after another. `call()` asks what `request` says; a changed one may name
        another model. It may be called again, or not at all: what is returned is the answer, a message as JSON, a text
        or a list of content blocks. What all calls have used is counted. `call` raises ProviderError where the model
        fails. What this raises: a ProviderError is tried again by the agent's RetryPolicy if it is `retryable`, and
        else ends the run with its text; any other exception ends the run as failed with `step_failed`.
        """
        return call(request)

    def around_tool_call(self, ctx: StepInfo, call: ToolCall, execute: Callable[..., Any]) -> Any:
        """Execute a tool call: `execute(call)` returns the tool's ToolResult, its content a list of blocks.

        Called for each execution in a worker: not for sub-agents, clients' tools and rejected calls. `execute()` takes
        `call` as it is; changed arguments must satisfy the tool's parameters. What is returned is the result, anything
        that a tool may return. `execute` raises what the tool raised. What this raises: a ToolError is an error result
        with its text, what the tool raised as well, as without a hook; any other exception fails the step as a crash
        would. Of a tool that asks somebody before it goes on, such as an MCP server's, `execute` does not return: the
        hook ends there, by a BaseException, and is called again when the answer is there. The tool's `timeout` is that
        of the whole.
        """
        return execute(call)

    def on_event(self, run: RunInfo, event: Json) -> Any:
        """Take note of an event of a run that is in its log: JSON with its `seq` and `timestamp`.

        Called in the process that wrote it, in the order of `seq` there. docs/how-to/hooks.md says what may be missed.
        """

    def on_run_end(self, run: RunInfo, end: Json) -> Any:
        """Take note that a run has ended. `end`: `{status, usage, error?}`.

        Called at least once, in a worker, and again with backoff for a day while it raises: as `AgentKit.on`.
        """
