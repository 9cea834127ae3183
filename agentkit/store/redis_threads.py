"""The threads of the store on Redis or Valkey: each a hash of its last run and the messages that its runs have."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import cast

import redis

from agentkit.store.bodies import Bodies
from agentkit.store.connection import translated
from agentkit.store.lua import Scripts
from agentkit.store.protocol import StoredThread, ThreadMessage

__all__ = ["RedisThreads"]


class RedisThreads:
    """The part of `RedisStore` that knows threads."""

    _client: redis.Redis
    _bodies: Bodies
    _scripts: Scripts
    _prefix: str
    _retention_ms: int

    @translated
    def thread(self, name: str, messages: Sequence[str] = ()) -> StoredThread | None:
        key = self._thread_key(name)
        pipe = self._client.pipeline(transaction=False)
        pipe.hmget(key, ["run", "before", *(f"m:{each}" for each in messages)])
        pipe.pexpire(key, self._retention_ms)
        run_id, before, *stored = cast(list[bytes | None], pipe.execute()[0])
        if run_id is None:
            return None
        known = {each: self._message(value) for each, value in zip(messages, stored, strict=True) if value is not None}
        return StoredThread(run_id.decode(), before.decode() if before else None, known)

    @translated
    def extend_thread(self, name: str, run_id: str, after: str | None, messages: Mapping[str, str]) -> bool:
        # The digest would show what a small message was.
        values = {
            f"m:{each}": b"%b %b" % (self._bodies.encrypt(digest.encode()), run_id.encode())
            for each, digest in messages.items()
        }
        reply = self._scripts.extend_thread(self._thread_key(name), run_id, after or "", self._retention_ms, values)
        return bool(reply == b"ok")

    def _thread_key(self, name: str) -> str:
        return f"{self._prefix}thread:{name}"

    def _message(self, stored: bytes) -> ThreadMessage:
        digest, _, run_id = stored.partition(b" ")
        return ThreadMessage(run_id.decode(), self._bodies.decrypt(digest, run_id.decode()).decode())
