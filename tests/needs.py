"""What a test cannot be without and pip cannot bring: programs of the system, such as nginx or a browser."""

from __future__ import annotations

import os
import shutil
from typing import NoReturn

import pytest

__all__ = ["program", "without"]


def program(*names: str) -> str:
    """The path of the first of these programs that is here; without any, see `without`."""
    for name in names:
        if found := shutil.which(name, path=os.environ.get("PATH", "") + ":/usr/sbin"):
            return found
    return without(f"{' or '.join(names)} is not installed")


def without(what: str) -> NoReturn:
    """Skip the current test and say why, or fail it on CI, where nothing may be skipped."""
    if os.environ.get("CI") == "true":
        pytest.fail(f"{what}, and on CI nothing is skipped (.ci/run installs it)")
    pytest.skip(f"{what}, so this is not tested")
