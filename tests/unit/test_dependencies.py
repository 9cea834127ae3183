"""The versions that may be installed: none with a known fault of its security."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
FAULTY = {
    "certifi": "2024.7.3",
    "cryptography": "49.0.0",
    "django": "5.2.12",
    "flask": "3.1.2",
    "flask-cors": "5.0.1",
    "gunicorn": "26.0.0",
    "h11": "0.14.0",
    "idna": "3.6",
    "jinja2": "3.1.5",
    "requests": "2.32.3",
    "starlette": "0.49.0",
    "tornado": "6.5.7",
    "urllib3": "2.6.2",
    "werkzeug": "3.1.5",
}
"""By name: the last version with a known fault. The advisories are named in pyproject.toml."""


def requirements() -> dict[str, Requirement]:
    texts = [*PROJECT["dependencies"], *(each for extra in PROJECT["optional-dependencies"].values() for each in extra)]
    found = {canonicalize_name(requirement.name): requirement for requirement in map(Requirement, texts)}
    return {name: requirement for name, requirement in found.items() if name != "agentkit-celery"}  # of its own extras


@pytest.mark.parametrize("name", FAULTY)
def test_versions_with_known_faults_cannot_be_installed(name: str) -> None:
    specifier = requirements()[name].specifier
    last = Version(FAULTY[name])
    assert last not in specifier
    assert not any(str(each) in specifier for each in (f"{last.major}.0", f"{last.major - 1}.9"))


def test_the_versions_that_the_tests_run_with_are_among_those_that_may_be_installed() -> None:
    lines = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if "==" in line]
    pinned = {canonicalize_name(name): version for name, version in (line.split("==") for line in lines)}
    for name, requirement in requirements().items():
        assert pinned[name] in requirement.specifier, name
