"""What a watcher costs: agentkit under gunicorn and uvicorn, beside two relays that subscribe once per client.

    make bench-streams     or     python -m bench.streams [--watchers 1000 5000] [--rounds 3] [--only NAME]

Needs `pip install -e '.[bench]'`. All four are started one after the other in each round, on the same Valkey
server, and serve the same events, which are appended through agentkit's store under a lease. The relays are in
bench/relays.py: an asyncio one (Starlette, uvicorn with uvloop and httptools) and Flask under gunicorn's gevent,
as agentkit itself is run here first. The clients are a process of their own (bench/watchers.py).
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import socket
import statistics
import subprocess
import sys
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from typing import Any

import psutil

from agentkit import AgentKit
from agentkit.core.record import Lease
from agentkit.settings import Settings
from agentkit.store.protocol import Append, Store
from agentkit.store.redis import RedisStore
from agentkit.testing.store_changes import claimed, event, new_run
from bench.watchers import raise_file_limit
from tests.apps import FakeQueue
from tests.servers import ValkeyServer, free_port
from tests.waiting import wait_until

GEVENT = (
    "gunicorn",
    "-k",
    "gevent",
    "--worker-connections",
    "12000",
    "--bind",
    "127.0.0.1:{port}",
    "--log-level=error",
)
SERVERS = {
    "agentkit": (*GEVENT, "agentkit.web:create_app()"),
    "uvicorn": ("uvicorn", "--factory", "agentkit.asgi:create_app", "--port", "{port}", "--log-level=error"),
    "asyncio": ("uvicorn", "--factory", "bench.relays:asgi", "--port", "{port}", "--log-level=error"),
    "flask": (*GEVENT, "bench.relays:wsgi()"),
}
TITLES = {"agentkit": "agentkit", "uvicorn": "by uvicorn", "asyncio": "(a) asyncio", "flask": "(b) Flask"}

FIRST = 4
"""The last seq of a run that `new_run` made and `claimed` took."""
WARM = 20
LEASE_MS = 3_600_000
DELTA = "0123456789" * 2
ROWS = {
    "threads": "threads, with the most idle watchers",
    "opened_per_s": "watchers opened per second",
    "subscriptions": "Redis subscriptions, 1,000 watchers",
    "connections": "Redis connections, 1,000 watchers",
    "p50_ms": "p50 ms, 1,000 watchers of 100 runs, 100 events/s",
    "p99_ms": "p99 ms",
    "load_cpu": "CPU % meanwhile",
    "crowd_ms": "ms until the last of 1,000 watchers of one run has an event",
    "live_per_s": "events/s to one client, live",
    "replay_per_s": "events/s to one client, from the log",
    "kb_stalled": "kB of memory per watcher that does not read, 50 of them",
    "kb_kept": "the same after they have left, which the allocator may keep for others",
    "kb_again": "the same that 50 others add, who come then",
    "bytes_first": "bytes per delta of a message's first tenth",
    "bytes_last": "bytes per delta of its last tenth",
    "lost": "events lost, doubled, streams cut",
}


class Server:
    """One of the servers, in processes of its own."""

    def __init__(self, name: str, url: str) -> None:
        self.port = free_port()
        env = {
            **os.environ,
            "AGENTKIT_REDIS_URL": url,
            "AGENTKIT_APP": "bench.relays:kit",
            "AGENTKIT_MAX_WATCHERS": "11000",
        }
        words = [word.format(port=self.port) for word in SERVERS[name]]
        self._process = subprocess.Popen([sys.executable, "-m", *words], env=env)
        wait_until(self._answers, timeout=30, what=f"{name} to answer")

    def _answers(self) -> bool:
        assert self._process.poll() is None, "the server ended"
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{self.port}/none", timeout=2)
        except urllib.error.HTTPError:
            return True
        except OSError:
            return False
        return True

    @property
    def processes(self) -> list[psutil.Process]:
        first = psutil.Process(self._process.pid)
        return [first, *first.children(recursive=True)]

    def memory(self) -> int:
        """Resident bytes after a collection."""
        serving = self.processes[-1]
        serving.send_signal(signal.SIGRTMIN)
        time.sleep(0.5)
        return sum(process.memory_info().rss for process in self.processes)

    def cpu_seconds(self) -> float:
        return sum(sum(process.cpu_times()[:2]) for process in self.processes)

    def connections_to(self, port: int) -> int:
        found = [c for process in self.processes for c in process.net_connections("tcp")]
        return sum(bool(c.raddr) and c.raddr.port == port and c.status == psutil.CONN_ESTABLISHED for c in found)

    def sockets(self) -> int:
        """Count the clients that are connected."""
        found = [c for process in self.processes for c in process.net_connections("tcp")]
        return sum(c.laddr.port == self.port and c.status == psutil.CONN_ESTABLISHED for c in found)

    def stop(self) -> None:
        for process in reversed(self.processes):
            process.kill()
        self._process.wait(30)


class Clients:
    def __init__(self, port: int) -> None:
        command = [sys.executable, "-m", "bench.watchers", str(port)]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def _ask(self, act: str, **order: Any) -> dict[str, Any]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        print(json.dumps({"act": act, **order}), file=self._process.stdin, flush=True)
        answer: dict[str, Any] = json.loads(self._process.stdout.readline())
        return answer

    def open(self, runs: list[str], each: int = 1, *, timed: bool = True) -> None:
        refusals = self._ask("open", runs=runs, each=each, after=FIRST, timed=timed)["refusals"]
        assert not refusals, f"{len(refusals)} watchers were refused, with {refusals[0]!r}"

    def expect(self, seq: int, seconds: float = 60, among: list[str] | None = None) -> int:
        behind: int = self._ask("expect", seq=seq, seconds=seconds, among=among)["behind"]
        return behind

    def report(self) -> dict[str, Any]:
        return self._ask("report")

    def stop(self) -> None:
        print(json.dumps({"act": "quit"}), file=self._process.stdin, flush=True)
        self._process.wait(30)


@dataclass
class Run:
    """A run of which deltas are written, as a worker writes them."""

    store: Store
    id: str
    lease: Lease
    flushes: int = 0

    @classmethod
    def new(cls, store: Store) -> Run:
        run_id = new_run(store)
        return cls(store, run_id, claimed(store, run_id, lease_ms=LEASE_MS).lease)

    def write(self, deltas: int = 1) -> None:
        update = {"type": "text_delta", "contentIndex": 0, "delta": DELTA}
        now = time.monotonic_ns()
        self.flushes += 1
        events = [event("message_update", at=now, assistantMessageEvent=update)] * deltas
        self.store.append([Append(self.lease, events, self.flushes)])


class Measurement:
    """One server's figures."""

    def __init__(self, name: str, valkey: ValkeyServer) -> None:
        self.figures: dict[str, float] = {"lost": 0}
        self._valkey = valkey
        self._store = RedisStore(valkey.url)
        self._name = name
        self._server = Server(name, valkey.url)
        self._clients = Clients(self._server.port)

    def stop(self) -> None:
        self._clients.stop()
        self._server.stop()
        self._store.close()

    def restart(self) -> None:
        """Start a fresh server and fresh clients."""
        self._clients.stop()
        self._server.stop()
        self._server = Server(self._name, self._valkey.url)
        self._clients = Clients(self._server.port)

    def runs(self, count: int) -> list[Run]:
        return [Run.new(self._store) for _ in range(count)]

    def idle(self, watchers: int, settle: float) -> None:
        """Measure memory and CPU of watchers of as many runs, in which nothing happens but keepalives."""
        runs = [run.id for run in self.runs(watchers + WARM)]
        self._clients.open(runs[:WARM])
        before = self._server.memory()
        began = time.monotonic()
        self._clients.open(runs[WARM:])
        self.figures["opened_per_s"] = watchers / (time.monotonic() - began)
        cpu, began = self._server.cpu_seconds(), time.monotonic()
        time.sleep(settle)
        self.figures[f"cpu_{watchers}"] = (self._server.cpu_seconds() - cpu) / (time.monotonic() - began) * 100
        self.figures["threads"] = sum(process.num_threads() for process in self._server.processes)
        self.figures[f"kb_{watchers}"] = (self._server.memory() - before) / watchers / 1000
        self._tally()
        self.restart()

    def load(self, seconds: float) -> None:
        runs = self.runs(100)
        self._clients.open([run.id for run in runs], each=10)
        for run in runs:
            run.write()
        self._tally(FIRST + 1)
        client = self._store._client
        self.figures["subscriptions"] = len(client.client_list(_type="pubsub"))
        self.figures["connections"] = self._server.connections_to(self._valkey.port)
        cpu, began = self._server.cpu_seconds(), time.monotonic()
        for number in range(int(seconds * 100)):
            time.sleep(max(0.0, began + number / 100 - time.monotonic()))
            runs[number % len(runs)].write()
        self.figures["load_cpu"] = (self._server.cpu_seconds() - cpu) / (time.monotonic() - began) * 100
        report = self._tally(FIRST + 1 + int(seconds))
        self.figures["p50_ms"], self.figures["p99_ms"] = report["p50_ms"], report["p99_ms"]
        self.restart()

    def crowd(self, events: int = 20) -> None:
        [run] = self.runs(1)
        self._clients.open([run.id], each=1000)
        took = []
        for number in range(events):
            began = time.monotonic_ns()
            run.write()
            took.append((self._tally(FIRST + 1 + number)["last_ns"] - began) / 1e6)
        self.figures["crowd_ms"] = statistics.median(took)
        self.restart()

    def saturation(self, events: int, at_once: int = 20, times: int = 3) -> None:
        """Measure one client with a writer that does not wait for it; then the same log, read from its beginning."""
        live, replay = [], []
        for _ in range(times):
            run, other = self.runs(2)
            self._clients.open([run.id], timed=False)
            began = time.monotonic_ns()
            for _ in range(events // at_once):
                run.write(at_once)
            live.append(events / (self._tally(FIRST + events)["last_ns"] - began) * 1e9)
            self.restart()
            self._clients.open([other.id])  # the first request of a process costs more
            began = time.monotonic_ns()
            self._clients.open([run.id], timed=False)
            self.figures["lost"] += self._clients.expect(FIRST + events, among=[run.id])
            replay.append(events / (self._tally()["last_ns"] - began) * 1e9)
            self.restart()
        self.figures["live_per_s"], self.figures["replay_per_s"] = statistics.median(live), statistics.median(replay)

    def stalled(self, events: int, watchers: int = 50) -> None:
        """Measure what clients cost that do not read a long log, while it grows, and what others cost after them.

        What the first gave back, the allocator gives to the others, if not to the system.
        """
        run, other = self.runs(2)
        for _ in range(events // 20):
            run.write(20)
        self._clients.open([other.id] * WARM)
        used = [self._server.memory()]
        for _ in range(2):
            sockets = [self._silent_client(run.id) for _ in range(watchers)]
            for _ in range(events // 20):
                run.write(20)
            used.append(self._server.memory())
            for each in sockets:
                each.close()
            wait_until(lambda: self._server.sockets() <= WARM, timeout=60, what="the silent clients to be let go")
            used.append(self._server.memory())
        before, stalled, left, again, _ = (each / watchers / 1000 for each in used)
        self.figures["kb_stalled"] = stalled - before
        self.figures["kb_kept"] = left - before
        self.figures["kb_again"] = again - stalled
        self.restart()

    def _silent_client(self, run_id: str) -> socket.socket:
        client = socket.socket()
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.connect(("127.0.0.1", self._server.port))
        client.sendall(b"GET /runs/%s/events?after=%d HTTP/1.1\r\nHost: bench\r\n\r\n" % (run_id.encode(), FIRST))
        assert client.recv(12).endswith(b"200")
        return client

    def message(self) -> None:
        """Execute a whole run here and measure the bytes of its deltas, early and late in a long message."""
        queue = FakeQueue()
        settings = Settings(redis_url=self._valkey.url, flush_seconds=0)
        from bench.relays import kit as served

        kit = AgentKit([bound.agent for bound in served.agents], settings=settings, store=self._store, queue=queue)
        handle = kit.start("bench", "go")
        kit.execute(*queue.enqueued.pop())
        url = f"http://127.0.0.1:{self._server.port}/runs/{handle.id}/events"
        deltas = []
        with urllib.request.urlopen(url, timeout=10) as response:
            frame = b""
            for line in response:
                frame += line
                if line == b"\n":
                    if b'"type":"text_delta"' in frame:
                        deltas.append(len(frame))
                    if b'"agent_end"' in frame:
                        break
                    frame = b""
        tenth = len(deltas) // 10
        self.figures["bytes_first"] = statistics.mean(deltas[:tenth])
        self.figures["bytes_last"] = statistics.mean(deltas[-tenth:])

    def _tally(self, seq: int = FIRST) -> dict[str, Any]:
        behind = self._clients.expect(seq)
        report = self._clients.report()
        self.figures["lost"] += behind + report["lost"] + report["twice"] + report["closed"]
        return report


def measure(name: str, valkey: ValkeyServer, options: argparse.Namespace) -> dict[str, float]:
    measurement = Measurement(name, valkey)
    try:
        measurement.message()
        for watchers in options.watchers:
            measurement.idle(watchers, options.settle)
        measurement.load(options.seconds)
        measurement.crowd()
        measurement.saturation(options.events)
        measurement.stalled(options.events)
        print(f"{name}: {measurement.figures}", file=sys.stderr)
    finally:
        measurement.stop()
    return measurement.figures


@dataclass(frozen=True)
class Goal:
    """`key` of agentkit / `key` of `rival`, or of agentkit's own figure `of`, is at most (or at least) `bound`.

    Without either, `key` itself is.
    """

    key: str
    bound: float
    rival: str = ""
    of: str = ""
    at_least: bool = False

    def shown(self, rows: dict[str, str], rounds: dict[str, list[dict[str, float]]]) -> str | None:
        """Compare round by round, and judge by the median; None where the rival was not measured."""
        ours = rounds["agentkit"]
        if self.rival and self.rival not in rounds:
            return None
        others = [
            one[self.key] if self.rival else one[self.of] if self.of else 1.0
            for one in (rounds[self.rival] if self.rival else ours)
        ]
        values = [one[self.key] / other for one, other in zip(ours, others, strict=True)]
        value = statistics.median(values)
        met = value >= self.bound if self.at_least else value <= self.bound
        whom = f" of {TITLES[self.rival]}" if self.rival else f" of {rows[self.of]!r}" if self.of else ""
        goal = f"goal: at {'least' if self.at_least else 'most'} {self.bound:,g}"
        listed = ", ".join(f"{each:,.2f}" for each in values)
        return f"{'met    ' if met else 'NOT MET'}  {rows[self.key]}: {value:,.2f}{whom} ({goal}; rounds {listed})"


def goals(watchers: list[int]) -> list[Goal]:
    idle = [Goal(f"kb_{n}", most, rival) for n in watchers for rival, most in (("asyncio", 0.6), ("flask", 0.35))]
    return [
        *idle,
        Goal("p99_ms", 1.5, "asyncio"),
        Goal("live_per_s", 1, "asyncio", at_least=True),
        Goal("replay_per_s", 1, "asyncio", at_least=True),
        Goal("kb_stalled", 2000),
        Goal("kb_again", 0.1, of="kb_stalled"),
        Goal("lost", 0),
    ]


def table(rounds: dict[str, list[dict[str, float]]], watchers: list[int]) -> None:
    """Print the medians of all rounds, and which goals agentkit meets by them."""
    figures = {
        name: {key: statistics.median(f[key] for f in found) for key in found[0]} for name, found in rounds.items()
    }
    rows = {f"kb_{n}": f"kB of memory per watcher, {n:,} idle ones" for n in watchers}
    rows |= {f"cpu_{n}": f"CPU %, {n:,} idle watchers" for n in watchers}
    names = list(figures)
    print(f"{'':62}" + "".join(f"{TITLES[name]:>14}" for name in names))
    for key, title in (rows | ROWS).items():
        values = [figures[name].get(key) for name in names]
        print(f"{title:62}" + "".join(f"{'' if v is None else format(v, ',.1f'):>14}" for v in values))
    if "agentkit" in rounds:
        print()
        for goal in goals(watchers):
            if (line := goal.shown(rows | ROWS, rounds)) is not None:
                print(line)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--watchers", type=int, nargs="+", default=[1000, 5000], help="idle watchers, each count once")
    parser.add_argument("--rounds", type=int, default=3, help="measurements of each server; medians are shown")
    parser.add_argument("--only", nargs="+", choices=list(SERVERS), default=list(SERVERS), help="measure these alone")
    parser.add_argument("--settle", type=float, default=18.0, help="seconds of idling: one keepalive at least")
    parser.add_argument("--seconds", type=float, default=10.0, help="of 100 events/s")
    parser.add_argument("--events", type=int, default=40_000, help="events for the saturation measurements")
    options = parser.parse_args()
    needed = max(options.watchers) * 2 + 500
    if raise_file_limit(20_000) < needed:
        print(f"the system allows too few open files for {max(options.watchers)} watchers: {needed} are needed")
        raise SystemExit(1)
    rounds: dict[str, list[dict[str, float]]] = {name: [] for name in options.only}
    for _ in range(options.rounds):
        for name in options.only:
            with ValkeyServer() as valkey:
                rounds[name].append(measure(name, valkey, options))
    table(rounds, options.watchers)


if __name__ == "__main__":
    main()
