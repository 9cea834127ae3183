"""Calls an application's hooks: those of `AgentKit(middleware=[…])` in their order, sync and async alike.

A chain is executed in the thread of its caller. A sync hook is called there; an async one is on the event loop of
tools, while this thread waits for it, and what it awaits is executed in a thread of tools. Context variables go along.
"""

from __future__ import annotations

import asyncio
import inspect
import threading
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future
from typing import Any

from agentkit.core.messages import Json
from agentkit.errors import ConfigurationError
from agentkit.hooks import AroundStep, Middleware, RunInfo, StepInfo
from agentkit.runtime.around import nested
from agentkit.runtime.tool_loop import submit_tool
from agentkit.runtime.tool_threads import run_in_tool_thread

__all__ = ["NO_HOOKS", "Chain", "Hook", "HookError", "Hooks", "call_hook", "hook_name", "run_end_handler"]

Hook = Callable[..., Any]


class HookError(Exception):
    """A hook raised what it may not; the cause says what. Its text names the hook."""

    @property
    def failure(self) -> BaseException:
        """What the hook raised."""
        return self.__cause__ or self


class Hooks:
    """The hooks of one kit. `around_step`: that of the kit, outside of its middleware's.

    Raises ConfigurationError for what is no Middleware, and for an `async def around_step`.
    """

    def __init__(self, middleware: Iterable[Any] = (), around_step: AroundStep | None = None) -> None:
        self._all: tuple[Middleware, ...] = tuple(middleware)
        given: tuple[Any, ...] = self._all
        for each in given:
            if not isinstance(each, Middleware):
                hint = ": make an object of the class" if isinstance(each, type) else ""
                raise ConfigurationError(f"middleware is a list of Middleware objects, not {each!r:.100}{hint}")
            if inspect.iscoroutinefunction(each.around_step):
                raise ConfigurationError(f"{hook_name(each.around_step)} must be a plain function")
        around = [] if around_step is None else [around_step]
        self.around = nested([*around, *self._that_have("around_step")])
        self.model_calls = self._that_have("around_model_call")
        self.tool_calls = self._that_have("around_tool_call")
        self.taps = self._that_have("on_event")
        self.run_ends = self._that_have("on_run_end")
        self.hold_answers = any(each.holds_answers for each in self._all)

    def _that_have(self, name: str) -> tuple[Hook, ...]:
        """List the hooks of a name that do anything, in their order."""
        hooks = [getattr(each, name) for each in self._all]
        nothing = getattr(Middleware, name)
        return tuple(hook for hook in hooks if getattr(hook, "__func__", hook) is not nothing)


NO_HOOKS = Hooks()


class Chain:
    """One call through nested hooks, the first outermost, around `innermost`, a function of the value that is passed.

    What `innermost` raises, and errors of `passes`, go through hooks as they are. Anything else that one of them raises
    comes out as a HookError. `shape` makes of what a hook returns what the next outer one is to get; what it raises is
    that hook's.
    """

    def __init__(
        self,
        hooks: Sequence[Hook],
        ctx: StepInfo,
        innermost: Callable[[Any], Any],
        passes: tuple[type[Exception], ...],
        shape: Callable[[Any], Any],
    ) -> None:
        self._hooks = hooks
        self._ctx = ctx
        self._innermost = innermost
        self._passes = passes
        self._shape = shape
        self._raised: list[BaseException] = []
        self._lock = threading.Lock()
        self._futures: set[Future[Any]] = set()
        self._stopped = False

    def run(self, value: Any) -> Any:
        """Call the outermost hook, in this thread; return what it returns."""
        return self._call(0, value)

    def stop(self) -> None:
        """Cancel the hooks that are on the event loop; others see `ctx.aborted`."""
        with self._lock:
            self._stopped = True
            futures = list(self._futures)
        for future in futures:
            future.cancel()

    def _call(self, index: int, value: Any) -> Any:
        if index == len(self._hooks):
            try:
                return self._innermost(value)
            except BaseException as error:
                self._raised.append(error)
                raise
        hook = self._hooks[index]
        try:
            if is_async(hook):
                returned = self._on_loop(hook, index, value)
            else:
                returned = hook(self._ctx, value, lambda changed=value: self._call(index + 1, changed))
        except Exception as error:
            if isinstance(error, (HookError, *self._passes)) or any(error is raised for raised in self._raised):
                raise
            raise HookError(hook_name(hook)) from error
        try:
            return self._shape(returned)
        except Exception as error:
            raise HookError(f"the answer of {hook_name(hook)}") from error

    def _on_loop(self, hook: Hook, index: int, value: Any) -> Any:
        name = hook_name(hook)

        async def go_on(changed: Any = value) -> Any:
            return await in_tool_thread(name, lambda: self._call(index + 1, changed))

        future = submit_tool(name, lambda: hook(self._ctx, value, go_on))
        with self._lock:
            self._futures.add(future)
            stopped = self._stopped
        if stopped:
            future.cancel()
        try:
            return future.result()()
        finally:
            with self._lock:
                self._futures.discard(future)


async def in_tool_thread(name: str, function: Callable[[], Any]) -> Any:
    """Call a function in a thread of tools, and wait for it on the event loop; return or raise what it does."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[Callable[[], Any]] = loop.create_future()

    def settle(get: Callable[[], Any]) -> None:
        if not done.done():
            done.set_result(get)

    def work() -> None:
        try:
            value = function()
        except BaseException as error:
            get = _raiser(error)
        else:
            get = _returner(value)
        loop.call_soon_threadsafe(settle, get)

    run_in_tool_thread(name, work)
    return (await done)()


def is_async(hook: Hook) -> bool:
    """Whether what a hook returns is to be awaited."""
    return inspect.iscoroutinefunction(hook)


def call_hook(hook: Hook, *arguments: Any) -> Any:
    """Call a hook that nests around nothing, an async one on the event loop of tools; return or raise what it does."""
    if is_async(hook):
        return submit_tool(hook_name(hook), lambda: hook(*arguments)).result()()
    return hook(*arguments)


def run_end_handler(hook: Hook) -> Callable[[Json], Any]:
    """Make the handler of notifications that calls an `on_run_end`; it is known by the name of the hook's class."""
    owner = type(getattr(hook, "__self__", None))

    def handle(event: Json) -> None:
        data = event["data"]
        run = RunInfo(data["runId"], data["agent"], data["owner"], data.get("parentRunId"), data.get("turn", 0))
        end = {"status": event["type"].partition(".")[2], "usage": data.get("usage"), "id": event["id"]}
        if "error" in data:
            end["error"] = data["error"]
        call_hook(hook, run, end)

    handle.__module__, handle.__qualname__ = owner.__module__, f"{owner.__qualname__}.on_run_end"
    return handle


def hook_name(hook: Hook) -> str:
    """Name a hook in errors and logs."""
    return f"{hook.__name__} of {type(getattr(hook, '__self__', None)).__name__}"


def _raiser(error: BaseException) -> Callable[[], Any]:
    def fail() -> Any:
        raise error

    return fail


def _returner(value: Any) -> Callable[[], Any]:
    return lambda: value
