"""Logins by Flask-Login, and CSRF protection of the shop's own forms."""

from __future__ import annotations

from typing import Any

from flask import Blueprint, Flask, flash, redirect, render_template, request, url_for
from flask_login import LoginManager, login_required, login_user, logout_user
from flask_wtf import CSRFProtect
from werkzeug.security import check_password_hash

from shop.models import User, db

__all__ = ["init_app"]

blueprint = Blueprint("auth", __name__)
login_manager = LoginManager()
login_manager.login_view = "auth.login"
csrf = CSRFProtect()


def init_app(app: Flask) -> None:
    """Put logins and CSRF protection into an application."""
    login_manager.init_app(app)
    csrf.init_app(app)
    app.register_blueprint(blueprint)


@login_manager.user_loader
def load_user(user_id: str) -> User | None:
    return db.session.get(User, user_id)


@blueprint.route("/login", methods=["GET", "POST"])
def login() -> Any:
    if request.method == "POST":
        user = db.session.get(User, request.form["user"])
        if user is not None and check_password_hash(user.password_hash, request.form["password"]):
            login_user(user)
            return redirect(url_for("pages.orders"))
        flash("No such user, or another password.")
    return render_template("login.html")


@blueprint.post("/logout")
@login_required
def logout() -> Any:
    logout_user()
    return redirect(url_for("auth.login"))
