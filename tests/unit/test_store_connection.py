"""What Redis's errors mean to us, and the names of servers behind Sentinel."""

from __future__ import annotations

import ssl
from typing import Any

import pytest
import redis.exceptions
from redis._parsers.base import BaseParser

from agentkit.core.urls import SentinelUrl
from agentkit.errors import ConfigurationError, StoreError, StoreUnavailableError
from agentkit.queue.application import celery_app
from agentkit.queue.celery import CeleryQueue
from agentkit.settings import Settings
from agentkit.store.connection import translated


class Pool:
    def __init__(self) -> None:
        self.disconnected = 0

    def disconnect(self, inuse_connections: bool = True) -> None:
        assert not inuse_connections, "others still read from these"
        self.disconnected += 1


class Failing:
    """A store with one method, which fails."""

    def __init__(self, error: Exception) -> None:
        self._error = error
        self._client: Any = self
        self.connection_pool = Pool()

    @translated
    def act(self) -> None:
        raise self._error


def said(line: str) -> Exception:
    """What redis-py makes of a server's error reply."""
    error: Exception = BaseParser.parse_error(line)
    return error


@pytest.mark.parametrize(
    "error",
    [
        redis.exceptions.ConnectionError("Connection refused"),
        redis.exceptions.TimeoutError("Timeout reading from socket"),
        said("LOADING Redis is loading the dataset in memory"),
        said("OOM command not allowed when used memory > 'maxmemory'. script: on @user_script:108."),
        said("READONLY You can't write against a read only replica."),
        said("NOREPLICAS Not enough good replicas to write. script: on @user_script:108."),
        said("MISCONF Redis is configured to save RDB snapshots, but it's currently unable to persist to disk."),
        said("BUSY Redis is busy running a script. You can only call SCRIPT KILL or SHUTDOWN NOSAVE."),
        said("MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'."),
        said("CLUSTERDOWN The cluster is down"),
        said("TRYAGAIN Multiple keys request during rehashing of slot"),
        said("ERR max number of clients reached"),
        said("NOAUTH Authentication required."),
        said("ERR Error running script (call to f_0): @user_script:12: -MISCONF Redis is configured to save"),
    ],
    ids=lambda error: str(error)[:20],
)
def test_a_server_that_cannot_serve_now_is_unavailable(error: Exception) -> None:
    store = Failing(error)
    with pytest.raises(StoreUnavailableError) as caught:
        store.act()
    assert caught.value.__cause__ is error


@pytest.mark.parametrize(
    "line",
    [
        "WRONGTYPE Operation against a key holding the wrong kind of value script: on @user_script:89.",
        "ERR user_script:12: attempt to index a nil value script: on @user_script:12.",
        "NOPERM User worker has no permissions to run the 'evalsha' command",
        "CROSSSLOT Keys in request don't hash to the same slot",
    ],
)
def test_an_error_that_no_repetition_helps_is_no_outage(line: str) -> None:
    with pytest.raises(StoreError) as caught:
        Failing(said(line)).act()
    assert not isinstance(caught.value, StoreUnavailableError)


@pytest.mark.parametrize(
    "line", ["READONLY You can't write against a read only replica.", "ERR Error running script: -READONLY You can't"]
)
def test_after_a_read_only_reply_the_server_is_resolved_anew(line: str) -> None:
    store = Failing(said(line))
    with pytest.raises(StoreUnavailableError):
        store.act()
    assert store.connection_pool.disconnected == 1


# -- Sentinel --------------------------------------------------------------------------------------


def test_a_sentinel_url_names_sentinels_service_login_and_database() -> None:
    assert SentinelUrl.read("redis+sentinel://ann:s%40e@one:1,two,[::1]:3/runs/4") == SentinelUrl(
        (("one", 1), ("two", 26379), ("::1", 3)), "runs", 4, "ann", "s@e"
    )
    assert SentinelUrl.read("redis+sentinel://one/runs") == SentinelUrl((("one", 26379),), "runs")
    assert SentinelUrl.read("redis://one/0") is None


def test_a_sentinel_url_of_tls_has_the_options_of_tls_and_the_sentinels_own_login() -> None:
    url = SentinelUrl.read(
        "rediss+sentinel://:s%40e@one/runs?sentinel_username=watch&sentinel_password=h%26r&ssl_ca_certs=/ca.pem"
        "&ssl_check_hostname=false"
    )
    assert url is not None
    assert (url.password, url.tls) == ("s@e", {"ssl_ca_certs": "/ca.pem", "ssl_check_hostname": False})
    tls = {"ssl": True, "ssl_ca_certs": "/ca.pem", "ssl_check_hostname": False}
    assert url.sentinel_options() == {"username": "watch", "password": "h&r", **tls}
    assert "h&r" not in repr(url)
    plain = SentinelUrl.read("redis+sentinel://one/runs?sentinel_password=x")
    assert plain is not None
    assert (plain.sentinel_options(), plain.tls) == ({"username": None, "password": "x"}, None)


@pytest.mark.parametrize(
    ("url", "text"),
    [
        ("redis+sentinel://one/runs?ssl_ca_certs=x", "TLS has the scheme rediss"),
        ("rediss+sentinel://one/runs?sentinel_pasword=hunter2", "'sentinel_pasword' is no option"),
    ],
)
def test_an_option_that_a_sentinel_url_does_not_have_is_named(url: str, text: str) -> None:
    with pytest.raises(ConfigurationError, match=text) as caught:
        SentinelUrl.read(url)
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    "url", ["one:1", "one:1/", "one/runs/x", "/runs", "one:x/runs", "a,,b/runs", "one:1/runs?db=1"]
)
def test_a_sentinel_url_that_cannot_be_read_is_an_error_without_its_password(url: str) -> None:
    with pytest.raises(ConfigurationError, match=r"Sentinel") as caught:
        SentinelUrl.read(f"redis+sentinel://ann:hunter2@{url}")
    assert "hunter2" not in str(caught.value)


def test_the_broker_behind_sentinel_is_named_as_celery_wants_it_and_takes_pushed_messages() -> None:
    url = "redis+sentinel://:s%40e@one:1,two:2/runs/4"
    app = celery_app(Settings(redis_url=url))
    assert app.conf.broker_url == "sentinel://:s%40e@one:1/4;sentinel://:s%40e@two:2/4"
    assert app.conf.broker_transport_options["master_name"] == "runs"
    assert CeleryQueue(Settings(redis_url=url)).push("r", 1, "model") is not None


def test_the_broker_behind_a_sentinel_of_tls_is_asked_by_tls_and_with_its_password() -> None:
    conf = celery_app(Settings(redis_url="rediss+sentinel://:p@one/runs?sentinel_password=q&ssl_ca_certs=/ca")).conf
    assert conf.broker_url == "sentinel://:p@one:26379/0"
    assert conf.broker_use_ssl == {"ssl_cert_reqs": "required", "ssl_ca_certs": "/ca"}
    asking = conf.broker_transport_options["sentinel_kwargs"]
    assert (asking["password"], asking["ssl"], asking["ssl_ca_certs"]) == ("q", True, "/ca")


@pytest.mark.parametrize(
    ("given", "broker"),
    [
        ("rediss://one/0", "rediss://one/0?ssl_cert_reqs=required"),
        ("rediss://one/0?ssl_ca_certs=/ca.pem", "rediss://one/0?ssl_ca_certs=/ca.pem&ssl_cert_reqs=required"),
        ("rediss://one/0?ssl_cert_reqs=none", "rediss://one/0?ssl_cert_reqs=none"),
    ],
)
def test_a_brokers_certificate_is_checked_unless_the_url_says_otherwise(given: str, broker: str) -> None:
    app = celery_app(Settings(redis_url=given))
    assert app.conf.broker_url == broker
    wanted = ssl.CERT_NONE if "none" in given else ssl.CERT_REQUIRED
    assert app.connection_for_write().ssl["ssl_cert_reqs"] == wanted
