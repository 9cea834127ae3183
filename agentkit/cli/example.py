"""The application that `agentkit dev` starts when none is named: a support desk over a SQLite file.

    AGENTKIT_APP=agentkit.cli.example:kit

Its refund waits for a person's decision and is written to a ledger exactly once, whichever process dies meanwhile.
The model is a script, so that it works on a fresh machine; with OPENAI_API_KEY or OPENAI_BASE_URL set it is
a real one (AGENTKIT_EXAMPLE_MODEL, by default gpt-5.4-mini). AGENTKIT_EXAMPLE_DB names the file.
"""

from __future__ import annotations

import json
import os
import re
import sqlite3
import time
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from agentkit.agents import Agent
from agentkit.core.messages import text_of_json
from agentkit.core.struct import Json
from agentkit.errors import ToolError
from agentkit.kit import AgentKit
from agentkit.providers.scripted import ScriptedModel, Turn
from agentkit.settings import Settings
from agentkit.tools import ToolContext, tool

__all__ = ["find_orders", "get_order", "kit", "refund"]

_ORDERS = [
    ("A-1001", "Ada Lovelace", "Analytical engine, brass", 4999),
    ("A-1002", "Grace Hopper", "Nanosecond of wire", 1250),
    ("A-1003", "Alan Turing", "Paper tape, endless", 899),
    ("A-1004", "Ada Lovelace", "Punched cards, box of 500", 2400),
]
_TABLES = """
CREATE TABLE IF NOT EXISTS orders (id TEXT PRIMARY KEY, customer TEXT NOT NULL, item TEXT NOT NULL, cents INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS refunds (
    key TEXT PRIMARY KEY, order_id TEXT NOT NULL, cents INTEGER NOT NULL, note TEXT NOT NULL, at INTEGER NOT NULL
);
"""  # noqa: E501
_SELECT = """
SELECT id AS order_id, customer, item, cents,
       cents - (SELECT COALESCE(SUM(r.cents), 0) FROM refunds r WHERE r.order_id = orders.id) AS refundable_cents
FROM orders
"""


def database() -> Path:
    """Return the path of the SQLite file with the orders and the ledger."""
    return Path(os.environ.get("AGENTKIT_EXAMPLE_DB") or Path(Settings.from_env().data_dir, "example.db"))


@contextmanager
def _database() -> Iterator[sqlite3.Connection]:
    """Open a transaction that excludes all other writers, in this process and elsewhere."""
    path = database()
    path.parent.mkdir(parents=True, exist_ok=True)
    with closing(sqlite3.connect(path, timeout=20, isolation_level=None)) as connection:
        connection.row_factory = sqlite3.Row
        connection.execute("BEGIN IMMEDIATE")
        for statement in filter(str.strip, _TABLES.split(";")):
            connection.execute(statement)
        connection.executemany("INSERT OR IGNORE INTO orders VALUES (?, ?, ?, ?)", _ORDERS)
        yield connection
        connection.execute("COMMIT")


def _order(db: sqlite3.Connection, order_id: str) -> Json:
    row = db.execute(f"{_SELECT} WHERE id = ?", (order_id.strip().upper(),)).fetchone()
    if row is None:
        raise ToolError(f"there is no order {order_id}")
    return dict(row)


# -- tools


@tool
def find_orders(query: str = "") -> list[Json]:
    """Find orders by a part of the customer's name or of the item's. An empty query finds all."""
    with _database() as db:
        rows = db.execute(f"{_SELECT} WHERE customer LIKE ?1 OR item LIKE ?1 ORDER BY id", (f"%{query.strip()}%",))
        return [dict(row) for row in rows]


@tool
def get_order(order_id: str) -> Json:
    """Look up one order: customer, item, price, and how much of it can still be refunded (in cents)."""
    with _database() as db:
        return _order(db, order_id)


@tool(
    decision={
        "type": "object",
        "properties": {
            "approved": {"type": "boolean", "description": "Pay this money back?"},
            "note": {"type": "string", "description": "A remark for the ledger", "maxLength": 200},
        },
        "required": ["approved"],
        "additionalProperties": False,
    }
)
def refund(order_id: str, cents: int, ctx: ToolContext, decision: Mapping[str, Any]) -> str:
    """Refund an order, in cents, at most what is left of its price. A person approves it first."""
    if not decision["approved"]:
        return f"not approved: {decision.get('note') or 'no reason was given'}"
    with _database() as db:
        order = _order(db, order_id)
        # The key is the same in every attempt of this call: executed again after a crash, it does not pay twice.
        if db.execute("SELECT 1 FROM refunds WHERE key = ?", (ctx.idempotency_key,)).fetchone() is None:
            if not 0 < cents <= order["refundable_cents"]:
                raise ToolError(f"only {_money(order['refundable_cents'])} of {order['order_id']} can be refunded")
            row = (ctx.idempotency_key, order["order_id"], cents, decision.get("note", ""), int(time.time()))
            db.execute("INSERT INTO refunds VALUES (?, ?, ?, ?, ?)", row)
    return f"refunded {_money(cents)} for {order['order_id']} to {order['customer']}"


def _money(cents: int) -> str:
    return f"${cents / 100:,.2f}"


# -- the script in place of a model

_ORDER_ID = re.compile(r"\b([A-Za-z]-\d{3,6})\b")
_AMOUNT = re.compile(r"\$\s?(\d+(?:\.\d{1,2})?)|\b(\d+(?:\.\d{1,2})?)\s?(?:dollars|usd)\b", re.IGNORECASE)
_HELP = (
    "I am a support desk played by a script, and I know a few orders. Try one of these: "
    '"Where is order A-1002?", "Which orders does Ada have?" or "Please refund order A-1001".'
)


def answer(messages: list[Json]) -> Turn:
    """Return the support desk's next turn, from the conversation alone, as every script must."""
    at = max(index for index, message in enumerate(messages) if message["role"] == "user")
    asked = text_of_json(messages[at])
    results: list[Any] = [message for message in messages[at:] if message["role"] == "toolResult"]
    found = _ORDER_ID.search(asked)
    wants_refund = "refund" in asked.lower() or "money back" in asked.lower()
    if not results:
        return _first(asked, found.group(1).upper() if found else None, wants_refund)
    last = results[-1]
    if last["isError"] and text_of_json(last).startswith("rejected: "):
        return f"The refund was refused ({text_of_json(last).removeprefix('rejected: ')}). Nothing was paid back."
    if last["isError"]:
        return f"That did not work: {text_of_json(last).partition(': ')[2] or text_of_json(last)}. Nothing was changed."
    if last["toolName"] == "refund":
        return _after_refund(text_of_json(last))
    value = json.loads(text_of_json(last))
    if last["toolName"] == "find_orders":
        return _listing(value)
    if wants_refund:
        return _propose(value, asked)
    paid_back = value["cents"] - value["refundable_cents"]
    more = f" {_money(paid_back)} of it was refunded." if paid_back else ""
    return f"Order {value['order_id']} is {value['item']!r} for {value['customer']}, {_money(value['cents'])}.{more}"


def _first(asked: str, order_id: str | None, wants_refund: bool) -> Turn:
    if order_id is not None:
        blocks = [_text(f"Let me look up order {order_id}."), _call("get_order", order_id=order_id)]
        if wants_refund:
            blocks.insert(0, {"type": "thinking", "thinking": "They want money back. First see what the order was."})
        return blocks
    names = [word for _, customer, _, _ in _ORDERS for word in customer.split() if word.lower() in asked.lower()]
    if names or "orders" in asked.lower():
        return [_text("Let me see."), _call("find_orders", query=names[0] if names else "")]
    if wants_refund:
        return "Gladly. Which order is it? Its number looks like A-1001."
    return _HELP


def _propose(order: Json, asked: str) -> Turn:
    if order["refundable_cents"] <= 0:
        return f"Order {order['order_id']} has been refunded in full already. There is nothing left to pay back."
    amount = _AMOUNT.search(asked)
    cents = round(float(amount.group(1) or amount.group(2)) * 100) if amount else order["refundable_cents"]
    sentence = f"{order['customer']} paid {_money(order['cents'])} for {order['item']!r}. I will ask for the refund."
    return [_text(sentence), _call("refund", order_id=order["order_id"], cents=cents)]


def _after_refund(result: str) -> str:
    if result.startswith("not approved"):
        return f"The refund was {result}. Nothing was paid back."
    return f"Done: I have {result}. The money arrives within three working days."


def _listing(orders: list[Json]) -> str:
    if not orders:
        return "I found no such order."
    lines = [
        f"- {order['order_id']}: {order['item']}, {order['customer']}, {_money(order['cents'])}" for order in orders
    ]
    return "Here is what I found:\n" + "\n".join(lines)


def _text(value: str) -> Json:
    return {"type": "text", "text": value}


def _call(name: str, **arguments: Any) -> Json:
    return {"type": "toolCall", "name": name, "arguments": arguments}


def _model() -> Any:
    if os.environ.get("OPENAI_API_KEY") or os.environ.get("OPENAI_BASE_URL"):
        return "openai:" + (os.environ.get("AGENTKIT_EXAMPLE_MODEL") or "gpt-5.4-mini")
    return ScriptedModel(answer, chunk_size=4, delay=0.02, name="support-desk")


kit = AgentKit(
    agents=[
        Agent(
            "support",
            model=_model(),
            instructions=(
                "You are the support desk of a small shop. Look an order up before you say anything about it. "
                "Refunds are in cents and a person approves each; never promise one before it is done. Be brief."
            ),
            tools=[find_orders, get_order, refund],
        )
    ]
)
