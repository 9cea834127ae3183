"""Threads of the wires where something breaks, or several come at once: nothing runs twice, and nothing is lost."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from agentkit import Agent, ScriptedModel
from agentkit.core.ids import now_ms
from agentkit.store.memory import MemoryStore
from tests.flaky_store import FlakyStore
from tests.tools import look
from tests.turns import call
from tests.unit.web.conftest import ThreadQueue, Web, assert_problem
from tests.unit.web.test_access import build
from tests.wires import AgUiClient, AiSdkClient

__all__ = ["build"]  # the fixture


def user(number: int, text: str = "hi") -> dict[str, Any]:
    return {"id": f"m{number}", "role": "user", "content": text}


@pytest.mark.parametrize(
    ("method", "how"), [("thread", "fail"), ("extend_thread", "fail"), ("extend_thread", "lose"), ("create", "fail")]
)
def test_a_request_that_broke_is_sent_again_and_runs_once(web: Web, method: str, how: str) -> None:
    client = AgUiClient(web.client, "hello")
    client.messages = [user(1)]
    getattr(web.store, how)[method] = 1
    assert_problem(client.post(), 503, "store_unavailable")
    client.run()
    assert [text for _, text in client.conversation] == ["hi", "Hello there."]
    client.say("and now?")
    assert len(list(web.kit.runs())) == 2
    assert len(web.kit.get(client.agent_run).messages or ()) == 4


def test_a_run_that_a_dead_process_had_no_time_for_is_made_for_the_next_message(web: Web) -> None:
    client = AgUiClient(web.client, "hello")
    client.say("one")
    client.messages.append(user(2, "two"))
    web.store.fail["create"] = 1
    assert_problem(client.post(), 503, "store_unavailable")
    client.messages.append(user(3, "three"))
    client.run()
    said = [message["content"] for message in web.kit.get(client.agent_run).messages or () if message["role"] == "user"]
    assert said == ["one", [{"type": "text", "text": "two"}, {"type": "text", "text": "three"}]]
    assert len(list(web.kit.runs())) == 2


def test_an_answer_made_anew_that_broke_is_asked_for_again_and_runs_once(web: Web) -> None:
    chat = AiSdkClient(web.client, "hello")
    first = chat.say("hi")["id"]
    chat.messages = chat.messages[:1]
    web.store.fail["create"] = 1
    assert_problem(chat.post(trigger="regenerate-message", messageId=first), 503, "store_unavailable")
    again = chat.send(trigger="regenerate-message", messageId=first)
    assert again["id"] != first
    assert len(list(web.kit.runs())) == 2
    assert chat.text == "Hello there."


def test_what_has_expired_is_not_run_again(server: str) -> None:
    ahead = [0]
    store = FlakyStore(MemoryStore(clock=lambda: now_ms() + ahead[0]))
    queue = ThreadQueue()
    web = Web(store, queue, server=server)
    try:
        client = AgUiClient(web.client, "hello")
        client.say("hi")
        store.store._runs.clear()  # type: ignore[attr-defined]  # as Redis does when their time has come
        ahead[0] = web.kit.settings.retention_seconds * 1000 - 5000
        assert web.store.thread(next(each.args[0] for each in store.calls if each.method == "thread")) is not None
        ahead[0] += 10_000
        assert_problem(client.post(), 400, "invalid_request")
        client.say("and now?")
        assert next(message["content"] for message in web.kit.get(client.agent_run).messages or ()) == "and now?"
        assert len(list(web.kit.runs())) == 1
    finally:
        queue.close()


def test_of_many_that_send_the_same_at_once_one_begins_a_run(web: Web) -> None:
    clients = [AgUiClient(web.client_of(web.kit), "hello") for _ in range(6)]
    for client in clients:
        client.messages = [user(1)]
    with ThreadPoolExecutor(6) as pool:
        list(pool.map(AgUiClient.run, clients))
    assert len(list(web.kit.runs())) == 1
    assert all([text for _, text in client.conversation] == ["hi", "Hello there."] for client in clients)


def test_of_many_that_say_something_else_at_once_none_is_lost(build: Any) -> None:
    agent = Agent("patient", ScriptedModel([[call("look")], "Seen."], delay=0.005), tools=[look])
    web = build([agent], hooks={})
    clients = [AgUiClient(web.client_of(web.kit), "patient") for _ in range(5)]
    for number, client in enumerate(clients):
        client.messages = [user(number, f"say {number}")]
    with ThreadPoolExecutor(5) as pool:
        list(pool.map(AgUiClient.run, clients))
    last = AgUiClient(web.client, "patient")
    last.run()
    said = str([message["content"] for message in web.kit.get(last.agent_run).messages or ()])
    assert all(f"say {number}" in said for number in range(5))


def test_who_is_always_late_is_told_to_try_again(web: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(web.store.store, "extend_thread", lambda *_: False)
    client = AgUiClient(web.client, "hello")
    client.messages = [user(1)]
    assert_problem(client.post(), 503, "store_unavailable")
    assert list(web.kit.runs()) == []


def test_a_refused_message_leaves_no_trace(web: Web) -> None:
    client = AgUiClient(web.client, "hello")
    client.messages = [
        {"id": "1", "role": "user", "content": [{"type": "image", "source": {"type": "url", "value": "x"}}]}
    ]
    assert_problem(client.post(), 400, "invalid_request")
    client.messages = []
    client.say("hi")
    assert [text for _, text in client.conversation] == ["hi", "Hello there."]


def test_an_answer_goes_on_although_its_thread_is_read_late(web: Web) -> None:
    client = AgUiClient(web.client, "shop")
    client.say("refund me")
    web.store.fail["commit"] = 1
    [interrupt] = client.interrupts
    yes = {"interruptId": interrupt["id"], "status": "resolved", "payload": {"approved": True}}
    assert_problem(client.post(resume=[yes]), 503, "store_unavailable")
    client.resume(yes)
    assert client.outcome == {"type": "success"}


def test_a_thread_is_named_by_nothing_that_its_client_wrote(web: Web) -> None:
    AgUiClient(web.client, "hello", "a secret of mine").say("hi")
    names = [each.args[0] for each in web.store.calls if each.method == "thread"]
    assert names
    assert "secret" not in str(names)
