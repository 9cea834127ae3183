"""The web application: `gunicorn 'agentkit.web:create_app()' -k gthread --threads 64`.

Puts the pieces of agentkit/http together. It holds nothing between requests but counters: any number of web
processes serve the same runs.
"""

from __future__ import annotations

from flask import Flask, Response, request

from agentkit.errors import ConfigurationError
from agentkit.kit import AgentKit, load_app
from agentkit.runtime.gunicorn import end_gunicorn, gunicorn_worker
from agentkit.runtime.store_warnings import warn_of_store
from agentkit.server import access, origins, page, problems, runs, system, websocket
from agentkit.server.greenlets import in_own_greenlet
from agentkit.server.state import EXTENSION, WebState
from agentkit.server.streams import sse_response, warn_of_sync_workers
from agentkit.settings import Settings

__all__ = ["create_app", "sse_response"]


def create_app(kit: AgentKit | None = None, *, settings: Settings | None = None) -> Flask:
    """The protocol's HTTP interface to the runs of `kit`, by default the one that `AGENTKIT_APP` names.

    `settings`: by default the kit's. Raises ConfigurationError where the application cannot be loaded.
    """
    if kit is None:
        kit = _load(settings)
    web = WebState(kit, settings or kit.settings)
    # No static folder: it would add a route that the protocol does not have.
    app = Flask("agentkit", static_folder=None)
    app.extensions[EXTENSION] = web
    app.config["MAX_CONTENT_LENGTH"] = web.settings.max_body_bytes + 1  # bodies.py says why
    app.url_map.merge_slashes = False  # "//runs" is not there, instead of a redirect page
    problems.install(app)
    origins.install(app)
    access.install(app)
    websocket.install(app)
    app.register_blueprint(runs.blueprint)
    app.register_blueprint(system.blueprint)
    app.register_blueprint(page.blueprint)

    @app.after_request
    def finish(response: Response) -> Response:
        web.requests.add(request.method, response.status_code)
        response.headers["X-Content-Type-Options"] = "nosniff"
        if request.method == "OPTIONS" and not response.data:
            response.headers.pop("Content-Type", None)  # Flask's own answer: a list of methods and no HTML
        return response

    warned = False

    def look_around() -> None:
        nonlocal warned
        if not warned:
            warned = True
            warn_of_sync_workers()
            warn_of_store(kit.store)

    app.before_request(look_around)  # a preloaded application learns only then which process serves it
    if gunicorn_worker() is not None:
        look_around()

    app.wsgi_app = in_own_greenlet(app.wsgi_app)  # type: ignore[assignment, method-assign]  # Flask's own way to wrap it
    return app


def _load(settings: Settings | None) -> AgentKit:
    try:
        return load_app((settings or Settings.from_env()).app)
    except ConfigurationError as error:
        end_gunicorn(f"agentkit: {error}")
        raise
