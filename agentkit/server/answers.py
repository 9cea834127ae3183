"""What the server answers with beside runs, events and agents: problems, pages, health, stream tokens, frames."""

from __future__ import annotations

from typing import Literal

from agentkit.agents import AgentDefinition
from agentkit.core.audit import AnsweredItem
from agentkit.core.inbox import InboxItem
from agentkit.core.run import Run
from agentkit.core.struct import Wire
from agentkit.errors import SchemaProblem

__all__ = [
    "AgentList",
    "AnswerPage",
    "Checks",
    "DecisionPage",
    "Health",
    "Problem",
    "Readiness",
    "RunPage",
    "SocketError",
    "SocketOk",
    "StreamToken",
]


class Problem(Wire, tag_field="type", tag="about:blank"):
    """An RFC 9457 problem. `title` is the status's phrase; `code` says what happened, `detail` explains it.

    `errors`: where a value is wrong, by JSON Pointer. `login_url`, of a 401: where a person logs in, if that is set
    (`AGENTKIT_LOGIN_URL`).
    """

    title: str
    status: int
    detail: str
    code: str
    errors: list[SchemaProblem] | None = None
    login_url: str | None = None


class SocketError(Problem, tag="error"):
    """A problem, as the answer to a frame."""


class SocketOk(Wire, tag_field="type", tag="ok"):
    """A frame was carried out."""


class RunPage(Wire):
    """A page of runs, newest first, without their messages. `next_cursor` is there where more follow."""

    runs: list[Run]
    next_cursor: str | None = None


class DecisionPage(Wire):
    """A page of pending items, oldest first. `next_cursor` is there where more follow."""

    decisions: list[InboxItem]
    next_cursor: str | None = None


class AnswerPage(Wire):
    """A page of items that were settled, newest first. `next_cursor` is there where more follow."""

    decisions: list[AnsweredItem]
    next_cursor: str | None = None


class StreamToken(Wire):
    """A token for the query of `/events` and `/ws`, and when it expires (milliseconds since the Unix epoch)."""

    token: str
    expires_at: int


class AgentList(Wire):
    """The application's agents. `principal`: who is asking, where the server asks who that is."""

    agents: list[AgentDefinition]
    principal: str | None = None


class Health(Wire):
    """The process is alive."""

    status: Literal["ok"]


class Checks(Wire):
    """What can be reached: the store, the broker, and workers that serve every queue that the agents need."""

    store: bool
    broker: bool
    worker: bool


class Readiness(Wire):
    """Whether runs would be executed.

    `queues`: by its name, whether a worker has executed something of it lately. `warnings`: where the store may lose
    runs, and what is not served.
    """

    status: Literal["ready", "unavailable"]
    checks: Checks
    queues: dict[str, bool]
    warnings: list[str]
