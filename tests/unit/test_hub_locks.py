"""The hub's two locks: whoever is collected as garbage leaves in the middle of anything, and blocks nobody."""

from __future__ import annotations

import threading
from typing import Any

from agentkit.store.redis_hub import Hub, HubSubscription
from tests.waiting import wait_until


class Quiet:
    """A client and its subscription: all is confirmed at once, and there is no news."""

    def __init__(self) -> None:
        self.subscribed: list[str] = []
        self.over = threading.Event()

    def pubsub(self) -> Quiet:
        return self

    def subscribe(self, *channels: str) -> None:
        self.subscribed += channels

    def unsubscribe(self, *channels: str) -> None:
        pass

    def get_message(self, timeout: float) -> Any:
        if self.subscribed:
            return {"type": "subscribe", "channel": self.subscribed.pop().encode(), "data": 1}
        self.over.wait(timeout)
        return None

    def close(self) -> None:
        pass


def test_a_follower_may_leave_while_its_thread_hands_over_news_and_another_comes() -> None:
    client: Any = Quiet()
    hub = Hub(client)
    garbage = hub.subscribe("run")
    came: list[HubSubscription] = []
    comer = threading.Thread(target=lambda: came.append(hub.subscribe("run")), daemon=True)
    leaver = threading.Thread(target=garbage.close, daemon=True)
    with hub.guard:  # as by a thread that is interrupted here by the garbage collection
        comer.start()
        wait_until(lambda: len(hub._followers["run"]) == 2, what="the other to be there")
        leaver.start()
        leaver.join(5)
        assert not leaver.is_alive()
    comer.join(5)
    assert came[0].confirmed
    hub.close()
    client.over.set()
