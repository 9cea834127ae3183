"""What a process counts, how it comes into the store, and what of it a label may say."""

from __future__ import annotations

import gc
import logging
import threading
import weakref
from collections import Counter
from typing import Any

import pytest

from agentkit import Agent, AgentKit, ProviderError, RetryPolicy, ScriptedModel, Settings
from agentkit.core import metrics as m
from agentkit.core.messages import Json
from agentkit.core.record import Change, RunRecord, Status
from agentkit.errors import StoreError
from agentkit.queue.protocol import InlineQueue
from agentkit.runtime.metrics import Metrics, read_counts
from agentkit.runtime.run_metrics import RunMetrics
from agentkit.store.memory import MemoryStore
from agentkit.store.protocol import Totals
from tests.flaky_store import ALWAYS, FlakyStore
from tests.tools import YES, look, refund
from tests.turns import call
from tests.waiting import wait_until


def counts(store: FlakyStore | MemoryStore, metric: m.Metric) -> dict[tuple[str, ...], float]:
    return read_counts(store.totals().counts)[metric]


def test_what_is_counted_reaches_the_store_by_itself_in_few_reports() -> None:
    calls: Counter[str] = Counter()
    store = FlakyStore(count=calls)
    metrics = Metrics(store, period=0.05)
    for _ in range(1000):
        metrics.add(m.RUNS_STARTED, "a")
        metrics.observe(m.STEP_SECONDS, "tool", value=0.3)
    assert calls["report"] <= 10, "counting asks nothing of the store"
    wait_until(lambda: counts(store, m.RUNS_STARTED) == {("a",): 1000}, what="the report")
    wait_until(lambda: sum(counts(store, m.STEP_SECONDS).values()) == pytest.approx(1300), what="the report")
    metrics.close()


def test_nothing_is_reported_where_nothing_was_counted() -> None:
    store = FlakyStore()
    metrics = Metrics(store, period=None)
    metrics.report()
    metrics.add(m.TOKENS, "x", "input", amount=0)
    metrics.report()
    assert store.calls == []
    assert store.totals() == Totals({}, {})


@pytest.mark.parametrize("how", ["fail", "lose"])
def test_an_outage_delays_counts_and_a_lost_reply_doubles_none(how: str, caplog: pytest.LogCaptureFixture) -> None:
    store = FlakyStore(**{how: {"report": 3}})
    metrics = Metrics(store, period=None)
    for _ in range(5):
        metrics.add(m.RUNS_STARTED, "a")
        metrics.report()
    assert counts(store, m.RUNS_STARTED) == {("a",): 5}
    assert [record.levelname for record in caplog.records] == ["WARNING"], "an outage is said once"


def test_counts_that_the_store_refuses_are_lost_with_a_word_and_the_next_are_not(
    caplog: pytest.LogCaptureFixture,
) -> None:
    store = FlakyStore(fail={"report": 1}, error=lambda: StoreError("the store refused: NOPERM"))
    metrics = Metrics(store, period=None)
    metrics.add(m.RUNS_STARTED, "a")
    metrics.report()
    metrics.add(m.RUNS_STARTED, "b")
    metrics.report()
    assert counts(store, m.RUNS_STARTED) == {("b",): 1}
    [record] = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert "NOPERM" in record.getMessage()


def test_threads_that_count_at_once_lose_nothing() -> None:
    store = MemoryStore()
    metrics = Metrics(store, period=0.001)

    def count() -> None:
        for _ in range(500):
            metrics.add(m.DECISIONS, "decided")

    threads = [threading.Thread(target=count) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    metrics.close()
    assert counts(store, m.DECISIONS) == {("decided",): 4000}


def test_a_level_is_reported_as_it_changes_and_not_otherwise() -> None:
    store = FlakyStore()
    metrics = Metrics(store, period=None)
    level = [3.0]
    metrics.show_level(m.EVENT_STREAMS, lambda: level[0])
    for _ in range(3):
        metrics.report()
    assert len(store.calls) == 1
    assert store.totals().levels == {"agentkit_event_streams": 3}
    level[0] = 0
    metrics.report()
    assert store.totals().levels == {}


def test_what_is_not_used_any_more_is_freed_while_it_waits_to_report() -> None:
    metrics = Metrics(MemoryStore(), period=0.01)
    metrics.show_level(m.EVENT_STREAMS, lambda: 1)
    found = weakref.ref(metrics)
    del metrics
    wait_until(lambda: (gc.collect(), found() is None)[1], what="it to be freed")


def test_closing_a_kit_reports_what_is_left() -> None:
    store = FlakyStore()
    with AgentKit([Agent("a", ScriptedModel(["x"]))], settings=Settings(), store=store, queue=InlineQueue()) as kit:
        kit.start("a", "go")
    assert counts(store, m.RUNS_STARTED) == {("a",): 1}


def test_a_count_of_another_version_is_left_out() -> None:
    known = '["agentkit_runs_started","a"]'
    others = ('["agentkit_new","a"]', '["agentkit_runs_started","a","b"]', '["agentkit_runs_due"]')
    found = read_counts({known: 2, **dict.fromkeys(others, 7)})
    assert {metric.name: values for metric, values in found.items() if values} == {"agentkit_runs_started": {("a",): 2}}


# -- what counts as what


class Shop:
    """A kit whose steps are executed by hand, and what it has counted."""

    def __init__(self, *turns: object, retry: RetryPolicy | None = None) -> None:
        self.store, self.queue = FlakyStore(), InlineQueue()
        left = list(turns)

        def answer(_: list[Json]) -> Any:
            turn = left.pop(0)
            if isinstance(turn, Exception):
                raise turn
            return turn

        agent = Agent("shop", ScriptedModel(answer), tools=[look, refund], retry=retry)
        self.kit = AgentKit([agent], settings=Settings(), store=self.store, queue=self.queue)

    def work(self) -> None:
        while self.queue.waiting:
            self.kit.execute(*self.queue.waiting.popleft())

    def counted(self, metric: m.Metric) -> dict[tuple[str, ...], float]:
        self.kit.metrics.report()
        return counts(self.store, metric)


def test_a_run_with_a_tool_and_a_decision_counts_once_in_each() -> None:
    shop = Shop([call("look")], [call("refund", cents=5)], "done")
    run_id = shop.kit.start("shop", "go").id
    shop.work()
    shop.kit.resume(run_id, YES)
    shop.work()
    run = shop.kit.get(run_id)
    assert shop.counted(m.RUNS_STARTED) == {("shop",): 1}
    assert shop.counted(m.RUNS_ENDED) == {("shop", "completed", ""): 1}
    assert shop.counted(m.STEPS) == {("model", "shop", "done"): 3, ("tool", "shop", "done"): 2}
    assert shop.counted(m.DECISIONS) == {("decided",): 1}
    [model] = {model for model, _ in shop.counted(m.TOKENS)}
    assert model == shop.kit.agents[0].model_name
    assert sum(shop.counted(m.TOKENS).values()) == run.usage["totalTokens"] > 0
    for metric in (m.STEP_SECONDS, m.STEP_WAIT):
        values = shop.counted(metric)
        buckets = {
            kind: sum(n for key, n in values.items() if key[0] == kind and key[1] != "sum") for kind, _ in values
        }
        assert buckets == {"model": 3, "tool": 2}


def test_a_run_that_fails_or_is_aborted_says_by_what() -> None:
    shop = Shop(ProviderError("no"))
    shop.kit.start("shop", "go")
    shop.work()
    shop.kit.abort(shop.kit.start("shop", "go").id)
    shop.work()
    assert shop.counted(m.RUNS_ENDED) == {("shop", "failed", "provider_error"): 1, ("shop", "aborted", "aborted"): 1}
    assert shop.counted(m.MODEL_RETRIES) == {}, "what was not made again is no retry"


def test_a_call_that_is_made_again_is_a_retry_by_its_status() -> None:
    broken, busy = ProviderError("gone", retryable=True), ProviderError("busy", retryable=True, status=429)
    shop = Shop(broken, busy, "done", retry=RetryPolicy(attempts=3, base=0, cap=0))
    shop.kit.start("shop", "go")
    shop.work()
    assert shop.counted(m.MODEL_RETRIES) == {("scripted", "none"): 1, ("scripted", "429"): 1}


def test_a_label_that_nobody_declares_is_other() -> None:
    shop = Shop("done")
    metrics = RunMetrics(shop.kit.metrics, shop.kit)
    for number in range(3):
        record = RunRecord(f"r{number}", f"agent-{number}", "x:y", {}, {}, 0, status=Status.QUEUED)
        metrics.changed(Change(record), in_step=False)
    assert shop.counted(m.RUNS_STARTED) == {("other",): 3}


def test_no_outage_of_the_counting_reaches_a_run() -> None:
    shop = Shop("done")
    shop.store.fail["report"] = ALWAYS
    run_id = shop.kit.start("shop", "go").id
    shop.work()
    shop.kit.metrics.report()
    assert shop.kit.get(run_id).status == "completed"
