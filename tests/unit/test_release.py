"""What is published names one version, and holds what the repository does (release/)."""

from __future__ import annotations

import io
import re
import shutil
import tarfile
import zipfile
from pathlib import Path

import pytest

from release.agreement import differences
from release.contents import read_metadata, sdist_faults, wheel_faults

ROOT = Path(__file__).parents[2]
NAMED = (
    "agentkit/__init__.py",
    "clients/react/package.json",
    "clients/react/package-lock.json",
    "deploy/kubernetes/kustomization.yaml",
    "CHANGELOG.md",
)


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """The files that name the version."""
    for name in NAMED:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    return tmp_path


def edit(path: Path, pattern: str, new: str) -> None:
    text, count = re.subn(pattern, new, path.read_text(), count=1, flags=re.MULTILINE)
    assert count == 1, pattern
    path.write_text(text)


def test_one_version_is_named_everywhere() -> None:
    assert differences(ROOT) == []


@pytest.mark.parametrize(
    ("name", "pattern", "new", "fault"),
    [
        (NAMED[0], r'^__version__ = ".*"', '__version__ = "9.9.9"', "not with Unreleased and 9.9.9"),
        (NAMED[1], r'"version": ".*"', '"version": "9.9.9"', "package.json has 9.9.9"),
        (NAMED[2], r'"version": ".*"', '"version": "9.9.9"', "package-lock.json has 9.9.9"),
        (NAMED[3], r"newTag: .*", "newTag: 9.9.9", "kustomization.yaml has 9.9.9"),
        (NAMED[4], r"^## \[Unreleased\]\n", "", "CHANGELOG.md begins with"),
        (NAMED[4], r"^(## \[\d.*\]) - .*$", r"\1 - soon", "CHANGELOG.md dates"),
        (NAMED[4], r"^\[Unreleased\]: .*\n", "", "no link for [Unreleased]"),
    ],
)
def test_another_version_is_noticed(copy: Path, name: str, pattern: str, new: str, fault: str) -> None:
    edit(copy / name, pattern, new)
    assert any(fault in one for one in differences(copy))


def test_a_tag_is_that_of_the_version_and_leaves_nothing_unreleased(copy: Path) -> None:
    edit(copy / "CHANGELOG.md", r"^## \[Unreleased\]\n[\s\S]*?(?=^## )", "## [Unreleased]\n\n")
    version = re.findall(r'^__version__ = "(.*)"', (ROOT / "agentkit/__init__.py").read_text(), re.MULTILINE)[0]
    assert differences(copy, [f"v{version}"]) == []
    assert differences(copy, ["v9.9.9"]) == [f"the commit has the tag v9.9.9, not v{version}"]
    edit(copy / "CHANGELOG.md", r"^## \[Unreleased\]\n", "## [Unreleased]\n\n- Something.\n")
    assert differences(copy, [f"v{version}"]) == [
        "CHANGELOG.md has entries under [Unreleased], and the commit has a tag"
    ]


def test_what_a_source_distribution_lacks_or_has_too_much_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a-1.tar.gz"
    with tarfile.open(path, "w:gz") as archive:
        for name in ("PKG-INFO", "README.md", "secrets.env"):
            archive.addfile(tarfile.TarInfo(f"a-1/{name}"), io.BytesIO())
    assert sdist_faults(path, ["README.md", "deploy/Dockerfile", ".ci/run"]) == [
        "a-1.tar.gz lacks deploy/Dockerfile",
        "a-1.tar.gz has secrets.env, which is not of it",
    ]


def test_what_a_wheel_lacks_or_has_too_much_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a-1-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for name in ("METADATA", "RECORD", "WHEEL", "entry_points.txt", "licenses/LICENSE"):
            archive.writestr(f"a-1.dist-info/{name}", "")
        archive.writestr("tests/test_it.py", "")
    assert wheel_faults(path, ["agentkit/__init__.py", "README.md"]) == [
        "a-1-py3-none-any.whl lacks agentkit/__init__.py",
        "a-1-py3-none-any.whl has tests/test_it.py, which is not of it",
    ]


def test_metadata_that_says_something_else_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a-1-py3-none-any.whl"
    lines = ["Version: 2", "Requires-Python: >=3.11", "License-Expression: MIT"]
    lines += ["Description-Content-Type: text/markdown", *(f"Project-URL: {n}, https://example.org" for n in range(4))]
    lines += [f"Classifier: Programming Language :: Python :: {name}" for name in ("3", "3.11", "3.12")]
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a-1.dist-info/METADATA", "\n".join([*lines, "", "# Read me"]))
    assert read_metadata(path, "2", ("3.11", "3.12")) == ([], "# Read me")
    faults, _ = read_metadata(path, "1", ("3.10", "3.12"))
    assert [fault.split(" is ")[0].partition(": ")[2] for fault in faults] == [
        "Version",
        "Requires-Python",
        "Classifier",
    ]
