"""The store in memory keeps the contract of every store."""

from __future__ import annotations

from typing import Any

import pytest

from agentkit import FernetCodec
from agentkit.core.ids import now_ms
from agentkit.store.memory import MemoryStore
from agentkit.testing.store_changes import MakeStore, new_run
from agentkit.testing.store_contract import StoreContract
from tests.keys import new_key


class TestMemoryStore(StoreContract):
    @pytest.fixture
    def make_store(self) -> MakeStore:
        return MemoryStore

    def ttls(self, store: Any, run_id: str) -> list[int | None]:
        run = store._runs.get(run_id)
        return [] if run is None else [None if run.expires is None else run.expires - now_ms()]

    def test_a_value_that_was_read_can_be_changed_without_changing_the_store(self) -> None:
        store = MemoryStore()
        run_id = new_run(store)
        store.messages(run_id)[1][0]["content"] = "changed"
        store.load(run_id).record.metadata["k"] = "changed"
        assert store.messages(run_id)[1][0]["content"] == "hallo, Welt ☃"
        assert store.load(run_id).record.metadata == {"k": "ü"}

    def test_it_says_that_nothing_outlives_the_process(self) -> None:
        assert "memory" in MemoryStore().check().warnings[0]


class TestEncryptedMemoryStore(TestMemoryStore):
    @pytest.fixture
    def make_store(self) -> MakeStore:
        def make(**options: Any) -> MemoryStore:
            store = MemoryStore(**options)
            store.use_codec(FernetCodec(new_key()))
            return store

        return make
