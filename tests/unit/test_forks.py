"""What a process that is forked in the midst of things can still do: prefork workers are made so."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from typing import Any

import pytest

from agentkit.core import event_loop as aio
from agentkit.core import ids
from agentkit.core.ids import new_id


async def _nothing() -> str:
    return "done"


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")
@pytest.mark.parametrize(
    ("module", "act"), [(ids, new_id), (aio, lambda: aio.submit(_nothing()).result(5))], ids=["ids", "aio"]
)
def test_a_lock_that_another_thread_held_is_free_in_the_child(module: Any, act: Callable[[], str]) -> None:
    with module._lock:
        child = os.fork()
        if child == 0:
            worker = threading.Thread(target=act, daemon=True)
            worker.start()
            worker.join(5)
            os._exit(1 if worker.is_alive() else 0)
    assert os.waitpid(child, 0)[1] == 0
