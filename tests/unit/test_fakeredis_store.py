"""The store on Redis against an in-process fake: the Lua scripts, run by another Lua and another server."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import fakeredis
import pytest

from agentkit import FernetCodec
from tests.keys import new_key
from tests.redis_contract import RedisStoreContract, echoing


class TestFakeRedisStore(RedisStoreContract):
    @pytest.fixture
    def client(self) -> Iterator[Any]:
        with echoing(fakeredis.FakeRedis)(server=fakeredis.FakeServer(version=(7,))) as client:
            yield client


class TestEncryptedFakeRedisStore(TestFakeRedisStore):
    codec = FernetCodec(new_key())
    page_share = 0.6
