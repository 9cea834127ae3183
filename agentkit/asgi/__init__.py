"""The web side for ASGI: `uvicorn --factory agentkit.asgi:create_app`, or `app.mount("/agents", create_app(kit))`.

For teams with FastAPI or Starlette. It is the interface of agentkit/web.py, answered by the same code, but that event
streams and WebSockets hold no thread. Needs the extra `[asgi]`.
"""

from __future__ import annotations

from agentkit import web
from agentkit.core.sse import Render
from agentkit.errors import ConfigurationError
from agentkit.kit import AgentKit
from agentkit.runs import KEEPALIVE_SECONDS, RunHandle
from agentkit.runtime.web_server import end_server
from agentkit.server.streams import HEADERS, EventStream, StreamSlot
from agentkit.settings import Settings

try:
    from agentkit.asgi.application import AsgiApp, EventStreamResponse
except ModuleNotFoundError as error:
    if (error.name or "").partition(".")[0] != "starlette":
        raise
    _WANTED = "agentkit.asgi needs Starlette: pip install 'agentkit-celery[asgi]'"
    end_server(f"agentkit: {_WANTED}")
    raise ConfigurationError(_WANTED) from error

__all__ = ["create_app", "sse_response"]


def create_app(
    kit: AgentKit | None = None, *, settings: Settings | None = None, page: bool = True, system: bool = True
) -> AsgiApp:
    """Make an ASGI application of the protocol's HTTP interface to the runs of `kit`.

    It stands alone, or is mounted below a path of a Starlette or FastAPI application, once for each kit. `kit`: by
    default the one that `AGENTKIT_APP` names. `settings`: by default the kit's. `page`: whether to serve the chat page.
    `system`: whether to serve `/healthz`, `/readyz` and `/metrics`.

    `authenticate` and `may` are called in a thread, with a Flask request whose `environ["asgi.scope"]` is the ASGI
    scope: what middlewares of yours have put there, `user` and `session` for instance, can be read.

    Raises ConfigurationError where the application cannot be loaded.
    """
    kit = web.load(settings) if kit is None else kit
    settings = settings or kit.settings
    app = web.make_app(kit, settings=settings, page=page, system=system)
    return AsgiApp(app.wsgi_app, settings.max_body_bytes, on_stop=lambda: kit.metrics.report())


def sse_response(
    handle: RunHandle,
    after: int | None = None,
    until_pause: bool = True,
    *,
    render: Render | None = None,
    names: bool = False,
    keepalive: float = KEEPALIVE_SECONDS,
) -> EventStreamResponse:
    """Make a streaming response of the run's events for a route of a Starlette or FastAPI application.

    As `agentkit.web.sse_response` does for Flask: after the seq `after`, or from where `handle` began; it ends after
    agent_end, with `until_pause` after agent_pause, with its client, and with the server's stop. It holds no thread,
    and nothing blocks here. `render`, `names`: as there. `keepalive`: seconds without an event after which a comment is
    sent. Raises TooManyWatchersError where the server process serves as many streams as it may.
    """
    stream = EventStream(
        handle,
        StreamSlot(),
        after=after,
        until_pause=until_pause,
        keepalive=keepalive,
        opening=None,
        render=render,
        names=names,
    )
    return EventStreamResponse(stream, headers={**HEADERS, "Content-Type": "text/event-stream"})
