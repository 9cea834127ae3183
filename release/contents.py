"""What the two distributions hold, beside what the repository does: nothing is missing, and nothing got in."""

from __future__ import annotations

import re
import tarfile
import zipfile
from collections.abc import Sequence
from email import message_from_bytes
from pathlib import Path

__all__ = ["read_metadata", "sdist_faults", "wheel_faults"]

_FOR_THE_REPOSITORY_ONLY = (".ci/", ".github/")
_DIST_INFO = ("METADATA", "RECORD", "WHEEL", "entry_points.txt", "licenses/LICENSE")


def sdist_faults(path: Path, tracked: Sequence[str]) -> list[str]:
    """Compare a source distribution with the files that git tracks."""
    with tarfile.open(path) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    expected = {name for name in tracked if not name.startswith(_FOR_THE_REPOSITORY_ONLY)} | {"PKG-INFO"}
    return _differences(path.name, names, expected)


def wheel_faults(path: Path, tracked: Sequence[str]) -> list[str]:
    """Compare a wheel with what the package has in the repository."""
    names = set(zipfile.ZipFile(path).namelist())
    folder = next(name for name in names if name.endswith(".dist-info/METADATA")).removesuffix("METADATA")
    expected = {name for name in tracked if name.startswith("agentkit/") or name == "pytest_agentkit.py"}
    return _differences(path.name, names, expected | {folder + name for name in _DIST_INFO})


def read_metadata(path: Path, version: str, pythons: Sequence[str]) -> tuple[list[str], str]:
    """Check a wheel's metadata; the faults, and the README as the package's page gets it.

    `pythons`: the minor versions that are supported, the lowest first.
    """
    wheel = zipfile.ZipFile(path)
    name = next(name for name in wheel.namelist() if name.endswith(".dist-info/METADATA"))
    message = message_from_bytes(wheel.read(name))
    classifiers = [
        str(value).removeprefix("Programming Language :: Python :: ") for value in message.get_all("Classifier")
    ]
    found = {
        "Version": message["Version"] == version,
        "Requires-Python": message["Requires-Python"] == f">={pythons[0]}",
        "Classifier": [value for value in classifiers if re.fullmatch(r"3\.\d+", value)] == list(pythons),
        "License-Expression": message["License-Expression"] == "MIT",
        "Project-URL": len(message.get_all("Project-URL", [])) == 4,
        "Description-Content-Type": message["Description-Content-Type"] == "text/markdown",
    }
    faults = [f"{path.name}: {field} is {message.get_all(field)}" for field, is_right in found.items() if not is_right]
    return faults, message.get_payload()


def _differences(name: str, names: set[str], expected: set[str]) -> list[str]:
    missing = [f"{name} lacks {one}" for one in sorted(expected - names)]
    return missing + [f"{name} has {one}, which is not of it" for one in sorted(names - expected) if one]
