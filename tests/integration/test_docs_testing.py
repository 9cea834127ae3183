"""The tests of docs/how-to/test-an-agent.md pass, in a pytest that has loaded agentkit's plugin and no more of it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "how-to" / "test-an-agent.md"


def run_pytest(directory: Path, *args: str) -> subprocess.CompletedProcess[str]:
    """Run a pytest of its own in `directory`, with the plugin as an installation has it."""
    (directory / "pytest.ini").write_text("[pytest]\n")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "pytest_agentkit", "-p", "no:cacheprovider", *args]
    path = os.pathsep.join([str(ROOT), str(directory)])
    environment = {**os.environ, "PYTHONPATH": path, "AGENTKIT_REDIS_URL": "redis://127.0.0.1:1/0"}
    environment.pop("PYTEST_ADDOPTS", None)
    return subprocess.run(command, cwd=directory, env=environment, capture_output=True, text=True, timeout=50)


def test_the_tests_of_the_page_pass(tmp_path: Path) -> None:
    blocks = re.findall(r"^```python\n# (\w+\.py)\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    assert [name for name, _ in blocks] == ["desk.py", "test_desk.py"]
    for name, code in blocks:
        (tmp_path / name).write_text(code)
    done = run_pytest(tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "6 passed" in done.stdout


def test_the_plugin_loads_nothing_of_agentkit_before_a_test_wants_it(tmp_path: Path) -> None:
    (tmp_path / "test_other.py").write_text(
        "import sys\n\n\ndef test_other():\n    assert not [name for name in sys.modules if name[:8] == 'agentkit']\n"
    )
    done = run_pytest(tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_kit_is_given_back_when_a_test_that_used_the_fixture_failed(tmp_path: Path) -> None:
    (tmp_path / "test_two.py").write_text(
        "from agentkit import Agent, AgentKit\n\n"
        "kit = AgentKit([Agent('desk', 'openai:gpt-4o')])\n\n\n"
        "def test_one(agentkit_testing):\n"
        "    agentkit_testing(kit, ['Hello.'])\n"
        "    assert kit.start('desk', 'Hi').run.status == 'failed'\n\n\n"
        "def test_two(agentkit_testing):\n"
        "    agentkit_testing(kit, model=['Hello.'])\n"
        "    assert list(kit.runs()) == []\n"
    )
    done = run_pytest(tmp_path, "-p", "no:randomly")
    assert "1 failed, 1 passed" in done.stdout, done.stdout + done.stderr


def test_the_package_names_the_plugin() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert project["project"]["entry-points"]["pytest11"] == {"pytest_agentkit": "pytest_agentkit"}
    assert project["tool"]["hatch"]["build"]["targets"]["wheel"]["force-include"] == {
        "pytest_agentkit.py": "pytest_agentkit.py"
    }
