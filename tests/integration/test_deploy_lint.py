"""What systemd and nginx themselves say of the files in `deploy/`."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from tests.deployments import DEPLOY, ROOT
from tests.needs import program
from tests.nginx import ShippedNginx

UNITS = sorted((DEPLOY / "systemd").glob("*.service"))


def systemd_analyze(*words: str | Path) -> str:
    done = subprocess.run([program("systemd-analyze"), *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.fixture(params=UNITS, ids=lambda path: path.name)
def unit(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A unit as it is, but for its programs, which are those of the tests."""
    path: Path = request.param
    text, count = re.subn(r"/opt/agentkit/venv/bin/", f"{ROOT}/.venv/bin/", path.read_text())
    assert count == 1
    copy = tmp_path / path.name
    copy.write_text(text)
    return copy


def test_systemd_finds_no_fault_in_a_unit(unit: Path) -> None:
    assert systemd_analyze("verify", "--man=no", unit) == ""


def test_systemd_would_find_one(unit: Path) -> None:
    unit.write_text(unit.read_text().replace("KillMode=mixed", "KillMode=some"))
    done = subprocess.run([program("systemd-analyze"), "verify", "--man=no", unit], capture_output=True, text=True)
    assert "kill mode" in done.stderr


def test_little_is_exposed_to_what_a_unit_starts(unit: Path) -> None:
    """Of ten, by systemd's own count; a service without any of these lines has 9.6."""
    systemd_analyze("security", "--offline=yes", "--threshold=20", unit)


def test_nginx_finds_no_fault_in_the_proxy(tmp_path: Path) -> None:
    proxy = ShippedNginx(tmp_path / "nginx", 1)
    words = [program("nginx"), "-t", "-p", tmp_path, "-e", tmp_path / "error.log", "-c", proxy.folder / "nginx.conf"]
    done = subprocess.run([str(word) for word in words], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "warn" not in done.stderr
