"""A command of the documentation, started as a process."""

from __future__ import annotations

import shlex
from pathlib import Path

from tests.acceptance.stack import Process

__all__ = ["Program"]


class Program(Process):
    """A program's module and its arguments, as a page writes them. It is ready when its log has `mark`."""

    def __init__(self, command: str, mark: str, env: dict[str, str], folder: Path) -> None:
        words = shlex.split(command)
        super().__init__(words[0], words, env, folder, folder)
        self._mark = mark

    def is_ready(self) -> bool:
        return self._mark in self.log(self._launched_at)
