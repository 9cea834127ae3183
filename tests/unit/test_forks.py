"""What a process that is forked in the midst of things can still do: prefork workers are made so."""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import agentkit
from agentkit import Agent, AgentKit, ScriptedModel
from agentkit.core import event_loop, ids
from agentkit.store.memory import MemoryStore
from tests.apps import FakeQueue

KIT = AgentKit([Agent("a", ScriptedModel(["x"]))], store=MemoryStore(), queue=FakeQueue())


async def _nothing() -> str:
    return "done"


# What has a lock that a fork may find held, by the file that defines it, and something to do that takes this lock.
HOLDERS: dict[str, tuple[Any, Callable[[], object]]] = {
    "core/ids.py": (ids, ids.new_id),
    "core/event_loop.py": (event_loop, lambda: event_loop.submit(_nothing()).result(5)),
    "kit.py": (KIT, lambda: KIT.start("a", "go")),
}


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")
@pytest.mark.parametrize("file", HOLDERS)
def test_a_lock_that_another_thread_held_is_free_in_the_child(file: str) -> None:
    holder, act = HOLDERS[file]
    done: list[object] = []
    with holder._lock:
        child = os.fork()
        if child == 0:
            worker = threading.Thread(target=lambda: done.append(act()), daemon=True)
            worker.start()
            worker.join(5)
            os._exit(0 if done else 1)
    assert os.waitpid(child, 0)[1] == 0


def test_every_lock_that_is_made_anew_after_a_fork_is_tested_here() -> None:
    root = Path(agentkit.__file__).parent
    registered = {
        path.relative_to(root).as_posix()
        for path in root.rglob("*.py")
        if re.search(r"register_at_fork\(", path.read_text())
    }
    assert registered == HOLDERS.keys()
