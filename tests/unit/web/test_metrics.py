"""`/metrics`: what it shows, in which format, and that Prometheus's own parsers read it."""

from __future__ import annotations

from prometheus_client.openmetrics.parser import text_string_to_metric_families as read_openmetrics
from prometheus_client.parser import text_string_to_metric_families

from agentkit import AgentKit
from agentkit.core.metrics import METRICS, Metric
from agentkit.server import metrics
from tests.flaky_store import FlakyStore
from tests.metrics import samples, total, value
from tests.unit.web.conftest import AGENTS, ThreadQueue, Web
from tests.waiting import wait_until


def test_what_is_shown_is_what_is_defined_and_read_by_prometheus_itself(web: Web) -> None:
    web.client.get("/healthz")
    web.client.get("/nothing")
    web.client.open("/healthz", method="BREW")
    web.beat()
    web.start("shop")
    response = web.client.get("/metrics")
    assert response.content_type == "text/plain; version=0.0.4; charset=utf-8"
    shown = {family.name: family for family in text_string_to_metric_families(response.text)}

    def name(metric: Metric) -> str:
        return metric.name + ("_info" if metric.type == "info" else "")

    assert list(shown) == [name(metric) for metric in METRICS]
    for metric in METRICS:
        family = shown[name(metric)]
        assert (family.type, family.documentation) == ("gauge" if metric.type == "info" else metric.type, metric.help)
        labels = {label for sample in family.samples for label in sample.labels} - {"le"}
        assert labels <= set(metric.labels)
    assert value(response.text, "agentkit_store_up") == 1
    assert value(response.text, "agentkit_workers") == 1
    assert value(response.text, "agentkit_http_requests_total", method="GET", status="200") == 1
    assert value(response.text, "agentkit_http_requests_total", method="GET", status="404") == 1
    assert value(response.text, "agentkit_http_requests_total", method="other", status="405") == 1


def test_openmetrics_is_answered_to_who_prefers_it(web: Web) -> None:
    web.start("hello")
    accept = "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5"
    response = web.client.get("/metrics", headers={"Accept": accept})
    assert response.content_type.startswith("application/openmetrics-text; version=1.0.0")
    names = [family.name for family in read_openmetrics(response.text)]
    assert names == [metric.name for metric in METRICS]


def test_a_run_is_due_until_it_ends_and_its_item_pends_until_it_is_answered(web: Web) -> None:
    def shown(name: str, **labels: str) -> float | None:
        return value(web.client.get("/metrics").text, name, **labels)

    run_id = web.start("shop")
    assert shown("agentkit_runs_due") == 1
    assert shown("agentkit_pending_items", kind="decision", agent="shop") == 1
    assert shown("agentkit_pending_items", kind="decision", agent="map") == 0
    assert (shown("agentkit_pending_oldest_seconds") or 0) >= 0
    assert web.resume(run_id, {"decision": {"approved": True}}).status_code == 202
    web.kit.handle(run_id).wait(10)
    assert web.store.backlog()[0] == 1, "the due index has it until it expires"
    assert (shown("agentkit_runs_due"), shown("agentkit_runs_overdue")) == (0, 0)
    assert shown("agentkit_pending_items", kind="decision", agent="shop") == 0
    assert shown("agentkit_pending_oldest_seconds") == 0
    assert shown("agentkit_decisions_total", outcome="decided") == 1
    assert shown("agentkit_decisions_total", outcome="expired") == 0, "shown from the start, for its first increase"


def test_histograms_count_each_bucket_with_those_below(web: Web) -> None:
    web.start("hello")
    wait_until(lambda: total(web.client.get("/metrics").text, "agentkit_step_seconds_count") == 1, what="the step")
    found = samples(web.client.get("/metrics").text)
    buckets = sorted(
        (float(dict(labels)["le"]), count)
        for (name, labels), count in found.items()
        if name == "agentkit_step_seconds_bucket"
    )
    counts = [count for _, count in buckets]
    assert counts == sorted(counts)
    assert (buckets[-1], len(buckets)) == ((float("inf"), 1), 16)


def test_items_of_an_agent_that_is_not_declared_are_counted_together() -> None:
    queue, store = ThreadQueue(), FlakyStore()
    Web(store, queue).start("shop")
    fewer = AgentKit([agent for agent in AGENTS if agent.name != "shop"], store=store, queue=queue)
    text = metrics.render(fewer, "")[0].decode()
    assert value(text, "agentkit_pending_items", kind="other", agent="other") == 1
    assert total(text, "agentkit_pending_items") == 1
    queue.close()


def test_a_store_that_is_away_is_said_and_nothing_of_it_is_made_up(web: Web) -> None:
    web.client.get("/healthz")
    web.store.fail.update(dict.fromkeys(("totals", "report"), 100))
    found = samples(web.client.get("/metrics").text)
    assert {name for name, _ in found} == {"agentkit_info", "agentkit_store_up"}
    web.store.fail.clear()
    assert value(web.client.get("/metrics").text, "agentkit_http_requests_total", method="GET", status="200") == 2


def test_a_broker_that_is_away_leaves_its_queues_out(web: Web) -> None:
    assert "# TYPE agentkit_queue_messages" in web.client.get("/metrics").text
    web.queue.up = False
    wait_until(
        lambda: "# TYPE agentkit_queue_messages" not in web.client.get("/metrics").text, what="the broker to be missed"
    )
