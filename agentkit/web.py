"""The web side: `gunicorn 'agentkit.web:create_app()' -k gthread --threads 64`, or `init_app` for an application's own.

Puts the pieces of agentkit/server together. It holds nothing between requests: any number of web processes
serve the same runs.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from flask import Blueprint, Flask, Response, current_app, request
from werkzeug.exceptions import HTTPException, MethodNotAllowed, NotFound

from agentkit.core.json_log import log_json
from agentkit.errors import ConfigurationError
from agentkit.kit import AgentKit, load_app
from agentkit.runtime.store_warnings import warn_of_store
from agentkit.runtime.web_server import end_server, gunicorn_worker
from agentkit.server import access, decisions, origins, page, problems, runs, system, websocket
from agentkit.server.greenlets import in_own_greenlet
from agentkit.server.metrics import count_response
from agentkit.server.state import WebState, states
from agentkit.server.streams import sse_response, warn_of_sync_workers
from agentkit.settings import Settings
from agentkit.wires import routes as wires

__all__ = ["create_app", "init_app", "load", "make_app", "sse_response"]

_PAGE_PATHS = ("/",)
_SYSTEM_PATHS = ("/healthz", "/readyz", "/metrics", "/doctor")
_HOST = "agentkit_host"
"""The variable of our rules that takes the host, in an application that matches hosts."""


def create_app(kit: AgentKit | None = None, *, settings: Settings | None = None) -> Flask:
    """Make a Flask application of the protocol's HTTP interface to the runs of `kit`, and of nothing else.

    `kit`: by default the one that `AGENTKIT_APP` names. `settings`: by default the kit's. Raises ConfigurationError
    where the application cannot be loaded.
    """
    app = make_app(load(settings) if kit is None else kit, settings=settings)
    app.wsgi_app = in_own_greenlet(app.wsgi_app)  # type: ignore[assignment, method-assign]  # Flask's own way to wrap it
    return app


def make_app(kit: AgentKit, *, settings: Settings | None = None, page: bool = True, system: bool = True) -> Flask:
    """Make what `create_app` makes, answering each request in the greenlet that asks; `page` and `system` as below."""
    # No static folder: it would add a route that the protocol does not have.
    app = Flask("agentkit", static_folder=None)
    app.url_map.merge_slashes = False  # "//runs" is not there, instead of a redirect page
    _add(app, kit, settings or kit.settings, "", page=page, system=system, is_whole=True)
    problems.install(app)
    return app


def init_app(app: Flask, kit: AgentKit, *, url_prefix: str = "", page: bool = True, system: bool = True) -> None:
    """Put the protocol's HTTP interface to the runs of `kit` into an existing Flask application.

    `url_prefix`: the path below which it is, say "/agents"; several kits stand below several prefixes. `page`: whether
    to serve the chat page. `system`: whether to serve `/healthz`, `/readyz`, `/metrics` and `/doctor`.

    The application's own routes, error pages, session, limits and extensions answer as before. In `authenticate` and
    `may` the request is one of the application's: its session, `g` and extensions can be used. Where Flask-WTF's
    CSRFProtect is on, agentkit's routes are exempt: they check the Origin of every request that changes something.

    Raises ConfigurationError for a prefix that is none, or that another kit has.
    """
    if url_prefix.rstrip("/") and not url_prefix.startswith("/"):
        raise ConfigurationError(f"url_prefix must begin with a slash, as in '/agents', not {url_prefix!r}")
    if "<" in url_prefix:
        raise ConfigurationError(f"url_prefix must be a path without variables, not {url_prefix!r}")
    _add(app, kit, kit.settings, url_prefix.rstrip("/"), page=page, system=system)


def _add(
    app: Flask,
    kit: AgentKit,
    settings: Settings,
    prefix: str,
    *,
    page: bool = True,
    system: bool = True,
    is_whole: bool = False,
) -> None:
    """Add the routes of a kit to an application. `is_whole`: there is nothing else in it, errors and CORS included."""
    kits = states(app)
    if any(web.prefix == prefix for web in kits.values()):
        raise ConfigurationError(f"this application has a kit below {prefix or '/'!r} already: give another url_prefix")
    names = itertools.chain(["agentkit"], (f"agentkit_{number}" for number in itertools.count(2)))
    name = next(name for name in names if name not in app.blueprints)
    left_out = frozenset((() if page else _PAGE_PATHS) + (() if system else _SYSTEM_PATHS))
    web = kits[name] = WebState(name, prefix, kit, settings, left_out)
    check_origin = origins.checks(settings.hosts)
    blueprint = _blueprint(web, check_origin)
    problems.install(blueprint)
    access.allow_origins(app if is_whole else blueprint, settings.cors_origins)
    with _on_every_host(app, blueprint):
        app.register_blueprint(blueprint, url_prefix=prefix or None)
    for rule in app.url_map.iter_rules():
        if rule.endpoint.startswith(f"{name}."):
            rule.merge_slashes = False  # "/runs//x" is not there, instead of a redirect page

    @app.before_request
    def answer_routing_error() -> Response | None:
        """Answer for a path below the prefix at which nothing is, or for a route of ours that lacks the method."""
        error = request.routing_exception
        if isinstance(error, MethodNotAllowed) and "//" in request.path:
            error = NotFound()  # werkzeug names the methods of the path with its slashes merged, at which nothing is
        if not isinstance(error, HTTPException) or not (is_whole or _is_ours(app, web, error)):
            return None
        try:
            check_origin()
        except Exception as refusal:
            return _finished(web, problems.from_error(refusal))
        return _finished(web, problems.from_error(error))


def _blueprint(web: WebState, check_origin: Callable[[], None]) -> Blueprint:
    """Make the blueprint of a kit, with what is done before and after every request of its routes."""
    blueprint = Blueprint(web.name, __name__)
    for part in (runs.blueprint, decisions.blueprint, system.agents, websocket.blueprint, wires.blueprint):
        blueprint.register_blueprint(part)
    if not web.left_out.issuperset(_SYSTEM_PATHS):
        blueprint.register_blueprint(system.blueprint)
    if not web.left_out.issuperset(_PAGE_PATHS):
        blueprint.register_blueprint(page.blueprint)
    warned = False

    def warn_once() -> None:
        nonlocal warned
        if not warned:
            warned = True
            warn_of_sync_workers()
            warn_of_store(web.kit.store)

    def prepare(_endpoint: str | None, _values: dict[str, Any] | None) -> None:
        """Set what is ours before any `before_request` of the application, which may read the body or check CSRF."""
        request.max_content_length = web.settings.max_body_bytes + 1  # bodies.py says why
        csrf = current_app.extensions.get("csrf")
        if csrf is not None:
            for part in (blueprint, *(part for part, _ in blueprint._blueprints)):
                csrf.exempt(part)

    blueprint.url_value_preprocessor(prepare)
    blueprint.before_request(warn_once)  # a preloaded application learns only then which process serves it
    blueprint.before_request(check_origin)
    blueprint.before_request(access.authorize)
    blueprint.after_request(lambda response: _finished(web, response))
    if gunicorn_worker() is not None:
        warn_once()
    return blueprint


@contextmanager
def _on_every_host(app: Flask, blueprint: Blueprint) -> Iterator[None]:
    """Have the rules that are added meanwhile fit whatever the host, where the application matches hosts."""
    if not app.url_map.host_matching:
        yield
        return
    of_application: Any = app.url_rule_class

    class RuleOfEveryHost(of_application):  # type: ignore[misc]  # a class of the application's own, perhaps
        def __init__(self, *words: Any, **options: Any) -> None:
            super().__init__(*words, **options, host=f"<{_HOST}>")

    def forget_host(_endpoint: str | None, values: dict[str, Any] | None) -> None:
        if values is not None:
            values.pop(_HOST, None)

    blueprint.url_value_preprocessor(forget_host)
    blueprint.url_defaults(lambda _endpoint, values: values.setdefault(_HOST, request.host))
    app.url_rule_class = RuleOfEveryHost
    try:
        yield
    finally:
        app.url_rule_class = of_application


def _is_ours(app: Flask, web: WebState, error: HTTPException) -> bool:
    """Whether a request that no route answers is one for this kit."""
    if isinstance(error, NotFound):
        return bool(web.prefix) and request.path.startswith(f"{web.prefix}/")
    adapter = app.create_url_adapter(request)
    if not isinstance(error, MethodNotAllowed) or not error.valid_methods or adapter is None:
        return False
    endpoint, _ = adapter.match(method=next(iter(error.valid_methods)))
    return str(endpoint).startswith(f"{web.name}.")


def _finished(web: WebState, response: Response) -> Response:
    """Count the response, and set the headers that all have."""
    count_response(web.kit, request.method, response.status_code)
    response.headers["X-Content-Type-Options"] = "nosniff"
    if request.method == "OPTIONS" and not response.data:
        response.headers.pop("Content-Type", None)  # Flask's own answer: a list of methods and no HTML
    return response


def load(settings: Settings | None) -> AgentKit:
    """Load the kit that `AGENTKIT_APP` names; where that fails, end the web server that is being started.

    Raises ConfigurationError outside one.
    """
    try:
        settings = settings or Settings.from_env()
        if settings.log == "json":
            log_json()
        return load_app(settings.app)
    except ConfigurationError as error:
        end_server(f"agentkit: {error}")
        raise
