"""A shop as a team has it (a Flask factory, SQLAlchemy, logins, CSRF, Celery), with agentkit as its guest."""

from __future__ import annotations

import os

from flask import Flask, Response

from agentkit.tasks import install
from agentkit.web import init_app
from shop import agents, auth, pages, tasks
from shop.models import db, init_db

__all__ = ["create_app"]


def create_app() -> Flask:
    """Make the shop's Flask application; its Celery application is `app.extensions["celery"]`."""
    app = Flask(__name__)
    app.config.from_mapping(
        SECRET_KEY=os.environ.get("SECRET_KEY"),
        SESSION_COOKIE_SAMESITE="Lax",
        SQLALCHEMY_DATABASE_URI=os.environ.get("DATABASE_URL", "sqlite:///shop.db"),  # in instance/
        BROKER_URL=os.environ.get("SHOP_BROKER_URL", "redis://localhost:6379/1"),
        SCHEDULE_SECONDS=os.environ.get("SHOP_SCHEDULE_SECONDS"),  # beat: every so often, instead of once a day
    )
    if not app.config["SECRET_KEY"]:
        raise RuntimeError("SECRET_KEY is not set: export one that all processes share (README.md)")
    db.init_app(app)
    auth.init_app(app)  # Flask-Login, and CSRFProtect: before init_app, which exempts agentkit's routes
    celery_app = tasks.make_celery(app)
    app.register_blueprint(pages.blueprint)
    app.cli.add_command(init_db)
    app.after_request(_secure)

    # All that agentkit needs: the kit, its steps among our tasks, its routes among ours.
    kit = app.extensions["agents"] = agents.make_kit(app)
    install(celery_app, kit)
    init_app(app, kit, url_prefix="/api/agents", page=False)
    return app


def _secure(response: Response) -> Response:
    response.headers.setdefault("Content-Security-Policy", "default-src 'self'; frame-ancestors 'none'")
    return response
