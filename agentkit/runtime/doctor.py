"""Examines an installation: settings, store, broker, queues, workers, clocks, overdue and unreadable runs.

Each part is judged by a function of what was read, which does no I/O. Nothing is changed, but that the store is asked
whether it takes writes. What cannot be asked is a finding, too: an examination ends with a report whatever is broken.
"""

from __future__ import annotations

import difflib
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from importlib.metadata import version
from typing import TypeGuard

from agentkit.core.doctor import Doctor, Finding, Grade
from agentkit.core.ids import now_ms
from agentkit.core.inbox import ItemFilter
from agentkit.core.record import SCHEMA_VERSION, RunState, Status
from agentkit.core.words import counted
from agentkit.core.workers import Worker
from agentkit.errors import StoreError, UnreadableRunError
from agentkit.queue.protocol import StepQueue
from agentkit.runtime.remedies import start_worker
from agentkit.settings import PREFIX, Settings, describe
from agentkit.store.protocol import Health, Store

__all__ = [
    "examine",
    "of_backlog",
    "of_clocks",
    "of_paused",
    "of_queues",
    "of_settings",
    "of_store",
    "of_workers",
]

_OTHER_VARIABLES = ("AGENTKIT_EXAMPLE_DB", "AGENTKIT_EXAMPLE_MODEL", "AGENTKIT_FAILPOINT")
"""Variables that are no settings of an installation: of the example, and of tests."""
_READ = 1000
"""How many paused runs are read."""
_BATCH = 100
_CROWDED = 1000
_SLOW_SECONDS = 0.1
_SKEW_MS = 2_000
_FAR_MS = 60_000
_OVERDUE_MS = 10_000
_FULL = 0.8
_GRADES: tuple[Grade, ...] = ("ok", "warn", "fail")


def examine(
    settings: Settings, store: Store, queue: StepQueue, queues: Sequence[str], env: Mapping[str, str]
) -> Doctor:
    """Examine an installation. `queues`: those that its agents and tools need; `env`: this process's environment."""
    findings = list(of_settings(settings, env))
    workers: list[Worker] = []
    try:
        findings += _stored(settings, store, queue, queues, workers)
    except StoreError as error:
        todo = "Start it, or correct AGENTKIT_REDIS_URL. No run goes on until it answers; none is lost."
        findings.append(Finding("store", "fail", f"The store cannot be used: {error.message}", todo))
    is_up = queue.reachable()
    broker = "The broker answers." if is_up else "The broker cannot be reached."
    advice = None if is_up else "Start it, or correct AGENTKIT_BROKER_URL. What is due is enqueued when it is back."
    findings.append(Finding("broker", "ok" if is_up else "fail", broker, advice))
    worst = max((_GRADES.index(finding.status) for finding in findings), default=0)
    return Doctor(_GRADES[worst], version("agentkit-celery"), now_ms(), findings, workers)


def _stored(
    settings: Settings, store: Store, queue: StepQueue, queues: Sequence[str], workers: list[Worker]
) -> Iterator[Finding]:
    """Judge what the store knows; the workers that are there are added to `workers`."""
    began = time.monotonic()
    health = store.check()
    yield of_store(health, time.monotonic() - began)
    workers += store.about_workers()
    yield of_workers(workers, version("agentkit-celery"))
    served = store.served(queues) if workers else []
    yield from of_queues({name: (name in served, queue.queued(name)) for name in queues}, workers)
    yield of_clocks(now_ms() - store.now(), workers)
    _, overdue = store.backlog()
    first, now = store.next_check(), store.now()
    yield of_backlog(overdue, 0 if first is None else now - first, settings.lease_seconds)
    yield of_paused(_paused(store))
    [count] = store.count_items(ItemFilter())
    if count:
        todo = "agentkit decisions ls lists what waits, the oldest first."
        yield Finding("inbox", "ok", f"{counted(count, 'item waits', 'items wait')} for people.", todo)


def _paused(store: Store) -> list[RunState | UnreadableRunError]:
    """Read the newest of the paused runs. A listing by status may still have some that have gone on."""
    found: list[RunState | UnreadableRunError] = []
    cursor: str | None = None
    while len(found) < _READ and (ids := store.listing(cursor, _BATCH, status="paused")):
        found += [state for state in store.loads(ids) if _is_paused(state)]
        cursor = ids[-1]
    return found


def _is_paused(state: RunState | UnreadableRunError | None) -> TypeGuard[RunState | UnreadableRunError]:
    return state.record.status is Status.PAUSED if isinstance(state, RunState) else state is not None


# -- what each part comes to


def of_settings(settings: Settings, env: Mapping[str, str]) -> Iterator[Finding]:
    """Judge the settings, and variables that look like some and are none."""
    names = [setting.variable for setting in describe()]
    unknown = sorted(name for name in env if name.startswith(PREFIX) and name not in (*names, *_OTHER_VARIABLES))
    for name in unknown:
        close = difflib.get_close_matches(name, names, 1)
        todo = "docs/reference/settings.md lists all."
        if close:
            todo = f"Did you mean {close[0]}? {todo}"
        yield Finding("settings", "warn", f"{name} is set, and is no setting of agentkit.", todo)
    troubles = list(_contradictions(settings))
    for text, todo in troubles:
        yield Finding("settings", "warn", text, todo)
    if not (unknown or troubles):
        yield Finding("settings", "ok", "No unknown AGENTKIT_ variable is set, and none contradicts another.")


def _contradictions(settings: Settings) -> Iterator[tuple[str, str]]:
    if 0 < settings.audit_seconds < settings.retention_seconds:
        yield (
            "AGENTKIT_AUDIT_SECONDS is below AGENTKIT_RETENTION_SECONDS: who decided is forgotten before the run is.",
            "Raise the first.",
        )
    if settings.flush_unfollowed_seconds < settings.flush_seconds:
        yield (
            "AGENTKIT_FLUSH_UNFOLLOWED_SECONDS is below AGENTKIT_FLUSH_SECONDS: runs that nobody watches cost more.",
            "Raise the first.",
        )
    most, each = settings.max_watchers, settings.max_watchers_per_principal
    if most is not None and each is not None and each > most:
        yield (
            "AGENTKIT_MAX_WATCHERS_PER_PRINCIPAL is over AGENTKIT_MAX_WATCHERS: one principal may take every place.",
            "Lower the first.",
        )
    if settings.lease_seconds < 1:
        yield (
            f"AGENTKIT_LEASE_SECONDS is {settings.lease_seconds:g}: a busy worker loses steps that it executes.",
            "Raise it; 30 is the default.",
        )


def of_store(health: Health, seconds: float) -> Finding:
    """Judge what the store says of itself, and in how many seconds it said so."""
    name = health.version[:1].upper() + health.version[1:] or "The store"
    if health.used_bytes is not None and health.max_bytes:
        part = health.used_bytes / health.max_bytes
        used = f"{part:.0%} of its memory is used"
        if part >= _FULL:
            todo = "Give it more memory, lower AGENTKIT_RETENTION_SECONDS, or delete ended runs: agentkit runs delete."
            return Finding("store", "fail" if part >= 1 else "warn", f"{name} answers; {used}.", todo)
    if health.warnings:
        text = f"{name} answers; {'; '.join(health.warnings)}."
        return Finding("store", "warn", text, "See docs/explanation/guarantees.md.")
    if seconds > _SLOW_SECONDS:
        text = f"{name} took {seconds * 1000:.0f} ms to answer: every step waits for it several times."
        return Finding("store", "warn", text, "See its load, and the network to it.")
    way = {True: " The connection is encrypted.", False: " The connection is not encrypted.", None: ""}[health.tls]
    return Finding("store", "ok", f"{name} answers, and takes writes.{way}")


def of_workers(workers: Sequence[Worker], here: str) -> Finding:
    """Judge the workers that are there. `here`: the version of agentkit in this process."""
    if not workers:
        todo = f"Start one: {start_worker('-P threads -c 32')}"
        return Finding("workers", "fail", "No worker sends heartbeats: nothing is carried out.", todo)
    count = counted(len(workers), "worker", "workers")
    silent = [worker.name for worker in workers if not worker.version]
    others = sorted({worker.version for worker in workers if worker.version} - {here})
    if others or silent:
        versions = ", ".join([*others, *(["an earlier version"] if silent else [])])
        todo = "End the deploy: they work side by side, and a newer run stays with the newer ones."
        text = f"{count}, of several versions: {versions} beside {here} here."
        return Finding("workers", "warn", text, todo)
    return Finding("workers", "ok", f"{count}, of version {here}, as here.")


def of_queues(queues: Mapping[str, tuple[bool, int]], workers: Sequence[Worker]) -> Iterator[Finding]:
    """Judge the queues that are needed: whether each is served, and how many messages wait in it."""
    for name, (is_served, messages) in queues.items():
        wait = counted(messages, "message waits", "messages wait")
        consumers = [worker.name for worker in workers if name in worker.queues]
        if not is_served:
            some = (
                f"{', '.join(consumers)} consumes it, and is stuck or just started"
                if consumers
                else "nobody consumes it"
            )
            todo = f"Start a worker that serves it: {start_worker(f'-Q {name}')}"
            text = f"Queue {name}: nothing of it was executed lately; {some}; {wait}."
            yield Finding("queues", "fail", text, todo)
        elif messages >= _CROWDED:
            text = f"Queue {name} is served, and {wait}: they come faster than they are done."
            yield Finding("queues", "warn", text, "Start more workers, or give them more threads (-c).")
        else:
            yield Finding("queues", "ok", f"Queue {name} is served; {wait}.")


def of_clocks(here_ms: int, workers: Sequence[Worker]) -> Finding:
    """Judge by how much clocks are ahead of the store's: `here_ms` this machine's, and those of the workers."""
    clocks = {"this machine": here_ms, **{f"worker {worker.name}": worker.clock_ms for worker in workers}}
    name, worst = max(clocks.items(), key=lambda each: abs(each[1]))
    if abs(worst) < _SKEW_MS:
        return Finding("clocks", "ok", f"All clocks are within {max(1, abs(worst))} ms of the store's.")
    way = "ahead of" if worst > 0 else "behind"
    text = f"The clock of {name} is {abs(worst) / 1000:.1f} s {way} the store's, by which all runs go."
    todo = "Set it by NTP: times in its log, and signatures of webhooks, are off by that."
    return Finding("clocks", "fail" if abs(worst) >= _FAR_MS else "warn", text, todo)


def of_backlog(overdue: int, oldest_ms: int, lease_seconds: float) -> Finding:
    """Judge the runs whose check is overdue, the first of them by `oldest_ms`."""
    if not overdue or oldest_ms < _OVERDUE_MS:
        return Finding("overdue", "ok", "No run waits to be checked for long.")
    runs = counted(overdue, "run is", "runs are")
    text = f"{runs} overdue to be checked by a worker, the first for {oldest_ms // 1000} s."
    grade: Grade = "fail" if oldest_ms >= max(_FAR_MS, lease_seconds * 2000) else "warn"
    return Finding("overdue", grade, text, "Workers are gone, or too busy: see workers and queues.")


def of_paused(states: Collection[RunState | UnreadableRunError]) -> Finding:
    """Judge whether paused runs can be read here, and how many an older version has written."""
    unreadable = [state for state in states if isinstance(state, UnreadableRunError)]
    read = [state.record.schema_version for state in states if isinstance(state, RunState)]
    more = f" (of the {len(states):,} newest)" if len(states) >= _READ else ""
    if unreadable:
        runs = counted(len(unreadable), "paused run", "paused runs")
        text = f"{runs}{more} cannot be read here: {unreadable[0].message}"
        return Finding("records", "fail", text, "Upgrade this process, or give it the codec that wrote them.")
    older = sum(number < SCHEMA_VERSION for number in read)
    if older:
        runs = counted(older, "paused run", "paused runs")
        text = (
            f"{runs}{more} written by an older version (schemaVersion {min(read)}, now {SCHEMA_VERSION}): read here, "
            "and brought up to date when resumed."
        )
        return Finding("records", "ok", text)
    if not read:
        return Finding("records", "ok", "No run is paused.")
    runs = "The paused run is" if len(read) == 1 else f"All {len(read):,} paused runs{more} are"
    return Finding("records", "ok", f"{runs} of this version.")
