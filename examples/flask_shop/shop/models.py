"""The shop's tables. Nothing in here knows of agents."""

from __future__ import annotations

import os
from datetime import UTC, datetime

import click
from flask.cli import with_appcontext
from flask_login import UserMixin
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy import ForeignKey, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column
from werkzeug.security import generate_password_hash

__all__ = ["Day", "Mail", "Order", "Refund", "User", "db", "init_db", "pay_back"]


class Base(DeclarativeBase):
    pass


db = SQLAlchemy(model_class=Base)


def _now() -> datetime:
    return datetime.now(UTC).replace(tzinfo=None)


class User(UserMixin, db.Model):
    """Who may log in: clerks, who start runs, and managers, who answer refunds."""

    id: Mapped[str] = mapped_column(primary_key=True)
    role: Mapped[str]
    password_hash: Mapped[str]


class Order(db.Model):
    __tablename__ = "orders"
    id: Mapped[str] = mapped_column(primary_key=True)
    customer: Mapped[str]
    item: Mapped[str]
    cents: Mapped[int]
    refunded_cents: Mapped[int] = mapped_column(default=0)


class Refund(db.Model):
    """Money paid back. `key`: of the tool call, the same in each attempt, so that none pays twice."""

    key: Mapped[str] = mapped_column(primary_key=True)
    order_id: Mapped[str] = mapped_column(ForeignKey("orders.id"))
    cents: Mapped[int]
    approved_by: Mapped[str]
    at: Mapped[datetime] = mapped_column(default=_now)


class Mail(db.Model):
    """The outbox: a receipt for each refund."""

    key: Mapped[str] = mapped_column(ForeignKey("refund.key"), primary_key=True)
    text: Mapped[str]


class Day(db.Model):
    """A day that was closed. `closed`: how often, since late refunds close it anew."""

    day: Mapped[str] = mapped_column(primary_key=True)
    refunds: Mapped[int]
    cents: Mapped[int]
    closed: Mapped[int]


def pay_back(key: str, order_id: str, cents: int, approved_by: str) -> bool:
    """Pay `cents` of an order back, once for each `key`. Returns False where less than that is left of its price.

    One transaction, and one statement that compares and adds: two at once cannot pay back more than was paid.
    """
    if db.session.get(Refund, key) is not None:
        return True
    enough = Order.refunded_cents + cents <= Order.cents
    paid = db.session.execute(
        update(Order).where(Order.id == order_id, enough).values(refunded_cents=Order.refunded_cents + cents)
    )
    if cents <= 0 or paid.rowcount != 1:
        db.session.rollback()
        return False
    db.session.add(Refund(key=key, order_id=order_id, cents=cents, approved_by=approved_by))
    try:
        db.session.commit()
    except IntegrityError:  # another attempt of the same call was faster
        db.session.rollback()
    return True


_ORDERS = [
    ("A-1001", "Ada Lovelace", "Analytical engine, brass", 4999),
    ("A-1002", "Grace Hopper", "Nanosecond of wire", 1250),
    ("A-1003", "Alan Turing", "Paper tape, endless", 899),
]


@click.command("init-db")
@with_appcontext
def init_db() -> None:
    """Create the tables, three orders and the users clerk and manager. Leaves alone what is there."""
    db.create_all()
    for role in ("clerk", "manager"):
        if db.session.get(User, role) is None:
            password = os.environ.get(f"SHOP_{role.upper()}_PASSWORD") or click.prompt(
                f"Password of {role}", hide_input=True
            )
            db.session.add(User(id=role, role=role, password_hash=generate_password_hash(password)))
    for order_id, customer, item, cents in _ORDERS:
        if db.session.get(Order, order_id) is None:
            db.session.add(Order(id=order_id, customer=customer, item=item, cents=cents))
    db.session.commit()
    click.echo("The shop's tables are there.")
