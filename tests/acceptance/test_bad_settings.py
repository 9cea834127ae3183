"""A bad setting stops every program with one line, and no traceback."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.acceptance.stack import environment
from tests.servers import free_port

PROGRAMS = {
    "worker": ["celery", "-A", "agentkit.tasks", "worker", "-P", "threads", "-c", "1"],
    "flower": ["celery", "-A", "agentkit.tasks", "flower"],
    "gunicorn": ["gunicorn", "agentkit.web:create_app()"],
    "gunicorn, preloaded": ["gunicorn", "agentkit.web:create_app()", "--preload"],
    "uvicorn": ["uvicorn", "--factory", "agentkit.asgi:create_app"],
}
MISTAKES = {
    "AGENTKIT_LEASE_SECONDS": ("soon", "AGENTKIT_LEASE_SECONDS is 'soon'; expected a number of seconds above 0."),
    "AGENTKIT_REDIS_URL": ("http://u:hunter22@h", "AGENTKIT_REDIS_URL is 'http://***@h'; expected a redis://"),
    "AGENTKIT_SECRET_KEY": ("short", "AGENTKIT_SECRET_KEY has 5 bytes; expected at least 32"),
    "AGENTKIT_APP": ("no.such:kit", "AGENTKIT_APP=no.such:kit: there is no module 'no'"),
    " AGENTKIT_APP": ("broken:kit", "broken:kit cannot be loaded: NameError: name 'undefined_name' is not defined"),
}


@pytest.mark.parametrize("program", PROGRAMS)
@pytest.mark.parametrize("variable", MISTAKES)
def test_a_bad_setting_is_one_line(program: str, variable: str, tmp_path: Path) -> None:
    (tmp_path / "broken.py").write_text("kit = undefined_name\n")
    if program == "flower" and variable.strip() == "AGENTKIT_APP":
        return  # Flower needs no application
    value, expected = MISTAKES[variable]
    words = PROGRAMS[program]
    if words[0] == "gunicorn":
        words = [*words, "-b", f"127.0.0.1:{free_port()}", "--no-control-socket"]
    if words[0] == "uvicorn":
        words = [*words, "--port", str(free_port())]
    env = environment(HOME=str(tmp_path), **{variable.strip(): value})
    program_path = str(Path(sys.executable).with_name(words[0]))
    done = subprocess.run([program_path, *words[1:]], cwd=tmp_path, env=env, capture_output=True, text=True, timeout=60)
    assert done.returncode != 0
    output = done.stdout + done.stderr
    assert output.count(f"agentkit: {expected}") == 1, output
    assert "Traceback" not in output
    assert "hunter22" not in output
