"""An application whose steps a test executes by hand, and models that misbehave."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from agentkit import Agent, AgentKit, Middleware, Rate, RetryPolicy, ScriptedModel
from agentkit.core.cancellation import Cancellation
from agentkit.core.messages import Usage
from agentkit.core.record import StepKind
from agentkit.errors import ProviderError
from agentkit.providers.protocol import Finish, ModelRequest, Part, TextDelta
from agentkit.settings import Settings
from agentkit.store.memory import MemoryStore
from agentkit.store.protocol import Push, Store
from tests.event_rules import check_log

__all__ = ["App", "Failing", "FakeQueue", "Silent", "die", "in_background"]


class FakeQueue:
    """A `StepQueue` that keeps what is enqueued until a test takes it: `enqueued` has (run id, step), oldest first.

    `notifications` has (run id, entry id) likewise.
    """

    def __init__(self) -> None:
        self.enqueued: list[tuple[str, int]] = []
        self.notifications: list[tuple[str, str]] = []

    def enqueue(self, run_id: str, step: int, kind: StepKind, queue: str | None = None) -> None:
        self.enqueued.append((run_id, step))

    def push(self, run_id: str, step: int, kind: StepKind, queue: str | None = None) -> Push | None:
        return None

    def name(self, kind: StepKind, queue: str | None = None) -> str:
        return queue or "agentkit"

    def queued(self, name: str) -> int:
        return len(self.enqueued)

    def probe(self, queue: str) -> None:
        pass

    def notify(self, run_id: str, entry_id: str) -> None:
        self.notifications.append((run_id, entry_id))

    def notify_queue(self) -> str:
        return "agentkit"

    def reachable(self) -> bool:
        return True


class App:
    """A kit whose steps are executed by hand."""

    def __init__(
        self,
        *turns: Any,
        tools: Any = (),
        model: Any = None,
        store: Store | None = None,
        retry: RetryPolicy | None = None,
        remind_before: float | None = None,
        rates: Sequence[Rate] = (),
        middleware: Sequence[Middleware] = (),
        **settings: Any,
    ) -> None:
        self.store: Any = store or MemoryStore()
        self.queue = FakeQueue()
        self.agent = Agent("a", model or ScriptedModel(list(turns), chunk_size=3), tools=tools)
        self._settings = Settings(**{"flush_seconds": 0.0, **settings})
        self._retry = retry
        self._remind_before = remind_before
        self._rates = rates
        self.middleware = list(middleware)
        self.another_worker()

    def another_worker(self) -> App:
        """Have a worker that has just been started execute what is due from now on."""
        self.kit = AgentKit(
            [self.agent],
            settings=self._settings,
            store=self.store,
            queue=self.queue,
            retry=self._retry,
            remind_before=self._remind_before,
            rates=self._rates,
            middleware=self.middleware,
        )
        return self

    def start(self) -> str:
        return self.kit.start("a", "go").id

    def run(self) -> str:
        run_id = self.start()
        self.work()
        return run_id

    def execute_next(self) -> None:
        """Execute the step that was enqueued first."""
        self.kit.execute(*self.queue.enqueued.pop(0))

    def work(self) -> App:
        """Execute what is enqueued until nothing is."""
        while self.queue.enqueued:
            self.execute_next()
        return self

    def log(self, run_id: str) -> list[Any]:
        return [json.loads(e.data) for e in self.store.events(run_id, 0, 10_000).events]

    def check(self, run_id: str) -> Any:
        run = self.kit.get(run_id)
        check_log(self.log(run_id), run.messages or [], run.status)
        return run


def in_background(function: Callable[[], Any]) -> threading.Thread:
    thread = threading.Thread(target=function)
    thread.start()
    return thread


class Silent:
    """A model that says a word and then nothing, until it is cancelled. Asked again, it answers."""

    name = api = "silent"
    model = "m"

    def __init__(self) -> None:
        self.reached = threading.Event()

    def stream(self, request: ModelRequest, cancel: Cancellation) -> Iterator[Part]:
        if self.reached.is_set():
            yield TextDelta("fresh")
            yield Finish("stop", Usage.of())
            return
        yield TextDelta("well")
        self.reached.set()
        cancel.wait(30)


class Failing:
    name = api = "failing"
    model = "m"

    def stream(self, request: ModelRequest, cancel: Cancellation) -> Iterator[Part]:
        yield TextDelta("I th")
        raise ProviderError("overloaded", status=529)


def die(app: App, run_id: str, step: int) -> None:
    """A worker claims a step and dies."""
    assert app.store.claim(run_id, step, 0) is not None
