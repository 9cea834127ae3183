"""A team's own Flask and Celery applications, into which agentkit is put. For tests of `init_app` and `install`."""

from __future__ import annotations

import contextvars
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from celery import Celery, signals
from flask import Flask, current_app, jsonify, redirect, request, session

from agentkit import Agent, AgentKit, ScriptedModel, Settings, StepInfo, ToolContext, tool
from agentkit.tasks import install
from agentkit.web import init_app
from tests.acceptance.ledger import Ledger
from tests.tools import APPROVAL
from tests.turns import call

ledger = Ledger(os.environ["ACCEPTANCE_LEDGER"])

flask_app = Flask("shop", static_folder=None)
flask_app.config.update(SECRET_KEY="s" * 32, SHOP="the shop", MAX_CONTENT_LENGTH=2000)

celery_app = Celery("shop", broker=os.environ["HOST_BROKER_URL"], backend=os.environ.get("HOST_RESULTS") or None)
celery_app.conf.update(
    task_acks_late=os.environ.get("HOST_ACKS_LATE") == "1",
    worker_prefetch_multiplier=4,
    broker_transport_options={"visibility_timeout": 3600},
    task_routes={
        "shop.*": {"queue": "business"},
        **({"agentkit.tool_call": {"queue": "tools"}} if os.environ.get("HOST_ROUTES") else {}),
    },
    beat_schedule={"hourly": {"task": "agentkit.start", "schedule": 1.0, "args": ("greeter", "good morning")}},
)
tenant: contextvars.ContextVar[str] = contextvars.ContextVar("tenant", default="nobody")


@celery_app.task(name="shop.count")
def count(number: int) -> int:
    """A business task of the shop's own."""
    ledger.add(task="count", number=number, thread=threading.current_thread().name)
    return number + 1


@signals.before_task_publish.connect
def trace(headers: dict[str, Any], **_: Any) -> None:
    """What a tracing library does: something of its own in each message."""
    headers["x-trace"] = os.urandom(8).hex()


@signals.task_prerun.connect
def note_trace(task: Any, **_: Any) -> None:
    if task.name.startswith("agentkit.") and task.name != "agentkit.probe":
        ledger.add(
            task=task.name,
            trace=(task.request.headers or {}).get("x-trace") or task.request.get("x-trace"),
            queue=(task.request.delivery_info or {}).get("routing_key"),
        )


@tool(decision=APPROVAL)
def refund(order_id: str, cents: int, ctx: ToolContext, decision: dict[str, Any]) -> str:
    """Refund an order."""
    ledger.add(
        tool="refund", run=ctx.run_id, key=ctx.idempotency_key, shop=current_app.config["SHOP"], tenant=tenant.get()
    )
    return f"refunded {cents}" if decision["approved"] else "not approved"


@tool(queue=os.environ.get("HOST_SLOW_QUEUE") or None)
async def survey(ctx: ToolContext) -> str:
    """Ask around."""
    ledger.add(
        tool="survey", run=ctx.run_id, key=ctx.idempotency_key, shop=current_app.config["SHOP"], tenant=tenant.get()
    )
    return "all are happy"


@contextmanager
def around_step(step: StepInfo) -> Iterator[None]:
    with flask_app.app_context():
        token = tenant.set(f"{step.agent}/{step.tool}")
        try:
            yield
        finally:
            tenant.reset(token)


AGENTS = [
    Agent(
        "desk",
        ScriptedModel([[call("survey")], [call("refund", order_id="A-1", cents=500)], "Done."]),
        tools=[refund, survey],
    ),
    Agent("greeter", ScriptedModel(["Good morning."])),
    Agent("talker", ScriptedModel(["word " * 200], chunk_size=5, delay=0.05)),
]

kit = AgentKit(AGENTS, authenticate=lambda request: session.get("user"), around_step=around_step)
install(celery_app, kit)
init_app(flask_app, kit, url_prefix="/ai")

other_kit = AgentKit(
    [Agent("other", ScriptedModel([[call("survey")], "Other."]), tools=[survey])],
    settings=Settings.from_env({**os.environ, "AGENTKIT_KEY_PREFIX": "other:"}),
    around_step=around_step,
)
install(celery_app, other_kit)
init_app(flask_app, other_kit, url_prefix="/other", page=False)


@flask_app.get("/healthz")
def healthz() -> Any:
    return jsonify(shop="open")


@flask_app.route("/login", methods=["GET", "POST"])
def login_page() -> Any:
    """The team's login. It lets everybody in but Mallory, who is sent on all the same."""
    if request.method == "GET":
        return "<form method=post><label>User <input name=user></label><button>Log in</button></form>"
    if request.form["user"] != "mallory":
        session["user"] = request.form["user"]
    return redirect(request.args["next"])


@flask_app.post("/login/<name>")
def login(name: str) -> Any:
    session["user"] = name
    return jsonify(user=name)
