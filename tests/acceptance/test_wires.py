"""The clients that AG-UI and the AI SDK publish, on the examples of their pages, over processes that are killed.

What they do is in clients/wires (vitest); here are the processes, and what kills them when a test says so.
"""

from __future__ import annotations

import json
import re
import subprocess
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from tests.acceptance.model import script
from tests.acceptance.stack import ROOT, UVICORN, Stack, WebProcess, environment
from tests.needs import program, without
from tests.turns import call

CLIENTS = ROOT / "clients" / "wires"
PAGES = {"ag-ui": "ag-ui.ts", "ai-sdk": "Chat.tsx"}
SLOW = "This is a long answer, so that there is time to kill who says it, and to see that nothing is said twice."
SCRIPTS = {
    "hello": script("Hello."),
    "refund": script([call("refund", cents=500)], "It is done."),
    "both": script([call("locate")], [call("refund", cents=500)], "All done."),
    "assign": script([call("assign")], "She has it.", delay=0.3),  # a run that is over has no stream to go on with
    "slow": script(SLOW, name="slow", delay=0.06),
    "slowAnswer": SLOW,
}


def block(page: str, language: str) -> str:
    """The only block of this language on a page of the documentation."""
    text = (ROOT / "docs" / "how-to" / f"{page}.md").read_text()
    [found] = re.findall(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    return str(found)


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """The application of the pages."""
    folder = tmp_path_factory.mktemp("wires")
    (folder / "desk.py").write_text(block("ag-ui", "python"))
    path = f"{folder}:{ROOT}"
    stack = Stack(
        folder, {"AGENTKIT_APP": "desk:kit", "PYTHONPATH": path, "AGENTKIT_CORS_ORIGINS": "http://localhost:3000"}
    )
    stack.web_b = WebProcess("web-b", stack.env, folder, UVICORN)
    try:
        stack.repair()
        yield stack
    finally:
        stack.close()


@pytest.mark.parametrize(("page", "server"), [("ag-ui", "b"), ("ai-sdk", "a")])
@pytest.mark.timeout(120)
def test_the_published_client_does_what_its_page_says(desk: Stack, page: str, server: str) -> None:
    node = program("node")
    vitest = CLIENTS / "node_modules" / "vitest" / "vitest.mjs"
    if not vitest.exists():
        without("clients/wires/node_modules is not there (make test installs it)")
    assert block(page, "python") == block("ag-ui", "python")
    assert block(page, "tsx?") == (CLIENTS / "src" / PAGES[page]).read_text(), "the page shows another example"
    web = desk.web_a if server == "a" else desk.web_b
    with _control(desk) as control:
        result = subprocess.run(
            [node, str(vitest), "run", "tests/ag-ui.test.ts" if page == "ag-ui" else "tests/chat.test.tsx"],
            cwd=CLIENTS,
            env=environment(
                WIRES_URL=f"http://127.0.0.1:{web.port}",
                WIRES_CONTROL=control.url,
                WIRES_SCRIPTS=json.dumps(SCRIPTS),
                NO_COLOR="1",
            ),
            capture_output=True,
            text=True,
            timeout=110,
        )
    assert result.returncode == 0, result.stdout + result.stderr


class _control:
    """A server by which a test in Node kills workers."""

    def __init__(self, stack: Stack) -> None:
        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                stack.kill_workers()
                stack.start(*stack.workers)
                self.send_response(204)
                self.end_headers()

            def log_message(self, format: str, *args: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> _control:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *error: object) -> None:
        self._server.shutdown()
        self._server.server_close()
