"""What docs/how-to/celery.md shows to put around a step, over a real database each; its recipes as they stand there."""

from __future__ import annotations

import re
import sys
import threading
from contextlib import ExitStack
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from django.apps import apps
from django.core.management import call_command
from django.db import DEFAULT_DB_ALIAS, connections
from flask import Flask
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy import create_engine, text
from sqlalchemy.orm import scoped_session, sessionmaker
from sqlalchemy.pool import QueuePool

from agentkit import Agent, AgentKit, ScriptedModel, tool
from agentkit.django import around_step
from agentkit.store.memory import MemoryStore
from tests import django_project  # noqa: F401  # which sets Django up
from tests.apps import FakeQueue
from tests.turns import call

PAGE = (Path(__file__).parents[2] / "docs" / "how-to" / "celery.md").read_text()
RECIPES = re.findall(r"^```python\n((?:@cache\n|def around_step).*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
POOL_OF_ONE: dict[str, Any] = {"poolclass": QueuePool, "pool_size": 1, "max_overflow": 0, "pool_timeout": 2}
FLASK, SQLALCHEMY = range(2)


def around_of(recipe: int, **names: Any) -> Any:
    exec(RECIPES[recipe], names)
    return names["around_step"]


def execute(around_step: Any, query: Any, times: int = 3) -> list[str]:
    """Have a tool that asks `query` called some times; what each call answered."""
    used = tool(query)
    name = str(query.__name__)
    queue = FakeQueue()
    model = ScriptedModel([[call(name)] * times, "Done."])
    kit = AgentKit([Agent("a", model, tools=[used])], store=MemoryStore(), queue=queue, around_step=around_step)
    run_id = kit.start("a", "go").id
    while queue.enqueued:
        kit.execute(*queue.enqueued.pop(0))
    results = [message for message in kit.get(run_id).messages or () if message["role"] == "toolResult"]
    assert not any(result["isError"] for result in results), results
    return [result["content"][0]["text"] for result in results]


def test_each_recipe_has_at_most_six_lines() -> None:
    assert len(RECIPES) == 2
    assert all(len(list(filter(str.strip, recipe.splitlines()))) <= 6 for recipe in RECIPES)


def test_flasks_application_context_closes_the_session_of_flask_sqlalchemy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = []

    def create_app() -> Flask:
        made.append(app)
        return app

    shop = ModuleType("shop")
    shop.create_app = create_app  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "shop", shop)
    app = Flask("shop")
    app.config["SQLALCHEMY_DATABASE_URI"] = f"sqlite:///{tmp_path}/db"
    app.config["SQLALCHEMY_ENGINE_OPTIONS"] = POOL_OF_ONE
    db = SQLAlchemy(app)

    def count() -> str:
        """Count."""
        return str(db.session.scalar(text("SELECT 7")))

    assert execute(around_of(FLASK, cache=cache), count) == ["7"] * 3
    assert made == [app]
    with app.app_context():
        assert db.engine.pool.checkedout() == 0  # type: ignore[attr-defined]
        db.engine.dispose()


def test_a_scoped_session_gives_its_connection_back(tmp_path: Path) -> None:
    engine = create_engine(f"sqlite:///{tmp_path}/db", **POOL_OF_ONE)
    session = scoped_session(sessionmaker(engine))

    def count() -> str:
        """Count."""
        return str(session.scalar(text("SELECT 7")))

    assert execute(around_of(SQLALCHEMY, Session=session, ExitStack=ExitStack), count) == ["7"] * 3
    assert engine.pool.checkedout() == 0  # type: ignore[attr-defined]
    engine.dispose()


@pytest.mark.parametrize("is_async", [False, True])
def test_djangos_connections_are_closed_after_each_step_of_a_def_tool(is_async: bool) -> None:
    content_types = apps.get_model("contenttypes", "ContentType").objects
    call_command("migrate", verbosity=0)
    connections.close_all()
    opened: list[Any] = []

    def count() -> str:
        """Count."""
        found = content_types.count()
        opened.append(connections[DEFAULT_DB_ALIAS].connection)
        return f"{found > 0} in {threading.current_thread().name}"

    async def count_async() -> str:
        """Count."""
        return str(await content_types.acount() > 0)

    answers = execute(around_step, count_async if is_async else count)
    assert answers == (["True"] if is_async else ["True in tool-count"]) * 3
    for connection in opened:
        with pytest.raises(Exception, match="closed database"):
            connection.execute("SELECT 1")
    connections.close_all()
