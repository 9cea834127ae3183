"""Why a run stands where it stands: the facts, the words, and who is shown what."""

from __future__ import annotations

from typing import Any

import pytest

from agentkit import Agent, AgentKit, RetryPolicy, ScriptedModel, Settings
from agentkit.core.workers import Worker
from agentkit.errors import ProviderError
from agentkit.store.memory import MemoryStore
from agentkit.web import create_app
from tests.apps import FakeQueue
from tests.cli import BACKENDS, cli_of
from tests.tools import YES, refund
from tests.turns import call


class Shop:
    """A kit with a clock of its own, whose steps a test executes by hand."""

    def __init__(self, **hooks: Any) -> None:
        self.ms = 1_000_000_000_000
        self.store = MemoryStore(clock=lambda: self.ms)
        self.queue = FakeQueue()
        agents = [
            Agent("shop", ScriptedModel([[call("refund", cents=500)], "Done."]), tools=[refund], queue="refunds"),
            Agent("boss", ScriptedModel([[call("asks_shop", input="go")], "Done."]), tools=[]),
            Agent("down", ScriptedModel(self._refuse), retry=RetryPolicy(attempts=5)),
        ]
        agents[1] = Agent(
            "boss",
            ScriptedModel([[call("shop", input="go")], "Done."]),
            tools=[agents[0].as_tool(description="Asks.")],
        )
        self.kit = AgentKit(agents, settings=Settings(), store=self.store, queue=self.queue, **hooks)

    def _refuse(self, messages: list[Any]) -> Any:
        raise ProviderError("overloaded: come again", status=529, retryable=True, retry_after=60)

    def workers(self, *queues: str) -> None:
        self.store.heartbeat("host:1", 10**9, Worker("host:1", queues=queues))
        for queue in queues:
            self.store.mark_served(queue, 10**9)

    def work(self) -> None:
        while self.queue.enqueued:
            self.kit.execute(*self.queue.enqueued.pop(0))


def test_a_run_that_nobody_takes_waits_for_workers() -> None:
    shop = Shop()
    run_id = shop.kit.start("shop", "go").id
    why = shop.kit.why(run_id)
    assert (why.waits_for, why.status) == ("queue", "queued")
    assert "refunds, which no worker serves" in why.summary
    assert "celery -A agentkit.tasks worker -Q refunds. In a Celery application of yours" in why.todo
    assert "calls install()" in why.todo
    assert why.queues is not None
    assert [(queue.name, queue.served, queue.messages, queue.workers) for queue in why.queues] == [
        ("refunds", False, 1, [])
    ]
    shop.workers("agentkit")
    assert shop.kit.why(run_id).waits_for == "queue"
    shop.workers("refunds")
    why = shop.kit.why(run_id)
    assert (why.waits_for, "1 message waits in queue refunds" in why.summary) == ("worker", True)
    assert why.next_check_at is not None
    assert why.next_check_at > shop.ms


def test_a_run_that_waits_for_a_person_says_since_when_and_who_may_answer() -> None:
    shop = Shop(authenticate=lambda request: "x")
    run_id = shop.kit.start("shop", "go", owner="ann").id
    shop.work()
    shop.ms += 3 * 86_400_000
    why = shop.kit.why(run_id, may_answer=lambda item: item.tool_name == "refund")
    [item] = why.items
    assert (why.waits_for, item.answered_by, item.may_answer) == ("people", "owner", True)
    assert "refund needs a decision for 3 d now" in why.summary
    assert "'ann'" in why.todo
    assert item.item.decision_id in why.todo
    shop.kit.resume(run_id, YES)
    shop.work()
    assert shop.kit.why(run_id).waits_for == "nothing"


def test_a_step_whose_worker_is_gone_says_when_its_lease_ends() -> None:
    shop = Shop()
    shop.workers("refunds")
    run_id = shop.kit.start("shop", "go").id
    claim = shop.store.claim(run_id, 1, 30_000)
    assert claim is not None
    assert shop.kit.why(run_id).waits_for == "execution"
    shop.store.note_holders([claim.lease], "host:2", 30_000)
    shop.ms += 12_000
    why = shop.kit.why(run_id)
    [step] = why.steps
    assert (why.waits_for, step.worker, step.worker_alive, step.attempt) == ("lease", "host:2", False, 1)
    assert step.lease_until == shop.ms + 18_000
    assert "worker host:2, which sends no heartbeat any more; its lease ends in 18 s" in why.summary
    shop.store.heartbeat("host:2", 10**9)
    assert shop.kit.why(run_id).waits_for == "execution"
    assert "host" not in shop.kit.why(run_id, operator=False).summary
    shop.ms += 20_000
    assert shop.kit.why(run_id).waits_for == "worker"  # its lease has ended
    assert shop.kit.why(run_id).steps[0].worker is None


def test_a_call_that_is_to_be_tried_again_says_when_and_what_went_wrong() -> None:
    shop = Shop()
    run_id = shop.kit.start("down", "go").id
    shop.work()
    why = shop.kit.why(run_id)
    [step] = why.steps
    assert (why.waits_for, step.tries, step.state) == ("retry", 1, "delayed")
    assert "overloaded" in why.summary
    assert "model_retry" in [error.event for error in why.errors]
    shop.kit.abort(run_id)
    why = shop.kit.why(run_id)
    assert (why.waits_for, why.status) == ("nothing", "aborted")


def test_a_run_that_waits_for_another_names_it() -> None:
    shop = Shop()
    run_id = shop.kit.start("boss", "go").id
    shop.kit.execute(*shop.queue.enqueued.pop(0))
    shop.kit.execute(*shop.queue.enqueued.pop(0))
    why = shop.kit.why(run_id)
    [child] = why.children
    assert (why.waits_for, child.agent, child.status) == ("sub_agents", "shop", "queued")
    assert why.todo.endswith(f"agentkit why {child.run_id}")
    shop.work()
    why = shop.kit.why(run_id)
    assert why.waits_for == "people"
    assert why.items[0].item.run_id == child.run_id


def test_an_abort_that_was_asked_for_waits_for_the_holder_of_the_step() -> None:
    shop = Shop()
    shop.workers("refunds")
    run_id = shop.kit.start("shop", "go").id
    shop.store.claim(run_id, 1, 30_000)
    shop.kit.abort(run_id)
    assert shop.kit.why(run_id).waits_for == "abort"


# -- over HTTP


@pytest.mark.parametrize(
    ("hooks", "who", "seen"),
    [
        ({}, "ann", True),
        ({"authenticate": True}, "ann", False),
        ({"authenticate": True, "operator": True}, "ann", False),
        ({"authenticate": True, "operator": True, "may": True}, "ops", True),
        ({"authenticate": True, "may": True}, "ops", False),
    ],
)
def test_workers_and_queues_are_for_operators_alone(hooks: dict[str, bool], who: str, seen: bool) -> None:
    made: dict[str, Any] = {
        "authenticate": lambda request: request.headers["X-Name"],
        "operator": lambda principal: principal == "ops",
        "may": lambda *_: True,
    }
    shop = Shop(**{name: made[name] for name in hooks})
    shop.workers("refunds")
    run_id = shop.kit.start("shop", "go", owner="ann").id
    claim = shop.store.claim(run_id, 1, 30_000)
    assert claim is not None
    shop.store.note_holders([claim.lease], "host:1", 30_000)
    answer = create_app(shop.kit).test_client().get(f"/runs/{run_id}/why", headers={"X-Name": who})
    assert answer.status_code == 200
    assert ("host:1" in answer.text, "refunds" in answer.text, "nextCheckAt" in answer.text) == (seen, seen, seen)


def test_a_run_is_explained_to_those_who_may_read_it() -> None:
    shop = Shop(authenticate=lambda request: request.headers["X-Name"])
    run_id = shop.kit.start("shop", "go", owner="ann").id
    shop.work()
    web = create_app(shop.kit).test_client()
    assert web.get(f"/runs/{run_id}/why", headers={"X-Name": "bob"}).status_code == 404
    why: Any = web.get(f"/runs/{run_id}/why", headers={"X-Name": "ann"}).json
    assert why["items"][0]["mayAnswer"] is True


# -- in the terminal


@pytest.mark.parametrize("backend", BACKENDS)
def test_the_command_line_says_it(
    backend: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shop = Shop()
    cli = cli_of(shop.kit, backend, monkeypatch, capsys)
    run_id = shop.kit.start("shop", "go").id
    code, out, _ = cli("why", run_id)
    assert (code, "queue refunds: NOT SERVED" in out, "-Q refunds" in out) == (0, True, True)
    shop.work()
    code, out, _ = cli("why", run_id)
    assert (code, "refund waits for an answer (decision)" in out) == (0, True)
    assert '"waitsFor": "people"' in cli("why", run_id, "--json")[1]
    assert cli("why", "missing") == (1, "", "agentkit: there is no run missing\n")


@pytest.mark.parametrize(
    ("backend", "options"),
    [
        ("server", ("--url", "http://server.test")),
        ("direct", ("--app", "shop:kit")),
        ("direct", ("--direct",)),
        ("server", ()),
        ("server", ("--token", "secret")),
    ],
)
def test_the_commands_that_are_shown_have_the_options_of_this_one(
    backend: str, options: tuple[str, ...], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shop = Shop()
    cli = cli_of(shop.kit, backend, monkeypatch, capsys)
    run_id = shop.kit.start("shop", "go").id
    shop.work()
    item = shop.kit.why(run_id).items[0].item.decision_id
    words = "" if "--token" in options else "".join(f" {word}" for word in options)
    assert f"agentkit decisions answer{words} {item}\n" in cli("why", run_id, *options)[1]
    assert f"agentkit decisions ls{words} lists" in cli("doctor", *options)[1]
    assert cli("decisions", "answer", "missing", *options)[2].endswith(f"see agentkit decisions ls{words}\n")


def test_without_the_application_the_store_tells_what_it_knows(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from agentkit.cli.backend import _Agentless

    shop = Shop()
    run_id = shop.kit.start("shop", "go").id
    kit = _Agentless((), settings=Settings(), store=shop.store, queue=FakeQueue())
    cli = cli_of(kit, "direct", monkeypatch, capsys)
    code, out, _ = cli("why", run_id)
    assert (code, "is due, and no worker takes it" in out) == (0, True)
    assert cli("runs", "abort", run_id) == (0, f"{run_id}  aborted\n", "")
    assert cli("runs", "retry", run_id)[0] == 1  # which needs the agent
    assert cli("runs", "delete", "--all", "--yes")[0] == 0
