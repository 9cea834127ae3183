"""Requests of any kind to every route: none is a 500 or HTML, and none reads or changes what its sender may not.

Routes come from the application's own map, so that a new one is among them. Cases come from a seed, which a failing
test shows; AGENTKIT_FUZZ_SEED sets another.
"""

from __future__ import annotations

import json
import os
import random
import re
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
from flask import Request
from itsdangerous import URLSafeSerializer
from werkzeug.routing import Rule
from werkzeug.test import TestResponse

from agentkit.errors import RunNotFoundError
from tests.unit.web.conftest import Web
from tests.unit.web.test_access import ADA, BOB, SECRET, build
from tests.unit.web.test_origins import BAD_HOSTS, FOREIGN, GOOD_HOSTS, HANDSHAKE, LOOPBACK

__all__ = ["build"]

SEED = int(os.environ.get("AGENTKIT_FUZZ_SEED", "20261128"))
REQUESTS = 1200
SECONDS = 10.0
"""After which no more requests are made on a machine that is busy."""
MARK = "only-ada-may-read-this"
ALLOWED_ORIGIN = "https://app.example.com"
UNKNOWN_RUN = "01a2059f-dc17-7000-84f1-000000000000"

SAFE = ("GET", "HEAD", "OPTIONS")
METHODS = [*SAFE, "POST", "PUT", "PATCH", "DELETE", "TRACE", "CONNECT", "BREW"]
CALLERS: list[dict[str, str]] = [
    {},
    ADA,
    BOB,
    {"Authorization": "Basic YWRhOmFkYQ=="},
    {"Authorization": "Bearer "},
    {"Authorization": "Bearer \xff\xfe"},
    {"Authorization": "ada", "Cookie": "session=ada"},
    {"X-Forwarded-User": "ada"},
]
TYPES = [
    *("application/json", "application/json; charset=utf-16", "application/JSON;x", "text/plain", "text/html"),
    *("application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "", "x", "\xff", None),
]
VALUES: list[Any] = [
    *(None, True, 0, -1, 2**70, 1.5, "", "x", "read", "answer", "steer", "a" * 2000, "\ud800", "\0", [], {}),
    *([[]], [None], {"a": 1}, [{"role": "user", "content": "x"}], [{"type": "text", "text": "x"}], {"reason": "no"}),
]
FIELDS = [
    *("agent", "input", "messages", "metadata", "limits", "model", "decision", "reject", "result", "toolCallId"),
    *("decisionId", "remember", "reason", "message", "when", "by", "scope", "from", "force", "unknown"),
]
GOOD_BODIES: list[Any] = [
    {"agent": "hello", "input": "hi"},
    {"decision": {"approved": True}},
    {"message": "hurry", "when": "steer"},
    {"reason": "enough"},
    {"scope": "read"},
    {},
]
RAW_BODIES = [b"", b"{", b"[" * 5000, b"\xff\xfe", b"null", b"7", b'{"a":1}{"a":2}', b"x" * 40_000, b'{"a":NaN}', b"\0"]
PARAMETERS = {
    "after": ["0", "3", "99999999999999", "-1", "x", "", "\u0663"],
    "until": ["pause", "end", ""],
    "limit": ["1", "0", "1000", "x", "\u0663", ""],
    "status": ["paused", "asleep", ""],
    "agent": ["shop", "\0", ""],
    "cursor": [UNKNOWN_RUN, "x", ""],
    "force": ["1", "0", "yes", ""],
    "unknown": ["x"],
}
HEADERS = {
    "Accept": ["text/event-stream", "text/html", "application/json", "*/*", ";"],
    "Last-Event-ID": ["1", "-1", "x", "", "9" * 40],
    "Idempotency-Key": ["k", "", "k" * 300, "\xff"],
    "Range": ["bytes=0-1"],
    "Transfer-Encoding": ["x"],
    "X-HTTP-Method-Override": ["DELETE"],
    "X-Forwarded-Host": ["localhost", "evil.example"],
    "If-None-Match": ["*", "x"],
    "Access-Control-Request-Method": ["POST"],
}


def named(request: Request) -> str | None:
    """The bearer token is the name, of those that are known."""
    header = request.headers.get("Authorization", "")
    return {"Bearer ada": "ada", "Bearer bob": "bob"}.get(header)


@dataclass
class Case:
    """A request, and what of it counts: whose it is, and whether a foreign page or host is behind it."""

    method: str
    path: str
    headers: dict[str, str]
    query: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    content_type: str | None = None
    is_host_foreign: bool = False
    is_page_foreign: bool = False
    is_adas: bool = False


class Fuzz:
    """One application, its runs, and requests to it at random."""

    def __init__(self, build: Callable[..., Web], is_open: bool) -> None:
        hooks: dict[str, Any] = {} if is_open else {"authenticate": named}
        self.web = build(hooks=hooks, hosts=LOOPBACK, cors_origins=(ALLOWED_ORIGIN,), max_body_bytes=30_000)
        self.random = random.Random(SEED)
        self.is_open = is_open
        self.rules = list(self.web.app.url_map.iter_rules())
        self.ended = self.begin("hello")
        self.paused = self.begin("shop")
        self.web.queue.up = False  # what is started from here on stays queued

    def begin(self, agent: str) -> str:
        body = {"agent": agent, "input": MARK, "metadata": {"mark": MARK}}
        run_id: str = self.web.client.post("/runs", json=body, headers={**ADA, "Host": "localhost"}).json["id"]
        self.web.kit.handle(run_id).wait(10)
        return run_id

    def tokens(self) -> dict[str, str | None]:
        """Stream tokens, and the run whose streams each opens; None for no run's."""
        read = self.token(self.paused, "read")
        later, before = self.web.store.now() + 60_000, self.web.store.now() - 1
        own = [self.paused, None if self.is_open else "ada", later, "read"]
        signed = URLSafeSerializer(SECRET, salt="agentkit.stream-token")
        foreign = URLSafeSerializer("another secret of thirty-two bytes!", salt="agentkit.stream-token")
        wrong = [
            signed.dumps([*own[:2], before, "read"]),
            signed.dumps(own[:3]),
            foreign.dumps(own),
            URLSafeSerializer(SECRET, salt="another").dumps(own),
            read[:-2],
            *("", "x", ".", "\xff", "a" * 5000),
        ]
        right = {read: self.paused, self.token(self.paused, "answer"): self.paused}
        return {**right, self.token(self.ended, "answer"): self.ended, **{str(token): None for token in wrong}}

    def token(self, run_id: str, scope: str) -> str:
        url = f"/runs/{run_id}/stream-token"
        answer = self.web.client.post(url, json={"scope": scope}, headers={**ADA, "Host": "localhost"})
        return str(answer.json["token"])

    def case(self) -> Case:
        rng = self.random
        rule: Rule | None = rng.choice([*self.rules, None])
        ids = [self.paused] * 4 + [self.ended, UNKNOWN_RUN, "x", "%00", "..", "\u202e", "a" * 300]
        run_id = rng.choice(ids)
        path = "/nowhere" if rule is None else re.sub("<run_id>", run_id, rule.rule)
        path = re.sub("<[^>]*>", rng.choice(["x", "..%2f..%2fetc%2fpasswd", "index.html"]), path)
        path += rng.choice(["", "", "", "", "/", "//", "/x"]) if path != "/" else ""
        allowed = sorted(rule.methods or ()) if rule is not None else METHODS
        method = rng.choice(allowed if rng.random() < 0.7 else METHODS)
        caller = rng.choice(CALLERS if rng.random() < 0.7 else [ADA])
        case = Case(method, path, dict(caller), is_adas=caller is ADA or self.is_open)
        self.add_host(case)
        for name in rng.sample(sorted(HEADERS), rng.choice([0, 0, 1, 3])):
            case.headers[name] = rng.choice(HEADERS[name])
        for name in rng.sample(sorted(PARAMETERS), rng.choice([0, 0, 1, 2])):
            case.query[name] = rng.choice(PARAMETERS[name])
        takes_token = rule is not None and rule.endpoint in ("agentkit_runs.run_events", "agentkit_ws.run_socket")
        if rng.random() < 0.5 and takes_token:
            token, opens = rng.choice(list(self.tokens().items()))
            case.query["token"] = token
            case.is_adas = opens == run_id
        case.content_type = rng.choice(TYPES) if rng.random() < 0.4 else "application/json"
        case.body = self.body()
        is_socket = rule is not None and rule.endpoint == "agentkit_ws.run_socket"
        if is_socket and not (case.is_adas and not case.is_host_foreign):  # a handshake that is accepted needs a socket
            case.headers |= HANDSHAKE
        return case

    def add_host(self, case: Case) -> None:
        """Choose the Host and the Origin."""
        rng = self.random
        kind = rng.choice(["none", "own", "allowed", "foreign", "foreign"])
        host = "localhost" if kind == "foreign" else rng.choice(GOOD_HOSTS)
        case.is_host_foreign = rng.random() < 0.15
        case.headers["Host"] = rng.choice(BAD_HOSTS) if case.is_host_foreign else host
        origins = {"own": f"http://{host}", "allowed": ALLOWED_ORIGIN, "foreign": rng.choice(FOREIGN)}
        if kind in origins:
            case.headers["Origin"] = origins[kind]
        case.is_page_foreign = kind == "foreign" and case.method not in SAFE

    def body(self) -> bytes:
        rng = self.random
        kind = rng.choice(["raw", "good", "good", "fields"])
        if kind == "raw":
            return rng.choice(RAW_BODIES)
        if kind == "good":
            return json.dumps(rng.choice(GOOD_BODIES)).encode()
        return json.dumps({name: rng.choice(VALUES) for name in rng.sample(FIELDS, rng.randint(0, 3))}).encode()

    def send(self, case: Case) -> None:
        before = self.state_of(self.paused)
        response = self.web.client.open(
            case.path,
            method=case.method,
            headers=case.headers,
            query_string=case.query,
            data=case.body,
            content_type=case.content_type,
        )
        try:
            self.check(case, response)
        finally:
            response.close()
        after = self.state_of(self.paused)
        may_change = case.is_adas and not case.is_host_foreign and not case.is_page_foreign and case.method not in SAFE
        assert may_change or before == after
        self.restore()

    def restore(self) -> None:
        """Begin others in the place of runs that ada has changed or deleted."""
        self.web.queue.up = True
        if self.state_of(self.ended) is None:
            self.ended = self.begin("hello")
        if (self.state_of(self.paused) or ("", 0))[0] != "paused":
            self.paused = self.begin("shop")
        self.web.queue.up = False

    def state_of(self, run_id: str) -> tuple[str, int] | None:
        try:
            run = self.web.kit.get(run_id)
        except RunNotFoundError:
            return None
        return run.status, run.last_seq

    def check(self, case: Case, response: TestResponse) -> None:
        status, kind = response.status_code, response.mimetype
        is_page = case.path.rstrip("/") == "" or case.path.startswith("/assets/")
        assert status < 500 or (status, case.path) == (503, "/readyz")
        assert kind != "text/html" or (is_page and status < 300 and case.method in SAFE)
        if case.is_host_foreign:
            assert status == 400
        elif case.is_page_foreign:
            assert status == 403
        if kind == "text/event-stream":  # which would go on, since nothing executes
            assert case.is_adas
            assert not case.is_page_foreign
            return
        text = response.get_data(as_text=True)
        assert case.is_adas or MARK not in text
        assert "Traceback" not in text
        assert SECRET not in text
        if status >= 400 and case.method != "HEAD" and kind != "application/json":
            assert kind == "application/problem+json"
            assert json.loads(text)["status"] == status


@pytest.mark.parametrize("is_open", [False, True], ids=["hooks", "open"])
def test_requests_of_any_kind_do_nothing_that_they_may_not(build: Callable[..., Web], is_open: bool) -> None:
    fuzz = Fuzz(build, is_open)
    began, sent = time.monotonic(), 0
    while sent < REQUESTS and time.monotonic() - began < SECONDS:
        case = fuzz.case()
        sent += 1
        try:
            fuzz.send(case)
        except Exception as error:
            raise AssertionError(f"seed {SEED}, request {sent}: {case}") from error
    assert sent > 100


@pytest.mark.parametrize("is_open", [False, True], ids=["hooks", "open"])
def test_every_route_refuses_foreign_hosts_and_pages_and_who_has_no_right(
    build: Callable[..., Web], is_open: bool
) -> None:
    fuzz = Fuzz(build, is_open)
    for rule in fuzz.rules:
        for method in sorted(rule.methods or ()):
            path = re.sub("<[^>]*>", fuzz.paused, rule.rule)
            handshake = HANDSHAKE if path.endswith("/ws") else {}
            body = json.dumps(fuzz.random.choice(GOOD_BODIES)).encode()
            for host in BAD_HOSTS:
                headers = {**ADA, **handshake, "Host": host}
                fuzz.send(Case(method, path, headers, {}, body, "application/json", is_host_foreign=True))
            for origin in FOREIGN if method not in SAFE else ():
                headers = {**ADA, **handshake, "Host": "localhost", "Origin": origin}
                fuzz.send(Case(method, path, headers, {}, body, "application/json", is_page_foreign=True))
            for caller in CALLERS if not is_open else ():
                if caller is not ADA:
                    headers = {**caller, **handshake, "Host": "localhost"}
                    fuzz.send(Case(method, path, headers, {}, body, "application/json"))


@pytest.mark.parametrize("is_open", [False, True], ids=["hooks", "open"])
def test_a_token_opens_the_streams_of_its_run_alone_whoever_sends_it(build: Callable[..., Web], is_open: bool) -> None:
    fuzz = Fuzz(build, is_open)
    for run_id in (fuzz.paused, fuzz.ended, UNKNOWN_RUN):
        for token, opens in fuzz.tokens().items():
            may_read = opens == run_id
            for caller in ({}, ADA, BOB):
                headers = {**caller, "Host": "localhost"}
                calls = [(f"/runs/{run_id}/events", headers)]
                if not may_read:  # a handshake that is accepted needs a socket
                    calls.append((f"/runs/{run_id}/ws", {**headers, **HANDSHAKE}))
                for path, sent in calls:
                    fuzz.send(Case("GET", path, sent, {"token": token}, is_adas=may_read))
                    answer = fuzz.web.client.get(path, headers=sent, query_string={"token": token})
                    answer.close()
                    assert (answer.status_code == 401) == (not may_read), (path, caller, token, answer.status)
