"""The client of the store: what becomes of a connection whose caller was interrupted."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import redis

from agentkit.store.client import Client, Pool
from agentkit.store.connection import connect


class TimeLimit(Exception):
    """As Celery raises one into a task, wherever that is."""


def interrupted_read(error: type[BaseException]) -> Any:
    def interrupt(*_: Any, **__: Any) -> None:
        raise error

    return interrupt


@pytest.mark.parametrize("error", [TimeLimit, SystemExit])
def test_a_reply_that_was_not_waited_for_is_not_taken_for_the_next_ones(
    redis_url: str, monkeypatch: pytest.MonkeyPatch, error: type[BaseException]
) -> None:
    with connect(redis_url) as client:
        client.set("known", "value")
        with monkeypatch.context() as interrupted:
            interrupted.setattr(client, "parse_response", interrupted_read(error))
            with pytest.raises(error):
                client.execute_command("BLPOP", "empty", 0.5)  # type: ignore[no-untyped-call]
        assert client.get("known") == b"value"


@pytest.mark.parametrize("error", [TimeLimit, SystemExit])
def test_nor_are_those_of_a_pipeline(
    redis_url: str, monkeypatch: pytest.MonkeyPatch, error: type[BaseException]
) -> None:
    with connect(redis_url) as client:
        client.set("known", "value")
        pipe = client.pipeline(transaction=False)
        pipe.blpop(["empty"], 0.5).get("known")
        monkeypatch.setattr(pipe, "parse_response", interrupted_read(error))
        with pytest.raises(error):
            pipe.execute()
        assert client.get("known") == b"value"


def test_a_refusal_is_a_whole_reply_and_costs_no_connection(redis_url: str) -> None:
    with connect(redis_url) as client:
        before = client.client_id()
        for _ in range(3):
            with pytest.raises(Exception, match="WRONGTYPE"):
                client.eval("return redis.call('LPUSH', KEYS[1], 1) and redis.call('GET', KEYS[1])", 1, "list")
        assert client.client_id() == before


def test_a_connection_that_the_server_has_closed_is_made_anew(redis_url: str) -> None:
    with connect(redis_url) as client, connect(redis_url) as other:
        client.set("known", "value")
        other.client_kill_filter(_id=str(client.client_id()))
        assert client.get("known") == b"value"
        other.client_kill_filter(_id=str(client.client_id()))
        assert client.pipeline(transaction=False).get("known").get("unknown").execute() == [b"value", None]


def test_a_pipeline_gives_all_replies_and_raises_the_first_refusal(redis_url: str) -> None:
    with connect(redis_url) as client:
        pipe = client.pipeline(transaction=False)
        pipe.set("text", "a").lpush("text", "b").get("text")
        done, refused, text = pipe.execute(raise_on_error=False)
        assert (done, text) == (True, b"a")
        assert "WRONGTYPE" in str(refused)
        with pytest.raises(redis.exceptions.ResponseError, match=r"Command # 2 \(LPUSH text b\).*WRONGTYPE"):
            client.pipeline(transaction=False).set("text", "a").lpush("text", "b").execute()
        assert client.pipeline(transaction=False).execute() == []


def test_no_more_callers_than_connections_are_served_at_once_and_the_others_wait(redis_url: str) -> None:
    pool = Pool.from_url(redis_url, max_connections=3, timeout=10)
    with Client.from_pool(pool) as client, ThreadPoolExecutor(24) as threads:
        assert list(threads.map(lambda _: client.incr("count"), range(600)))[-1]
        assert client.get("count") == b"600"
        assert len(client.client_list()) <= 3


def test_who_waits_longer_than_the_pool_has_them_wait_is_told(redis_url: str) -> None:
    pool = Pool.from_url(redis_url, max_connections=1, timeout=0.05)
    with Client.from_pool(pool) as client:
        taken = pool.get_connection()
        with pytest.raises(redis.exceptions.ConnectionError, match="No connection available"):
            client.get("known")
        pool.release(taken)
        assert client.get("known") is None
