"""Brokers that go away, come back and forget: runs are accepted meanwhile, and carried out afterwards."""

from __future__ import annotations

import time

import pytest

from tests.acceptance.model import script
from tests.acceptance.stack import LEASE_SECONDS, Stack
from tests.turns import call
from tests.waiting import wait_until

pytestmark = pytest.mark.brokers("other-redis", "rabbitmq")

ASKED = script([call("look_up", order_id="A-1")], [call("refund", order_id="A-1", cents=250)], "You get it back.")
# Celery tries again after 2, 4, 6 … seconds, and the messages of a dead broker come a lease time later.
BACK_SECONDS = 30


def broker_is_fine(stack: Stack) -> bool:
    checks: dict[str, bool] = stack.web_a.http.get("/readyz").json()["checks"]
    return checks["broker"]


def test_what_is_started_and_answered_without_a_broker_is_carried_out_when_it_is_back(stack: Stack) -> None:
    answered = stack.web_a.begin("support", ASKED)
    stack.wait_for(answered, "paused")
    stack.broker.kill()
    assert not broker_is_fine(stack)
    began = time.monotonic()
    started = stack.web_a.begin("support", script("Here I am."))
    assert stack.web_a.resume(answered, decision={"approved": True}).status_code == 202
    assert time.monotonic() - began < 2, "nobody waits for a broker that is down"
    assert stack.web_a.get(started)["status"] == "queued"
    stack.broker.start()
    for run_id in (started, answered):
        stack.wait_for(run_id, "completed", timeout=BACK_SECONDS)
        stack.checked(run_id)
    assert len(stack.ledger.entries(run=answered, tool="refund")) == 1
    wait_until(lambda: broker_is_fine(stack), what="the broker to be fine again")


def test_a_run_goes_on_through_the_death_of_the_broker(stack: Stack) -> None:
    name = f"dying {stack.broker.url}"
    steps = [[call("look_up", order_id="A-1")], "It was delivered, and nobody noticed that the broker had died."]
    run_id = stack.web_a.begin("support", script(*steps, name=name, delay=0.05))
    wait_until(lambda: stack.ledger.entries(model=name), what="the first model call")
    stack.broker.kill()
    stack.broker.start()
    stack.wait_for(run_id, "completed", timeout=BACK_SECONDS)
    stack.checked(run_id)
    assert all(worker.process is not None and worker.process.poll() is None for worker in stack.workers)
    assert len(stack.ledger.entries(run=run_id, tool="look_up")) == 1


def test_after_its_return_messages_and_not_the_recovery_check_carry_runs(stack: Stack) -> None:
    """Both ways are alive again, the web processes' and the workers': three steps take less than one lease."""
    stack.broker.kill()
    stack.web_a.begin("support", script("Lost."))
    stack.broker.start()
    steps = ([call("look_up", order_id="A-1")], "There.")

    def seconds() -> float:
        began = time.monotonic()
        run_id = stack.web_a.begin("support", script(*steps))
        stack.wait_for(run_id, "completed", timeout=BACK_SECONDS)
        return time.monotonic() - began

    wait_until(lambda: seconds() < LEASE_SECONDS / 3, timeout=BACK_SECONDS, what="the messages to arrive at once")


def test_queued_messages_that_a_broker_loses_are_enqueued_again(stack: Stack) -> None:
    stack.kill_workers()
    runs = [stack.web_a.begin("support", script(f"Here I am, {n}.")) for n in range(20)]
    wait_until(lambda: stack.queued() >= len(runs), what="the messages in the queue")
    stack.broker.purge()
    stack.repair()
    for run_id in runs:
        stack.wait_for(run_id, "completed", timeout=BACK_SECONDS)
        stack.checked(run_id)
