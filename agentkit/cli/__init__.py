"""The command line: `agentkit dev`, `agentkit demo`, `agentkit run`, `agentkit runs …`.

It uses a server over HTTP alone; only `dev` and `demo` start processes, and only as their own children.
"""

from agentkit.cli.main import main

__all__ = ["main"]
