"""The pytest plugin of agentkit: outside the package, so that none of that is loaded before a test wants it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from agentkit import AgentKit
    from agentkit.testing import Testing

__all__ = ["agentkit_testing"]


@pytest.fixture
def agentkit_testing() -> Iterator[Callable[..., Testing]]:
    """Put kits under test until the test is over: `testing = agentkit_testing(kit, model=["Hello"])`.

    What it takes beside the kit, and what it returns, is as for `kit.testing`; several kits can be under test.
    """
    with ExitStack() as contexts:

        def enter(kit: AgentKit, *args: Any, **options: Any) -> Testing:
            return contexts.enter_context(kit.testing(*args, **options))

        yield enter
