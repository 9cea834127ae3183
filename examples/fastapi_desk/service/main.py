"""The service's FastAPI application: logins, customers, a page that is kept fresh; and agentkit below /agents."""

from __future__ import annotations

import os
from html import escape
from pathlib import Path
from typing import Annotated, Any

from fastapi import Depends, FastAPI, Header, HTTPException, Request, Response
from fastapi.responses import FileResponse
from fastapi.staticfiles import StaticFiles
from pydantic import BaseModel
from sqlalchemy import select
from starlette.middleware.sessions import SessionMiddleware

from agentkit import Run, RunHandle
from agentkit.asgi import create_app, sse_response
from agentkit.errors import RunNotFoundError
from service.agents import kit
from service.db import Customer, Session, User

STATIC = Path(__file__).with_name("static")

if not os.environ.get("SECRET_KEY"):
    raise RuntimeError("SECRET_KEY is not set: export one that all processes share (README.md)")
app = FastAPI(title="Customer service")
app.add_middleware(SessionMiddleware, secret_key=os.environ["SECRET_KEY"], same_site="lax")
app.mount("/agents", create_app(kit))
app.mount("/static", StaticFiles(directory=STATIC))


class Login(BaseModel):
    user: str
    password: str


@app.post("/login", status_code=204)
def log_in(body: Login, request: Request) -> None:
    with Session() as session:
        user = session.get(User, body.user)
    if user is None or not user.has_password(body.password):
        raise HTTPException(401, "no such user, or another password")
    request.session["user"] = user.id


@app.post("/logout", status_code=204)
def log_out(request: Request) -> None:
    request.session.clear()


def current_user(request: Request) -> str:
    user: str | None = request.session.get("user")
    if user is None:
        raise HTTPException(401, "log in first")
    return user


Caller = Annotated[str, Depends(current_user)]


@app.get("/")
def page() -> FileResponse:
    return FileResponse(STATIC / "index.html")


@app.get("/customers")
def customers(user: Caller) -> dict[str, Any]:
    """List the customers, and the newest runs that the caller may read."""
    with Session() as session:
        listed = session.scalars(select(Customer).order_by(Customer.id)).all()
    runs, _ = kit.page(limit=10, where=lambda run: kit.permits(user, "read", run, None))
    return {
        "user": user,
        "customers": [{"id": each.id, "name": each.name, "balanceCents": each.balance_cents} for each in listed],
        "runs": [{"id": run.id, "status": run.status, "owner": run.owner} for run in runs],
    }


@app.post("/customers/{customer_id}/credit", status_code=202)
def propose_credit(customer_id: str, user: Caller) -> dict[str, str]:
    """Have the agent propose a credit. FastAPI calls a plain `def` in a thread: the kit waits for the store."""

    def permit(run: Run) -> None:
        if not kit.permits(user, "start", run, None):
            raise HTTPException(403, "clerks alone start runs")

    handle = kit.start("support", f"Please credit customer {customer_id}.", owner=user, permit=permit)
    return {"id": handle.id}


def readable(run_id: str, user: Caller) -> RunHandle:
    """Return a run that the caller may read: what is called from Python is asked nothing by itself."""
    try:
        run = kit.get(run_id)
    except RunNotFoundError:
        raise HTTPException(404, "there is no such run") from None
    if not kit.permits(user, "read", run, None):
        raise HTTPException(404, "there is no such run")
    return kit.handle(run_id)


@app.get("/runs/{run_id}/live")
async def live(
    handle: Annotated[RunHandle, Depends(readable)], last_event_id: Annotated[int, Header(ge=0)] = 0
) -> Response:
    """Stream a run as pieces of HTML, however long it waits. It holds no thread, and ends when the browser leaves."""
    return sse_response(handle, last_event_id, until_pause=False, render=html_of, names=True)


def html_of(event: dict[str, Any]) -> str | None:
    """Make a piece of the page of an event; None for what the page does not show."""
    match event["type"]:
        case "message_end" if event["message"]["role"] == "assistant":
            blocks = event["message"]["content"]
            text = "".join(block["text"] for block in blocks if block["type"] == "text")
            return f"<p>{escape(text)}</p>" if text else None
        case "tool_decision_pending":
            amount, customer = event["input"]["cents"], escape(event["input"]["customer_id"])
            return f"<p><b>{amount} cents for {customer}</b> wait for a supervisor.</p>"
        case "tool_decision_resolved":
            return f"<p>Answered by {escape(event.get('decidedBy') or 'nobody')}.</p>"
        case "agent_end":
            return f"<p>The run is {escape(event['status'])}.</p>"
    return None
