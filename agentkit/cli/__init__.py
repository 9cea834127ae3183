"""The command line: `agentkit dev`, `demo`, `run`, `runs …`, `decisions …` and `audit …`.

It uses a server over HTTP alone, but for `audit export`, which reads the store. Only `dev` and `demo` start processes,
and only as their own children.
"""

from agentkit.cli.main import main

__all__ = ["main"]
