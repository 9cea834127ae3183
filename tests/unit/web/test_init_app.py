"""agentkit as a guest in an application that is already there."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from flask import (
    Blueprint,
    Flask,
    Response,
    abort,
    g,
    got_request_exception,
    jsonify,
    request,
    request_started,
    session,
    url_for,
)
from flask_cors import CORS
from flask_login import LoginManager, UserMixin, current_user, login_user
from flask_wtf import CSRFProtect
from werkzeug.middleware.dispatcher import DispatcherMiddleware
from werkzeug.middleware.proxy_fix import ProxyFix
from werkzeug.test import Client, TestResponse

from agentkit import Agent, AgentKit, ConfigurationError, ScriptedModel, Settings
from agentkit.store.memory import MemoryStore
from agentkit.web import create_app, init_app
from tests.unit.web.conftest import AGENTS, ThreadQueue, assert_problem


class _Host:
    """An application as a team has it, and what it was asked for."""

    def __init__(self) -> None:
        self.app = Flask("shop", static_folder=None)
        self.app.config.update(SECRET_KEY="s" * 32, MAX_CONTENT_LENGTH=500)
        self.before: list[str] = []
        app = self.app

        @app.before_request
        def note() -> None:
            self.before.append(request.path)
            g.user = session.get("user")

        @app.after_request
        def sign(response: Response) -> Response:
            response.headers["X-Shop"] = "1"
            return response

        @app.errorhandler(404)
        def not_there(error: Exception) -> tuple[str, int]:
            return "<h1>The shop has no such page</h1>", 404

        @app.errorhandler(413)
        @app.errorhandler(405)
        def refused(error: Any) -> tuple[str, int]:
            return f"<h1>The shop refuses: {error.code}</h1>", error.code

        @app.errorhandler(Exception)
        def broken(error: Exception) -> tuple[str, int]:
            return "<h1>The shop is broken</h1>", 500

        @app.get("/")
        def home() -> str:
            return "<h1>Shop</h1>"

        @app.post("/orders")
        def order() -> Response:
            return jsonify(size=len(request.get_data()))

        @app.get("/list/")
        def listing() -> str:
            return "list"

        @app.get("/login/<name>")
        def login(name: str) -> str:
            session["user"] = name
            return name

        @app.get("/fails")
        def fails() -> str:
            raise KeyError("x")

        @app.get("/teapot")
        def teapot() -> str:
            abort(418)


def _kit(**options: Any) -> tuple[AgentKit, ThreadQueue]:
    queue = ThreadQueue()
    settings = options.pop("settings", Settings(max_body_bytes=30_000))
    kit = AgentKit(options.pop("agents", AGENTS), settings=settings, store=MemoryStore(), queue=queue, **options)
    queue.kit = kit
    return kit, queue


@pytest.fixture
def kit() -> Iterator[AgentKit]:
    kit, queue = _kit()
    yield kit
    queue.close()


def _answers(app: Flask) -> list[tuple[int, str, dict[str, str]]]:
    """What the host's own routes answer, and what is not there."""
    client = app.test_client()
    requests: list[tuple[str, str, dict[str, Any]]] = [
        ("GET", "/", {}),
        ("POST", "/orders", {"data": b"x" * 400}),
        ("POST", "/orders", {"data": b"x" * 600}),
        ("POST", "/orders", {"data": b"x", "headers": {"Origin": "https://elsewhere.example", "Host": "odd.example"}}),
        ("DELETE", "/orders", {}),
        ("OPTIONS", "/orders", {}),
        ("GET", "/list", {}),
        ("GET", "//list/", {}),
        ("GET", "/login/ann", {}),
        ("GET", "/fails", {}),
        ("GET", "/teapot", {}),
        ("GET", "/nowhere", {}),
        ("GET", "/nowhere/at/all", {}),
    ]
    found = []
    for method, path, options in requests:
        response = client.open(path, method=method, **options)
        headers = {name: value for name, value in response.headers.items() if name != "Set-Cookie"}
        if "Allow" in headers:  # a set
            headers["Allow"] = ", ".join(sorted(headers["Allow"].split(", ")))
        found.append((response.status_code, response.text, headers))
    return found


@pytest.mark.parametrize("prefix", ["/ai", "/deep/er", "/ai/"])
def test_the_hosts_own_routes_answer_as_before(kit: AgentKit, prefix: str) -> None:
    before, after = _Host(), _Host()
    init_app(after.app, kit, url_prefix=prefix)
    assert _answers(after.app) == _answers(before.app)
    assert after.before == before.before


def test_without_a_prefix_they_do_too(kit: AgentKit) -> None:
    before, after = _Host(), _Host()
    init_app(after.app, kit, page=False)
    assert _answers(after.app) == _answers(before.app)


def test_the_hosts_signals_come_as_before(kit: AgentKit) -> None:
    host, started, failed = _Host(), [], []
    init_app(host.app, kit, url_prefix="/ai")

    def note_start(sender: Flask, **_: Any) -> None:
        started.append(sender)

    def note_failure(sender: Flask, exception: Exception, **_: Any) -> None:
        failed.append(exception)

    with request_started.connected_to(note_start), got_request_exception.connected_to(note_failure):
        host.app.test_client().get("/")
    assert started == [host.app]
    assert failed == []


@pytest.mark.parametrize("prefix", ["", "/ai", "/ai/", "/deep/er"])
def test_a_run_from_its_start_to_its_end_below_the_prefix(kit: AgentKit, prefix: str) -> None:
    host = _Host()
    init_app(host.app, kit, url_prefix=prefix, page=False)
    client, root = host.app.test_client(), prefix.rstrip("/")
    started = client.post(f"{root}/runs", json={"agent": "shop", "input": "x" * 5000})
    assert started.status_code == 202, started.text
    assert started.headers["Location"] == f"{root}/runs/{started.json['id']}"
    assert started.headers["X-Content-Type-Options"] == "nosniff"
    kit.handle(started.json["id"]).wait(10)
    assert client.get(started.headers["Location"]).json["status"] == "paused"
    answered = client.post(f"{root}/runs/{started.json['id']}/resume", json={"decision": {"approved": True}})
    assert answered.headers["Location"] == started.headers["Location"]
    kit.handle(started.json["id"]).wait(10)
    events = client.get(f"{root}/runs/{started.json['id']}/events")
    assert events.content_type == "text/event-stream"
    assert "agent_end" in events.text


def test_errors_of_our_routes_are_problems_whatever_the_host_makes_of_its_own(kit: AgentKit) -> None:
    host = _Host()
    init_app(host.app, kit, url_prefix="/ai")
    client = host.app.test_client()
    run_id = "01a22442-1aea-7000-baa6-78ff310af4cc"
    assert_problem(client.get(f"/ai/runs/{run_id}"), 404, "run_not_found")
    assert_problem(client.get("/ai/nowhere"), 404, "not_found")
    assert_problem(client.get("/ai/runs/"), 404, "not_found")
    refused = client.get(f"/ai/runs/{run_id}/resume")
    assert_problem(refused, 405, "method_not_allowed")
    assert "POST" in refused.headers["Allow"]
    assert_problem(client.post("/ai/runs", data="x", content_type="text/plain"), 415, "unsupported_media_type")
    assert_problem(client.post("/ai/runs", json={"agent": "shop", "input": "x" * 31_000}), 413, "payload_too_large")
    assert_problem(client.post("/ai/runs", json={"agent": "who", "input": "x"}), 404, "agent_not_found")
    origin = {"Origin": "https://elsewhere.example"}
    assert_problem(client.post("/ai/runs", json={}, headers=origin), 403, "forbidden")
    assert client.get("/airs").text == "<h1>The shop has no such page</h1>"


def test_a_wrong_method_is_a_problem_without_a_prefix_too(kit: AgentKit) -> None:
    host = _Host()
    init_app(host.app, kit, page=False)
    assert_problem(host.app.test_client().delete("/runs"), 405, "method_not_allowed")
    assert host.app.test_client().delete("/orders").text == "<h1>The shop refuses: 405</h1>"


@pytest.mark.parametrize("raised", [KeyError("x"), ValueError("y")])
def test_an_unexpected_exception_is_a_problem_also_where_the_host_tests(raised: Exception) -> None:
    def authenticate(request: Any) -> str | None:
        raise raised

    kit, queue = _kit(authenticate=authenticate)
    host = _Host()
    host.app.testing = True
    init_app(host.app, kit, url_prefix="/ai")
    assert_problem(host.app.test_client().get("/ai/runs"), 500, "internal_error")
    queue.close()


def test_authenticate_reads_the_hosts_session_g_and_login() -> None:
    host = _Host()
    manager = LoginManager(host.app)
    user_class = type("User", (UserMixin,), {"id": "ann"})
    manager.user_loader(lambda user_id: user_class())

    @host.app.get("/flask-login")
    def log_in() -> str:
        login_user(user_class())
        return "in"

    seen: list[tuple[Any, Any, Any]] = []

    def authenticate(request: Any) -> str | None:
        seen.append((session.get("user"), g.get("user"), current_user.is_authenticated))
        user: str | None = session.get("user")
        return user

    kit, queue = _kit(authenticate=authenticate)
    init_app(host.app, kit, url_prefix="/ai")
    client = host.app.test_client()
    assert_problem(client.get("/ai/runs"), 401, "unauthenticated")
    client.get("/login/ann")
    client.get("/flask-login")
    assert client.get("/ai/runs").status_code == 200
    assert seen == [(None, None, False), ("ann", "ann", True)]
    run_id = client.post("/ai/runs", json={"agent": "hello", "input": "hi"}).json["id"]
    assert kit.get(run_id).owner == "ann"
    queue.close()


def test_two_kits_stand_below_two_prefixes() -> None:
    first, first_queue = _kit()
    second, second_queue = _kit(
        agents=[Agent("other", model=ScriptedModel(["Other."]))], authenticate=lambda request: "bob"
    )
    host = _Host()
    init_app(host.app, first, url_prefix="/one")
    init_app(host.app, second, url_prefix="/two")
    client = host.app.test_client()
    run_id = client.post("/one/runs", json={"agent": "hello", "input": "hi"}).json["id"]
    other = client.post("/two/runs", json={"agent": "other", "input": "hi"})
    assert other.headers["Location"] == f"/two/runs/{other.json['id']}"
    assert second.get(other.json["id"]).owner == "bob"
    assert_problem(client.get(f"/two/runs/{run_id}"), 404, "run_not_found")
    assert [agent["name"] for agent in client.get("/two/agents").json["agents"]] == ["other"]
    assert 'method="POST"' in client.get("/one/metrics").text
    with pytest.raises(ConfigurationError, match="another url_prefix"):
        init_app(host.app, first, url_prefix="/two/")
    first_queue.close()
    second_queue.close()


def test_page_and_system_can_be_left_out(kit: AgentKit) -> None:
    host = _Host()
    init_app(host.app, kit, url_prefix="/ai", page=False, system=False)
    client = host.app.test_client()
    for path in ("/ai/", "/ai/healthz", "/ai/readyz", "/ai/metrics", "/ai/assets/x.js"):
        assert_problem(client.get(path), 404, "not_found")
    assert client.get("/ai/agents").status_code == 200
    paths = client.get("/ai/openapi.json").json["paths"]
    assert "/runs" in paths
    assert not {"/", "/healthz", "/readyz", "/metrics"} & set(paths)


def _assets(response: TestResponse) -> list[str]:
    """The URLs of a page, as a browser resolves them against its own."""
    from html.parser import HTMLParser
    from urllib.parse import urljoin

    found: list[str] = []

    class _Parser(HTMLParser):
        def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
            found.extend(value for name, value in attributes if name in ("src", "href") and value)

    _Parser().feed(response.text)
    return [urljoin(response.request.url, url).removeprefix("http://localhost") for url in found]


@pytest.mark.parametrize("slash", ["", "/"])
@pytest.mark.parametrize("script_name", ["", "/behind", "/be/hind"])
def test_the_page_finds_its_files_below_every_prefix_with_and_without_a_slash(
    kit: AgentKit, slash: str, script_name: str
) -> None:
    host = _Host()
    host.app.wsgi_app = ProxyFix(host.app.wsgi_app, x_prefix=1)  # type: ignore[method-assign]
    init_app(host.app, kit, url_prefix="/ai")
    client = host.app.test_client()
    page = client.get(
        f"{script_name}/ai{slash}", environ_overrides={"SCRIPT_NAME": script_name, "PATH_INFO": f"/ai{slash}"}
    )
    assert page.status_code == 200, "no redirect"
    urls = _assets(page)
    assert urls
    for url in urls:
        assert url.startswith(f"{script_name}/ai/assets/")
        assert client.get(url.removeprefix(script_name)).status_code == 200
    location = client.post(
        "/ai/runs", json={"agent": "hello", "input": "hi"}, headers={"X-Forwarded-Prefix": script_name}
    ).headers["Location"]
    assert location.startswith(f"{script_name}/ai/runs/")


def test_the_hosts_csrf_protection_and_cors_stay_and_leave_ours_alone() -> None:
    host = _Host()
    CSRFProtect(host.app)
    CORS(host.app, resources={"/orders": {"origins": ["https://partner.example"]}})
    kit, queue = _kit(settings=Settings(cors_origins=("https://chat.example",)))
    init_app(host.app, kit, url_prefix="/ai")
    client = host.app.test_client()
    assert client.post("/orders", data=b"x").text == "<h1>The shop is broken</h1>"  # its answer to a CSRFError
    assert client.post("/ai/runs", json={"agent": "hello", "input": "hi"}).status_code == 202
    chat, partner = {"Origin": "https://chat.example"}, {"Origin": "https://partner.example"}
    ours = client.get("/ai/agents", headers=chat)
    assert ours.headers.getlist("Access-Control-Allow-Origin") == ["https://chat.example"]
    assert "Access-Control-Allow-Origin" not in client.get("/", headers=chat).headers
    asked = {**partner, "Access-Control-Request-Method": "POST"}
    assert client.options("/orders", headers=asked).headers["Access-Control-Allow-Origin"] == partner["Origin"]
    assert "Access-Control-Allow-Origin" not in client.options("/ai/runs", headers=asked).headers
    queue.close()


@pytest.mark.parametrize("host", ["a.example", "b.example:8080", "[::1]:8000", "A.Example"])
def test_an_application_that_matches_hosts_has_ours_on_each_of_them(kit: AgentKit, host: str) -> None:
    app = Flask("shop", host_matching=True, static_host="static.example", static_folder=None)
    app.add_url_rule("/", view_func=lambda: "a", endpoint="a", host="a.example")
    init_app(app, kit, url_prefix="/ai")
    app.add_url_rule("/", view_func=lambda: "b", endpoint="b", host="b.example:8080")
    client, headers = app.test_client(), {"Host": host}
    started = client.post("/ai/runs", json={"agent": "hello", "input": "hi"}, headers=headers)
    assert started.headers["Location"] == f"/ai/runs/{started.json['id']}"
    assert client.get(started.headers["Location"], headers=headers).status_code == 200
    assert_problem(client.get("/ai/nowhere", headers=headers), 404, "not_found")
    assert_problem(client.delete("/ai/runs", headers=headers), 405, "method_not_allowed")
    assert client.get("/", headers=headers).text[:1] == {"a.example": "a", "A.Example": "a", "b.example:8080": "b"}.get(
        host, "<"
    )
    with app.test_request_context("/ai/runs", headers={"Host": "a.example"}):
        assert url_for("agentkit.runs.get_run", run_id="x") == "/ai/runs/x"


@pytest.mark.parametrize("method", ["GET", "POST", "DELETE"])
@pytest.mark.parametrize("path", ["/ai//runs", "/ai/runs//x"])
def test_slashes_too_many_lead_to_no_redirect(kit: AgentKit, method: str, path: str) -> None:
    host = _Host()
    init_app(host.app, kit, url_prefix="/ai")
    host.app.debug = True
    assert_problem(host.app.test_client().open(path, method=method), 404, "not_found")


@pytest.mark.parametrize("whole", [True, False])
def test_the_page_of_a_mounted_application_is_whole_without_a_slash(kit: AgentKit, whole: bool) -> None:
    app = create_app(kit) if whole else Flask("host", static_folder=None)
    if not whole:
        init_app(app, kit)
    client = Client(DispatcherMiddleware(Flask("other"), {"/mounted": app}))
    for path in ("/mounted", "/mounted/"):
        urls = _assets(client.get(path))
        assert urls
        assert all(client.get(url).status_code == 200 for url in urls), urls


def test_a_body_that_the_host_reads_first_has_our_limit(kit: AgentKit) -> None:
    host = _Host()
    host.app.before_request(lambda: request.get_data() and None)
    init_app(host.app, kit, url_prefix="/ai")
    body = {"agent": "hello", "input": "x" * 5000}
    assert host.app.test_client().post("/ai/runs", json=body).status_code == 202
    assert host.app.test_client().post("/orders", data=b"x" * 600).status_code == 413


def test_csrf_protection_that_is_created_later_leaves_ours_alone(kit: AgentKit) -> None:
    host = _Host()
    init_app(host.app, kit, url_prefix="/ai")
    CSRFProtect(host.app)
    client = host.app.test_client()
    assert client.post("/ai/runs", json={"agent": "hello", "input": "hi"}).status_code == 202
    assert client.post("/orders", data=b"x").status_code != 200


def test_requests_within_one_application_context_do_not_share_a_principal(kit: AgentKit) -> None:
    first, queue = _kit(
        authenticate=lambda request: request.headers.get("X-User"), settings=Settings(secret_key="s" * 32)
    )
    host = _Host()
    init_app(host.app, first, url_prefix="/one")
    init_app(host.app, kit, url_prefix="/two")
    client, body, bob = host.app.test_client(), {"agent": "hello", "input": "hi"}, {"X-User": "bob"}
    with host.app.app_context():  # as pytest fixtures push it
        run_id = client.post("/one/runs", json=body, headers=bob).json["id"]
        assert "owner" not in client.post("/two/runs", json=body).json
        token = client.post(f"/one/runs/{run_id}/stream-token", headers=bob).json["token"]
        assert "agent_end" in client.get(f"/one/runs/{run_id}/events?token={token}").text
        assert client.post(f"/one/runs/{run_id}/abort", headers=bob).status_code == 202
    queue.close()


def test_a_blueprint_of_the_hosts_may_have_our_name(kit: AgentKit) -> None:
    host = _Host()
    host.app.register_blueprint(Blueprint("agentkit", __name__), url_prefix="/theirs")
    init_app(host.app, kit, url_prefix="/ai")
    started = host.app.test_client().post("/ai/runs", json={"agent": "hello", "input": "hi"})
    assert started.headers["Location"] == f"/ai/runs/{started.json['id']}"


def test_a_prefix_with_a_variable_is_refused(kit: AgentKit) -> None:
    with pytest.raises(ConfigurationError, match="without variables"):
        init_app(Flask("host"), kit, url_prefix="/<tenant>/ai")


@pytest.mark.parametrize("prefix", ["ai", "ai/", "http://x"])
def test_a_prefix_that_is_none_is_refused(kit: AgentKit, prefix: str) -> None:
    with pytest.raises(ConfigurationError, match="must begin with a slash"):
        init_app(Flask("host"), kit, url_prefix=prefix)


def test_hosts_are_checked_for_our_routes_alone() -> None:
    kit, queue = _kit(settings=Settings(hosts=("shop.example",)))
    host = _Host()
    init_app(host.app, kit, url_prefix="/ai")
    client = host.app.test_client()
    other = {"Host": "other.example"}
    assert client.get("/", headers=other).text == "<h1>Shop</h1>"
    assert_problem(client.get("/ai/agents", headers=other), 400, "invalid_request")
    assert_problem(client.get("/ai/nowhere", headers=other), 400, "invalid_request")
    assert client.get("/ai/agents", headers={"Host": "shop.example"}).status_code == 200
    queue.close()


def test_create_app_answers_every_error_with_a_problem(kit: AgentKit) -> None:
    client = create_app(kit).test_client()
    for path in ("/nowhere", "/runs/", "/runs/x/y"):
        assert_problem(client.get(path), 404, "not_found")
