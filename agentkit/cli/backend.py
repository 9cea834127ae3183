"""Where a command's runs are: behind a server, or in a store that is asked directly.

`Client` and `Direct` have the same methods, with the same arguments and answers, so that each command is written once.
A direct one needs no web server, and may do everything: who reaches the store may anyway.
"""

from __future__ import annotations

import functools
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Literal, Self, TypeAlias, TypeVar

from agentkit.client import Client
from agentkit.core.backoff import Backoff
from agentkit.core.inbox import ItemFilter
from agentkit.core.masking import mask_url
from agentkit.core.messages import Json
from agentkit.core.struct import to_json
from agentkit.errors import StoreUnavailableError
from agentkit.kit import AgentKit, load_app
from agentkit.runtime.inbox import InboxFilter
from agentkit.settings import Settings

__all__ = ["Backend", "Direct", "place_of"]

T = TypeVar("T")

_BACKOFF = Backoff(base=0.2, cap=2.0)
_PAGE = 100
_ABSENT: Any = object()


class Direct:
    """The runs of a kit's store. `retry_seconds`: how long a call is made again while the store is unavailable."""

    def __init__(self, kit: AgentKit) -> None:
        self.kit = kit
        self.retry_seconds = 0.0

    @classmethod
    def open(cls, app: str | None) -> Direct:
        """Connect the store of an application, `module:kit`; without one that of the environment, knowing no agents.

        Raises ConfigurationError.
        """
        settings = Settings.from_env()
        app = app or settings.app
        return cls(_Agentless((), settings=settings) if app is None else load_app(app))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.kit.close()

    def agents(self) -> list[Json]:
        found: list[Json] = to_json([agent.definition() for agent in self.kit.agents])
        return found

    def start(
        self,
        agent: str | None = None,
        input: str | list[Json] | None = None,
        *,
        from_run: str | None = None,
        turn: int | None = None,
        model: str | None = None,
        metadata: Json | None = None,
        idempotency_key: str | None = None,
    ) -> Json:
        """Start a run as `Client.start` does. As nobody calls, what begins with another run stays its owner's."""
        key = idempotency_key or uuid.uuid4().hex

        def start() -> Json:
            owner = None if from_run is None else self.kit.get(from_run).owner
            started = self.kit.start(
                agent,
                input,
                from_run=from_run,
                turn=turn,
                model=model,
                metadata=metadata,
                idempotency_key=key,
                owner=owner,
            )
            return started.run.to_json()

        return self._retried(start)

    def get(self, run_id: str) -> Json:
        return self._retried(lambda: self.kit.get(run_id).to_json())

    def why(self, run_id: str) -> Json:
        found: Json = self._retried(lambda: to_json(self.kit.why(run_id)))
        return found

    def doctor(self) -> Json:
        found: Json = to_json(self.kit.doctor())
        return found

    def runs(self, status: str | None = None, agent: str | None = None, **wanted: Any) -> Iterator[Json]:
        return self._pages(
            lambda cursor: self.kit.page(status=status, agent=agent, limit=_PAGE, cursor=cursor, **wanted)
        )

    def decisions(self, *, state: Literal["pending", "resolved"] = "pending", **wanted: Any) -> Iterator[Json]:
        items = InboxFilter(ItemFilter(**wanted))
        if state == "resolved":
            return self._pages(lambda cursor: self.kit.answers_page(items, limit=_PAGE, cursor=cursor))
        return self._pages(lambda cursor: self.kit.pending_page(items, limit=_PAGE, cursor=cursor))

    def resume(
        self,
        run_id: str,
        *,
        decision: Any = _ABSENT,
        reject: str | None = None,
        result: Any = _ABSENT,
        tool_call_id: str | None = None,
        decision_id: str | None = None,
        input: Json | None = None,
        remember: bool = False,
    ) -> Json:
        if tool_call_id is None and decision_id is None:  # an answer must not be taken for the next item
            pending = self.get(run_id)["pending"]
            decision_id = pending[0]["decisionId"] if len(pending) == 1 else None
        given: Mapping[str, Any] = {"decision": decision, "reject": reject, "result": result}
        answer = {name: value for name, value in given.items() if value is not _ABSENT}
        handle = self.kit.resume(
            run_id, **answer, input=input, tool_call_id=tool_call_id, decision_id=decision_id, remember=remember
        )
        return handle.run.to_json()

    def extend(self, run_id: str, decision_id: str, by: float) -> Json:
        return self.kit.extend(run_id, decision_id, by).run.to_json()

    def abort(self, run_id: str, reason: str | None = None) -> Json:
        return self._retried(lambda: self.kit.abort(run_id, reason).run.to_json())

    def delete(self, run_id: str, *, force: bool = False) -> None:
        self._retried(lambda: self.kit.delete(run_id, force=force))

    def events(self, run_id: str, after: int = 0, *, until_pause: bool = False) -> Iterator[Json]:
        return self.kit.handle(run_id).events(after, until_pause=until_pause)

    def _pages(self, page: Callable[[str | None], tuple[list[Any], str | None]]) -> Iterator[Json]:
        cursor: str | None = None
        while True:
            found, cursor = self._retried(functools.partial(page, cursor))
            yield from to_json(found)
            if cursor is None:
                return

    def _retried(self, call: Callable[[], T]) -> T:
        """Make a call again while the store is unavailable; each has the effect of one, however often it is made."""
        ends, attempt = time.monotonic() + self.retry_seconds, 0
        while True:
            try:
                return call()
            except StoreUnavailableError:
                attempt += 1
                delay = _BACKOFF.delay(attempt)
                if time.monotonic() + delay > ends:
                    raise
                time.sleep(delay)


class _Agentless(AgentKit):
    """An installation whose application is not known here: its runs can be read and ended, not started."""

    _needs_agents = False


Backend: TypeAlias = Client | Direct


def place_of(backend: Backend) -> str:
    """Say where the runs are, without a password: "the server http://127.0.0.1:8000", "the store redis://…"."""
    if isinstance(backend, Direct):
        url = getattr(backend.kit.store, "url", "")
        return f"the store {mask_url(url)}" if url else "the application's own store"
    return f"the server {mask_url(backend.url)}"
