"""`agentkit runs rm`."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import httpx
import pytest

from agentkit.cli.main import main
from agentkit.client import Client


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What the server was asked for: of its runs, `busy` has not ended, and `gone` is not there."""
    requests: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        requests.append(f"{request.method} {request.url.raw_path.decode()}")
        if request.url.path == "/runs/busy" and not request.url.query:
            return httpx.Response(409, json={"code": "run_not_terminal", "detail": "the run has not ended"})
        if request.url.path == "/runs/gone":
            return httpx.Response(404, json={"code": "run_not_found", "detail": "there is no run gone"})
        return httpx.Response(204)

    def client(*_: Any) -> Client:
        return Client("http://server.test", retry_seconds=0, transport=httpx.MockTransport(answer))

    monkeypatch.setattr(import_module("agentkit.cli.options"), "_client", client)
    return requests


def rm(*arguments: str) -> Any:
    with pytest.raises(SystemExit) as exit_:
        main(["runs", "rm", *arguments])
    return exit_.value.code


def test_runs_are_deleted_one_after_the_other(seen: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert rm("r1", "r2") == 0
    assert seen == ["DELETE /runs/r1", "DELETE /runs/r2"]
    assert capsys.readouterr().out == "r1  deleted\nr2  deleted\n"


def test_one_that_has_not_ended_is_deleted_by_force_alone(seen: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert rm("busy") == 1
    assert capsys.readouterr().err == "agentkit: the run has not ended\n"
    assert rm("busy", "--force") == 0
    assert seen == ["DELETE /runs/busy", "DELETE /runs/busy?force=1"]


def test_what_cannot_be_deleted_ends_the_command(seen: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert rm("gone", "r1") == 1
    assert seen == ["DELETE /runs/gone"]
    assert capsys.readouterr().err == "agentkit: there is no run gone\n"


def test_a_run_must_be_named(seen: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert rm() == 2
    assert (seen, "ID" in capsys.readouterr().err) == ([], True)
