"""What a process says of its store when it starts."""

from __future__ import annotations

import pytest

from agentkit.core.backoff import Backoff
from agentkit.runtime import store_warnings as warnings
from agentkit.store.memory import MemoryStore
from agentkit.store.protocol import Health
from tests.flaky_store import FlakyStore


class WithWarnings(MemoryStore):
    def check(self) -> Health:
        return Health(("it forgets", "it evicts"))


def test_a_process_warns_once_of_its_store_also_where_that_comes_later(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(warnings, "_BACKOFF", Backoff(0.0, 0.0))
    warnings.warn_of_store(FlakyStore(WithWarnings(), fail={"check": 1})).join(5)
    messages = [record.getMessage() for record in caplog.records if record.name == warnings.__name__]
    assert len(messages) == 2
    assert messages[0].startswith("the store is not there yet")
    assert messages[1] == "the store may lose runs: it forgets; it evicts"
