from __future__ import annotations

from pathlib import Path

import psutil
import pytest

from tests.servers import ValkeyServer
from tests.waiting import wait_until


def test_a_killed_server_comes_back_on_the_same_port_with_its_data(tmp_path: Path) -> None:
    with ValkeyServer(tmp_path) as server:
        before = server.url, server.pid
        assert server.command("SET", "greeting", "hello") == "+OK"
        server.restart(hard=True)
        assert server.url == before[0]
        assert server.pid != before[1]
        assert server.command("EXISTS", "greeting") == ":1"


def test_a_stopped_server_leaves_no_process() -> None:
    server = ValkeyServer()
    server.start()
    pid = server.pid
    server.stop()
    server.stop()
    assert not psutil.pid_exists(pid)


def test_each_test_has_an_empty_database_of_its_own(valkey_server: ValkeyServer, redis_url: str) -> None:
    assert redis_url.startswith(valkey_server.database(0)[:-1])
    assert valkey_server.command("PING") == "+PONG"


def test_waiting_says_what_it_waited_for() -> None:
    with pytest.raises(AssertionError, match=r"waited 0 s for rain; the last answer was \[\]"):
        wait_until(list, timeout=0, what="rain")
