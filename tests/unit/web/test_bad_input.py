"""Every route, asked badly: the answer is a problem of the protocol's table, never a 500 and never HTML, and soon."""

from __future__ import annotations

import io
import json
import random
import time
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from werkzeug.test import EnvironBuilder, TestResponse

from agentkit.server.problems import STATUSES
from tests.unit.web.conftest import Web

JSON = {"Content-Type": "application/json"}
OURS = {code for code, status in STATUSES.items() if status < 500}
SECONDS = 20  # of processor time, with coverage measured: what is not bounded takes minutes

ROUTES = [
    ("POST", "/runs"),
    ("POST", "/runs/{id}/resume"),
    ("POST", "/runs/{id}/extend"),
    ("POST", "/runs/{id}/abort"),
    ("POST", "/runs/{id}/messages"),
    ("GET", "/runs"),
    ("GET", "/runs/{id}"),
    ("GET", "/runs/{id}/events"),
    ("DELETE", "/runs/{id}"),
    ("GET", "/agents"),
    ("GET", "/healthz"),
    ("GET", "/metrics"),
    ("GET", "/openapi.json"),
]
WITH_BODY = [path for method, path in ROUTES if method == "POST"]
WITH_ID = [(method, path) for method, path in ROUTES if "{id}" in path]

VALID = {
    "/runs": {"agent": "hello", "input": "x", "metadata": {"a": 1}, "limits": {"maxTurns": 2}},
    "/runs/{id}/resume": {"decision": {"approved": True}, "toolCallId": "x", "decisionId": "x", "input": {"cents": 1}},
    "/runs/{id}/extend": {"decisionId": "x", "by": 5},
    "/runs/{id}/abort": {"reason": "x"},
    "/runs/{id}/messages": {"message": "x", "when": "steer"},
}

DEEP = b"[" * 10_000 + b"]" * 10_000
RAW = [
    b"",
    b"{",
    b"null",
    b"true",
    b"[]",
    b'"x"',
    b"1",
    b"NaN",
    b"\x00",
    b"\xff\xfe{\x00}\x00",
    b"\xef\xbb\xbf{}",
    b"{}\x00",
    b"{} {}",
    DEEP,
    b'{"a":' * 5_000,
    b'{"a":' + DEEP + b"}",
    b'{"a": 1e400}',
    b'{"a": ' + b"9" * 5000 + b"}",
    b'{"a": "\\ud800"}',
    b'{"\\udfff": 1}',
    b'{"a": "\xed\xa0\x80"}',
    b'{"a": 1, "a": 2}',
    b"a=1&b=2",
    b"--x\r\nContent-Disposition: form-data; name=a\r\n\r\n1\r\n--x--",
    b"\x1f\x8b\x08\x00\x00\x00\x00\x00",
]
VALUES: list[Any] = [
    None,
    True,
    0,
    -1,
    1.5,
    2**63,
    10**4000,
    1e308,
    "",
    " ",
    "\x00",
    "a\x00b",
    "x" * 20_000,
    "\u202e\ufeff\U0010ffff",
    "../../etc/passwd",
    "__proto__",
    [],
    [None],
    [[[]]],
    {},
    {"": ""},
    {"__proto__": {}},
    {"type": "text"},
    [{"type": "text", "text": 5}],
    [{"type": ["text"], "text": "x"}],
    [{"type": "image", "data": "=", "mimeType": "x"}],
    [{"role": "user"}],
    [{"role": {}, "content": "x"}],
    [{"role": [], "content": "x"}, {"role": "user", "content": "x"}],
    [{"role": "user", "content": "x", "timestamp": 10**400}],
    [{"role": "user", "content": "x", "cache": {}}],
    [{"role": "assistant", "content": [], "usage": {"input": -1e308}}, {"role": "user", "content": "x"}],
    [{"role": "assistant", "content": [], "stopReason": []}, {"role": "user", "content": "x"}],
]
IDS = [
    "x",
    "%00",
    "a%00b",
    "%2F",
    "..%2F..",
    "%ff",
    "%ED%A0%80",
    "%",
    "%zz",
    "{id}",
    "*",
    "a" * 20_000,
    "%F0%9F%92%A9",
    "01890a5d-ac96-774b-bcce-b302099a8057%0A",
    "%0d%0aSet-Cookie:x",
    "'%20OR%201=1",
    ".",
    "agentkit:due",
]


@pytest.fixture
def paused(web: Web) -> str:
    return web.start("shop")


@pytest.fixture(autouse=True)
def soon() -> Iterator[None]:
    before = time.process_time()
    yield
    assert time.process_time() - before < SECONDS


def checked(response: TestResponse, *, ok: tuple[int, ...] = (200, 202, 204)) -> TestResponse:
    """The answer is one that the protocol knows, and as it says."""
    if response.status_code in ok:
        return response
    assert response.content_type == "application/problem+json", response.data[:200]
    if response.request.method != "HEAD":
        problem = json.loads(response.data.decode())
        assert problem["code"] in OURS, problem
        assert problem["status"] == response.status_code == STATUSES[problem["code"]]
        assert len(response.data) < 5000, "an answer must not echo what it was sent"
        assert "Traceback" not in problem["detail"]
    return response


def ask(web: Web, method: str, path: str, **options: Any) -> TestResponse:
    return checked(web.client.open(path, method=method, buffered=False, **options))


@pytest.mark.parametrize("path", WITH_BODY)
def test_bodies_that_are_no_json_object(web: Web, paused: str, path: str) -> None:
    for body in RAW:
        response = ask(web, "POST", path.replace("{id}", paused), data=body, headers=JSON)
        assert response.status_code == 400 or (path.endswith("abort") and not body), body[:40]
    assert web.client.get(f"/runs/{paused}").json["status"] in ("paused", "aborted")


@pytest.mark.parametrize("path", WITH_BODY)
def test_fields_of_every_wrong_kind(web: Web, paused: str, path: str) -> None:
    web.queue.up = False
    valid = VALID[path]
    with_history = {key: value for key, value in valid.items() if key != "input"}
    for field in [*valid, "messages", "model", "reject", "result", "unknown", ""]:
        for value in VALUES:
            for body in ({**valid, field: value}, {**with_history, field: value}, {field: value}):
                ask(web, "POST", path.replace("{id}", paused), data=json_of(body), headers=JSON)


def json_of(body: Any) -> bytes:
    return json.dumps(body).encode()


@pytest.mark.parametrize(("method", "path"), WITH_ID)
def test_ids_that_are_none(web: Web, method: str, path: str) -> None:
    for run_id in IDS:
        body = VALID.get(path)
        response = ask(web, method, path.replace("{id}", run_id), json=body)
        assert response.status_code in (404, 405), run_id


@pytest.mark.parametrize("field", ["toolCallId", "decisionId"])
def test_items_that_are_none(web: Web, paused: str, field: str) -> None:
    for given_id in ("", "\x00", "x" * 20_000, "d:x", "\U0010ffff", "{}"):
        response = web.resume(paused, {"decision": {"approved": True}, field: given_id})
        assert checked(response).status_code == 404


@pytest.mark.parametrize(
    "headers",
    [
        {"Content-Type": "application/json; charset=utf-16"},
        {"Content-Type": "application/json; charset=\xff"},
        {"Content-Type": "application/json", "Content-Encoding": "gzip"},
        {"Content-Type": "application/json", "Content-Encoding": "br"},
        {"Content-Type": "application/json" + ";x=y" * 5000},
        {"Content-Type": "multipart/form-data; boundary=x"},
        {"Content-Type": "multipart/form-data"},
        {"Content-Type": "text/html"},
        {"Content-Type": "\xff"},
        {"Content-Type": ""},
        {"Content-Length": "-1", **JSON},
        {"Content-Length": "x", **JSON},
        {"Content-Length": "9" * 40, **JSON},
        {"Accept": "\xff;q=x", **JSON},
        {"Accept": "text/event-stream;q=" + "9" * 5000, **JSON},
        {"Idempotency-Key": "", **JSON},
        {"Idempotency-Key": "x" * 256, **JSON},
        {"Idempotency-Key": "\x00\x01", **JSON},
        {"Idempotency-Key": "\xff\xfe\xed\xa0\x80", **JSON},
        {"Cookie": "\xff" * 5000, **JSON},
        {"Host": "\xff", **JSON},
        {"Host": "a b", **JSON},
        {"Host": "", **JSON},
        {"X-Forwarded-For": "\x00", **JSON},
        {"Range": "bytes=x", **JSON},
        {"If-None-Match": '"' * 5000, **JSON},
        {"Authorization": "Basic \xff", **JSON},
        {"Authorization": "Digest x=", **JSON},
    ],
    ids=lambda headers: f"{next(iter(headers))}-{len(str(headers))}",
)
def test_headers_that_nobody_sends(web: Web, headers: dict[str, str]) -> None:
    web.queue.up = False
    for method, path in ROUTES:
        data = json_of(VALID[path]) if path in VALID and method == "POST" else None
        builder = EnvironBuilder(path.replace("{id}", "x"), method=method, data=data)
        environ = builder.get_environ()
        for name, value in headers.items():
            key = name.upper().replace("-", "_")
            environ[key if key in ("CONTENT_TYPE", "CONTENT_LENGTH") else f"HTTP_{key}"] = value
        checked(web.client.open(environ, buffered=False))


@pytest.mark.parametrize("path", ["/runs", "/runs/{id}/events", "/runs/{id}", "/agents", "/healthz"])
def test_queries_that_make_no_sense(web: Web, paused: str, path: str) -> None:
    queries = [
        "x" * 100_000,
        "&".join(f"a{n}=1" for n in range(10_000)),
        "cursor=" + "x" * 100_000,
        "cursor=%00",
        "cursor=%ff",
        "cursor=-",
        "cursor=%2B",
        "cursor=[",
        "cursor=0190a5d0-ac96-774b-bcce-b302099a8057%0A",
        "limit=%D9%A3",
        "limit=1e1",
        "limit=999999999999999999999",
        "limit=1&limit=x",
        "status=%00",
        "status=paused&status=x",
        "agent=" + "%00" * 1000,
        "agent=" + "x" * 100_000,
        "after=%00",
        "after=" + "9" * 100_000,
        "after=-1",
        "until=%ff",
        "%ff=%ff",
        "=",
        "&&&",
        "%",
        "[]=1",
    ]
    for query in queries:
        if path.endswith("/events") and query in ("&&&", "limit=1&limit=x"):
            continue  # which is no query, and opens a stream
        ask(web, "GET", f"{path.replace('{id}', paused)}?{query}")


@pytest.mark.parametrize(
    "method", ["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS", "TRACE", "\xff", "x" * 500]
)
def test_methods_that_a_route_does_not_take(web: Web, method: str) -> None:
    for _, path in ROUTES:
        ask(web, method, path.replace("{id}", "x"), data=b"{}", headers=JSON)


@pytest.mark.parametrize("path", ["/runs//", "/../runs", "/%2e%2e/", "/runs/x/y/z", "/" + "a/" * 5000, "/\x00", "/%ff"])
def test_paths_that_lead_nowhere(web: Web, path: str) -> None:
    for method in ("GET", "POST", "DELETE"):
        assert ask(web, method, path).status_code in (404, 405)


@pytest.mark.parametrize("chunked", [False, True])
@pytest.mark.parametrize("path", WITH_BODY)
def test_a_body_that_lies_of_its_length(web: Web, path: str, chunked: bool) -> None:
    for body in (b"x" * 40_000, b'{"a": "' + b"x" * 40_000, b"[" * 40_000):
        environ: dict[str, Any] = {"CONTENT_LENGTH": "5"}
        if chunked:
            environ = {"HTTP_TRANSFER_ENCODING": "chunked", "wsgi.input_terminated": True}
        response = web.client.post(
            path.replace("{id}", "x"),
            input_stream=io.BytesIO(body),
            headers=JSON,
            environ_overrides=environ,
        )
        assert checked(response).status_code == (413 if chunked else 400)


# -- at random

ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4),
    max_leaves=12,
)
FIELDS = sorted({field for body in VALID.values() for field in body} | {"messages", "model", "reject", "result"})


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(path=st.sampled_from(WITH_BODY), body=st.dictionaries(st.sampled_from(FIELDS) | st.text(max_size=5), ANYTHING))
def test_any_object_is_answered(web: Web, path: str, body: dict[str, Any]) -> None:
    web.queue.up = False
    ask(web, "POST", path.replace("{id}", run_of(web)), data=json_of(body), headers=JSON)


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(path=st.sampled_from(WITH_BODY), seed=st.integers(0, 2**32))
def test_any_damage_to_a_good_body_is_answered(web: Web, path: str, seed: int) -> None:
    web.queue.up = False
    chance = random.Random(seed)
    body = bytearray(json_of(VALID[path]))
    for _ in range(chance.randint(1, 6)):
        at = chance.randrange(len(body))
        body[at : at + chance.randint(0, 3)] = chance.randbytes(chance.randint(0, 3))
    ask(web, "POST", path.replace("{id}", run_of(web)), data=bytes(body) or b"x", headers=JSON)


def run_of(web: Web) -> str:
    """A run that waits for a decision, or has been aborted by an example before."""
    for run in web.kit.runs():
        return run.id
    web.queue.up = True
    run_id = web.start("shop")
    web.queue.up = False
    return run_id
