"""The shop's own pages: orders, a run, and the approval that it waits for. Plain forms; shop.js keeps a run fresh."""

from __future__ import annotations

from typing import Any

from flask import Blueprint, abort, current_app, flash, jsonify, redirect, render_template, request, url_for
from flask_login import current_user, login_required
from sqlalchemy import select

from agentkit import AgentKit, Run
from agentkit.errors import AgentKitError, RunNotFoundError
from shop.models import Order, db

__all__ = ["blueprint"]

blueprint = Blueprint("pages", __name__)


def _kit() -> AgentKit:
    kit: AgentKit = current_app.extensions["agents"]
    return kit


def _permits(action: str, run: Run, item: dict[str, Any] | None = None) -> bool:
    """Ask the rules of the API: what is called from Python is asked nothing."""
    return _kit().permits(current_user.id, action, run, item)


@blueprint.get("/healthz")
def health() -> Any:
    return jsonify(shop="open")


@blueprint.get("/")
@login_required
def orders() -> str:
    """List the orders, and the newest runs that the user may read."""
    runs, _ = _kit().page(limit=20, where=lambda run: _permits("read", run))
    listed = db.session.scalars(select(Order).order_by(Order.id)).all()
    return render_template("orders.html", orders=listed, runs=runs)


@blueprint.post("/runs")
@login_required
def start() -> Any:
    """Start a run about an order."""

    def permit(run: Run) -> None:
        if not _permits("start", run):
            abort(403)

    handle = _kit().start("support", request.form["question"], owner=current_user.id, permit=permit)
    return redirect(url_for("pages.show", run_id=handle.id))


@blueprint.get("/runs/<run_id>")
@login_required
def show(run_id: str) -> str:
    """Show a run; with `?part` only what changes in it, for shop.js."""
    run = _readable(run_id)
    items = [(item, _permits("resume", run, item)) for item in run.pending or ()]
    return render_template("run_part.html" if "part" in request.args else "run.html", run=run, items=items)


@blueprint.post("/runs/<run_id>/answer")
@login_required
def answer(run_id: str) -> Any:
    """Approve or decline a refund."""
    _readable(run_id)
    decision_id = request.form["decision_id"]
    decision = {"approved": request.form["answer"] == "approve", "note": request.form.get("note", "")}
    try:
        owner, item = _kit().find_item(run_id, decision_id=decision_id)
        if not _permits("resume", owner, item):
            abort(403)
        _kit().resume(run_id, decision, decision_id=decision_id, decided_by=current_user.id)
    except AgentKitError as error:  # answered otherwise meanwhile, expired, too long a note
        flash(str(error))
    return redirect(url_for("pages.show", run_id=run_id))


def _readable(run_id: str) -> Run:
    """Return the run, or end the request with 404 where the user may not read it."""
    try:
        run = _kit().get(run_id)
    except RunNotFoundError:
        abort(404)
    if not _permits("read", run):
        abort(404)
    return run
