"""A bare Celery chain: as many tasks as W has steps, each of which does nothing but enqueue the next.

Once with Celery's own settings ("plain"), once with agentkit's, which leave out what no message of agentkit needs
("tuned"). Same broker, same pool. Nothing is kept.
"""

from __future__ import annotations

import os

import redis
from celery import Celery

from agentkit.queue.application import celery_app
from agentkit.settings import Settings
from bench.celery_worker import CeleryWorker
from bench.work import HOPS

__all__ = ["app", "run_chain", "worker"]

_URL = os.environ.get("AGENTKIT_REDIS_URL", "redis://127.0.0.1:6379/0")

app = (
    celery_app(Settings(redis_url=_URL)) if os.environ.get("BENCH_CELERY") == "tuned" else Celery("bench", broker=_URL)
)
app.conf.task_default_queue = Settings().queue
_client = redis.Redis.from_url(_URL, socket_timeout=120)


@app.task(name="bench.hop")
def hop(chain: str, left: int) -> None:
    """One no-op hop; the last one notifies the client."""
    if left > 1:
        app.send_task("bench.hop", args=(chain, left - 1), ignore_result=True, retry=False)
    else:
        _client.rpush(chain, b"1")


def worker(celery: str) -> CeleryWorker:
    return CeleryWorker("bench.rivals.celery_chain:app", BENCH_CELERY=celery)


def run_chain(number: int) -> None:
    app.send_task("bench.hop", args=(f"done:{number}", HOPS), ignore_result=True, retry=False)
    assert _client.blpop([f"done:{number}"], timeout=60), "the chain did not end"
