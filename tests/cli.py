"""The command line in this process, over either back end, and what it prints."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any

import httpx
import pytest

from agentkit import AgentKit
from agentkit.cli.backend import Direct
from agentkit.cli.main import main
from agentkit.client import Client
from agentkit.web import create_app

__all__ = ["BACKENDS", "PLACES", "Cli", "cli_of"]

Cli = Callable[..., tuple[int, str, str]]
"""Takes the words of a command; gives its exit status, its output and its error output."""

BACKENDS = ["server", "direct"]

PLACES = {"server": "the server http://server.test", "direct": "the application's own store"}
"""What a command calls the place of the runs, for a kit on a store in memory."""


def cli_of(kit: AgentKit, backend: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Cli:
    transport = httpx.WSGITransport(create_app(kit))

    def reached(*_: Any) -> Client | Direct:
        if backend == "direct":
            return Direct(kit)
        return Client("http://server.test", retry_seconds=0, transport=transport)

    monkeypatch.setattr(import_module("agentkit.cli.options"), "_backend", reached)
    monkeypatch.setattr(Direct, "open", lambda app: Direct(kit))

    def run(*arguments: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as exit_:
            main(arguments)
        out, err = capsys.readouterr()
        code: Any = exit_.value.code
        return code, out, err

    return run
