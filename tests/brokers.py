"""The brokers that agentkit promises to run on, as what a test does to one: ask it, empty it, kill it, start it."""

from __future__ import annotations

from typing import Protocol

from agentkit.settings import Settings
from tests.rabbitmq import RabbitServer
from tests.servers import ValkeyServer

__all__ = ["Broker", "RabbitBroker", "ValkeyBroker"]


class Broker(Protocol):
    @property
    def url(self) -> str: ...

    @property
    def running(self) -> bool: ...

    def start(self) -> None: ...

    def kill(self) -> None:
        """SIGKILL. What it had accepted is there after the next start."""
        ...

    def queued(self) -> int:
        """How many messages wait."""
        ...

    def purge(self) -> None:
        """Lose the messages that wait."""
        ...


class ValkeyBroker:
    """A Valkey: the store's own, or another one."""

    def __init__(self, server: ValkeyServer) -> None:
        self._server = server
        self.running = True

    @property
    def url(self) -> str:
        return self._server.url

    def start(self) -> None:
        self._server.start()
        self.running = True

    def kill(self) -> None:
        self._server.kill()
        self.running = False

    def queued(self) -> int:
        return int(self._server.command("LLEN", Settings().queue).removeprefix(":"))

    def purge(self) -> None:
        self._server.command("DEL", Settings().queue)


class RabbitBroker:
    """A virtual host of a RabbitMQ."""

    def __init__(self, server: RabbitServer, vhost: str) -> None:
        self._server = server
        self._vhost = vhost

    @property
    def url(self) -> str:
        return self._server.url(self._vhost)

    @property
    def running(self) -> bool:
        return self._server.running

    def start(self) -> None:
        self._server.start()

    def kill(self) -> None:
        self._server.kill()

    def queued(self) -> int:
        return self._server.queued(self._vhost)

    def purge(self) -> None:
        self._server.purge(self._vhost)
