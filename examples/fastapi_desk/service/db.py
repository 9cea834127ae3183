"""The tables, by plain SQLAlchemy. `python -m service.db` makes them. Nothing in here knows of agents."""

from __future__ import annotations

import hashlib
import os
import secrets

from sqlalchemy import ForeignKey, create_engine, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, sessionmaker

__all__ = ["Credit", "Customer", "Letter", "Session", "User", "give_credit", "make_tables"]

engine = create_engine(os.environ.get("DATABASE_URL", "sqlite:///service.db"))
Session = sessionmaker(engine)


class Base(DeclarativeBase):
    pass


class User(Base):
    """Who may log in: clerks, who have credits proposed, and supervisors, who approve them."""

    __tablename__ = "users"
    id: Mapped[str] = mapped_column(primary_key=True)
    role: Mapped[str]
    salt: Mapped[str]
    password_hash: Mapped[str]

    def has_password(self, password: str) -> bool:
        return secrets.compare_digest(self.password_hash, _hash(password, self.salt))


class Customer(Base):
    __tablename__ = "customers"
    id: Mapped[str] = mapped_column(primary_key=True)
    name: Mapped[str]
    complaint: Mapped[str]
    balance_cents: Mapped[int] = mapped_column(default=0)


class Credit(Base):
    """Money credited. `key`: of the tool call, the same in each attempt, so that none credits twice."""

    __tablename__ = "credits"
    key: Mapped[str] = mapped_column(primary_key=True)
    customer_id: Mapped[str] = mapped_column(ForeignKey("customers.id"))
    cents: Mapped[int]
    approved_by: Mapped[str]


class Letter(Base):
    """A letter to be printed, one for each credit."""

    __tablename__ = "letters"
    key: Mapped[str] = mapped_column(ForeignKey("credits.key"), primary_key=True)
    text: Mapped[str]


def give_credit(key: str, customer_id: str, cents: int, approved_by: str) -> bool:
    """Credit a customer, once for each `key`. Returns False where there is no such customer, or nothing to credit."""
    try:
        with Session.begin() as session:
            if session.get(Credit, key) is not None:
                return True
            credited = Customer.balance_cents + cents
            changed = session.execute(update(Customer).where(Customer.id == customer_id).values(balance_cents=credited))
            if cents <= 0 or changed.rowcount != 1:
                session.rollback()
                return False
            session.add(Credit(key=key, customer_id=customer_id, cents=cents, approved_by=approved_by))
    except IntegrityError:  # another attempt of the same call was faster
        pass
    return True


def _hash(password: str, salt: str) -> str:
    return hashlib.scrypt(password.encode(), salt=salt.encode(), n=2**14, r=8, p=1).hex()


_CUSTOMERS = [
    ("C-1", "Ada Lovelace", "The engine came a week late."),
    ("C-2", "Grace Hopper", "There was a moth in it."),
    ("C-3", "Alan Turing", "The tape ends."),
]


def make_tables() -> None:
    """Make the tables, three customers and the users clerk and supervisor. Leaves alone what is there."""
    Base.metadata.create_all(engine)
    with Session.begin() as session:
        for role in ("clerk", "supervisor"):
            if session.get(User, role) is None:
                salt, password = secrets.token_hex(16), os.environ[f"SERVICE_{role.upper()}_PASSWORD"]
                session.add(User(id=role, role=role, salt=salt, password_hash=_hash(password, salt)))
        for customer_id, name, complaint in _CUSTOMERS:
            if session.get(Customer, customer_id) is None:
                session.add(Customer(id=customer_id, name=name, complaint=complaint))


if __name__ == "__main__":
    make_tables()
    print("The tables are there.")
