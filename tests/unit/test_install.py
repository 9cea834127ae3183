"""The steps of a kit as tasks of an application that is there already, without a broker's server."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from celery import Celery, current_task, signals
from celery.contrib.testing.worker import start_worker
from kombu import Exchange, Queue
from kombu.transport.memory import Channel

from agentkit import Agent, AgentKit, ConfigurationError, ScriptedModel, Settings, StepInfo
from agentkit.errors import StoreUnavailableError
from agentkit.store.memory import MemoryStore
from agentkit.tasks import install
from tests.apps import FakeQueue
from tests.waiting import wait_until


@pytest.fixture(autouse=True)
def pytests_logging() -> Iterator[None]:
    """A worker that starts here must leave the process's logging alone, which later tests read."""

    def leave_it(**_: Any) -> None:
        """Somebody who sets logging up in Celery's place."""

    signals.setup_logging.connect(leave_it)
    yield
    signals.setup_logging.disconnect(leave_it)


@pytest.fixture(autouse=True)
def empty_broker() -> Iterator[None]:
    """The memory transport's queues are one process's."""
    yield
    Channel.queues.clear()


def _app(name: str = "shop", **configuration: Any) -> Celery:
    app = Celery(name, broker="memory://", set_as_current=False)
    app.conf.update(configuration)
    return app


def _kit(agent: str = "hello", store: MemoryStore | None = None) -> AgentKit:
    model = ScriptedModel(["Hello."])
    return AgentKit([Agent(agent, model=model)], settings=Settings(), store=store or MemoryStore())


def _waiting() -> dict[str, int]:
    return {name: queue.qsize() for name, queue in Channel.queues.items() if queue.qsize()}


def _complete(app: Celery, kit: AgentKit, agent: str = "hello") -> None:
    run_id = kit.start(agent, "hi").id
    with start_worker(app, pool="solo", perform_ping_check=False, shutdown_timeout=30):
        wait_until(lambda: kit.get(run_id).status == "completed", timeout=20, what="the run to complete")


def test_the_configuration_is_read_when_something_is_sent_and_not_before() -> None:
    app = Celery("shop", broker="memory://", set_as_current=False)
    kit = _kit()
    install(app, kit)
    assert kit.store.check()
    assert not app.configured
    assert not app.finalized
    app.config_from_object({"task_routes": {"agentkit.*": {"queue": "agents"}}})
    kit.start("hello", "hi")
    assert kit.queues == ("agents",)
    assert _waiting() == {"agents": 1}


def test_a_factory_may_make_the_application_again() -> None:
    kit = _kit()
    for _ in range(2):
        install(_app(task_default_queue="celery"), kit)
    install(last := _app(task_routes={"agentkit.*": "last"}), kit)
    assert kit.sender is last
    kit.start("hello", "hi")
    assert _waiting() == {"last": 1}
    with pytest.raises(ConfigurationError, match="'shop' already: it cannot be installed into 'store'"):
        install(_app("store"), kit)


def test_a_kit_with_a_queue_of_its_own_is_not_installed() -> None:
    kit = AgentKit([Agent("a", model=ScriptedModel([]))], settings=Settings(), store=MemoryStore(), queue=FakeQueue())
    with pytest.raises(ConfigurationError, match="make it without queue="):
        install(_app(), kit)


def test_a_kit_may_have_been_used_before_it_is_installed() -> None:
    kit = _kit()
    assert list(kit.runs()) == []
    install(app := _app(), kit)
    _complete(app, kit)


def test_a_worker_of_celerys_test_tools_serves_the_kits_queues() -> None:
    install(app := _app(), kit := _kit())
    _complete(app, kit)


def test_an_application_that_creates_no_queues_has_the_kits() -> None:
    install(app := _app(task_create_missing_queues=False), kit := _kit())
    _complete(app, kit)


def test_a_route_to_a_queue_that_is_not_there_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    app = _app(task_create_missing_queues=False, task_routes={"agentkit.*": "nowhere"})
    install(app, kit := _kit())
    kit.start("hello", "hi")
    assert "routes it to a queue that it does not have: " in caplog.text
    assert "nowhere" in caplog.text


def test_a_router_may_go_by_the_arguments_of_a_step() -> None:
    def router(name: str, args: Any, kwargs: Any, options: Any, task: Any = None, **_: Any) -> Any:
        return {"queue": f"steps-{args[1] % 2}"} if name.startswith("agentkit.") else None

    install(_app(task_routes=(router,)), kit := _kit())
    kit.start("hello", "hi")
    assert kit.queues == ("steps-1",)
    assert _waiting() == {"steps-1": 1}


@pytest.mark.parametrize("binding", ["agents.steps", "agents.*", "agents.#", "#"])
def test_a_queue_is_known_by_whatever_key_it_is_bound(binding: str, monkeypatch: pytest.MonkeyPatch) -> None:
    exchange = Exchange("team", type="topic")
    app = _app(
        task_queues=[Queue("celery"), Queue("for-agents", exchange, routing_key=binding)],
        task_routes={"agentkit.*": {"queue": "for-agents", "routing_key": "agents.steps"}},
    )
    install(app, kit := _kit())
    came_from: list[str | None] = []
    execute = kit.execute

    def noted(run_id: str, step: int, kind: Any, queue: str | None, *following: Any) -> Any:
        came_from.append(queue)
        return execute(run_id, step, kind, queue, *following)

    monkeypatch.setattr(kit, "execute", noted)
    _complete(app, kit)
    assert came_from == ["for-agents"] == list(kit.queues)


def test_two_kits_of_one_store_and_queue_have_their_own_agents_runs() -> None:
    app, store = _app(), MemoryStore()
    for kit in (first := _kit("first", store), second := _kit("second", store)):
        install(app, kit)
    _complete(app, first, "first")
    _complete(app, second, "second")


@pytest.mark.parametrize(
    ("arguments", "error"),
    [(("who", "hi"), "AgentNotFoundError"), (("hello", 7), "InvalidReq"), ((), "InvalidRequestError")],
)
def test_a_start_that_cannot_be_fails_once_and_says_why(arguments: Any, error: str) -> None:
    install(app := _app(), _kit())
    result = app.tasks["agentkit.start"].apply(args=arguments)
    assert result.status == "FAILURE"
    assert error in repr(result.result)


def test_the_task_starts_from_another_run_in_the_kit_that_has_it() -> None:
    app = _app()
    for kit in (first := _kit("first"), second := _kit("second")):
        install(app, kit)
    source = second.start("second", "hi")
    with start_worker(app, pool="solo", perform_ping_check=False, shutdown_timeout=30):
        assert source.wait(20).status == "completed"
        started = app.tasks["agentkit.start"].apply(kwargs={"input": "more", "from_run": source.id, "turn": 1})
        run = second.handle(started.get()).wait(20)
    assert run.origin == {"runId": source.id, "turn": 1}
    assert [message["content"] for message in run.messages or [] if message["role"] == "user"] == ["hi", "more"]
    assert list(first.runs()) == []


def test_an_eager_start_does_not_wait_for_a_store_that_is_away(monkeypatch: pytest.MonkeyPatch) -> None:
    def away(*_: Any, **__: Any) -> Any:
        raise StoreUnavailableError("the store is away")

    install(app := _app(task_always_eager=True), kit := _kit())
    monkeypatch.setattr(kit, "start", away)
    result = app.tasks["agentkit.start"].delay("hello", "hi")
    assert isinstance(result.result, StoreUnavailableError)


def test_a_worker_serves_the_queues_that_routes_name_beside_its_own() -> None:
    app = _app(task_routes={"agentkit.model_call": "models"}, task_queues=[Queue("business")])
    install(app, kit := _kit())
    _complete(app, kit)
    assert set(app.amqp.queues.consume_from) == {"business", "models"}


def test_notifications_are_tasks_of_the_application_and_go_where_it_routes_them() -> None:
    app = _app(task_routes={"agentkit.notify": "people"})
    install(app, kit := _kit())
    assert "agentkit.notify" in app.tasks
    assert kit.queues == ("agentkit",)
    install(app := _app(task_routes={"agentkit.notify": "people"}), kit := _kit())
    events: list[Any] = []
    kit.on("run.completed")(events.append)
    assert kit.queues == ("agentkit", "people")
    _complete(app, kit)
    if not events:
        with start_worker(app, pool="solo", perform_ping_check=False, shutdown_timeout=30):
            wait_until(lambda: events, timeout=20, what="the handler to be called")
    assert [event["type"] for event in events] == ["run.completed"]


def test_each_of_two_kits_of_one_store_calls_its_own_handlers() -> None:
    app, store = _app(), MemoryStore()
    called: list[str] = []
    kits = {name: _kit(name, store) for name in ("first", "second")}
    for name, kit in kits.items():
        install(app, kit)

        def note(event: Any, name: str = name) -> None:
            called.append(name)

        note.__qualname__ = f"note_{name}"
        kit.on("run.completed")(note)
    runs = [kit.start(name, "hi").id for name, kit in kits.items()]
    with start_worker(app, pool="solo", perform_ping_check=False, shutdown_timeout=30):
        wait_until(lambda: len(called) == 2, timeout=20, what="both handlers to be called")
    assert sorted(called) == ["first", "second"]
    assert [store.outbox(run_id) for run_id in runs] == [[], []]


@pytest.mark.parametrize("arguments", [(1, "x"), ("run", None), ("", "x"), ("run", ["x"])])
def test_a_message_that_names_no_notification_is_dropped(arguments: Any, caplog: pytest.LogCaptureFixture) -> None:
    install(app := _app(), _kit())
    app.tasks["agentkit.notify"](*arguments)
    assert "names no notification" in caplog.text


def test_a_step_that_is_executed_in_anothers_stead_is_a_task_of_its_own() -> None:
    executed: list[tuple[str, str, list[Any]]] = []

    @contextmanager
    def note(step: StepInfo) -> Iterator[None]:
        request = current_task.request
        executed.append((step.run_id, request.id, list(request.args)))
        yield

    model = ScriptedModel(["Hello."])
    kit = AgentKit([Agent("hello", model=model)], settings=Settings(), store=MemoryStore(), around_step=note)
    install(app := _app(), kit)
    runs = [kit.start("hello", "hi", owner=owner) for owner in ("ann", "ann", "ann", "bob")]
    with start_worker(app, pool="solo", perform_ping_check=False, shutdown_timeout=30):
        assert [run.wait(20).status for run in runs] == ["completed"] * 4
    assert [run_id for run_id, _, _ in executed] == [runs[number].id for number in (0, 3, 1, 2)]
    assert all(args == [run_id, 1] for run_id, _, args in executed)
    assert len({task_id for _, task_id, _ in executed}) == 4
