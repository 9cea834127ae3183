"""Who may do what over HTTP: hooks, owners, stream tokens, and pages of other origins."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from flask import Request
from itsdangerous import URLSafeSerializer

from agentkit import Agent, AgentKit, ConfigurationError, Run, ScriptedModel, Settings
from agentkit.server import access
from tests.flaky_store import FlakyStore
from tests.turns import call
from tests.unit.web.conftest import AGENTS, ThreadQueue, Web, assert_problem, frames

ADA = {"Authorization": "Bearer ada"}
BOB = {"Authorization": "Bearer bob"}
EVE = {"Authorization": "Bearer eve"}
SECRET = "a secret of thirty-two bytes, at least"


def by_name(request: Request) -> str | None:
    """The bearer token is the name."""
    given = request.headers.get("Authorization", "")
    return given.removeprefix("Bearer ") if given.startswith("Bearer ") else None


def by_cookie(request: Any) -> str | None:
    """The cookie is the name, in Flask's request and in Django's."""
    cookies = request.COOKIES if hasattr(request, "COOKIES") else request.cookies
    name: str | None = cookies.get("who")
    return name


def bob_looks_on(principal: str, action: str, run: Run) -> bool:
    return run.owner == principal or (principal == "bob" and action in ("read", "resume"))


@pytest.fixture
def build(server: str) -> Iterator[Callable[..., Web]]:
    queues: list[ThreadQueue] = []

    def make(agents: list[Agent] = AGENTS, hooks: dict[str, Any] | None = None, **settings: Any) -> Web:
        queues.append(ThreadQueue())
        store = FlakyStore()
        hooks = {"authenticate": by_name} if hooks is None else hooks
        settings = {"secret_key": SECRET, **settings}
        kit = AgentKit(agents, settings=Settings(**settings), store=store, queue=queues[-1], **hooks)
        return Web(store, queues[-1], kit, server)

    yield make
    for queue in queues:
        queue.close()


def begin(web: Web, who: dict[str, str], agent: str = "shop", **headers: str) -> str:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    response = web.client.post("/runs", json={"agent": agent, "input": "hi"}, headers={**who, **named})
    assert response.status_code == 202, response.text
    run_id: str = response.json["id"]
    web.kit.handle(run_id).wait(10)
    return run_id


CALLS = [
    ("GET", "", None),
    ("GET", "/events", None),
    ("POST", "/stream-token", None),
    ("POST", "/resume", {"decision": {"approved": True}}),
    ("POST", "/extend", {"decisionId": "x", "by": 1}),
    ("POST", "/abort", {}),
    ("POST", "/messages", {"message": "x", "when": "steer"}),
    ("DELETE", "", None),
]


def test_every_endpoint_of_a_run_has_an_action_and_the_rest_is_open_or_asks(web: Web) -> None:
    rules = list(web.app.url_map.iter_rules())
    names = [(rule, rule.endpoint.removeprefix("agentkit.")) for rule in rules]
    assert {name for rule, name in names if "run_id" in rule.arguments} == set(access.ACTIONS)
    assert {rule.rule for rule, name in names if name in access.PUBLIC} == {
        *("/", "/assets/<name>", "/healthz", "/readyz", "/metrics", "/openapi.json")
    }


def test_without_hooks_everything_is_open_and_nobody_is_named(web: Web) -> None:
    run_id = web.start("shop")
    run = web.resume(run_id, {"decision": {"approved": True}}, Authorization="Bearer ada").json
    assert "owner" not in run
    assert all("decidedBy" not in event for _, event in frames(web.client.get(f"/runs/{run_id}/events").data))


def test_who_says_nothing_is_asked_to(build: Callable[..., Web]) -> None:
    web = build()
    run_id = begin(web, ADA)
    calls = [(method, f"/runs/{run_id}{path}", body) for method, path, body in CALLS]
    for method, path, body in [*calls, ("GET", "/runs", None), ("POST", "/runs", {}), ("GET", "/agents", None)]:
        response = web.client.open(path, method=method, json=body)
        assert_problem(response, 401, "unauthenticated")
        assert response.headers["WWW-Authenticate"] == "Bearer"
    for path in ("/", "/healthz", "/readyz", "/metrics", "/openapi.json"):
        assert web.client.get(path).status_code in (200, 503), path
    assert_problem(web.client.get("/nowhere"), 404, "not_found")


def test_a_401_says_where_to_log_in_if_there_is_such_a_place(build: Callable[..., Web]) -> None:
    assert "loginUrl" not in build().client.get("/agents").json
    web = build(login_url="/login")
    assert_problem(web.client.get("/agents"), 401, "unauthenticated")
    assert web.client.get("/agents").json["loginUrl"] == "/login"
    assert "loginUrl" not in web.client.get("/nowhere").json


def test_the_agents_come_with_the_name_of_who_is_asking(build: Callable[..., Web], web: Web) -> None:
    assert build().client.get("/agents", headers=ADA).json["principal"] == "ada"
    assert "principal" not in web.client.get("/agents").json


def test_a_run_of_another_is_not_there(build: Callable[..., Web]) -> None:
    web = build()
    run_id = begin(web, ADA)
    unknown = "01a2059f-dc17-7000-84f1-000000000000"
    unknown_text = web.client.get(f"/runs/{unknown}", headers=EVE).text
    for method, path, body in CALLS:
        response = web.client.open(f"/runs/{run_id}{path}", method=method, json=body, headers=EVE)
        assert_problem(response, 404, "run_not_found")
        assert response.text == unknown_text.replace(unknown, run_id)
    assert web.kit.get(run_id).status == "paused"
    assert web.client.get(f"/runs/{run_id}", headers=ADA).json["owner"] == "ada"


def test_a_listing_shows_only_what_may_be_seen(build: Callable[..., Web]) -> None:
    web = build(hooks={"authenticate": by_name, "may": bob_looks_on})
    ids = [begin(web, who, "hello") for who in (ADA, EVE, ADA, ADA)]
    nobodys = web.kit.start("hello", "x").id

    def listed(who: dict[str, str], query: str = "") -> list[str]:
        page = web.client.get(f"/runs?limit=2{query}", headers=who).json
        more = listed(who, f"&cursor={page['nextCursor']}") if "nextCursor" in page else []
        return [run["id"] for run in page["runs"]] + more

    assert listed(ADA) == [ids[3], ids[2], ids[0]]
    assert listed(EVE) == [ids[1]]
    assert listed(BOB) == [nobodys, *reversed(ids)]


def test_may_lets_others_do_what_it_names_and_nothing_else(build: Callable[..., Web]) -> None:
    web = build(hooks={"authenticate": by_name, "may": bob_looks_on})
    run_id = begin(web, ADA)
    problem = assert_problem(web.client.post(f"/runs/{run_id}/abort", headers=BOB), 403, "forbidden")
    assert "abort" in problem["detail"]
    answer = {"decision": {"approved": True}}
    assert web.client.post(f"/runs/{run_id}/resume", json=answer, headers=BOB).status_code == 202
    web.kit.handle(run_id).wait(10)
    events = frames(web.client.get(f"/runs/{run_id}/events", headers=BOB).data)
    resolved = next(event for _, event in events if event["type"] == "tool_decision_resolved")
    assert resolved["decidedBy"] == "bob"
    assert web.kit.decisions(run_id)[0].decided_by == "bob"
    assert_problem(web.client.get(f"/runs/{run_id}", headers=EVE), 404, "run_not_found")


@pytest.mark.parametrize(
    "hooks", [{}, {"authenticate": by_name}, {"authenticate": by_name, "may": lambda principal, action, run: True}]
)
def test_an_action_that_there_is_not_is_an_error_and_no_permission(
    build: Callable[..., Web], hooks: dict[str, Any]
) -> None:
    web = build(hooks=hooks)
    run = web.kit.get(begin(web, ADA))
    assert web.kit.permits("ada", "resume", run)
    with pytest.raises(ValueError, match="no action 'answer': expected one of start, read, resume"):
        web.kit.permits("ada", "answer", run)


def test_an_idempotency_key_is_its_owners_own(build: Callable[..., Web]) -> None:
    web = build()
    adas = [begin(web, ADA, Idempotency_Key="k") for _ in range(2)]
    assert adas[0] == adas[1] != begin(web, EVE, Idempotency_Key="k")


def test_a_sub_agents_run_belongs_to_who_started_the_first(build: Callable[..., Web]) -> None:
    child = Agent("child", model=ScriptedModel(["Yes."]))
    web = build([Agent("parent", model=ScriptedModel([[call("child", input="x")], "Done."]), tools=[child.as_tool()])])
    begin(web, ADA, "parent")
    runs = web.client.get("/runs", headers=ADA).json["runs"]
    assert {(run["agent"], run["owner"]) for run in runs} == {("parent", "ada"), ("child", "ada")}
    assert web.client.get("/runs", headers=EVE).json["runs"] == []


def test_a_hook_that_returns_no_string_is_the_servers_fault(
    build: Callable[..., Web], caplog: pytest.LogCaptureFixture
) -> None:
    web = build(hooks={"authenticate": lambda request: 7})
    assert_problem(web.client.get("/runs"), 500, "internal_error")
    assert "principal as a string" in caplog.text


# -- stream tokens


def token_of(web: Web, run_id: str, who: dict[str, str]) -> str:
    response = web.client.post(f"/runs/{run_id}/stream-token", headers=who)
    assert response.status_code == 200, response.text
    assert "no-store" in response.headers["Cache-Control"]
    assert set(response.json) == {"token", "expiresAt"}
    token: str = response.json["token"]
    return token


def test_a_stream_token_opens_the_stream_of_its_run(build: Callable[..., Web]) -> None:
    web = build()
    run_id = begin(web, ADA, "hello")
    token = token_of(web, run_id, ADA)
    events = frames(web.client.get(f"/runs/{run_id}/events?token={token}").data)
    assert events[-1][1]["type"] == "agent_end"
    last = str(events[-1][0])
    again = web.client.get(f"/runs/{run_id}/events?token={token}", headers={"Last-Event-ID": last})
    assert again.status_code == 204


def test_a_stream_token_opens_nothing_else(build: Callable[..., Web]) -> None:
    web = build()
    run_id, other = begin(web, ADA), begin(web, ADA)
    token = token_of(web, run_id, ADA)
    for method, path, body in CALLS:
        if path != "/events":
            response = web.client.open(f"/runs/{run_id}{path}?token={token}", method=method, json=body)
            assert_problem(response, 401, "unauthenticated")
    problem = assert_problem(web.client.get(f"/runs/{other}/events?token={token}"), 401, "unauthenticated")
    assert "another run" in problem["detail"]


def test_a_stream_token_that_was_tampered_with_or_forged_is_refused(build: Callable[..., Web]) -> None:
    web = build()
    run_id = begin(web, ADA, "hello")
    token = token_of(web, run_id, ADA)
    payload = URLSafeSerializer(SECRET, salt="agentkit.stream-token").loads(token)
    forged = URLSafeSerializer("another secret, just as long as that one", salt="agentkit.stream-token").dumps(payload)
    signed, _, signature = token.rpartition(".")
    tampered = f"{signed}.{'A' if signature[0] != 'A' else 'B'}{signature[1:]}"
    for bad in (forged, tampered, "x" + token, "", "no token"):
        response = web.client.get(f"/runs/{run_id}/events", query_string={"token": bad})
        assert_problem(response, 401, "unauthenticated")


def test_a_stream_token_ends_with_its_time(build: Callable[..., Web], monkeypatch: pytest.MonkeyPatch) -> None:
    web = build(stream_token_seconds=60)
    run_id = begin(web, ADA, "hello")
    now = 1_800_000_000_000
    monkeypatch.setattr(web.store, "now", lambda: now)
    token = token_of(web, run_id, ADA)
    monkeypatch.setattr(web.store, "now", lambda: now + 59_999)
    assert web.client.get(f"/runs/{run_id}/events?token={token}").status_code == 200
    monkeypatch.setattr(web.store, "now", lambda: now + 60_000)
    problem = assert_problem(web.client.get(f"/runs/{run_id}/events?token={token}"), 401, "unauthenticated")
    assert "expired" in problem["detail"]


def test_a_stream_token_is_worth_what_its_principal_still_may(build: Callable[..., Web]) -> None:
    seen_by = {"ada", "bob"}
    web = build(hooks={"authenticate": by_name, "may": lambda who, action, run: who in seen_by})
    run_id = begin(web, ADA, "hello")
    token = token_of(web, run_id, BOB)
    assert web.client.get(f"/runs/{run_id}/events?token={token}").status_code == 200
    seen_by.remove("bob")
    assert_problem(web.client.get(f"/runs/{run_id}/events?token={token}"), 404, "run_not_found")


def test_a_token_from_before_there_were_hooks_names_nobody(build: Callable[..., Web]) -> None:
    run_id = "01a2059f-dc17-7000-84f1-000000000000"
    token = URLSafeSerializer(SECRET, salt="agentkit.stream-token").dumps([run_id, None, 9_999_999_999_999])
    assert_problem(build().client.get(f"/runs/{run_id}/events?token={token}"), 401, "unauthenticated")


def test_without_a_secret_stream_tokens_are_off_and_it_is_said(build: Callable[..., Web]) -> None:
    web = build(secret_key=None)
    run_id = begin(web, ADA, "hello")
    for response in (
        web.client.post(f"/runs/{run_id}/stream-token", headers=ADA),
        web.client.get(f"/runs/{run_id}/events?token=x"),
    ):
        assert "AGENTKIT_SECRET_KEY" in assert_problem(response, 400, "invalid_request")["detail"]


# -- pages of other origins

PAGE = "https://app.example.com"


def test_a_page_of_an_allowed_origin_may_call(build: Callable[..., Web]) -> None:
    web = build(hooks={}, cors_origins=(PAGE, "http://localhost:5173"))
    asked = "authorization,content-type,idempotency-key,last-event-id"
    preflight = web.client.options(
        "/runs",
        headers={
            "Origin": PAGE,
            "Access-Control-Request-Method": "POST",
            "Access-Control-Request-Headers": asked,
        },
    )
    assert preflight.status_code == 200
    assert preflight.headers["Access-Control-Allow-Origin"] == PAGE
    allowed = preflight.headers["Access-Control-Allow-Headers"].lower().replace(" ", "").split(",")
    assert allowed == asked.split(",")
    assert {"GET", "POST", "DELETE"} <= set(preflight.headers["Access-Control-Allow-Methods"].split(", "))
    response = web.client.post("/runs", json={"agent": "hello", "input": "x"}, headers={"Origin": PAGE})
    assert response.headers["Access-Control-Allow-Origin"] == PAGE
    assert response.headers["Access-Control-Allow-Credentials"] == "true"
    assert set(response.headers["Access-Control-Expose-Headers"].split(", ")) == {"Location", "Retry-After"}
    assert "Origin" in response.headers["Vary"]


def test_a_problem_can_be_read_by_an_allowed_page_too(build: Callable[..., Web]) -> None:
    web = build(cors_origins=(PAGE,))
    for path, status in (("/runs", 401), ("/nowhere", 404)):
        response = web.client.get(path, headers={"Origin": PAGE})
        assert (response.status_code, response.headers["Access-Control-Allow-Origin"]) == (status, PAGE)
    preflight = web.client.options("/runs", headers={"Origin": PAGE, "Access-Control-Request-Method": "POST"})
    assert preflight.status_code == 200  # a browser sends no credentials with it


def test_a_page_of_another_origin_gets_no_cors_headers(build: Callable[..., Web]) -> None:
    for origins in ((), (PAGE,)):
        web = build(hooks={}, cors_origins=origins)
        for method in ("GET", "OPTIONS"):
            headers = {"Origin": "https://evil.example", "Access-Control-Request-Method": "POST"}
            response = web.client.open("/runs", method=method, headers=headers)
            assert "Access-Control-Allow-Origin" not in response.headers


def test_an_origin_with_an_address_in_brackets_is_that_one_and_no_other(build: Callable[..., Web]) -> None:
    page = "http://[::1]:5173"
    web = build(hooks={}, cors_origins=(page,))
    for origin in (page, "http://[::1]:5173".upper(), "http://::5173", "http://1:51737.evil.example", page + "0"):
        response = web.client.get("/runs", headers={"Origin": origin})
        allowed = origin if origin.lower() == page else None
        assert response.headers.get("Access-Control-Allow-Origin") == allowed, origin


def test_a_star_lets_every_page_call_but_without_its_cookies(build: Callable[..., Web]) -> None:
    response = build(hooks={}, cors_origins=("*",)).client.get("/runs", headers={"Origin": "https://any.example"})
    assert response.headers["Access-Control-Allow-Origin"] == "*"
    assert "Access-Control-Allow-Credentials" not in response.headers


def test_a_foreign_page_cannot_use_a_persons_cookies_to_act(build: Callable[..., Web]) -> None:
    web = build(hooks={"authenticate": by_cookie}, cors_origins=(PAGE,))
    web.client.set_cookie("who", "ada")
    run_id = begin(web, {})
    forged = web.client.post(f"/runs/{run_id}/abort", headers={"Origin": "https://evil.example"})
    assert "AGENTKIT_CORS_ORIGINS" in assert_problem(forged, 403, "forbidden")["detail"]
    for malformed in ("http://[::", "null", "localhost", "://"):
        refused = web.client.post(f"/runs/{run_id}/abort", headers={"Origin": malformed})
        assert_problem(refused, 403, "forbidden")
    assert web.kit.get(run_id).status == "paused"
    for origin in (PAGE, "http://localhost", "HTTP://LOCALHOST"):
        assert web.client.post(f"/runs/{run_id}/abort", headers={"Origin": origin}).status_code == 202


def test_under_a_star_no_page_acts_by_a_persons_cookies(build: Callable[..., Web]) -> None:
    web = build(hooks={"authenticate": lambda request: by_cookie(request) or by_name(request)}, cors_origins=("*",))
    web.client.set_cookie("who", "ada")
    run_id = begin(web, {})
    evil = {"Origin": "https://evil.example"}
    handshake = {"Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Version": "13"}
    handshake["Sec-WebSocket-Key"] = "dGhlIHNhbXBsZSBub25jZQ=="
    assert_problem(web.client.post(f"/runs/{run_id}/abort", headers=evil), 403, "forbidden")
    assert_problem(web.client.post(f"/runs/{run_id}/abort?token=x", headers=evil), 403, "forbidden")
    assert_problem(web.client.get(f"/runs/{run_id}/ws", headers=evil | handshake), 403, "forbidden")
    assert_problem(web.client.get(f"/runs/{run_id}/ws?token=x", headers=evil | handshake), 401, "unauthenticated")
    assert web.kit.get(run_id).status == "paused"
    web.client.delete_cookie("who")
    assert web.client.post(f"/runs/{run_id}/abort", headers=evil | ADA).status_code == 202


def test_rights_without_a_way_to_know_who_calls_are_a_mistake(build: Callable[..., Web]) -> None:
    with pytest.raises(ConfigurationError, match="may needs authenticate"):
        build(hooks={"may": bob_looks_on})
