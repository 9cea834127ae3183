"""The store and Celery's broker by TLS: a real server, whose certificate and name are checked, and that checks ours."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import kombu.exceptions
import pytest
import redis

from agentkit import Agent, AgentKit, ScriptedModel, Settings
from agentkit.errors import StoreUnavailableError
from agentkit.queue.application import celery_app
from agentkit.queue.protocol import InlineQueue
from agentkit.store.redis import RedisStore
from tests.redis_contract import RedisStoreContract, echoing
from tests.tls_servers import Authority, TlsServer


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("ca"))


@pytest.fixture(scope="module")
def server(authority: Authority, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TlsServer]:
    server = TlsServer(authority, tmp_path_factory.mktemp("tls"), "server", hosts=("127.0.0.1",))
    server.start()
    yield server
    server.stop()


class TestRedisByTls(RedisStoreContract):
    """The whole contract of a store, on Debian's Redis."""

    @pytest.fixture
    def client(self, server: TlsServer) -> Iterator[Any]:
        with echoing(redis.Redis).from_url(server.database(1), protocol=2) as client:
            client.flushdb()
            yield client


def test_runs_are_stored_and_followed_by_tls_with_a_client_certificate(server: TlsServer) -> None:
    store, queue = RedisStore(server.url), InlineQueue()
    kit = AgentKit([Agent("a", ScriptedModel(["hello"]))], settings=Settings(), store=store, queue=queue)
    handle = kit.start("a", "go")
    subscription = store.subscribe(handle.id)
    assert subscription.get(0.01) is None
    while queue.waiting:
        kit.execute(*queue.waiting.popleft())
    assert subscription.get(10)
    assert [event["type"] for event in handle.events()][-1] == "agent_end"
    assert kit.doctor().findings[1].text.startswith("Redis 7")
    assert "The connection is encrypted" in kit.doctor().findings[1].text
    subscription.close()
    store.close()


REFUSED: dict[str, tuple[str, dict[str, Any], str]] = {
    "an authority that has not issued it": (
        "127.0.0.1",
        {"ca": "other"},
        "ssl_ca_certs in the URL names the authorities",
    ),
    "another host": ("localhost", {}, "the certificate must be that of the URL's host"),
    "no client certificate": ("127.0.0.1", {"client": False}, "client certificate|reset by peer"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_server_or_a_client_that_proves_nothing_is_refused_in_words(
    name: str, server: TlsServer, tmp_path_factory: pytest.TempPathFactory
) -> None:
    host, options, text = REFUSED[name]
    other = Authority(tmp_path_factory.mktemp("other"), "other")
    url = server.at(host, **{**options, **({"ca": other.path} if "ca" in options else {})})
    store = RedisStore(url)
    with pytest.raises(StoreUnavailableError) as caught:
        store.check()
    assert re.search(text, str(caught.value))
    assert "s3cret" not in str(caught.value)
    store.close()
    with pytest.raises((kombu.exceptions.OperationalError, redis.RedisError)):
        celery_app(Settings(broker_url=url)).connection_for_write(connect_timeout=3).connect()


def test_a_name_that_is_not_to_be_checked_is_not(server: TlsServer) -> None:
    url = f"{server.at('localhost')}&ssl_check_hostname=false"
    store = RedisStore(url)
    assert store.check().tls
    store.close()
    with celery_app(Settings(broker_url=url)).connection_for_write(connect_timeout=3) as connection:
        connection.connect()
