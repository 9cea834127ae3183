"""Over HTTP and WebSockets, the principal of a request is who did it, in the run's log."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from agentkit import Agent, ScriptedModel
from agentkit.server.streams import StreamSlot
from agentkit.server.websocket import RunSocket
from tests.sockets import HANDSHAKE
from tests.tools import refund_with
from tests.turns import call
from tests.unit.web.conftest import Web
from tests.unit.web.test_access import ADA, BOB, EVE, begin, build, by_name

__all__ = ["build"]  # the fixture


def log_of(web: Web, run_id: str) -> list[Any]:
    return [json.loads(event.data) for event in web.kit.store.events(run_id, 0, 1000).events]


def send_frame(web: Web, who: dict[str, str], run_id: str, frame: dict[str, Any]) -> None:
    """Have a frame of a WebSocket carried out, without the socket."""
    with web.app.test_request_context(f"/runs/{run_id}/ws", headers={**HANDSHAKE, **who}):
        assert web.app.preprocess_request() is None
        run_socket = RunSocket(run_id, web.kit.handle(run_id).open(0), StreamSlot())
    assert json.loads(run_socket.reply(json.dumps(frame)))["type"] == "ok"
    run_socket.close()


def test_who_sends_a_message_and_who_aborts_is_named(build: Callable[..., Web]) -> None:
    web = build(hooks={"authenticate": by_name, "may": lambda who, action, run: True})
    run_id = begin(web, ADA)
    steer = {"message": "hurry", "when": "steer"}
    assert web.client.post(f"/runs/{run_id}/messages", json=steer, headers=BOB).status_code == 202
    send_frame(web, EVE, run_id, {"type": "message", "message": "and then", "when": "followUp"})
    queued = web.client.get(f"/runs/{run_id}", headers=ADA).json["queued"]
    assert [message["by"] for message in queued] == ["bob", "eve"]
    assert web.client.post(f"/runs/{run_id}/abort", headers=BOB).status_code == 202
    assert log_of(web, run_id)[-1]["by"] == "bob"
    other = begin(web, ADA)
    send_frame(web, EVE, other, {"type": "abort"})
    assert log_of(web, other)[-1]["by"] == "eve"


def test_who_gives_an_item_more_time_is_named_with_its_answer(build: Callable[..., Web]) -> None:
    shop = Agent("shop", ScriptedModel([[call("refund")], "Done."]), tools=[refund_with(decision_timeout=60)])
    web = build([shop], hooks={"authenticate": by_name, "may": lambda who, action, run: True})
    run_id = begin(web, ADA)
    [item] = web.kit.get(run_id).pending
    extension = {"decisionId": item["decisionId"], "by": 5}
    assert web.client.post(f"/runs/{run_id}/extend", json=extension, headers=BOB).status_code == 202
    web.client.post(f"/runs/{run_id}/resume", json={"decision": {"approved": True}}, headers=EVE)
    [decision] = web.kit.decisions(run_id)
    assert (decision.decided_by, [each.by for each in decision.extensions]) == ("eve", ["bob"])


def test_without_hooks_nobody_is_named(web: Web) -> None:
    run_id = web.start("shop")
    web.client.post(f"/runs/{run_id}/messages", json={"message": "hurry", "when": "steer"}, headers=ADA)
    web.client.post(f"/runs/{run_id}/abort", headers=ADA)
    assert all("by" not in event for event in log_of(web, run_id))
