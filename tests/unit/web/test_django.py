"""agentkit in a Django project: its paths, users, limits, middleware, transactions and connections."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from sqlite3 import ProgrammingError
from typing import Any

import pytest
from django.contrib.auth import get_user_model
from django.core.cache import cache
from django.core.checks import run_checks
from django.core.management import call_command
from django.db import connection, transaction
from django.http import HttpRequest, HttpResponse, HttpResponseBase
from django.test import Client as DjangoClient
from django.test import override_settings
from django.urls import include, path, re_path, reverse
from django.views.decorators.csrf import csrf_exempt
from werkzeug.test import Client

from agentkit import Agent, AgentKit, Settings, tool
from agentkit.django import around_step, sse_response, urls
from agentkit.server.streams import open_streams
from agentkit.store.memory import MemoryStore
from tests import django_project
from tests.django_project import asgi_project, client_of, make_django, project
from tests.sockets import HANDSHAKE, SocketClient
from tests.unit.web.conftest import AGENTS, ThreadQueue, assert_problem
from tests.unit.web.test_init_app import _assets
from tests.waiting import wait_until

MakeKit = Callable[..., AgentKit]
Serve = Callable[[Sequence[Any]], Any]


@pytest.fixture
def make_kit() -> Iterator[MakeKit]:
    queues: list[ThreadQueue] = []

    def make(**options: Any) -> AgentKit:
        queue = ThreadQueue()
        queues.append(queue)
        settings = options.pop("settings", Settings(max_body_bytes=30_000))
        kit = AgentKit(options.pop("agents", AGENTS), settings=settings, store=MemoryStore(), queue=queue, **options)
        queue.kit = kit
        return kit

    yield make
    for queue in queues:
        queue.close()


@pytest.fixture
def users() -> Iterator[None]:
    """The tables of a project, with a clerk and somebody of the staff in them."""
    call_command("migrate", verbosity=0)
    users = get_user_model().objects
    for name, is_staff in (("clerk", False), ("manager", True)):
        users.create_user(name, password="secret", is_staff=is_staff)
    connection.close()
    yield
    users.all().delete()
    connection.close()


@pytest.fixture(params=[project, asgi_project], ids=["wsgi", "asgi"])
def serve(request: pytest.FixtureRequest) -> Serve:
    """What makes an application of a project's URLs."""
    make: Serve = request.param
    return make


def username(request: HttpRequest) -> str | None:
    return request.user.get_username() if request.user.is_authenticated else None


def is_staff(principal: str) -> bool:
    found: bool = get_user_model().objects.filter(username=principal, is_staff=True).exists()
    return found


def log_in(request: HttpRequest, name: str) -> HttpResponse:
    from django.contrib.auth import authenticate, login

    login(request, authenticate(request, username=name, password="secret"))
    return HttpResponse(name)


def home(request: HttpRequest) -> HttpResponse:
    return HttpResponse(str(connection.in_atomic_block))


HOST = [path("", home), path("login/<name>/", log_in)]


def begin(client: Client, kit: AgentKit, root: str = "/agents", agent: str = "shop", **headers: str) -> str:
    started = client.post(f"{root}/runs", json={"agent": agent, "input": "hi"}, headers=headers)
    assert started.status_code == 202, started.text
    run_id: str = started.json["id"]
    kit.handle(run_id).wait(10)
    return run_id


# -- paths


@pytest.mark.parametrize("prefix", ["agents/", "deep/er/", "größe/", ""])
@pytest.mark.parametrize("script_name", ["", "/behind"])
def test_every_url_carries_the_prefix_and_that_of_a_proxy(make_kit: MakeKit, prefix: str, script_name: str) -> None:
    kit = make_kit()
    client = Client(make_django(kit, prefix))
    below = {"SCRIPT_NAME": script_name}
    root = f"/{prefix}".rstrip("/")
    started = client.post(
        f"{root}/runs", json={"agent": "hello", "input": "hi"}, environ_overrides={"SCRIPT_NAME": script_name}
    )
    assert started.status_code == 202, started.text
    location = started.headers["Location"]
    assert location.isascii()
    seen = client.get(location.removeprefix(script_name), environ_overrides=below)
    assert seen.json["id"] == started.json["id"]
    page = client.get(f"{script_name}{root}/", environ_overrides={**below, "PATH_INFO": f"{root}/"})
    if prefix.isascii():
        urls = _assets(page)
        assert urls
        assert all(url.startswith(f"{script_name}{root}/assets/") for url in urls)
        assert all(
            client.get(url.removeprefix(script_name), environ_overrides=below).status_code == 200 for url in urls
        )


def test_force_script_name_is_in_every_url(serve: Serve, make_kit: MakeKit) -> None:
    kit = make_kit()
    with override_settings(FORCE_SCRIPT_NAME="/outside"):
        started = Client(serve([path("agents/", include(urls(kit)))])).post(
            "/agents/runs", json={"agent": "hello", "input": "hi"}
        )
    assert started.headers["Location"] == f"/outside/agents/runs/{started.json['id']}"


def test_a_prefix_without_a_slash_serves_the_path_without_one_too(make_kit: MakeKit) -> None:
    kit = make_kit()
    client = Client(project([re_path("^agents", include(urls(kit)))]))
    for path_of_page in ("/agents", "/agents/"):
        page = client.get(path_of_page)
        assert page.status_code == 200
        assert all(client.get(url).status_code == 200 for url in _assets(page))
    assert client.get("/agents/runs").json == {"runs": []}


def test_a_variable_of_the_prefix_is_there_in_authenticate(serve: Serve, make_kit: MakeKit) -> None:
    kit = make_kit(authenticate=lambda request: request.resolver_match.kwargs["tenant"])
    client = Client(serve([path("<slug:tenant>/agents/", include(urls(kit)))]))
    started = client.post("/acme/agents/runs", json={"agent": "hello", "input": "hi"})
    assert started.headers["Location"] == f"/acme/agents/runs/{started.json['id']}"
    assert kit.get(started.json["id"]).owner == "acme"


def test_two_kits_stand_below_two_paths(make_kit: MakeKit) -> None:
    kit, other = make_kit(), make_kit(authenticate=lambda request: "bob")
    patterns = (path("one/", include(urls(kit))), path("two/", include(urls(other), namespace="other")))
    client = Client(project(patterns))
    run_id = begin(client, kit, "/one")
    assert_problem(client.get(f"/two/runs/{run_id}"), 404, "run_not_found")
    assert other.get(begin(client, other, "/two")).owner == "bob"
    assert reverse("agentkit:path", args=["runs/x"], urlconf=patterns) == "/one/runs/x"
    assert reverse("other:path", args=[""], urlconf=patterns) == "/two/"
    django_project.urlpatterns[:] = patterns
    assert run_checks(include_deployment_checks=False) == []


@pytest.mark.parametrize("url", ["/agents/nowhere", "/agents/runs/", "/agents/runs//x", "/agents/%0A", "/agents/%FF"])
def test_what_is_not_there_is_a_problem_also_where_django_appends_slashes(make_kit: MakeKit, url: str) -> None:
    with override_settings(MIDDLEWARE=[*django_project.MIDDLEWARE, "django.middleware.common.CommonMiddleware"]):
        client = Client(project([path("agents/", include(urls(make_kit())))]))
        assert_problem(client.get(url), 404, "not_found")


def test_page_and_system_can_be_left_out(make_kit: MakeKit) -> None:
    client = Client(make_django(make_kit(), "agents/", page=False, system=False))
    for name in ("", "healthz", "readyz", "metrics"):
        assert_problem(client.get(f"/agents/{name}"), 404, "not_found")


# -- users, CSRF, hosts


@pytest.mark.usefixtures("users")
def test_djangos_users_start_runs_and_only_the_staff_approves(serve: Serve, make_kit: MakeKit) -> None:
    kit = make_kit(
        authenticate=username,
        may=lambda who, action, run, item: is_staff(who) or (run.owner == who and action in ("start", "read")),
    )
    app = serve([*HOST, path("agents/", include(urls(kit)))])
    nobody, clerk, manager = Client(app), Client(app), Client(app)
    assert_problem(nobody.get("/agents/runs"), 401, "unauthenticated")
    for client, name in ((clerk, "clerk"), (manager, "manager")):
        assert client.get(f"/login/{name}/").text == name
    run_id = begin(clerk, kit)
    assert kit.get(run_id).owner == "clerk"
    answer = {"decision": {"approved": True}}
    assert_problem(clerk.post(f"/agents/runs/{run_id}/resume", json=answer), 403, "forbidden")
    evil = {"Origin": "https://evil.example"}
    assert_problem(manager.post(f"/agents/runs/{run_id}/resume", json=answer, headers=evil), 403, "forbidden")
    own = {"Origin": "http://localhost"}
    assert manager.post(f"/agents/runs/{run_id}/resume", json=answer, headers=own).status_code == 202
    kit.handle(run_id).wait(10)
    assert [decision.decided_by for decision in kit.decisions(run_id)] == ["manager"]


@pytest.mark.parametrize("authenticates", [False, True])
def test_where_django_wants_a_login_for_every_view_the_kit_asks_instead_if_it_can(
    serve: Serve, make_kit: MakeKit, authenticates: bool
) -> None:
    kit = make_kit(authenticate=username) if authenticates else make_kit()
    names = [*django_project.MIDDLEWARE, "django.contrib.auth.middleware.LoginRequiredMiddleware"]
    with override_settings(MIDDLEWARE=names):
        client = Client(serve([path("agents/", include(urls(kit)))]))
        answer = client.get("/agents/runs")
        if authenticates:
            assert_problem(answer, 401, "unauthenticated")
            assert client.get("/agents/healthz").json == {"status": "ok"}
        else:
            assert answer.status_code == 302


def test_djangos_csrf_check_goes_on_to_guard_the_projects_own_views(serve: Serve, make_kit: MakeKit) -> None:
    client = Client(serve([*HOST, path("agents/", include(urls(make_kit())))]))
    assert client.post("/").status_code == 403
    assert client.post("/agents/runs", json={"agent": "hello", "input": "hi"}).status_code == 202


def test_the_origin_is_compared_with_the_host_that_django_trusts(serve: Serve, make_kit: MakeKit) -> None:
    client = Client(serve([path("agents/", include(urls(make_kit())))]))
    body, headers = {"agent": "hello", "input": "hi"}, {"Origin": "https://a.example", "X-Forwarded-Host": "a.example"}
    assert_problem(client.post("/agents/runs", json=body, headers=headers), 403, "forbidden")
    with override_settings(USE_X_FORWARDED_HOST=True):
        assert client.post("/agents/runs", json=body, headers=headers).status_code == 202


# -- bodies and middleware


def read_body(get_response: Callable[[HttpRequest], HttpResponseBase]) -> Callable[[HttpRequest], HttpResponseBase]:
    """A middleware that reads the body of every request, as those do that write a protocol of them."""

    def middleware(request: HttpRequest) -> HttpResponseBase:
        assert request.body is not None
        return get_response(request)

    return middleware


def test_the_limit_of_a_body_is_ours_and_not_djangos(serve: Serve, make_kit: MakeKit) -> None:
    client = Client(serve([path("agents/", include(urls(make_kit())))]))
    with override_settings(DATA_UPLOAD_MAX_MEMORY_SIZE=1000):
        big = {"agent": "hello", "input": "x" * 20_000}
        assert client.post("/agents/runs", json=big).status_code == 202
        too_big = {"agent": "hello", "input": "x" * 40_000}
        assert_problem(client.post("/agents/runs", json=too_big), 413, "payload_too_large")


@pytest.mark.parametrize("is_chunked", [False, True])
def test_a_body_that_a_middleware_has_read_is_there(serve: Serve, make_kit: MakeKit, is_chunked: bool) -> None:
    with override_settings(MIDDLEWARE=[*django_project.MIDDLEWARE, f"{__name__}.read_body"]):
        client = Client(serve([path("agents/", include(urls(make_kit())))]))
        overrides: dict[str, Any] = {"wsgi.input_terminated": True, "CONTENT_LENGTH": ""} if is_chunked else {}
        response = client.post(
            "/agents/runs", json={"agent": "hello", "input": "x" * 3000}, environ_overrides=overrides
        )
        assert response.status_code == 202, response.text


def test_djangos_own_cache_keeps_nothing_of_a_run(make_kit: MakeKit) -> None:
    names = ["UpdateCacheMiddleware", "FetchFromCacheMiddleware"]
    kit = make_kit()
    with override_settings(MIDDLEWARE=[django_project.MIDDLEWARE[0], *(f"django.middleware.cache.{n}" for n in names)]):
        client = Client(make_django(kit, "agents/"))
        for url in ("runs", "readyz", "metrics", "agents", "openapi.json", "runs/x", ""):
            client.get(f"/agents/{url}")
        begin(client, kit)
        assert len(client.get("/agents/runs").json["runs"]) == 1
    assert not cache._cache  # type: ignore[attr-defined]  # that of this process


def test_an_event_stream_is_compressed_by_no_middleware_and_comes_at_once(serve: Serve, make_kit: MakeKit) -> None:
    kit = make_kit()
    client = Client(serve([path("agents/", include(urls(kit)))]))
    run_id = begin(client, kit)
    before = open_streams()
    response = client.get(f"/agents/runs/{run_id}/events", headers={"Accept-Encoding": "gzip"})
    assert response.content_type == "text/event-stream"
    assert "Content-Encoding" not in response.headers
    chunks = iter(response.response)
    assert next(chunks).startswith(b"retry: ")
    assert b"agent_pause" in next(chunks)
    assert open_streams() == before + 1
    response.close()
    assert open_streams() == before
    listing = client.get("/agents/openapi.json", headers={"Accept-Encoding": "gzip"})
    assert listing.headers["Content-Encoding"] == "gzip"


def test_a_stream_that_a_middleware_throws_away_frees_its_slot(serve: Serve, make_kit: MakeKit) -> None:
    kit = make_kit()
    client = Client(serve([path("agents/", include(urls(kit)))]))
    run_id = begin(client, kit)
    before = open_streams()
    client.get(f"/agents/runs/{run_id}/events").close()
    assert open_streams() == before


@pytest.mark.parametrize("names", [False, True])
def test_a_view_of_the_projects_own_streams_a_run(serve: Serve, make_kit: MakeKit, names: bool) -> None:
    kit = make_kit()

    def ask(request: HttpRequest) -> HttpResponseBase:
        handle = kit.start("shop", "hi")
        return sse_response(request, handle, names=names, render=lambda event: f"<p>{event['type']}</p>")

    client = Client(serve([path("ask/", csrf_exempt(ask))]))
    before = open_streams()
    response = client.post("/ask/", headers={"Accept-Encoding": "gzip"})
    assert (response.status_code, response.content_type) == (200, "text/event-stream")
    assert response.headers["Cache-Control"] == "no-cache"
    assert "Content-Encoding" not in response.headers
    lines = response.text.strip().splitlines()
    assert lines[-1] == "data: <p>agent_pause</p>"
    assert ("event: agent_pause" in lines) == names
    assert open_streams() == before


# -- transactions and connections


def open_connection() -> bool:
    return connection.connection is not None


@pytest.mark.usefixtures("users")
def test_no_transaction_is_around_our_urls_and_a_stream_holds_no_connection(serve: Serve, make_kit: MakeKit) -> None:
    opened: list[Any] = []
    in_transaction: list[bool] = []

    def authenticate(request: HttpRequest) -> str | None:
        is_staff("manager")
        in_transaction.append(connection.in_atomic_block)
        opened.append(connection.connection)
        return "manager"

    kit = make_kit(authenticate=authenticate)
    client = Client(serve([*HOST, path("agents/", include(urls(kit)))]))
    assert client.get("/").text == "True"
    run_id = begin(client, kit)
    response = client.get(f"/agents/runs/{run_id}/events")
    next(iter(response.response))
    with pytest.raises(ProgrammingError, match="closed database"):
        opened[-1].execute("SELECT 1")
    response.close()
    assert set(in_transaction) == {False}


@pytest.mark.usefixtures("users")
def test_a_websocket_passes_through_django_and_holds_no_connection(make_kit: MakeKit) -> None:
    opened: list[bool] = []
    open_now: list[bool] = []

    def may(principal: str, action: str, run: Any, item: Any) -> bool:
        open_now.append(open_connection())
        opened.append(is_staff(principal))
        return True

    kit = make_kit(authenticate=username, may=may)
    app = project([*HOST, path("agents/", include(urls(kit)))])
    browser = Client(app)
    browser.get("/login/manager/")
    run_id = begin(browser, kit)
    cookie = browser.get_cookie("sessionid")
    assert cookie is not None
    opened.clear()
    open_now.clear()
    client = SocketClient(app, f"/agents/runs/{run_id}/ws", {"Cookie": f"sessionid={cookie.value}"})
    client.read("agent_pause")
    client.send(type="resume", decision={"approved": "yes"})
    assert client.read("error")[-1]["status"] == 422
    client.send(type="resume", decision={"approved": True})
    client.read("close")
    assert client.close_code == 1000
    assert [decision.decided_by for decision in kit.decisions(run_id)] == ["manager"]
    client.close()
    assert all(opened)
    assert open_now.count(False) >= 2, "each message begins without a connection"


def test_a_refused_websocket_is_a_problem(make_kit: MakeKit) -> None:
    kit = make_kit()
    client = Client(make_django(kit, "agents/"))
    run_id = begin(client, kit)
    refused = client.get(f"/agents/runs/{run_id}/ws", headers=HANDSHAKE)
    assert "no WebSockets" in assert_problem(refused, 400, "invalid_request")["detail"]
    assert_problem(client.get("/agents/runs/x/ws", headers=HANDSHAKE), 400, "invalid_request")


def test_a_websocket_whose_client_hangs_up_frees_its_slot(make_kit: MakeKit) -> None:
    kit = make_kit()
    app = make_django(kit, "agents/")
    before = open_streams()
    client = SocketClient(app, f"/agents/runs/{begin(Client(app), kit)}/ws", key="werkzeug.socket")
    client.read("agent_pause")
    assert open_streams() == before + 1
    client.close()
    wait_until(lambda: open_streams() == before, timeout=10, what="the slot to be free")


# -- testing, and what is missing


def test_a_kit_under_test_answers_djangos_test_client(make_kit: MakeKit) -> None:
    kit = make_kit()
    with kit.testing(model=["Hello from a test."]), override_settings(MIDDLEWARE=[django_project.MIDDLEWARE[0]]):
        client: Any = client_of(path("agents/", include(urls(kit))))
        assert isinstance(client, DjangoClient)
        started = client.post("/agents/runs", {"agent": "hello", "input": "hi"}, content_type="application/json")
        run = client.get(started.headers["Location"]).json()
        assert run["status"] == "completed"
        events = client.get(f"/agents/runs/{run['id']}/events")
        assert b"Hello from a test." in events.getvalue()


@pytest.mark.usefixtures("users")
def test_within_a_tests_transaction_a_tool_sees_what_the_test_has_written(make_kit: MakeKit) -> None:
    @tool
    def count_users() -> str:
        """Count."""
        return f"{get_user_model().objects.count()} users"

    agent = Agent("counter", "openai:gpt-4o", tools=[count_users])
    kit = make_kit(agents=[agent], around_step=around_step)
    asked = [[{"type": "toolCall", "name": "count_users", "arguments": {}}], "Done."]
    with transaction.atomic(), kit.testing(model=asked) as testing:
        get_user_model().objects.create_user("third")
        client = client_of(path("agents/", include(urls(kit))))
        started = client.post("/agents/runs", {"agent": "counter", "input": "hi"}, content_type="application/json")
        assert b"agent_end" in b"".join(client.get(f"{started.headers['Location']}/events"))
        assert [call.text for call in testing.tool_calls(started.json()["id"])] == ["3 users"]
        transaction.set_rollback(True)
    assert get_user_model().objects.count() == 2


def test_without_django_the_error_says_what_to_install() -> None:
    code = "import sys; sys.modules['django'] = None; import agentkit.django"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    last = done.stderr.strip().splitlines()[-1]
    assert (
        last
        == "agentkit.errors.ConfigurationError: agentkit.django needs Django: pip install 'agentkit-celery[django]'"
    )
