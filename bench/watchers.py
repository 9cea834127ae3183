"""Thousands of clients of an event stream, in a process of their own, so that their memory and work are not counted.

    python -m bench.watchers PORT

Commands come as JSON lines on stdin and are answered on stdout: `open` (clients of each run, from a seq on), `expect`
(until every client has a seq), `report` (what came since the last report), `quit`. Every client checks that no event is
missing and none comes twice. An event may carry `"at"`, the monotonic clock's nanoseconds when it was written; a
`timed` client notes how old it is.
"""

from __future__ import annotations

import asyncio
import json
import re
import resource
import sys
import time
from array import array
from typing import Any

__all__ = ["raise_file_limit"]

_IDS = re.compile(rb"\nid: (\d+)\n")
_WRITTEN = re.compile(rb'"at":(\d+)')


def raise_file_limit(wanted: int) -> int:
    """Raise the limit of open files towards `wanted` as far as the system allows; return the limit."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    limit = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    if soft != resource.RLIM_INFINITY and soft < limit:
        resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))
    return limit


class Tally:
    """Counts what all clients received since the last report."""

    def __init__(self) -> None:
        self.events = 0
        self.bytes = 0
        self.lost = 0
        self.twice = 0
        self.closed = 0
        self.last_ns = 0
        self.latencies = array("q")

    def report(self) -> dict[str, Any]:
        found = sorted(self.latencies)
        figures: dict[str, Any] = {
            "events": self.events,
            "bytes": self.bytes,
            "lost": self.lost,
            "twice": self.twice,
            "closed": self.closed,
            "last_ns": self.last_ns,
        }
        if found:
            figures["p50_ms"] = found[len(found) // 2] / 1e6
            figures["p99_ms"] = found[min(len(found) - 1, len(found) * 99 // 100)] / 1e6
        return figures


class Watcher(asyncio.Protocol):
    """One client, with as little HTTP and SSE as possible, since a thousand of them share a core.

    What it looks for it finds in all frames of a packet at once: frame by frame it cost more than the servers' work.
    """

    def __init__(self, watchers: Watchers, run_id: str, path: str, after: int, timed: bool) -> None:
        self.run_id = run_id
        self._timed = timed
        self._watchers = watchers
        self._path = path
        self._buffer = b""
        self.seq = after
        self.opened = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        transport.write(f"GET {self._path} HTTP/1.1\r\nHost: bench\r\nAccept: text/event-stream\r\n\r\n".encode())

    def data_received(self, data: bytes) -> None:
        now = time.monotonic_ns()
        tally = self._watchers.tally
        tally.bytes += len(data)
        if not self.opened.done():
            self._buffer += data
            _, found, rest = self._buffer.partition(b"retry: 1000\n\n")
            if not found:
                return
            self.opened.set_result("")
            data, self._buffer = rest, b""
        # A frame is whole once its empty line is there; sizes of HTTP's chunks stand between frames.
        whole, found, self._buffer = (self._buffer + data).rpartition(b"\n\n")
        if not found:
            return
        seqs = list(map(int, _IDS.findall(b"\n" + whole)))
        if seqs == list(range(self.seq + 1, self.seq + 1 + len(seqs))):
            self.seq += len(seqs)
            tally.events += len(seqs)
        else:
            self._count(seqs)
        if self._timed:
            tally.latencies.extend([now - int(written) for written in _WRITTEN.findall(whole)])
        tally.last_ns = now

    def _count(self, seqs: list[int]) -> None:
        """Count events of which some are missing, or came before."""
        tally = self._watchers.tally
        for seq in seqs:
            if seq <= self.seq:
                tally.twice += 1
                continue
            tally.lost += seq - self.seq - 1
            self.seq = seq
            tally.events += 1

    def connection_lost(self, error: Exception | None) -> None:
        self._watchers.tally.closed += 1
        if not self.opened.done():
            self.opened.set_result(self._buffer[-200:].decode(errors="replace") or repr(error))


class Watchers:
    def __init__(self, port: int) -> None:
        self._port = port
        self.tally = Tally()
        self.all: list[Watcher] = []

    async def open(self, runs: list[str], each: int, after: int, timed: bool) -> dict[str, Any]:
        gate = asyncio.Semaphore(64)
        loop = asyncio.get_running_loop()

        async def one(run_id: str) -> str:
            async with gate:
                path = f"/runs/{run_id}/events?after={after}"
                _, watcher = await loop.create_connection(
                    lambda: Watcher(self, run_id, path, after, timed), "127.0.0.1", self._port
                )
                self.all.append(watcher)
                refusal: str = await watcher.opened
                return refusal

        refusals = await asyncio.gather(*(one(run_id) for run_id in runs for _ in range(each)))
        return {"refusals": [refusal for refusal in refusals if refusal]}

    async def expect(self, seq: int, seconds: float, among: list[str] | None) -> dict[str, Any]:
        """Wait until all watchers, or those of the runs `among`, have the seq; return how many are still behind."""
        expected = [w for w in self.all if among is None or w.run_id in among]
        deadline = time.monotonic() + seconds
        while True:
            behind = sum(watcher.seq < seq for watcher in expected)
            if not behind or time.monotonic() > deadline:
                return {"behind": behind}
            await asyncio.sleep(0.02)

    async def report(self) -> dict[str, Any]:
        tally, self.tally = self.tally, Tally()
        return tally.report()


async def main(port: int) -> None:
    raise_file_limit(20_000)
    watchers = Watchers(port)
    loop = asyncio.get_running_loop()
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        command = json.loads(line)
        act = command.pop("act")
        if act == "quit":
            break
        print(json.dumps(await getattr(watchers, act)(**command)), flush=True)
    for watcher in watchers.all:
        watcher.transport.abort()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1])))
