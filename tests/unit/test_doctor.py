"""What an installation looks like to its operator: each part's judgement, and who may see it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from agentkit import Agent, AgentKit, ScriptedModel, Settings
from agentkit.core.doctor import Finding
from agentkit.core.workers import Worker
from agentkit.errors import StoreUnavailableError, UnsupportedSchemaVersionError
from agentkit.runtime.doctor import of_backlog, of_clocks, of_paused, of_queues, of_settings, of_store, of_workers
from agentkit.store.memory import MemoryStore
from agentkit.store.protocol import Health
from agentkit.web import create_app
from tests.apps import FakeQueue
from tests.cli import BACKENDS, PLACES, cli_of


def kit_of(**hooks: Any) -> AgentKit:
    kit = AgentKit(
        [Agent("a", ScriptedModel(["x"]))], settings=Settings(), store=MemoryStore(), queue=FakeQueue(), **hooks
    )
    kit.store.heartbeat("host:1", 10**9, Worker("host:1", version="0.0.1", queues=("agentkit",), started_at=1))
    return kit


def grades(findings: Any) -> list[str]:
    return [finding.status for finding in findings]


# -- each part


def test_a_variable_that_is_no_setting_is_found_and_what_it_may_have_been() -> None:
    [typo, other] = of_settings(Settings(), {"AGENTKIT_REDIS_URI": "x", "AGENTKIT_ZZZ": "x", "PATH": "x"})
    assert (typo.status, "Did you mean AGENTKIT_REDIS_URL?" in (typo.todo or "")) == ("warn", True)
    assert "AGENTKIT_ZZZ" in other.text
    assert grades(of_settings(Settings(), {"AGENTKIT_REDIS_URL": "x", "AGENTKIT_EXAMPLE_DB": "x"})) == ["ok"]


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"audit_seconds": 5}, "AGENTKIT_AUDIT_SECONDS"),
        ({"flush_seconds": 2.0}, "AGENTKIT_FLUSH_SECONDS"),
        ({"max_watchers": 2, "max_watchers_per_principal": 3}, "AGENTKIT_MAX_WATCHERS_PER_PRINCIPAL"),
        ({"lease_seconds": 0.5}, "AGENTKIT_LEASE_SECONDS"),
    ],
)
def test_settings_that_contradict_one_another_are_found(settings: dict[str, Any], named: str) -> None:
    [finding] = of_settings(Settings(**settings), {})
    assert (finding.status, named in finding.text) == ("warn", True)


@pytest.mark.parametrize(
    ("health", "seconds", "status", "text"),
    [
        (Health(version="Valkey 8.1"), 0.001, "ok", "Valkey 8.1"),
        (Health(version="Valkey 8.1", tls=True), 0.001, "ok", "takes writes. The connection is encrypted."),
        (Health(version="Valkey 8.1", tls=False), 0.001, "ok", "The connection is not encrypted."),
        (Health(("appendonly is off",)), 0.001, "warn", "appendonly"),
        (Health(used_bytes=79, max_bytes=100), 0.001, "ok", "answers"),
        (Health(used_bytes=80, max_bytes=100), 0.001, "warn", "80%"),
        (Health(used_bytes=101, max_bytes=100), 0.001, "fail", "101%"),
        (Health(), 0.5, "warn", "500 ms"),
    ],
)
def test_a_store_that_forgets_is_full_or_slow_is_found(health: Health, seconds: float, status: str, text: str) -> None:
    finding = of_store(health, seconds)
    assert (finding.status, text in finding.text) == (status, True)


def test_workers_of_several_versions_are_a_deploy_that_has_not_ended() -> None:
    here, other = Worker("a", version="2"), Worker("b", version="1")
    none = of_workers([], "2")
    assert none.status == "fail"
    assert "celery -A agentkit.tasks worker" in (none.todo or "")
    assert "the module that calls install()" in (none.todo or "")
    assert of_workers([here, here], "2").status == "ok"
    assert "1 beside 2" in of_workers([here, other], "2").text
    assert "earlier version" in of_workers([Worker("c")], "2").text


def test_a_queue_that_nobody_serves_is_found_and_one_that_grows() -> None:
    worker = Worker("host:1", queues=("a", "b"))
    found = list(of_queues({"a": (True, 3), "b": (False, 0), "c": (False, 9), "d": (True, 5000)}, [worker]))
    assert grades(found) == ["ok", "fail", "fail", "warn"]
    assert "host:1 consumes it" in found[1].text
    assert "celery -A agentkit.tasks worker -Q c" in (found[2].todo or "")
    assert "celery -A YOURS worker -Q c" in (found[2].todo or "")


@pytest.mark.parametrize(("here", "there", "status"), [(5, -20, "ok"), (-3000, 0, "warn"), (0, 70_000, "fail")])
def test_a_clock_that_is_off_is_found(here: int, there: int, status: str) -> None:
    finding = of_clocks(here, [Worker("host:1", clock_ms=there)])
    assert finding.status == status
    if status != "ok":
        assert ("this machine" if here else "worker host:1") in finding.text


@pytest.mark.parametrize(
    ("overdue", "oldest_ms", "status"),
    [(0, 0, "ok"), (3, 2_000, "ok"), (3, 20_000, "warn"), (3, 70_000, "fail"), (0, -5_000, "ok")],
)
def test_runs_that_nobody_checks_are_found(overdue: int, oldest_ms: int, status: str) -> None:
    assert of_backlog(overdue, oldest_ms, 30).status == status


def test_paused_runs_that_cannot_be_read_here_are_found() -> None:
    assert (of_paused([]).status, of_paused([]).text) == ("ok", "No run is paused.")
    finding = of_paused([UnsupportedSchemaVersionError("run r has schemaVersion 99")])
    assert (finding.status, "schemaVersion 99" in finding.text) == ("fail", True)


def test_one_run_is_not_spoken_of_as_several() -> None:
    kit = kit_of()
    assert of_backlog(1, 20_000, 30).text.startswith("1 run is overdue")
    assert of_backlog(2, 20_000, 30).text.startswith("2 runs are overdue")
    assert of_paused([UnsupportedSchemaVersionError("no")]).text.startswith("1 paused run cannot")
    states = [kit.store.load(kit.start("a", "go").id) for _ in range(2)]
    assert of_paused(states[:1]).text == "The paused run is of this version."
    assert of_paused(states).text == "All 2 paused runs are of this version."


def test_a_run_that_has_just_gone_on_is_not_counted_among_the_paused(monkeypatch: pytest.MonkeyPatch) -> None:
    kit = kit_of()
    ids = [kit.start("a", "go").id]
    monkeypatch.setattr(kit.store, "listing", lambda cursor, limit, **wanted: [] if cursor else ids)
    [finding] = [finding for finding in kit.doctor({}).findings if finding.name == "records"]
    assert finding.text == "No run is paused."


# -- the whole


def test_a_report_ends_whatever_is_broken(monkeypatch: pytest.MonkeyPatch) -> None:
    kit = kit_of()

    def away(*_: Any) -> Any:
        raise StoreUnavailableError("redis://127.0.0.1:1 refuses connections")

    monkeypatch.setattr(kit.store, "check", away)
    found = kit.doctor({})
    assert found.status == "fail"
    assert {finding.name: finding.status for finding in found.findings} == {
        "settings": "ok",
        "store": "fail",
        "broker": "ok",
    }


@pytest.mark.parametrize(
    ("hooks", "who", "status"),
    [
        ({}, "ann", 200),
        ({"authenticate": True}, "ann", 403),
        ({"authenticate": True, "operator": True}, "ann", 403),
        ({"authenticate": True, "operator": True}, "ops", 200),
        ({"authenticate": True, "operator": True}, "", 401),
    ],
)
def test_over_http_it_is_for_operators_alone(hooks: dict[str, bool], who: str, status: int) -> None:
    made: dict[str, Any] = {
        "authenticate": lambda request: request.headers["X-Name"] or None,
        "operator": lambda principal: principal == "ops",
    }
    web = create_app(kit_of(**{name: made[name] for name in hooks})).test_client()
    answer = web.get("/doctor", headers={"X-Name": who})
    assert answer.status_code == status
    assert ("host:1" in answer.text) == (status == 200)


def test_an_operator_must_be_said_to_be_one_in_so_many_words() -> None:
    kit = kit_of(authenticate=lambda request: "x", operator=lambda principal: "yes")  # type: ignore[arg-type, return-value]
    with pytest.raises(TypeError, match="True or False"):
        kit.is_operator("x")


@pytest.mark.parametrize("backend", BACKENDS)
def test_the_command_line_shows_it_and_fails_where_something_does(
    backend: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    kit = kit_of()
    cli = cli_of(kit, backend, monkeypatch, capsys)
    code, out, err = cli("doctor")
    assert (code, err) == (0, f"Asking {PLACES[backend]} …\n")
    assert "of several versions: 0.0.1 beside" in out
    assert "host:1" in out.splitlines()[-1]
    monkeypatch.setattr(kit.store, "about_workers", list)
    code, out, _ = cli("doctor", "--json")
    found = json.loads(out)
    assert (code, found["status"]) == (1, "fail")
    assert [Finding(**each).name for each in found["findings"] if each["status"] == "fail"] == ["workers"]
