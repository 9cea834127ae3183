"""examples/fastapi_desk by its own commands: sessions, SQL and Celery of a team's under uvicorn, agents as guests."""

from __future__ import annotations

import json
import re
import shlex
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from playwright.sync_api import Browser, Page, expect
from websockets.sync.client import connect

from tests.acceptance.stack import ROOT, Process, environment
from tests.metrics import value
from tests.servers import ValkeyServer, free_port
from tests.waiting import wait_until

FOLDER = ROOT / "examples" / "fastapi_desk"
API = "/agents/runs"
PROCFILE = dict(re.findall(r"^(\w+): (.*)$", (FOLDER / "Procfile").read_text(), re.MULTILINE))
README = (FOLDER / "README.md").read_text()
CREDITS = "SELECT customer_id, cents, approved_by FROM credits ORDER BY customer_id"


class Program(Process):
    """A command of the example. It is ready when its log has `mark`."""

    def __init__(self, name: str, command: str, mark: str, env: dict[str, str], folder: Path) -> None:
        super().__init__(name, shlex.split(command), env, folder, FOLDER)
        self._mark = mark

    def is_ready(self) -> bool:
        return self._mark in self.log(self._launched_at)


class User:
    """A browser of somebody who is logged in."""

    def __init__(self, url: str, name: str) -> None:
        self.http = httpx.Client(base_url=url, timeout=30)
        self.name = name

    def log_in(self) -> None:
        answer = self.http.post("/login", json={"user": self.name, "password": f"{self.name}'s secret"})
        assert answer.status_code == 204, answer.text

    def propose(self, customer_id: str) -> str:
        """Have a credit proposed by the service's own route; the run's id."""
        begun = self.http.post(f"/customers/{customer_id}/credit")
        assert begun.status_code == 202, begun.text
        run_id: str = begun.json()["id"]
        return run_id

    def answer(self, run_id: str, **decision: Any) -> httpx.Response:
        return self.http.post(f"{API}/{run_id}/resume", json={"decision": decision})

    def wait_for(self, run_id: str, status: str) -> dict[str, Any]:
        def there() -> dict[str, Any] | None:
            response = self.http.get(f"{API}/{run_id}")
            assert response.status_code == 200, response.text
            run: dict[str, Any] = response.json()
            assert run["status"] == status or run["status"] in ("queued", "running", "paused"), run
            return run if run["status"] == status else None

        return wait_until(there, timeout=40, what=f"the run to be {status}", every=0.05) or {}


class Service:
    """The example's processes over a store and a database of their own. `pool`: options of its worker."""

    def __init__(self, folder: Path, store: ValkeyServer, pool: str = "") -> None:
        self.database = folder / "service.db"
        self.failpoint = folder / "failpoint"
        self.users: list[User] = []
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.env = environment(
            AGENTKIT_REDIS_URL=store.url,
            AGENTKIT_LEASE_SECONDS="2",
            SERVICE_BROKER_URL=store.database(1),
            DATABASE_URL=f"sqlite:///{self.database}",
            SECRET_KEY="s" * 32,
            SERVICE_CLERK_PASSWORD="clerk's secret",
            SERVICE_SUPERVISOR_PASSWORD="supervisor's secret",
            PYTHONPATH=str(ROOT),
            HOME=str(folder),
        )
        web = PROCFILE["web"].replace("--port 8000", f"--port {self.port}")
        assert web != PROCFILE["web"]
        worker_env = {**self.env, "AGENTKIT_FAILPOINT": str(self.failpoint)}
        self.web = Program("web", web, "Uvicorn running", self.env, folder)
        self.worker = Program("worker", f"{PROCFILE['worker']} {pool}", " ready.\n", worker_env, folder)
        command = [sys.executable, *shlex.split(_shown("python -m service.db"))[1:]]
        subprocess.run(command, cwd=FOLDER, env=self.env, check=True, capture_output=True, timeout=60)

    def visitor(self, name: str = "nobody") -> User:
        user = User(self.url, name)
        self.users.append(user)
        return user

    def user(self, name: str) -> User:
        user = self.visitor(name)
        user.log_in()
        return user

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        with closing(sqlite3.connect(self.database)) as connection:
            return connection.execute(query).fetchall()

    def kill(self) -> None:
        for process in (self.web, self.worker):
            process.kill()
        for user in self.users:
            user.http.close()


def _shown(start: str) -> str:
    """The command of the README that begins so."""
    [command] = [line for line in README.splitlines() if line.startswith(start)]
    return command


@pytest.fixture
def store(tmp_path: Path) -> Iterator[ValkeyServer]:
    with ValkeyServer() as server:
        yield server


@pytest.fixture
def service(tmp_path: Path, store: ValkeyServer, request: pytest.FixtureRequest) -> Iterator[Service]:
    service = Service(tmp_path, store, getattr(request, "param", ""))
    try:
        yield service
    finally:
        service.kill()


def test_the_readme_shows_the_commands_of_the_procfile() -> None:
    assert _shown("uvicorn service.main:app") == PROCFILE["web"]
    assert _shown("celery -A service.worker worker") == PROCFILE["worker"]


@pytest.mark.timeout(150)
@pytest.mark.parametrize(("service", "banner"), [("", "prefork"), ("-P threads", "thread")], indirect=["service"])
def test_credits_are_given_once_across_killed_workers_beside_the_services_own_task(
    service: Service, banner: str
) -> None:
    service.web.start()
    service.worker.start()
    assert f"({banner})" in service.worker.log()
    clerk, supervisor = service.user("clerk"), service.user("supervisor")

    # By the service's own routes. The worker dies when the credit is given and nothing of it is committed in the run.
    run_id = clerk.propose("C-1")
    clerk.wait_for(run_id, "paused")
    assert {"id": run_id, "status": "paused", "owner": "clerk"} in clerk.http.get("/customers").json()["runs"]
    service.failpoint.write_text("after tool 1")
    assert supervisor.answer(run_id, approved=True).status_code == 202
    wait_until(
        lambda: not service.failpoint.read_text(), timeout=30, what="a process to die after the tool", every=0.05
    )
    assert service.rows(CREDITS) == [("C-1", 500, "supervisor")]
    service.worker.kill()
    service.worker.start()
    clerk.wait_for(run_id, "completed")
    assert service.rows(CREDITS) == [("C-1", 500, "supervisor")]
    letters = "SELECT text FROM letters"
    wait_until(lambda: service.rows(letters), timeout=20, what="the letter")
    assert service.rows(letters) == [("Dear Ada Lovelace, we have credited you 500 cents.",)]

    # Over the API. Both the worker and the web server are started again while the run is paused.
    begun = clerk.http.post(API, json={"agent": "support", "input": "Please credit customer C-2."})
    assert begun.status_code == 202, begun.text
    second = begun.json()["id"]
    assert begun.headers["location"] == f"{API}/{second}"
    clerk.wait_for(second, "paused")
    service.worker.kill()
    service.web.stop()
    service.web.start()
    assert supervisor.answer(second, approved=True).status_code == 202
    service.worker.start()
    clerk.wait_for(second, "completed")
    assert service.rows(CREDITS) == [("C-1", 500, "supervisor"), ("C-2", 500, "supervisor")]
    assert service.rows("SELECT id, balance_cents FROM customers ORDER BY id") == [
        ("C-1", 500),
        ("C-2", 500),
        ("C-3", 0),
    ]
    wait_until(lambda: len(service.rows(letters)) == 2, timeout=20, what="the second letter")
    assert "Traceback" not in service.web.log()


def pieces(body: str) -> list[tuple[str, str]]:
    """The (name, data) of each event of a stream of HTML."""
    found = []
    for frame in body.split("\n\n"):
        lines = dict(line.split(": ", 1) for line in frame.split("\n") if ": " in line and not line.startswith(":"))
        if "data" in lines:
            found.append((lines["event"], lines["data"]))
    return found


@pytest.mark.timeout(120)
def test_only_a_supervisor_answers_and_neither_strangers_nor_foreign_pages_get_anything(service: Service) -> None:
    service.web.start()
    service.worker.start()
    nobody = service.visitor().http
    assert [nobody.get(path).status_code for path in ("/customers", API)] == [401, 401]
    assert nobody.get("/customers").json() == {"detail": "log in first"}, "the service's own errors stay as they are"
    assert nobody.get(API).json()["code"] == "unauthenticated"
    assert nobody.get("/agents/healthz").json() == {"status": "ok"}
    assert nobody.post("/login", json={"user": "clerk", "password": "guessed"}).status_code == 401
    clerk, supervisor = service.user("clerk"), service.user("supervisor")
    assert supervisor.http.post("/customers/C-3/credit").status_code == 403

    order = {"agent": "support", "input": "Please credit customer C-3."}
    foreign = {"Origin": "https://evil.example"}
    assert clerk.http.post(API, json=order, headers=foreign).status_code == 403
    assert supervisor.http.post(API, json=order).status_code == 403
    run_id = clerk.http.post(API, json=order, headers={"Origin": service.url}).json()["id"]
    clerk.wait_for(run_id, "paused")
    assert [nobody.get(f"/runs/{run_id}/live").status_code, clerk.http.get("/runs/x/live").status_code] == [401, 404]
    assert nobody.post(f"{API}/{run_id}/resume", json={"decision": {"approved": True}}).status_code == 401
    assert clerk.answer(run_id, approved=True).json()["code"] == "forbidden"

    # Streams and WebSockets under the session, more of them than threads; the answer comes over one of them.
    headers = {"Cookie": f"session={supervisor.http.cookies['session']}", "Origin": service.url}
    url = f"{service.url.replace('http', 'ws')}{API}/{run_id}/ws"
    before = psutil.Process(service.web.pid).num_threads()
    with ExitStack() as stack:
        live = [
            stack.enter_context(httpx.stream("GET", f"{service.url}/runs/{run_id}/live", headers=headers, timeout=30))
            for _ in range(60)
        ]
        sockets = [stack.enter_context(connect(url, additional_headers=headers, proxy=None)) for _ in range(60)]
        wait_until(
            lambda: value(nobody.get("/agents/metrics").text, "agentkit_event_streams") == 120, what="all to watch"
        )
        assert psutil.Process(service.web.pid).num_threads() - before < 90, "two bounded pools, of 40 each"
        sockets[0].send(json.dumps({"type": "resume", "decision": {"approved": False, "note": "too much"}}))
        for socket in sockets:
            assert [json.loads(text) for text in socket][-1]["type"] == "agent_end"
            assert socket.protocol.close_code == 1000
        shown = [pieces(response.read().decode()) for response in live]
    assert shown[0][0] == ("message_end", "<p>They wrote: The tape ends. That is worth a credit.</p>")
    assert shown[0][1] == ("tool_decision_pending", "<p><b>500 cents for C-3</b> wait for a supervisor.</p>")
    assert shown[0][-1] == ("agent_end", "<p>The run is completed.</p>")
    assert all(each == shown[0] for each in shown)
    assert "not approved: too much" in json.dumps(clerk.wait_for(run_id, "completed")["messages"])
    assert service.rows(CREDITS) == []
    assert "Traceback" not in service.web.log()


@pytest.mark.timeout(60)
def test_a_stop_of_the_web_server_ends_the_streams_of_the_services_route_and_of_the_api(service: Service) -> None:
    service.web.start()
    clerk = service.user("clerk")
    run_id = clerk.propose("C-1")
    with (
        clerk.http.stream("GET", f"/runs/{run_id}/live") as live,
        clerk.http.stream("GET", f"{API}/{run_id}/events") as events,
    ):
        assert next(live.iter_lines()) == next(events.iter_lines()) == "retry: 1000"
        assert service.web.stop() < 5, service.web.log()
        assert (live.num_bytes_downloaded > 0, events.num_bytes_downloaded > 0) == (True, True)
    assert "Traceback" not in service.web.log()
    assert "graceful shutdown exceeded" not in service.web.log()


@pytest.mark.timeout(120)
def test_in_browsers_a_clerk_sees_what_a_supervisor_approves_without_a_reload(
    service: Service, browser: Browser
) -> None:
    service.web.start()
    service.worker.start()
    errors: list[str] = []

    def page_of(name: str) -> Page:
        page = browser.new_context(base_url=service.url).new_page()
        page.set_default_timeout(30_000)
        page.goto("/")
        page.get_by_label("User").fill(name)
        page.get_by_label("Password").fill(f"{name}'s secret")
        page.get_by_role("button", name="Log in").click()
        expect(page.get_by_text(f"You are {name}")).to_be_visible()
        page.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
        return page

    clerk, supervisor = page_of("clerk"), page_of("supervisor")
    try:
        clerk.get_by_role("button", name="Propose a credit").first.click()
        expect(clerk.get_by_text("500 cents for C-1 wait for a supervisor.")).to_be_visible(timeout=30_000)
        supervisor.reload()
        supervisor.get_by_role("button", name="clerk's run, paused").click()
        supervisor.get_by_role("button", name="Approve").click()
        for page in (clerk, supervisor):
            expect(page.get_by_text("The run is completed.")).to_be_visible(timeout=30_000)
            expect(page.get_by_text("Answered by supervisor.")).to_be_visible()
            expect(page.get_by_role("cell", name="500 cents")).to_be_visible()
        clerk.goto("/agents/")
        clerk.get_by_role("link", name=re.compile("done.*support")).click()
        expect(clerk.get_by_text("Please credit customer C-1.").first).to_be_visible(timeout=30_000)
        assert errors == []
    finally:
        clerk.context.close()
        supervisor.context.close()


def test_without_a_secret_key_the_service_does_not_start(tmp_path: Path) -> None:
    env = {key: value for key, value in environment(PYTHONPATH=str(ROOT)).items() if key != "SECRET_KEY"}
    command = [sys.executable, "-c", "import service.main"]
    done = subprocess.run(command, cwd=FOLDER, env=env, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode != 0
    assert "SECRET_KEY is not set" in done.stderr
