"""What a process says of its store when it starts."""

from __future__ import annotations

import pytest

from agentkit.core.backoff import Backoff
from agentkit.errors import StoreUnavailableError
from agentkit.runtime import store_warnings as warnings
from agentkit.store.memory import MemoryStore
from agentkit.store.protocol import Health


class Starting(MemoryStore):
    """Not there when it is first asked."""

    def __init__(self) -> None:
        super().__init__()
        self.asked = 0

    def check(self) -> Health:
        self.asked += 1
        if self.asked == 1:
            raise StoreUnavailableError
        return Health(("it forgets", "it evicts"))


def test_a_process_warns_once_of_its_store_also_where_that_comes_later(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(warnings, "_BACKOFF", Backoff(0.0, 0.0))
    warnings.warn_of_store(Starting()).join(5)
    said = [record.getMessage() for record in caplog.records if record.name == warnings.__name__]
    assert len(said) == 2
    assert said[0].startswith("the store is not there yet")
    assert said[1] == "the store may lose runs: it forgets; it evicts"
