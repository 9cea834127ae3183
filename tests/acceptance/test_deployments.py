"""What `deploy/` and the Procfile start is started: each command, the proxy, and what the image is built by.

Addresses, passwords and folders are the test's own. What no test here can show, containers and a cluster, is said in
docs/how-to/deploy.md.
"""

from __future__ import annotations

import asyncio
import json
import re
import shutil
import signal
import ssl
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, closing
from http.client import HTTPSConnection
from pathlib import Path
from typing import Any

import httpx
import pytest
from websockets.sync.client import connect

from agentkit.client import Client
from tests.acceptance.model import script
from tests.acceptance.stack import Process, Stack, environment
from tests.deployments import (
    DEPLOY,
    ROLES,
    ROOT,
    build_context,
    commands,
    compose,
    dockerfile,
    env_file,
    manifests,
)
from tests.nginx import ShippedNginx
from tests.servers import ValkeyServer, free_port
from tests.turns import call
from tests.waiting import wait_until

KINDS = ("Procfile", "compose", "kubernetes", "systemd")
LOGIN = ("ann", "tulips")

# -- the commands


def variables(kind: str, role: str, store: ValkeyServer) -> dict[str, str]:
    """What a kind of deployment gives a role, with the test's values in place of secrets and places."""
    if kind == "compose":
        given = dict(compose()["services"][role]["environment"])
    elif kind == "kubernetes":
        documents = {(one["kind"], one["metadata"]["name"]): one for one in manifests()}
        shared = documents["ConfigMap", "agentkit"]["data"]
        given = {**shared, **documents["Secret", f"agentkit-{role}"]["stringData"]}
    elif kind == "systemd":
        folder = DEPLOY / "systemd"
        given = {**env_file(folder / "agentkit.env.example"), **env_file(folder / f"{role}.env.example")}
    else:
        given = {"AGENTKIT_REDIS_URL": "", "FLOWER_BASIC_AUTH": ""}
    assert "AGENTKIT_REDIS_URL" in given
    given = {name: re.sub(r"^\$\{\w+:-(.*)\}$", r"\1", value) for name, value in given.items()}
    mine = {"AGENTKIT_REDIS_URL": store.url, "FLOWER_BASIC_AUTH": ":".join(LOGIN)}
    if "AGENTKIT_SECRET_KEY" in given:
        mine["AGENTKIT_SECRET_KEY"] = "k" * 32
    mine = {name: value for name, value in mine.items() if name in given}
    return {**given, **mine, "AGENTKIT_APP": "agentkit.cli.example:kit"}


class Role(Process):
    """One command of a deployment, at a port of its own where it listens."""

    def __init__(self, kind: str, role: str, store: ValkeyServer, folder: Path) -> None:
        self.port = free_port()
        self.role = role
        words = list(commands()[kind][role])
        if role == "web":
            words[words.index("--bind") + 1] = f"127.0.0.1:{self.port}"
        if role == "flower":
            words = [re.sub(r"^--address=.*", "--address=127.0.0.1", word) for word in words]
            words.append(f"--port={self.port}")
        env = environment(**variables(kind, role, store), AGENTKIT_DATA_DIR=str(folder / "data"), HOME=str(folder))
        super().__init__(f"{kind}-{role}", words, env, folder)

    def get(self, path: str, **options: Any) -> httpx.Response:
        return httpx.get(f"http://127.0.0.1:{self.port}{path}", timeout=30, **options)

    def answers(self, path: str, **options: Any) -> bool:
        """Whether it answers with 200."""
        assert self.process is not None
        assert self.process.poll() is None, self.log()[-4000:]
        try:
            return self.get(path, **options).status_code == 200
        except httpx.TransportError:
            return False


@pytest.mark.timeout(300)
@pytest.mark.parametrize("kind", KINDS)
def test_its_commands_execute_a_run_and_stop_in_time(kind: str, tmp_path: Path) -> None:
    with ExitStack() as stack:
        store = stack.enter_context(ValkeyServer(tmp_path / "valkey"))
        roles = {role: Role(kind, role, store, tmp_path) for role in ROLES}
        for process in roles.values():
            stack.callback(process.kill)
            process.launch()
        web, flower = roles["web"], roles["flower"]
        host = {"Host": "localhost" if kind == "kubernetes" else "127.0.0.1"}  # as its probes send it
        wait_until(lambda: web.answers("/readyz", headers=host), timeout=90, what="web and worker", every=0.2)
        wait_until(lambda: flower.answers("/healthcheck"), timeout=90, what="Flower", every=0.2)
        assert flower.get("/workers").status_code == 401
        assert flower.get("/workers", auth=LOGIN).status_code == 200
        with Client(f"http://127.0.0.1:{web.port}", headers=host, timeout=30) as client:
            run = client.start("support", "Please refund order A-1001")
            events = client.events(run["id"], until_pause=True)
            assert [event["type"] for event in events][-1] == "agent_pause"
            client.resume(run["id"], decision={"approved": True})
            assert [event["type"] for event in client.events(run["id"])][-1] == "agent_end"
        for process in roles.values():
            assert process.process is not None
            process.process.send_signal(signal.SIGTERM)
        for role, process in roles.items():
            assert process.process is not None
            assert process.process.wait(60) == 0, (role, process.log()[-2000:])


# -- the proxy


@pytest.fixture
def proxy(stack: Stack, tmp_path: Path) -> Iterator[ShippedNginx]:
    with ShippedNginx(tmp_path / "nginx", stack.web_a.port) as running:
        yield running


@pytest.fixture
def https(proxy: ShippedNginx) -> Iterator[httpx.Client]:
    """A client that speaks HTTP/2, as browsers do, and trusts the proxy's certificate."""
    base = f"https://localhost:{proxy.port}"
    with httpx.Client(base_url=base, http2=True, verify=trusting(proxy), timeout=30, trust_env=False) as client:
        yield client


def trusting(proxy: ShippedNginx) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=str(proxy.folder / "agentkit.crt"))


def test_the_proxy_passes_a_stream_on_event_by_event(stack: Stack, https: httpx.Client) -> None:
    refund = script([call("refund", order_id="A1", cents=5)], "Done.")
    started = https.post("/runs", json={"agent": "support", "input": refund})
    assert started.status_code == 202
    assert started.http_version == "HTTP/2"
    run_id = started.json()["id"]
    events = []
    with https.stream("GET", f"/runs/{run_id}/events") as response:
        for line in response.iter_lines():
            if line.startswith("data: "):
                events.append(json.loads(line[6:]))
                if events[-1]["type"] == "agent_pause":  # it came, though the stream stays open and silent after it
                    answer = {"decision": {"approved": True}}
                    # The Host reaches the server, port and all: its own page may act.
                    origin = {"Origin": str(https.base_url)}
                    assert https.post(f"/runs/{run_id}/resume", json=answer, headers=origin).status_code == 202
    assert events == stack.checked(run_id)


def test_the_proxy_upgrades_websockets(stack: Stack, proxy: ShippedNginx) -> None:
    run_id = stack.web_a.begin("support", script([call("refund", order_id="A1", cents=5)], "Done."))
    address = f"localhost:{proxy.port}"
    with connect(
        f"wss://{address}/runs/{run_id}/ws", ssl=trusting(proxy), origin=f"https://{address}", proxy=None
    ) as socket:
        frames = []
        for frame in socket:
            frames.append(json.loads(frame))
            if frames[-1]["type"] == "agent_pause":
                socket.send(json.dumps({"type": "resume", "decision": {"approved": True}}))
    assert [frame for frame in frames if "seq" in frame] == stack.checked(run_id)


def test_the_proxy_lets_bodies_through_that_the_server_takes_and_no_larger_ones(
    https: httpx.Client, proxy: ShippedNginx
) -> None:
    taken = https.post("/runs", json={"agent": "nobody", "input": "x" * 9_900_000})
    assert taken.json()["code"] == "agent_not_found", taken.text
    connection = HTTPSConnection("localhost", proxy.port, context=trusting(proxy), timeout=30)
    with closing(connection):
        connection.putrequest("POST", "/runs")
        connection.putheader("Content-Length", str(10 * 1024 * 1024 + 1))
        connection.endheaders()
        assert connection.getresponse().status == 413


def test_the_proxy_shows_no_metrics_and_logs_no_tokens(https: httpx.Client, proxy: ShippedNginx) -> None:
    assert https.get("/metrics").status_code == 404
    assert https.get("/healthz?token=secret").status_code == 200
    log = proxy.folder / "agentkit.log"
    wait_until(lambda: "/healthz" in log.read_text(), what="the access log")
    assert "secret" not in log.read_text()


def test_the_proxy_sends_plain_http_to_tls(proxy: ShippedNginx) -> None:
    plain = httpx.get(f"http://127.0.0.1:{proxy.plain_port}/runs?limit=1")
    assert plain.status_code == 301
    assert plain.headers["location"] == "https://127.0.0.1/runs?limit=1"


def test_the_proxy_refuses_what_one_address_asks_beyond_its_rate(proxy: ShippedNginx) -> None:
    async def ask(times: int) -> list[int]:
        base = f"https://localhost:{proxy.port}"
        async with httpx.AsyncClient(base_url=base, http2=True, verify=trusting(proxy), timeout=30) as client:
            first = await client.get("/healthz")
            rest = await asyncio.gather(*(client.get("/healthz") for _ in range(times)))
            return [response.status_code for response in (first, *rest)]

    statuses = asyncio.run(ask(120))
    assert statuses[0] == 200
    assert set(statuses) == {200, 429}


# -- the image


@pytest.mark.timeout(900)
def test_what_the_image_is_built_by_installs_a_server_that_answers(tmp_path: Path) -> None:
    source, venv = tmp_path / "src", tmp_path / "opt" / "agentkit"
    for path in build_context():
        copy = source / path.relative_to(ROOT)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, copy)
    build, final = dockerfile()
    steps = [rest for word, rest in build if word == "RUN"]
    assert len(steps) == 2
    for step in steps:
        step = step.replace("/opt/agentkit", str(venv)).replace("python -m venv", f"{sys.executable} -m venv")
        done = subprocess.run(["sh", "-c", step], cwd=source, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
    (command,) = [json.loads(rest) for word, rest in final if word == "CMD"]
    port = free_port()
    command[command.index("--bind") + 1] = f"127.0.0.1:{port}"
    app = tmp_path / "app"
    app.mkdir()
    (settings,) = [re.findall(r"(AGENTKIT_\w+)=(\S+)", rest) for word, rest in final if word == "ENV"]
    env = environment(**dict(settings), HOME=str(tmp_path), PYTHONPATH=str(app))
    with (tmp_path / "server.log").open("wb") as log:
        server = subprocess.Popen([venv / "bin" / command[0], *command[1:]], cwd=app, env=env, stdout=log, stderr=log)
    try:

        def answers() -> bool:
            assert server.poll() is None, (tmp_path / "server.log").read_text()
            try:
                return httpx.get(f"http://127.0.0.1:{port}/healthz").status_code == 200
            except httpx.TransportError:
                return False

        wait_until(answers, timeout=60, what="the server", every=0.2)
        for name in ("celery", "agentkit"):
            assert (venv / "bin" / name).exists()
        packages = subprocess.run([venv / "bin" / "python", "-c", "import flower, gevent, cryptography"], cwd=app)
        assert packages.returncode == 0
    finally:
        server.terminate()
        assert server.wait(30) == 0
