"""examples/flask_shop by its own commands: logins, SQL, CSRF, Celery and beat of a team's, with agents as guests."""

from __future__ import annotations

import os
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
from playwright.sync_api import Browser, Page, expect
from websockets.sync.client import connect

from tests.acceptance.stack import ROOT, Process, environment
from tests.servers import ValkeyServer, free_port
from tests.waiting import wait_until

FOLDER = ROOT / "examples" / "flask_shop"
API = "/api/agents/runs"
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

    def log_in(self) -> None:
        answer = self.submit("/login", "/login", user=self.name, password=f"{self.name}'s secret")
        assert answer.status_code == 302, answer.text
        assert answer.headers["location"] == "/"

    def submit(self, page: str, action: str, **fields: str) -> httpx.Response:
        """Send a form with the token of the page that shows it."""
        token = re.search(r'name="csrf_token" value="([^"]+)"', self.http.get(page).text)
        assert token is not None, f"{page} has no form"
        return self.http.post(action, data={**fields, "csrf_token": token[1]})

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


class Shop:
    """The example's processes over a store and a database of their own. `pool`: options of its worker."""

    def __init__(self, folder: Path, store: ValkeyServer, pool: str = "") -> None:
        self.database = folder / "shop.db"
        self.failpoint = folder / "failpoint"
        self.users: list[User] = []
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.env = environment(
            AGENTKIT_REDIS_URL=store.url,
            AGENTKIT_LEASE_SECONDS="2",
            SHOP_BROKER_URL=store.database(1),
            DATABASE_URL=f"sqlite:///{self.database}",
            SECRET_KEY="s" * 32,
            SHOP_CLERK_PASSWORD="clerk's secret",
            SHOP_MANAGER_PASSWORD="manager's secret",
            SHOP_SCHEDULE_SECONDS="1",
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
        self.development = Program(
            "development", _shown("flask --app shop run", self.port), "Running on", self.env, folder
        )
        self.flask("init-db")

    def flask(self, *words: str) -> None:
        command = [sys.executable, "-m", *shlex.split(_shown("flask --app shop init-db"))[:3], *words]
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
        for process in (self.web, self.worker, self.beat, self.development):
            process.kill()
        for user in self.users:
            user.http.close()


def _shown(start: str, port: int | None = None) -> str:
    """The command of the README that begins so, for another port."""
    [command] = [line for line in README.splitlines() if line.startswith(start)]
    return command if port is None else command.replace("8000", str(port))


@pytest.fixture
def store(tmp_path: Path) -> Iterator[ValkeyServer]:
    with ValkeyServer() as server:
        yield server


@pytest.fixture
def shop(tmp_path: Path, store: ValkeyServer, request: pytest.FixtureRequest) -> Iterator[Shop]:
    shop = Shop(tmp_path, store, getattr(request, "param", ""))
    try:
        yield shop
    finally:
        shop.kill()


def test_the_readme_shows_the_commands_of_the_procfile() -> None:
    assert _shown("celery -A shop.worker worker") == PROCFILE["worker"]
    assert _shown("celery -A shop.worker beat") == PROCFILE["beat"]


@pytest.mark.timeout(150)
@pytest.mark.parametrize(("shop", "banner"), [("", "prefork"), ("-P threads", "thread")], indirect=["shop"])
def test_refunds_are_paid_once_across_killed_workers_beside_the_shops_own_tasks(shop: Shop, banner: str) -> None:
    shop.web.start()
    shop.worker.start()
    assert f"({banner})" in shop.worker.log()
    clerk, manager = shop.user("clerk"), shop.user("manager")

    # Over the shop's own pages. The worker dies when the money is paid and nothing of it is committed in the run.
    page = clerk.http.get("/").text
    assert "Analytical engine, brass" in page
    assert "Refund</button>" in page
    started = clerk.submit("/", "/runs", question="Please refund order A-1001.")
    assert started.status_code == 302, started.text
    run_page = started.headers["location"]
    run_id = run_page.rpartition("/")[2]
    [item] = clerk.wait_for(run_id, "paused")["pending"]
    assert "waits for a manager" in clerk.http.get(run_page).text
    assert "Approve" not in clerk.http.get(run_page).text
    assert "Approve" in manager.http.get(run_page).text
    shop.failpoint.write_text("after tool 1")
    answered = manager.submit(run_page, f"{run_page}/answer", decision_id=item["decisionId"], answer="approve")
    assert answered.status_code == 302, answered.text
    wait_until(lambda: not shop.failpoint.read_text(), timeout=30, what="a process to die after the tool", every=0.05)
    assert shop.rows("SELECT order_id, cents, approved_by FROM refund") == [("A-1001", 4999, "manager")]
    shop.worker.kill()
    shop.worker.start()
    clerk.wait_for(run_id, "completed")
    assert "paid back 4999 cents of order A-1001" in clerk.http.get(run_page).text
    assert shop.rows("SELECT order_id, cents, approved_by FROM refund") == [("A-1001", 4999, "manager")]
    wait_until(lambda: shop.rows("SELECT text FROM mail"), timeout=20, what="the receipt")
    assert shop.rows("SELECT text FROM mail") == [("Dear Ada Lovelace, we have paid back 4999 cents.",)]

    # Over the API, while beat sends both a task of the shop's and the start of a run.
    shop.beat.start()
    begun = clerk.http.post(API, json={"agent": "support", "input": "Please refund order A-1002."})
    assert begun.status_code == 202, begun.text
    second = begun.json()["id"]
    clerk.wait_for(second, "paused")
    shop.worker.kill()
    resumed = manager.http.post(f"{API}/{second}/resume", json={"decision": {"approved": True}})
    assert resumed.status_code == 202, resumed.text
    shop.worker.start()
    clerk.wait_for(second, "completed")
    assert shop.rows("SELECT order_id, cents FROM refund ORDER BY at") == [("A-1001", 4999), ("A-1002", 1250)]
    assert shop.rows("SELECT id, refunded_cents FROM orders ORDER BY id") == [
        ("A-1001", 4999),
        ("A-1002", 1250),
        ("A-1003", 0),
    ]
    wait_until(lambda: len(shop.rows("SELECT * FROM mail")) == 2, timeout=20, what="the second receipt")
    wait_until(
        lambda: shop.rows("SELECT 1 FROM day WHERE closed > 1 AND refunds = 2 AND cents = 6249"),
        timeout=20,
        what="beat to have the day closed",
    )

    def report() -> list[Any]:
        runs = manager.http.get(API, params={"agent": "reporter", "status": "completed"}).json()["runs"]
        return [run for run in runs if run["owner"] == "manager"]

    wait_until(report, timeout=20, what="the report that beat starts", every=0.1)


@pytest.mark.timeout(120)
def test_only_a_manager_answers_and_neither_strangers_nor_foreign_pages_get_anything(shop: Shop) -> None:
    shop.web.start()
    shop.worker.start()
    nobody = shop.visitor().http
    assert nobody.get("/").headers["location"].startswith("/login")
    assert nobody.get(API).status_code == 401
    assert nobody.post(API, json={"agent": "support", "input": "hi"}).status_code == 401
    wrong = shop.visitor().submit("/login", "/login", user="clerk", password="guessed")
    assert "No such user" in wrong.text
    clerk, manager = shop.user("clerk"), shop.user("manager")

    # The shop's forms need a token, whoever sends them; the API a page of the shop's.
    assert clerk.http.post("/runs", data={"question": "Please refund order A-1003."}).status_code == 400
    order = {"agent": "support", "input": "Please refund order A-1003."}
    foreign = {"Origin": "https://evil.example"}
    assert clerk.http.post(API, json=order, headers=foreign).status_code == 403
    assert clerk.http.post(API, json=order, headers={"Origin": shop.url}).status_code == 202
    assert manager.http.post(API, json=order).status_code == 403
    refused = manager.http.post("/runs", data={"question": "hi", "csrf_token": _token(clerk)})
    assert refused.status_code == 400, "a token of another session is none"
    assert manager.submit("/", "/runs", question="Please refund order A-1003.").status_code == 403
    [run] = manager.http.get(API).json()["runs"]
    [item] = clerk.wait_for(run["id"], "paused")["pending"]

    # More streams than the pool has connections (15): each gives back what it was authenticated by.
    with ExitStack() as sockets:
        headers = {"Cookie": f"session={clerk.http.cookies['session']}", "Origin": shop.url}
        for _ in range(20):
            url = f"{shop.url.replace('http', 'ws')}{API}/{run['id']}/ws"
            sockets.enter_context(connect(url, additional_headers=headers))
        assert clerk.http.get("/").status_code == 200

    answer = {"decision": {"approved": True}}
    resume, form = f"{API}/{run['id']}/resume", f"/runs/{run['id']}/answer"
    assert nobody.post(resume, json=answer).status_code == 401
    assert clerk.http.post(resume, json=answer).status_code == 403
    assert manager.http.post(resume, json=answer, headers=foreign).status_code == 403
    fields = {"decision_id": item["decisionId"], "answer": "approve"}
    assert clerk.submit("/", form, **fields).status_code == 403
    assert manager.http.post(form, data=fields).status_code == 400
    assert clerk.http.post(f"/runs/{run['id']}x/answer", data=fields).status_code == 400
    assert clerk.submit("/", f"/runs/{run['id']}x/answer", **fields).status_code == 404
    assert clerk.run(run["id"])["status"] == "paused"
    assert shop.rows("SELECT * FROM refund") == []

    assert manager.submit("/", form, **{**fields, "answer": "decline"}, note="no").status_code == 302
    clerk.wait_for(run["id"], "completed")
    assert "not approved: no" in clerk.http.get(f"/runs/{run['id']}").text
    manager.submit("/", form, **fields)
    assert 'role="alert"' in manager.http.get("/").text, "another answer than the first is refused"
    assert shop.rows("SELECT * FROM refund") == []

    # Nothing of the shop's pages comes from elsewhere.
    for page in ("/", f"/runs/{run['id']}", "/static/shop.js", "/static/shop.css"):
        assert "//" not in re.sub(r"^// .*$", "", clerk.http.get(page).text, flags=re.MULTILINE), page
    assert clerk.http.get("/").headers["content-security-policy"].startswith("default-src 'self'")


def _token(user: User) -> str:
    found = re.search(r'name="csrf_token" value="([^"]+)"', user.http.get("/").text)
    assert found is not None
    return found[1]


@pytest.mark.timeout(120)
def test_in_browsers_a_clerk_sees_what_a_manager_approves_without_a_reload(shop: Shop, browser: Browser) -> None:
    shop.web.start()
    shop.worker.start()
    asked_for: set[str] = set()
    errors: list[str] = []

    def page_of(name: str) -> Page:
        page = browser.new_context(base_url=shop.url).new_page()
        page.set_default_timeout(30_000)
        page.on("request", lambda request: asked_for.add(request.url))
        page.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
        page.goto("/")
        page.get_by_label("User").fill(name)
        page.get_by_label("Password").fill(f"{name}'s secret")
        page.get_by_role("button", name="Log in").click()
        return page

    clerk, manager = page_of("clerk"), page_of("manager")
    try:
        clerk.get_by_role("button", name="Refund").first.click()
        expect(clerk.get_by_role("heading", name="refund waits for a manager")).to_be_visible(timeout=30_000)
        expect(clerk.get_by_role("button", name="Approve")).to_have_count(0)
        manager.goto(clerk.url)
        manager.get_by_label("Note").fill("it was broken")
        manager.get_by_role("button", name="Approve").click()
        for page in (clerk, manager):
            expect(page.get_by_text("completed")).to_be_visible(timeout=30_000)
            expect(page.get_by_text("This is how it went: paid back 4999 cents")).to_be_visible()
        assert errors == []
        assert {url for url in asked_for if not url.startswith(f"{shop.url}/")} == set()
    finally:
        clerk.context.close()
        manager.context.close()


@pytest.mark.timeout(90)
def test_the_development_server_serves_pages_and_streams(shop: Shop) -> None:
    shop.development.start()
    shop.worker.start()
    clerk = shop.user("clerk")
    started = clerk.submit("/", "/runs", question="Where is A-1002?")
    run_id = started.headers["location"].rpartition("/")[2]
    with clerk.http.stream("GET", f"{API}/{run_id}/events") as response:
        assert response.status_code == 200
        text = "".join(response.iter_text())
    assert '"type":"agent_end"' in text
    assert "Nanosecond of wire" in clerk.http.get(f"/runs/{run_id}?part").text


def test_without_a_secret_key_the_shop_does_not_start(tmp_path: Path) -> None:
    env = {key: value for key, value in environment(PYTHONPATH=str(ROOT)).items() if key != "SECRET_KEY"}
    command = [sys.executable, "-c", "from shop import create_app; create_app()"]
    done = subprocess.run(command, cwd=FOLDER, env=env, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode != 0
    assert "SECRET_KEY is not set" in done.stderr
    assert not os.path.exists(FOLDER / "instance")
