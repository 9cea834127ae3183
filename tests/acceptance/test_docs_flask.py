"""docs/how-to/flask.md: the application that it shows, written into a folder and started as the page says."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from tests.acceptance.program import Program
from tests.acceptance.stack import ROOT, environment
from tests.fences import blocks
from tests.openai_server import OpenAIServer
from tests.servers import ValkeyServer, free_port
from tests.waiting import wait_until

PAGE = blocks("docs/how-to/flask.md")
YOURS = """
    app.secret_key = "of the configuration"

    @app.post("/login/<user>")
    def login(user):
        from flask import session

        session["user"] = user
        return {}
"""


def write(folder: Path, text: str) -> None:
    """Write the page's module into the folder, with what it leaves to the reader."""
    name = text.splitlines()[0].removeprefix("# ")
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).write_text(re.sub(r"^    \.\.\.  # your .*\n", YOURS, text, flags=re.MULTILINE))


@pytest.mark.parametrize("first", ["shop", "shop.agents"])
def test_each_module_of_the_application_can_be_the_first(first: str, tmp_path: Path) -> None:
    for block in PAGE:
        if block.language == "python":
            write(tmp_path, block.text)
    code = f"import {first}; from shop import create_app; assert 'agentkit.runs.get_run' in create_app().view_functions"
    env = environment(PYTHONPATH=str(ROOT))
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.timeout(180)
def test_web_and_worker_start_as_shown_and_a_refund_is_approved(tmp_path: Path) -> None:
    [worker_text, web_text] = [block.text for block in PAGE if block.language == "sh"]
    call = {"type": "toolCall", "name": "refund", "arguments": {"order_id": "A-1", "cents": 5}}
    with ValkeyServer() as store, OpenAIServer([[call], "Done."]) as model:
        port = free_port()

        def here(text: str) -> str:
            for number in (0, 1):
                text = text.replace(f"redis://localhost:6379/{number}", store.database(number))
            return text.replace("8000", str(port))

        def exported(line: str) -> dict[str, str]:
            return dict(word.split("=", 1) for word in line.removeprefix("export ").split())

        for block in PAGE:
            if block.language == "python":
                write(tmp_path, here(block.text))
        env = environment(
            PYTHONPATH=str(ROOT),
            HOME=str(tmp_path),
            PATH=f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        )
        env["OPENAI_BASE_URL"] = model.base_url
        worker_env, worker_command = here(worker_text).splitlines()
        web_env, web_command = here(web_text).splitlines()
        worker = Program(worker_command, "[tasks]", env | exported(worker_env), tmp_path)
        web = Program(web_command, "Listening at", env | exported(web_env), tmp_path)
        try:
            worker.launch()
            web.start()
            with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30) as client:
                assert client.get("/agents/agents").status_code == 401
                client.post("/login/ann")
                body = {"agent": "support", "input": "Please refund order A-1."}
                run = client.post("/agents/runs", json=body).json()["id"]

                def status() -> str:
                    return str(client.get(f"/agents/runs/{run}").json()["status"])

                wait_until(lambda: status() == "paused", timeout=60, what="the run to pause", every=0.1)
                assert (
                    client.post(f"/agents/runs/{run}/resume", json={"decision": {"approved": True}}).status_code == 202
                )
                wait_until(lambda: status() == "completed", timeout=60, what="the run to end", every=0.1)
                assert "refunded 5 cents" in client.get(f"/agents/runs/{run}").text

            def shell(text: str) -> str:
                words = ["bash", "-euc", here(text)]
                done = subprocess.run(words, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=60)
                assert done.returncode == 0, done.stdout + done.stderr
                return done.stdout

            [operating] = [each.text for each in blocks("docs/how-to/operate.md") if "shop.agents:kit" in each.text]
            assert run in shell(operating)
        finally:
            web.kill()
            worker.kill()
