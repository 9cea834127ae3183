"""examples/django_desk by its own commands: Django's users, tables, Celery and beat, with agents as guests."""

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
import pytest
from playwright.sync_api import Browser, expect
from websockets.sync.client import connect

from tests.acceptance.stack import ROOT, Process, environment, events_of
from tests.metrics import value
from tests.servers import ValkeyServer, free_port
from tests.waiting import wait_until

FOLDER = ROOT / "examples" / "django_desk"
API = "/agents/runs"
PROCFILE = dict(re.findall(r"^(\w+): (.*)$", (FOLDER / "Procfile").read_text(), re.MULTILINE))
README = (FOLDER / "README.md").read_text()


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
        # gunicorn hangs up on a connection that was idle for two seconds, perhaps while it is used again.
        self.http = httpx.Client(base_url=url, timeout=30, limits=httpx.Limits(max_keepalive_connections=0))
        self.name = name

    def token(self, page: str) -> dict[str, str]:
        """The CSRF token of a page that has a form."""
        found = re.search(r'name="csrfmiddlewaretoken" value="([^"]+)"', self.http.get(page).text)
        assert found is not None, f"{page} has no form"
        return {"csrfmiddlewaretoken": found[1]}

    def log_in(self) -> None:
        fields = {"username": self.name, "password": f"{self.name}'s secret", **self.token("/login/")}
        answer = self.http.post("/login/", data=fields)
        assert (answer.status_code, answer.headers.get("location")) == (302, "/"), answer.text

    def draft(self, number: int) -> list[dict[str, Any]]:
        """Have a ticket answered by the desk's own view; the events that it streams."""
        answer = self.http.post(f"/tickets/{number}/draft/", data=self.token("/"))
        assert answer.status_code == 200, answer.text
        assert answer.headers["content-type"] == "text/event-stream"
        return events_of(answer.content)

    def run(self, run_id: str) -> dict[str, Any]:
        response = self.http.get(f"{API}/{run_id}")
        assert response.status_code == 200, response.text
        run: dict[str, Any] = response.json()
        return run

    def wait_for(self, run_id: str, status: str) -> dict[str, Any]:
        def there() -> dict[str, Any] | None:
            run = self.run(run_id)
            assert run["status"] == status or run["status"] in ("queued", "running", "paused"), run
            return run if run["status"] == status else None

        return wait_until(there, timeout=40, what=f"the run to be {status}", every=0.05) or {}


class Desk:
    """The example's processes over a store and a database of their own. `pool`: options of its worker."""

    def __init__(self, folder: Path, store: ValkeyServer, pool: str = "") -> None:
        self.database = folder / "desk.db"
        self.failpoint = folder / "failpoint"
        self.users: list[User] = []
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.env = environment(
            AGENTKIT_REDIS_URL=store.url,
            AGENTKIT_LEASE_SECONDS="2",
            DESK_BROKER_URL=store.database(1),
            DESK_DATABASE=str(self.database),
            SECRET_KEY="s" * 50,
            DESK_CLERK_PASSWORD="clerk's secret",
            DESK_MANAGER_PASSWORD="manager's secret",
            DESK_SCHEDULE_SECONDS="1",
            PYTHONPATH=str(ROOT),
            HOME=str(folder),
        )
        web = PROCFILE["web"].replace("127.0.0.1:8000", f"127.0.0.1:{self.port}")
        assert web != PROCFILE["web"]
        worker_env = {**self.env, "AGENTKIT_FAILPOINT": str(self.failpoint)}
        self.web = Program("web", web, "Booting worker", self.env, folder)
        self.worker = Program("worker", f"{PROCFILE['worker']} {pool}", " ready.\n", worker_env, folder)
        self.beat = Program(
            "beat", f"{PROCFILE['beat']} -s {folder}/beat --max-interval 1", "beat: Starting", self.env, folder
        )
        for command in _shown("python manage.py migrate"), _shown("python manage.py seed"):
            self.manage(*shlex.split(command)[1:])

    def manage(self, *words: str) -> str:
        done = subprocess.run(
            [sys.executable, *words], cwd=FOLDER, env=self.env, check=True, capture_output=True, text=True, timeout=60
        )
        return done.stdout + done.stderr

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
        for process in (self.web, self.worker, self.beat):
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
def desk(tmp_path: Path, store: ValkeyServer, request: pytest.FixtureRequest) -> Iterator[Desk]:
    desk = Desk(tmp_path, store, getattr(request, "param", ""))
    try:
        yield desk
    finally:
        desk.kill()


def test_the_readme_shows_the_commands_of_the_procfile() -> None:
    assert _shown("gunicorn desk.wsgi") == PROCFILE["web"]
    assert _shown("celery -A desk worker") == PROCFILE["worker"]
    assert _shown("celery -A desk beat") == PROCFILE["beat"]


@pytest.mark.timeout(150)
@pytest.mark.parametrize(("desk", "banner"), [("", "prefork"), ("-P threads", "thread")], indirect=["desk"])
def test_replies_are_sent_once_across_killed_workers_beside_the_desks_own_tasks(desk: Desk, banner: str) -> None:
    assert desk.manage("manage.py", "makemigrations", "--check").startswith("No changes")
    desk.web.start()
    desk.worker.start()
    assert f"({banner})" in desk.worker.log()
    clerk, manager = desk.user("clerk"), desk.user("manager")

    # By the desk's own view. The worker dies when the reply is written and nothing of it is committed in the run.
    assert "Have it answered" in clerk.http.get("/").text
    events = clerk.draft(1)
    assert events[-1]["type"] == "agent_pause"
    run_id = events[-1]["runId"]
    [item] = clerk.run(run_id)["pending"]
    assert clerk.run(run_id)["metadata"] == {"ticket": 1}
    desk.failpoint.write_text("after tool 1")
    resume = {"decision": {"approved": True}, "decisionId": item["decisionId"]}
    assert manager.http.post(f"{API}/{run_id}/resume", json=resume).status_code == 202
    wait_until(lambda: not desk.failpoint.read_text(), timeout=30, what="a process to die after the tool", every=0.05)
    replies = "SELECT ticket_id, approved_by FROM tickets_reply ORDER BY ticket_id"
    assert desk.rows(replies) == [(1, "manager")]
    desk.worker.kill()
    desk.worker.start()
    clerk.wait_for(run_id, "completed")
    assert desk.rows(replies) == [(1, "manager")]
    assert "approved by manager" in clerk.http.get("/").text
    mails = 'SELECT reply_id IS NOT NULL, "to" FROM tickets_mail'
    wait_until(lambda: desk.rows(mails), timeout=20, what="the mail")
    assert desk.rows(mails) == [(1, "ada@example.com")]

    # Over the API, while beat sends both a task of the desk's and the start of a run.
    desk.beat.start()
    begun = clerk.http.post(API, json={"agent": "desk", "input": "Please reply to ticket 2."})
    assert begun.status_code == 202, begun.text
    assert begun.headers["location"] == f"{API}/{begun.json()['id']}"
    second = begun.json()["id"]
    clerk.wait_for(second, "paused")
    desk.worker.kill()
    assert manager.http.post(f"{API}/{second}/resume", json={"decision": {"approved": True}}).status_code == 202
    desk.worker.start()
    clerk.wait_for(second, "completed")
    assert desk.rows(replies) == [(1, "manager"), (2, "manager")]
    wait_until(lambda: len(desk.rows(mails)) == 2, timeout=20, what="the second mail")
    wait_until(
        lambda: desk.rows("SELECT 1 FROM tickets_day WHERE counted > 1 AND open = 1"),
        timeout=20,
        what="beat to have the tickets counted",
    )

    def digest() -> list[Any]:
        runs = manager.http.get(API, params={"agent": "digest", "status": "completed"}).json()["runs"]
        return [run for run in runs if run["owner"] == "manager"]

    wait_until(digest, timeout=20, what="the digest that beat starts", every=0.1)


@pytest.mark.timeout(120)
def test_only_the_staff_answers_and_neither_strangers_nor_foreign_pages_get_anything(desk: Desk) -> None:
    desk.web.start()
    desk.worker.start()
    nobody = desk.visitor().http
    assert nobody.get("/").headers["location"].startswith("/login/")
    refused = nobody.get(API)
    assert (refused.status_code, refused.json()["loginUrl"]) == (401, "/login/")
    assert nobody.get("/agents/healthz").json() == {"status": "ok"}
    clerk, manager = desk.user("clerk"), desk.user("manager")
    assert clerk.http.post("/tickets/3/draft/").status_code == 403, "the desk's own forms need a token"
    assert clerk.http.get("/agents/", headers={"Accept": "text/html"}).status_code == 200

    order = {"agent": "desk", "input": "Please reply to ticket 3."}
    foreign = {"Origin": "https://evil.example"}
    assert clerk.http.post(API, json=order, headers=foreign).status_code == 403
    started = clerk.http.post(API, json=order, headers={"Origin": desk.url})
    run_id = started.json()["id"]
    clerk.wait_for(run_id, "paused")

    answer = {"decision": {"approved": False, "note": "too short"}}
    assert nobody.post(f"{API}/{run_id}/resume", json=answer).status_code == 401
    refused = clerk.http.post(f"{API}/{run_id}/resume", json=answer)
    assert (refused.status_code, refused.json()["code"]) == (403, "forbidden")
    assert manager.http.post(f"{API}/{run_id}/resume", json=answer, headers=foreign).status_code == 403

    # WebSockets through Django, under its session; more of them than threads could hold connections for.
    headers = {"Cookie": f"sessionid={manager.http.cookies['sessionid']}", "Origin": desk.url}
    url = f"{desk.url.replace('http', 'ws')}{API}/{run_id}/ws"
    with ExitStack() as sockets:
        opened = [sockets.enter_context(connect(url, additional_headers=headers, proxy=None)) for _ in range(20)]
        assert clerk.http.get("/").status_code == 200
        opened[0].send(json.dumps({"type": "resume", **answer}))
        for socket in opened:
            frames = [json.loads(text) for text in socket]
            assert frames[-1]["type"] == "agent_end"
            assert socket.protocol.close_code == 1000
    assert "not approved: too short" in json.dumps(clerk.run(run_id)["messages"])
    assert desk.rows("SELECT * FROM tickets_reply") == []
    assert "Traceback" not in desk.web.log()


@pytest.mark.timeout(90)
def test_in_a_browser_a_clerk_sees_the_reply_that_waits_for_the_staff(desk: Desk, browser: Browser) -> None:
    desk.web.start()
    desk.worker.start()
    manager = desk.user("manager")
    errors: list[str] = []
    page = browser.new_context(base_url=desk.url).new_page()
    try:
        page.set_default_timeout(30_000)
        page.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
        page.goto("/agents/")  # which has who is not logged in do that first
        page.get_by_label("User").fill("clerk")
        page.get_by_label("Password").fill("clerk's secret")
        page.get_by_role("button", name="Log in").click()
        page.wait_for_url("**/agents/**")
        errors.clear()  # a browser shows each 401
        page.goto("/")
        page.get_by_role("button", name="Have it answered").first.click()
        expect(page.get_by_text("Waits for the staff: Thank you for writing")).to_be_visible(timeout=30_000)
        page.reload()
        page.get_by_role("link", name="A reply of clerk's agent waits for the staff").click()
        expect(page.get_by_text("Please reply to ticket 1.").first).to_be_visible()
        [run] = manager.http.get(API, params={"status": "paused"}).json()["runs"]
        manager.http.post(f"{API}/{run['id']}/resume", json={"decision": {"approved": True}})
        done = page.get_by_text("This is how it went: replied to ticket 1 and closed it.", exact=True)
        expect(done).to_be_visible(timeout=30_000)
        page.goto("/")
        expect(page.get_by_text("approved by manager")).to_be_visible()
        assert errors == []
    finally:
        page.context.close()


@pytest.mark.timeout(90)
def test_a_stop_of_the_web_server_ends_the_streams_of_the_desks_view_and_of_the_api(desk: Desk) -> None:
    desk.web.start()
    clerk = desk.user("clerk")
    started = clerk.http.post(API, json={"agent": "desk", "input": "Please reply to ticket 1."})
    path = f"{started.headers['location']}/events"
    with clerk.http.stream("GET", path) as stream:  # no worker: nothing ends it but the stop
        assert next(stream.iter_lines()).startswith("retry: ")
        assert desk.web.stop() < 10


@pytest.mark.timeout(120)
def test_uvicorn_serves_the_same_project_and_ends_its_streams(desk: Desk, tmp_path: Path) -> None:
    words = f"uvicorn desk.asgi:application --port {desk.port} --timeout-graceful-shutdown 30"
    desk.web = Program("web", words, "Uvicorn running", desk.env, tmp_path)
    desk.web.start()
    desk.worker.start()
    clerk, manager = desk.user("clerk"), desk.user("manager")
    run_id = clerk.draft(1)[-1]["runId"]
    assert clerk.http.post(f"{API}/{run_id}/resume", json={"decision": {"approved": True}}).status_code == 403

    def open_streams() -> float | None:
        return value(clerk.http.get("/agents/metrics").text, "agentkit_event_streams")

    with ExitStack() as streams:
        opened = [streams.enter_context(clerk.http.stream("GET", f"{API}/{run_id}/events")) for _ in range(20)]
        lines = [stream.iter_lines() for stream in opened]
        assert all(next(each).startswith("retry: ") for each in lines)
        assert open_streams() == 20
        for stream in opened[10:]:
            stream.close()
        wait_until(lambda: open_streams() == 10, timeout=20, what="the streams of clients that left to end")
        resumed = manager.http.post(f"{API}/{run_id}/resume", json={"decision": {"approved": True}})
        assert resumed.status_code == 202, resumed.text
        for each in lines[:10]:
            assert any('"type":"agent_end"' in line for line in each)
    desk.worker.kill()
    endless = clerk.http.post(API, json={"agent": "desk", "input": "Please reply to ticket 2."}).headers["location"]
    with clerk.http.stream("GET", f"{endless}/events") as stream:
        assert next(stream.iter_lines()).startswith("retry: ")
        assert desk.web.stop() < 10


def test_without_a_secret_key_the_desk_does_not_start(tmp_path: Path) -> None:
    env = {key: value for key, value in environment(PYTHONPATH=str(ROOT)).items() if key != "SECRET_KEY"}
    command = [sys.executable, "manage.py", "check"]
    done = subprocess.run(command, cwd=FOLDER, env=env, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode != 0
    assert "SECRET_KEY is not set" in done.stderr
