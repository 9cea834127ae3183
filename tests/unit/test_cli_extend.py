"""`agentkit runs extend`, and the client's call behind it."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import click
import httpx
import pytest

from agentkit.cli.answering import extend
from agentkit.cli.main import main
from agentkit.client import Client


def client_of(handler: Callable[[httpx.Request], httpx.Response]) -> Client:
    return Client("http://server.test", retry_seconds=5, transport=httpx.MockTransport(handler))


class Server:
    """One run with pending items; remembers what it was sent."""

    def __init__(self, *items: dict[str, Any]) -> None:
        self.sent: list[Any] = []
        self._items = list(items)

    def __call__(self, request: httpx.Request) -> httpx.Response:
        if request.method == "POST":
            self.sent.append((request.url.path, json.loads(request.content)))
        return httpx.Response(202, json={"id": "r1", "status": "paused", "pending": self._items})


def item(number: int, **more: Any) -> dict[str, Any]:
    return {"decisionId": f"d{number}", "toolName": f"tool{number}", **more}


def test_the_named_item_is_extended() -> None:
    server = Server(item(1, expiresAt=1), item(2, expiresAt=2))
    with client_of(server) as client:
        assert extend(client, "r1", "d2", 3600)["id"] == "r1"
    assert server.sent == [("/runs/r1/extend", {"decisionId": "d2", "by": 3600})]


def test_the_only_item_that_expires_needs_no_name() -> None:
    server = Server(item(1), item(2, expiresAt=2))
    with client_of(server) as client:
        extend(client, "r1", None, 0.5)
    assert server.sent == [("/runs/r1/extend", {"decisionId": "d2", "by": 0.5})]


@pytest.mark.parametrize(
    ("items", "says"),
    [
        ([item(1, expiresAt=1), item(2, expiresAt=2)], r"several items expire: d1 \(tool1\), d2 \(tool2\)"),
        ([item(1)], "no pending item of the run expires"),
        ([], "no pending item of the run expires"),
    ],
)
def test_where_it_is_not_clear_which_nothing_is_sent(items: Any, says: str) -> None:
    server = Server(*items)
    with client_of(server) as client, pytest.raises(click.UsageError, match=says):
        extend(client, "r1", None, 60)
    assert server.sent == []


@pytest.mark.parametrize("by", ["0", "-5", "nan", "inf", "soon"])
def test_a_senseless_time_is_one_clear_line(by: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["runs", "extend", "r1", "--decision-id", "d1", f"--by={by}"])
    err = capsys.readouterr().err
    assert ended.value.code == 2
    assert "--by" in err
    assert err.count("\n") == 1


def test_an_extension_whose_reply_is_lost_is_sent_again_under_the_same_key() -> None:
    sent: list[tuple[bytes, str]] = []

    def handler(request: httpx.Request) -> httpx.Response:
        sent.append((request.content, request.headers["Idempotency-Key"]))
        if len(sent) == 1:
            raise httpx.ReadError("gone")
        return httpx.Response(202, json={"id": "r1"})

    with client_of(handler) as client:
        client.extend("r1", "d1", 60)
    assert len(sent) == 2
    assert len({*sent}) == 1
