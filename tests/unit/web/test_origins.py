"""Which hosts are answered and which pages may act: every route, with Host, Origin and token in many variants."""

from __future__ import annotations

import itertools
import random
import re
from collections.abc import Callable
from typing import Any

import pytest

from agentkit import ConfigurationError
from agentkit.server.streams import StreamSlot
from agentkit.server.websocket import RunSocket
from tests.sockets import HANDSHAKE
from tests.unit.web.conftest import Web, assert_problem
from tests.unit.web.test_access import ADA, SECRET, begin, build, by_name

__all__ = ["build"]

LOOPBACK = ("localhost", "127.0.0.1", "[::1]")
GOOD_HOSTS = ["localhost", "LOCALHOST:8000", "localhost.", "127.0.0.1", "127.0.0.1:8000", "[::1]:8000", "[0::1]"]
BAD_HOSTS = [
    *("evil.example", "evil.example:8000", "localhost.evil.example", "localhost:8000.evil.example", "x.localhost"),
    *(
        "user@localhost",
        "localhost,evil.example",
        "127.0.0.1.nip.io",
        "2130706433",
        "0.0.0.0",
        "[::ffff:127.0.0.1]",
        "",
    ),
]
FOREIGN = [
    *(
        "https://evil.example",
        "http://localhost.evil.example",
        "http://evil.example:8000",
        "null",
        "",
        "http://",
        "://",
    ),
    *("localhost", "http://[::", "http://localhost/x", "http://user@localhost", "chrome-extension://localhost"),
    *(
        "http://localhost:8000",
        "http://evil.example, http://localhost",
        "file://",
        "http://localhost.x",
        "HTTPS://EVIL",
    ),
]


def paths(web: Web, run_id: str) -> list[tuple[str, str]]:
    """Every route with every method that any route knows, and some that are not there."""
    found = {re.sub("<[^>]*>", run_id, rule.rule) for rule in web.app.url_map.iter_rules()}
    methods = ["GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE"]
    return list(itertools.product(methods, sorted({*found, "/nowhere"})))


def test_a_host_that_is_not_named_is_refused_by_every_route(build: Callable[..., Web]) -> None:
    web = build(hooks={}, hosts=LOOPBACK)
    run_id = begin(web, {})
    for method, path in paths(web, run_id):
        for host in random.sample(BAD_HOSTS, 3):
            headers = {"Host": host, "X-Forwarded-Host": "localhost", **(HANDSHAKE if path.endswith("/ws") else {})}
            response = web.client.open(path, method=method, headers=headers)
            assert response.status_code == 400, (method, path, host)
    for host in BAD_HOSTS:
        problem = assert_problem(web.client.get("/runs", headers={"Host": host}), 400, "invalid_request")
        assert "AGENTKIT_HOSTS" in problem["detail"]
    assert web.kit.get(run_id).status == "paused"


def test_the_hosts_that_are_named_are_answered(build: Callable[..., Web]) -> None:
    web = build(hooks={}, hosts=LOOPBACK)
    for host in GOOD_HOSTS:
        assert web.client.get("/runs", headers={"Host": host}).status_code == 200, host
        assert web.client.get("/", headers={"Host": host, "X-Forwarded-Host": "evil.example"}).status_code == 200


def test_without_hosts_any_is_answered(build: Callable[..., Web]) -> None:
    web = build(hooks={})
    for host in (*GOOD_HOSTS, "evil.example"):
        assert web.client.get("/runs", headers={"Host": host}).status_code == 200, host


def test_a_host_that_cannot_be_read_is_a_mistake_at_the_start(build: Callable[..., Web]) -> None:
    with pytest.raises(ConfigurationError, match="AGENTKIT_HOSTS"):
        build(hosts=("http://localhost",))


@pytest.mark.parametrize("hooks", [{}, {"authenticate": by_name}], ids=["open", "hooks"])
def test_a_foreign_page_changes_nothing_by_any_route(build: Callable[..., Web], hooks: dict[str, Any]) -> None:
    web = build(hooks=hooks)
    run_id = begin(web, ADA)
    before = web.kit.get(run_id).to_json()
    for method, path in paths(web, run_id):
        is_socket = path.endswith("/ws") and method == "GET"
        if method in ("GET", "HEAD", "OPTIONS") and not is_socket:
            continue
        for origin, kind in zip(FOREIGN, itertools.cycle(["application/json", "text/plain", None, "x"]), strict=False):
            headers = {**ADA, "Origin": origin, "Host": "localhost", **(HANDSHAKE if is_socket else {})}
            body = {"json": {}} if kind == "application/json" else {"content_type": kind}
            response = web.client.open(path, method=method, headers=headers, **body)
            assert response.status_code == 403, (method, path, origin)
    assert web.kit.get(run_id).to_json() == before
    assert web.kit.get(run_id).status == "paused"


@pytest.mark.parametrize("kind", ["application/json", "text/plain", "application/x-www-form-urlencoded", None])
def test_a_foreign_page_aborts_nothing_with_an_empty_body(build: Callable[..., Web], kind: str | None) -> None:
    web = build(hooks={})
    run_id = begin(web, {})
    for origin in FOREIGN:
        response = web.client.post(f"/runs/{run_id}/abort", content_type=kind, headers={"Origin": origin})
        assert_problem(response, 403, "forbidden")
    assert web.kit.get(run_id).status == "paused"
    assert web.client.post(f"/runs/{run_id}/abort", content_type=kind).status_code == 202


@pytest.mark.parametrize("host", ["", "bad host", "a,b"])
@pytest.mark.parametrize("origin", ["null", "", "http://", "http://a,b", "bad host"])
def test_an_origin_and_a_host_that_are_none_are_not_the_same(build: Callable[..., Web], host: str, origin: str) -> None:
    web = build(hooks={})
    run_id = begin(web, {})
    response = web.client.post(f"/runs/{run_id}/abort", headers={"Host": host, "Origin": origin})
    assert_problem(response, 403, "forbidden")


@pytest.mark.parametrize(
    ("host", "origin"),
    [
        ("localhost:8000", "http://localhost:8000"),
        ("localhost", "http://localhost:80"),
        ("app.example.com", "https://app.example.com"),
        ("app.example.com:443", "https://app.example.com"),
        ("[::1]:8000", "http://[::1]:8000"),
        ("App.Example.com", "HTTPS://app.example.COM"),
        ("localhost", None),
        ("localhost", "https://app.example.com"),
    ],
)
def test_the_servers_own_pages_allowed_ones_and_programs_act(
    build: Callable[..., Web], host: str, origin: str | None
) -> None:
    web = build(hooks={}, cors_origins=("https://app.example.com",))
    run_id = begin(web, {})
    headers = {"Host": host, **({} if origin is None else {"Origin": origin})}
    assert web.client.post(f"/runs/{run_id}/abort", headers=headers).status_code == 202


def test_a_foreign_page_may_read_nothing_more_than_before(build: Callable[..., Web]) -> None:
    web = build(hooks={})
    response = web.client.get("/runs", headers={"Origin": "https://evil.example"})
    assert response.status_code == 200
    assert "Access-Control-Allow-Origin" not in response.headers  # so the page does not get to see it


@pytest.mark.parametrize("secret", ["a", "x" * 31, "é" * 15])
def test_a_weak_secret_is_a_mistake_at_the_start(build: Callable[..., Web], secret: str) -> None:
    with pytest.raises(ConfigurationError, match="at least 32") as caught:
        build(secret_key=secret)
    assert repr(secret) not in str(caught.value)
    assert len(SECRET.encode()) >= 32
    build(secret_key="é" * 16)


# -- what a stream token lets its holder do over a WebSocket


FRAMES = [
    '{"type":"resume","decision":{"approved":true}}',
    '{"type":"message","message":"x","when":"steer"}',
    '{"type":"abort"}',
]


@pytest.mark.parametrize("hooks", [{}, {"authenticate": by_name}], ids=["open", "hooks"])
@pytest.mark.parametrize("scope", [None, "read", "answer"])
def test_a_token_takes_frames_only_with_the_scope_for_it(
    build: Callable[..., Web], hooks: dict[str, Any], scope: str | None
) -> None:
    web = build(hooks=hooks)
    run_id = begin(web, ADA, "twice")
    body = {} if scope is None else {"json": {"scope": scope}}
    token = web.client.post(f"/runs/{run_id}/stream-token", headers=ADA, **body).json["token"]
    with web.app.test_request_context(f"/runs/{run_id}/ws?token={token}", headers=HANDSHAKE):
        assert web.app.preprocess_request() is None
        run_socket = RunSocket(run_id, web.kit.handle(run_id).open(0), StreamSlot())
    replies = [run_socket.reply(frame) for frame in FRAMES]
    run_socket.close()
    if scope == "answer":
        assert "decision_ambiguous" in replies[0]
        assert replies[1:] == ['{"type":"ok"}'] * 2
    else:
        assert all('"status":403' in reply and "scope" in reply for reply in replies)
        assert web.kit.get(run_id).status == "paused"


@pytest.mark.parametrize("body", [{"scope": "write"}, {"scope": None}, {"scopes": "read"}, {"scope": ["answer"]}])
def test_an_unknown_scope_is_refused(build: Callable[..., Web], body: Any) -> None:
    web = build(hooks={})
    run_id = begin(web, {})
    assert_problem(web.client.post(f"/runs/{run_id}/stream-token", json=body), 400, "invalid_request")
