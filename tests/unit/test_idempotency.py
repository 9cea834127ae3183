"""Calls to a run that have an idempotency key: sent again, they are answered as the first time and do nothing."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from agentkit import Agent, AgentKit, ScriptedModel, Settings
from agentkit.client import AsyncClient, Client
from agentkit.errors import (
    DecisionValidationError,
    IdempotencyConflictError,
    InvalidRequestError,
    RunNotPausedError,
    StoreUnavailableError,
)
from agentkit.web import create_app
from tests.apps import App
from tests.flaky_store import FlakyStore
from tests.tools import YES, refund_with
from tests.turns import call

NO = {"approved": False}


refund = refund_with(decision_timeout=600)


@pytest.fixture
def app() -> App:
    return App([call("refund")], [call("refund")], "done", tools=[refund], store=FlakyStore())


def items(app: App, run_id: str) -> Any:
    return app.kit.get(run_id).pending


def results(app: App, run_id: str) -> list[str]:
    messages = app.kit.get(run_id).messages or []
    return [message["content"][0]["text"] for message in messages if message["role"] == "toolResult"]


def queued(app: App, run_id: str) -> list[Any]:
    return [each["message"] for each in app.kit.get(run_id).queued or []]


CALLS: dict[str, Callable[..., Any]] = {
    "resume": lambda app, run_id, **key: app.kit.resume(run_id, YES, **key),
    "reject": lambda app, run_id, **key: app.kit.resume(run_id, reject="no", **key),
    "resume by id": lambda app, run_id, **key: app.kit.resume(run_id, YES, decision_id=DECISIONS[run_id], **key),
    "extend": lambda app, run_id, **key: app.kit.extend(run_id, DECISIONS[run_id], 60, **key),
    "steer": lambda app, run_id, **key: app.kit.send(run_id, "more", "steer", **key),
    "followUp": lambda app, run_id, **key: app.kit.send(run_id, [{"type": "text", "text": "more"}], **key),
}
DECISIONS: dict[str, str] = {}
"""By run: the id of its first item."""


@pytest.fixture
def run_id(app: App) -> str:
    found = app.run()
    DECISIONS[found] = items(app, found)[0]["decisionId"]
    return found


@pytest.mark.parametrize("name", CALLS)
def test_the_same_call_under_the_same_key_is_done_once_and_answered_as_the_first_time(
    app: App, run_id: str, name: str
) -> None:
    first = CALLS[name](app, run_id, idempotency_key="k")
    record = app.store.load(run_id).record
    again = CALLS[name](app, run_id, idempotency_key="k")
    assert app.store.load(run_id).record == record
    assert (again.id, again.since) == (first.id, first.since)
    app.work()
    record, log = app.store.load(run_id).record, app.log(run_id)
    assert CALLS[name](app, run_id, idempotency_key="k").since == first.since
    assert (app.store.load(run_id).record, app.log(run_id)) == (record, log)


@pytest.mark.parametrize("name", ["resume", "reject"])
def test_an_answer_sent_again_does_not_answer_the_next_item(app: App, run_id: str, name: str) -> None:
    CALLS[name](app, run_id, idempotency_key="k")
    app.work()
    assert len(items(app, run_id)) == 1
    CALLS[name](app, run_id, idempotency_key="k")
    app.work()
    assert len(items(app, run_id)) == 1
    assert len(results(app, run_id)) == 1


@pytest.mark.parametrize("name", CALLS)
@pytest.mark.parametrize("other", CALLS)
def test_another_call_under_the_same_key_is_a_conflict_and_does_nothing(
    app: App, run_id: str, name: str, other: str
) -> None:
    CALLS[name](app, run_id, idempotency_key="k")
    record = app.store.load(run_id).record
    if name != other:
        with pytest.raises(IdempotencyConflictError):
            CALLS[other](app, run_id, idempotency_key="k")
    assert app.store.load(run_id).record == record


def test_other_values_under_the_same_key_are_a_conflict(app: App, run_id: str) -> None:
    app.kit.send(run_id, "more", "steer", idempotency_key="a")
    app.kit.extend(run_id, DECISIONS[run_id], 60, idempotency_key="b")
    app.kit.resume(run_id, YES, idempotency_key="c")
    for call_again in (
        lambda: app.kit.send(run_id, "less", "steer", idempotency_key="a"),
        lambda: app.kit.send(run_id, "more", "followUp", idempotency_key="a"),
        lambda: app.kit.extend(run_id, DECISIONS[run_id], 61, idempotency_key="b"),
        lambda: app.kit.resume(run_id, NO, idempotency_key="c"),
        lambda: app.kit.resume(run_id, YES, input={}, idempotency_key="c"),
    ):
        with pytest.raises(IdempotencyConflictError):
            call_again()


def test_a_key_is_each_callers_and_each_runs_own(app: App, run_id: str) -> None:
    another = app.start()
    for caller in (None, "ada", "bob"):
        app.kit.send(run_id, f"from {caller}", idempotency_key="k", by=caller)
        app.kit.send(another, f"from {caller}", idempotency_key="k", by=caller)
    assert queued(app, run_id) == queued(app, another) == ["from None", "from ada", "from bob"]


def test_without_a_key_a_message_sent_twice_is_two(app: App, run_id: str) -> None:
    app.kit.send(run_id, "more")
    app.kit.send(run_id, "more")
    assert queued(app, run_id) == ["more", "more"]


@pytest.mark.parametrize("key", ["", "x" * 256, 7])
def test_what_is_no_key_is_refused(app: App, run_id: str, key: Any) -> None:
    for name in CALLS:
        with pytest.raises(InvalidRequestError, match="1 to 255"):
            CALLS[name](app, run_id, idempotency_key=key)
    assert queued(app, run_id) == []


def test_a_refused_call_binds_nothing(app: App, run_id: str) -> None:
    with pytest.raises(DecisionValidationError):
        app.kit.resume(run_id, {"approved": "perhaps"}, idempotency_key="k")
    app.kit.resume(run_id, NO, idempotency_key="k")
    app.work()
    assert results(app, run_id) == ["declined"]


def test_an_answer_that_was_there_already_binds_the_key_too(app: App, run_id: str) -> None:
    first = app.kit.resume(run_id, YES, decision_id=DECISIONS[run_id])
    app.work()
    again = app.kit.resume(run_id, YES, decision_id=DECISIONS[run_id], idempotency_key="k")
    assert again.since == first.since
    assert app.kit.resume(run_id, YES, decision_id=DECISIONS[run_id], idempotency_key="k").since == first.since
    with pytest.raises(IdempotencyConflictError):
        app.kit.resume(run_id, YES, idempotency_key="k")
    assert len(items(app, run_id)) == 1


def test_after_the_end_the_same_call_is_answered_and_another_is_refused(app: App, run_id: str) -> None:
    app.kit.send(run_id, "more", idempotency_key="k")
    app.kit.abort(run_id)
    assert app.kit.send(run_id, "more", idempotency_key="k").run.status == "aborted"
    with pytest.raises(RunNotPausedError):
        app.kit.send(run_id, "more", idempotency_key="another")


@pytest.mark.parametrize("name", ["resume", "extend", "steer", "followUp"])
def test_a_call_whose_reply_the_store_lost_finds_its_receipt(app: App, run_id: str, name: str) -> None:
    app.store.lose["commit"] = 1
    with pytest.raises(StoreUnavailableError):
        CALLS[name](app, run_id, idempotency_key="k")
    record = app.store.load(run_id).record
    CALLS[name](app, run_id, idempotency_key="k")
    assert app.store.load(run_id).record == record


def test_of_calls_at_the_same_time_under_one_key_one_is_done(app: App, run_id: str) -> None:
    start = threading.Barrier(8)

    def send() -> None:
        start.wait()
        app.kit.send(run_id, "more", idempotency_key="k")

    threads = [threading.Thread(target=send) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert queued(app, run_id) == ["more"]


# -- a sub-agent's items, on the parent


@pytest.fixture
def parent_app() -> App:
    app = App("x", store=FlakyStore())
    clerk = Agent("clerk", ScriptedModel([[call("refund")], [call("refund")], "paid"], name="c"), tools=[refund])
    turn = [{"type": "toolCall", "name": "clerk", "arguments": {"input": "pay"}}]
    app.agent = Agent("a", ScriptedModel([turn, "done"], name="a"), tools=[clerk.as_tool()])
    return app.another_worker()


@pytest.mark.parametrize("with_id", [True, False])
def test_an_answer_on_the_parent_is_given_once(parent_app: App, with_id: bool) -> None:
    run_id = parent_app.run()
    (item,) = items(parent_app, run_id)
    ids = {"decision_id": item["decisionId"]} if with_id else {}
    first = parent_app.kit.resume(run_id, YES, idempotency_key="k", **ids)
    parent_app.work()
    assert [each["decisionId"] for each in items(parent_app, run_id)] != [item["decisionId"]]
    again = parent_app.kit.resume(run_id, YES, idempotency_key="k", **ids)
    assert again.since == first.since
    parent_app.work()
    assert len(items(parent_app, run_id)) == 1
    assert results(parent_app, item["runId"]) == ["refunded 0"]
    with pytest.raises(IdempotencyConflictError):
        parent_app.kit.resume(run_id, NO, idempotency_key="k", **ids)


def test_an_answer_on_the_parent_that_did_not_reach_the_child_is_completed_when_it_is_sent_again(
    parent_app: App,
) -> None:
    run_id = parent_app.run()
    (item,) = items(parent_app, run_id)
    parent_app.store.lose["commit"] = 1  # the reply to the parent's receipt: the child has nothing yet
    with pytest.raises(StoreUnavailableError):
        parent_app.kit.resume(run_id, YES, idempotency_key="k")
    assert results(parent_app, item["runId"]) == []
    parent_app.kit.resume(run_id, YES, idempotency_key="k")
    parent_app.work()
    assert results(parent_app, item["runId"]) == ["refunded 0"]
    assert len(items(parent_app, run_id)) == 1


def test_an_extension_on_the_parent_is_made_once_also_after_the_answer(parent_app: App) -> None:
    run_id = parent_app.run()
    (item,) = items(parent_app, run_id)
    for _ in range(3):
        parent_app.kit.extend(run_id, item["decisionId"], 60, idempotency_key="k")
    (moved,) = items(parent_app, item["runId"])
    assert moved["expiresAt"] - item["expiresAt"] == 60_000
    parent_app.kit.resume(run_id, YES, decision_id=item["decisionId"])
    parent_app.work()
    parent_app.kit.extend(run_id, item["decisionId"], 60, idempotency_key="k")


def test_an_answer_that_the_child_refused_binds_nothing(parent_app: App) -> None:
    run_id = parent_app.run()
    (item,) = items(parent_app, run_id)
    with pytest.raises(DecisionValidationError):
        parent_app.kit.resume(run_id, {"approved": 1}, idempotency_key="k")
    parent_app.kit.resume(run_id, NO, idempotency_key="k")
    parent_app.work()
    assert results(parent_app, item["runId"]) == ["declined"]


# -- over HTTP


def by_name(request: Any) -> str | None:
    return request.headers.get("X-Name")


@pytest.mark.parametrize("accept", ["application/json", "text/event-stream"])
def test_over_http_the_second_answer_is_that_of_the_first(accept: str) -> None:
    app = App([call("refund")], [call("refund")], "done", tools=[refund])
    client = create_app(app.kit).test_client()
    run_id = app.run()
    (item,) = items(app, run_id)
    calls = {
        "messages": {"message": "more", "when": "followUp"},
        "extend": {"decisionId": item["decisionId"], "by": 5},
        "resume": {"decision": YES},
    }
    for path, body in calls.items():
        for _ in range(2):
            key = {"Idempotency-Key": f"{path} k"}
            assert client.post(f"/runs/{run_id}/{path}", json=body, headers=key).status_code == 202
        other = {**body, **({"by": 6} if path == "extend" else {"reject": {"reason": "x"}} if path == "resume" else {})}
        other.pop("decision", None)
        other |= {"message": "less"} if path == "messages" else {}
        refused = client.post(f"/runs/{run_id}/{path}", json=other, headers={"Idempotency-Key": f"{path} k"})
        assert (refused.status_code, refused.json["code"]) == (409, "idempotency_conflict")
    assert queued(app, run_id) == ["more"]
    app.work()
    (second,) = items(app, run_id)
    again = client.post(f"/runs/{run_id}/resume", json={"decision": YES}, headers={"Idempotency-Key": "resume k"})
    assert (again.status_code, items(app, run_id)) == (202, [second])
    body = {"decision": YES, "decisionId": second["decisionId"]}
    headers = {"Idempotency-Key": "k", "Accept": accept}
    status = 202 if accept == "application/json" else 200
    with client.post(f"/runs/{run_id}/resume", json=body, headers=headers) as answer:
        assert answer.status_code == status
    app.work()
    log = app.log(run_id)
    answer = client.post(f"/runs/{run_id}/resume", json=body, headers=headers)
    assert answer.status_code == status
    if accept == "text/event-stream":
        assert "tool_decision_resolved" in next(line for line in answer.text.splitlines() if line.startswith("data:"))
    assert app.log(run_id) == log


def test_over_http_an_answer_on_the_parent_is_given_once(parent_app: App) -> None:
    client = create_app(parent_app.kit).test_client()
    run_id = parent_app.run()
    (item,) = items(parent_app, run_id)
    headers = {"Idempotency-Key": "k"}
    parent_app.store.lose["commit"] = 1  # the reply to the parent's receipt: the child has nothing yet
    statuses = []
    for _ in range(3):
        statuses.append(client.post(f"/runs/{run_id}/resume", json={"decision": YES}, headers=headers).status_code)
        parent_app.work()
    assert statuses == [503, 202, 202]
    assert results(parent_app, item["runId"]) == ["refunded 0"]
    assert len(items(parent_app, run_id)) == 1


def test_a_principals_key_is_not_anothers() -> None:
    app = App([call("refund")], "done", tools=[refund])
    app.kit = AgentKit(
        [app.agent],
        settings=Settings(flush_seconds=0),
        store=app.store,
        queue=app.queue,
        authenticate=by_name,
        may=lambda principal, action, run: True,
    )
    client = create_app(app.kit).test_client()
    run_id = app.run()
    for name in ("ada", "bob", "ada"):
        answer = client.post(
            f"/runs/{run_id}/messages",
            json={"message": f"from {name}", "when": "followUp"},
            headers={"Idempotency-Key": "k", "X-Name": name},
        )
        assert answer.status_code == 202
    assert queued(app, run_id) == ["from ada", "from bob"]


class _OnePerCall(httpx.AsyncBaseTransport):
    """The WSGI transport for an asynchronous client."""

    def __init__(self, app: Any) -> None:
        self._wsgi = httpx.WSGITransport(app)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        response = await asyncio.to_thread(self._wsgi.handle_request, request)
        return httpx.Response(response.status_code, headers=response.headers, content=response.read())


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_a_client_repeats_what_the_server_may_have_done_and_it_is_done_once(kind: str) -> None:
    store: Any = FlakyStore()
    app = App([call("refund")], [call("refund")], "done", tools=[refund], store=store)
    web = create_app(app.kit)
    run_id = app.run()
    (item,) = items(app, run_id)

    def lose_reply(name: str, *args: Any, **options: Any) -> None:
        store.lose["commit"] = 1
        if kind == "sync":
            with Client("http://x", retry_seconds=5, transport=httpx.WSGITransport(web)) as client:
                getattr(client, name)(*args, **options)
            return

        async def asked() -> None:
            async with AsyncClient("http://x", retry_seconds=5, transport=_OnePerCall(web)) as client:
                await getattr(client, name)(*args, **options)

        asyncio.run(asked())

    lose_reply("send", run_id, "one more thing")
    assert queued(app, run_id) == ["one more thing"]
    lose_reply("extend", run_id, item["decisionId"], 60)
    (moved,) = items(app, run_id)
    assert moved["expiresAt"] - item["expiresAt"] == 60_000

    lossy_commit = store.commit

    def commit_then_work(*args: Any, **options: Any) -> Any:
        try:
            return lossy_commit(*args, **options)
        except StoreUnavailableError:
            store.commit = lossy_commit
            app.queue.enqueued = [(run_id, step.number) for step in store.load(run_id).record.steps]
            app.work()  # before the client asks again, the run waits for the next answer
            raise

    store.commit = commit_then_work
    lose_reply("resume", run_id, decision=YES)
    app.work()
    assert results(app, run_id) == ["refunded 0"]
    assert len(items(app, run_id)) == 1


def test_a_callers_own_key_answers_the_same_item_when_it_calls_again(app: App, run_id: str) -> None:
    with Client("http://x", retry_seconds=5, transport=httpx.WSGITransport(create_app(app.kit))) as client:
        for _ in range(2):
            client.resume(run_id, decision=YES, idempotency_key="mine")
            app.work()
        assert len(results(app, run_id)) == 1
        assert len(items(app, run_id)) == 1
