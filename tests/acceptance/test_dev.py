"""`agentkit dev` as a person meets it: real processes, real signals, the command line against them."""

from __future__ import annotations

import os
import re
import signal
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import psutil
import pytest
import redis

from agentkit.client import Client
from tests.fences import ROOT, blocks
from tests.servers import free_port
from tests.waiting import wait_until
from tests.wire import fold

AGENTKIT = [sys.executable, "-c", "from agentkit.cli import main; main()"]
LOSABLE = ("worker", "web", "store")


def environment(**more: str) -> dict[str, str]:
    env = {key: value for key, value in os.environ.items() if not key.startswith(("AGENTKIT_", "OPENAI_"))}
    return {**env, "AGENTKIT_LEASE_SECONDS": "2", **more}


class Dev:
    """A running `agentkit dev`."""

    def __init__(self, data: Path, port: int, log: Path, *options: str) -> None:
        self.url = f"http://127.0.0.1:{port}"
        self._log = log
        words = [*AGENTKIT, "dev", "--port", str(port), "--data", str(data), *options]
        with log.open("wb") as out:
            self.process = subprocess.Popen(words, stdout=out, stderr=subprocess.STDOUT, env=environment())

    @property
    def output(self) -> str:
        return self._log.read_text()

    def wait_until_ready(self) -> None:
        def ready() -> bool:
            assert self.process.poll() is None, self.output
            return "Ctrl-C stops everything" in self.output

        wait_until(ready, timeout=90, what="agentkit dev's banner")

    def pid(self, name: str) -> int:
        """The pid that was printed last for a program."""
        found = re.findall(rf"^  {name} .*pid (\d+)|^dev +│ {name} restarted, pid (\d+)", self.output, re.MULTILINE)
        return int(next(filter(None, found[-1])))

    def processes(self) -> list[psutil.Process]:
        return psutil.Process(self.process.pid).children(recursive=True)

    def cli(self, *words: str, typed: str = "") -> subprocess.CompletedProcess[str]:
        env = environment(AGENTKIT_URL=self.url)
        return subprocess.run([*AGENTKIT, *words], input=typed, capture_output=True, text=True, env=env, timeout=40)

    def run_until_paused(self, order: str = "A-1001") -> str:
        """Start a run that nobody answers; its id."""
        done = self.cli("run", "support", f"Please refund order {order}")
        assert done.returncode == 3, done
        said = re.search(r"agentkit runs resume (\S+)", done.stderr)
        assert said is not None
        return said[1]


@pytest.fixture
def start_dev(tmp_path: Path) -> Iterator[Callable[..., Dev]]:
    started: list[Dev] = []

    def start(data: str = "data", *options: str) -> Dev:
        dev = Dev(tmp_path / data, free_port(), tmp_path / f"dev-{len(started)}.log", *options)
        started.append(dev)
        dev.wait_until_ready()
        return dev

    yield start
    for dev in started:
        dev.process.kill()
        dev.process.wait()


@contextmanager
def all_gone(dev: Dev, within: float) -> Iterator[None]:
    """Every process of this dev, looked at by pid, is gone soon after the block."""
    processes = dev.processes()
    assert len(processes) >= 4  # store, worker, and web's master and worker
    yield
    dev.process.wait(timeout=within)
    _, alive = psutil.wait_procs(processes, timeout=within)
    assert alive == []


def test_a_run_pauses_and_completes_from_the_terminal(start_dev: Callable[..., Dev]) -> None:
    dev = start_dev()
    done = dev.cli("run", "support", "Please refund order A-1001", typed="y\nbroken\n")
    assert done.returncode == 0, done
    assert "└ refunded $49.99 for A-1001" in done.stdout
    assert "✓ completed" in done.stdout
    assert "\x1b" not in done.stdout

    paused = dev.run_until_paused("A-1002")
    listed = dev.cli("runs", "ls", "--status", "paused").stdout
    assert paused in listed
    invalid = dev.cli("runs", "resume", paused, '{"approved": 1}')
    assert invalid.returncode == 1
    assert "/approved" in invalid.stderr
    assert dev.cli("runs", "resume", paused, '{"approved": false}').returncode == 0
    events = dev.cli("runs", "events", paused).stdout.splitlines()
    assert '"agent_end"' in events[-1]
    assert dev.cli("runs", "events", paused, "--no-follow").stdout.splitlines() == events
    assert "not approved" in dev.cli("runs", "show", paused).stdout


def test_other_users_and_foreign_pages_reach_nothing(start_dev: Callable[..., Dev], tmp_path: Path) -> None:
    folder = tmp_path / "data"
    (folder / "valkey").mkdir(parents=True)
    folder.chmod(0o755)
    dev = start_dev()
    run_id = dev.run_until_paused()
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    made = [path for path in folder.rglob("*") if path != folder / "valkey" and "example.db" not in path.name]
    assert [path for path in made if path.stat().st_mode & 0o077] == []

    store = psutil.Process(dev.pid("store"))
    listening = [one.laddr for one in store.net_connections() if one.status == psutil.CONN_LISTEN]
    assert {address.ip for address in listening} == {"127.0.0.1"}
    with pytest.raises(redis.AuthenticationError):
        redis.Redis(port=listening[0].port).keys()
    config = (folder / "valkey.conf").read_text()
    password = re.search(r'requirepass "(.{32,})"', config)
    assert password is not None
    for process in (psutil.Process(dev.process.pid), *dev.processes()):
        assert password[1] not in " ".join(process.cmdline())
    assert password[1] not in dev.output

    for host, status in (("localhost", 200), ("rebound.example", 400), ("192.168.1.7:8000", 400)):
        assert httpx.get(f"{dev.url}/runs/{run_id}", headers={"Host": host}).status_code == status


def test_what_is_killed_is_started_again_and_the_run_completes(start_dev: Callable[..., Dev]) -> None:
    dev = start_dev()
    run_id = dev.run_until_paused()
    for name in LOSABLE:
        before = dev.pid(name)
        os.kill(before, signal.SIGKILL)
        wait_until(lambda name=name, before=before: dev.pid(name) != before, what=f"a new {name}")  # type: ignore[misc]
    with Client(dev.url, retry_seconds=20) as client:
        wait_until(lambda: client.ready() is True, timeout=20, what="the stack to be ready again")
        client.resume(run_id, decision={"approved": True}, decision_id=client.get(run_id)["pending"][0]["decisionId"])
        events = list(client.events(run_id))
        run = client.get(run_id)
    assert run["status"] == "completed"
    assert fold(events) == run["messages"]
    assert [event["seq"] for event in events] == list(range(1, len(events) + 1))


def test_a_run_completes_though_its_worker_is_killed_while_it_streams(start_dev: Callable[..., Dev]) -> None:
    dev = start_dev()
    with Client(dev.url) as client:
        run_id = client.start("support", "Which orders does Ada have?")["id"]
        kinds = []
        for event in client.events(run_id):
            kinds.append(event["type"])
            if kinds.count("message_update") == 3 and event["type"] == "message_update":
                os.kill(dev.pid("worker"), signal.SIGKILL)
        assert client.get(run_id)["status"] == "completed"
    assert kinds[-1] == "agent_end"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_one_signal_stops_everything(start_dev: Callable[..., Dev], number: signal.Signals) -> None:
    dev = start_dev()
    dev.run_until_paused()
    with all_gone(dev, within=30):
        dev.process.send_signal(number)
    assert dev.process.returncode == 0
    assert dev.output.endswith("stopped\n")


def test_a_second_ctrl_c_does_not_wait_for_a_worker_that_hangs(start_dev: Callable[..., Dev]) -> None:
    dev = start_dev()
    web = psutil.Process(dev.pid("web"))
    os.kill(dev.pid("worker"), signal.SIGSTOP)
    with all_gone(dev, within=4):
        dev.process.send_signal(signal.SIGINT)
        web.wait(timeout=10)
        dev.process.send_signal(signal.SIGINT)


def test_nothing_outlives_a_killed_dev_and_the_next_one_has_its_runs(start_dev: Callable[..., Dev]) -> None:
    dev = start_dev()
    run_id = dev.run_until_paused()
    with Client(dev.url, retry_seconds=0) as watching:  # an open stream holds a thread of the web server
        stream = watching.events(run_id)
        next(stream)
        with all_gone(dev, within=5):
            dev.process.kill()
        stream.close()

    again = start_dev()
    assert again.cli("runs", "resume", run_id, '{"approved": true}').returncode == 0
    with Client(again.url) as client:
        assert list(client.events(run_id))[-1]["status"] == "completed"


def test_a_second_dev_on_the_same_data_or_port_says_so_and_leaves_the_first_alone(
    start_dev: Callable[..., Dev], tmp_path: Path
) -> None:
    dev = start_dev()
    port = dev.url.rpartition(":")[2]
    for words, said in (
        (["--data", str(tmp_path / "data"), "--port", str(free_port())], f"(pid {dev.process.pid}) uses the data"),
        (["--data", str(tmp_path / "other"), "--port", port], f"port {port} is in use"),
        (["--data", str(tmp_path / "other"), "--port", port, "--demo"], f"port {port} is in use"),
    ):
        second = dev.cli("dev", *words)
        assert second.returncode == 1
        assert said in second.stderr
        assert second.stderr.count("\n") == 1
        assert "A run that survives" not in second.stdout
    assert dev.cli("runs", "ls").returncode == 0


def test_the_demo_may_be_played_first(start_dev: Callable[..., Dev]) -> None:
    dev = start_dev("data", "--demo")
    demo, _, after = dev.output.partition("The demo took")
    assert "✗" not in demo
    assert f"Open {dev.url}/" in after
    assert dev.cli("runs", "ls").stdout == "No runs.\n"


def test_an_application_that_does_not_start_leaves_nothing_behind(tmp_path: Path) -> None:
    (tmp_path / "broken.py").write_text("kit = undefined_name\n")
    words = [*AGENTKIT, "dev", "--app", "broken:kit", "--data", str(tmp_path / "data"), "--port", str(free_port())]
    done = subprocess.run(words, capture_output=True, text=True, env=environment(), cwd=tmp_path, timeout=30)
    assert done.returncode == 1
    assert "NameError" in done.stderr
    assert "broken.py, line 1" in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_worker_that_does_not_start_is_one_line_and_leaves_nothing_behind(tmp_path: Path) -> None:
    # It loads where dev looks at it, but not in the processes that dev starts.
    source = "import os\nif 'AGENTKIT_REDIS_URL' in os.environ:\n    raise SystemExit('no luck today')\n"
    (tmp_path / "fickle.py").write_text(source + "from agentkit.cli.example import kit\n")
    words = [*AGENTKIT, "dev", "--app", "fickle:kit", "--data", str(tmp_path / "data"), "--port", str(free_port())]
    done = subprocess.run(words, capture_output=True, text=True, env=environment(), cwd=tmp_path, timeout=30)
    assert done.returncode == 1
    assert "did not start" in done.stderr
    assert done.stderr.count("\n") == 1
    left = [process for process in psutil.process_iter(["cmdline"]) if str(tmp_path) in str(process.info["cmdline"])]
    assert left == []


def test_its_store_is_exported_beside_it_as_the_page_says(start_dev: Callable[..., Dev], tmp_path: Path) -> None:
    dev = start_dev(".agentkit")
    paused = dev.run_until_paused()
    page = [block.text for block in blocks("docs/how-to/back-up.md") if block.language == "sh"]
    [zipped] = [text for text in page if "gzip" in text]
    [beside] = [text for text in page if "valkey.conf" in text]
    done = subprocess.run(
        ["bash", "-euc", f"umask 022\n{beside}{zipped}"],
        cwd=tmp_path,
        env=environment(PYTHONPATH=str(ROOT), PATH=f"{Path(sys.executable).parent}:{os.environ['PATH']}"),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert paused in done.stderr, done.stderr  # the rehearsal finds it in the store already
    for name in ("backup.jsonl", "backup.jsonl.gz"):
        assert stat.S_IMODE((tmp_path / name).stat().st_mode) == 0o600
    assert paused in (tmp_path / "backup.jsonl").read_text()
