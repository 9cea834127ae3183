"""What stands around the Python of a page that speaks of an application which the reader has, and what comes of it.

Of each page: code that is executed before its blocks, as the reader's application would be, and code after them, which
asserts that they do what the page says.
"""

from __future__ import annotations

__all__ = ["SURROUNDINGS"]

_SUPPORT = """
from agentkit import Agent, AgentKit, ScriptedModel, tool

@tool(decision={"type": "object"})
def refund(cents: int) -> str:
    return "refunded"

ask = [{"type": "toolCall", "name": "refund", "arguments": {"cents": 5}}]
support = Agent("support", ScriptedModel([ask, "Done."]), tools=[refund])
"""

SURROUNDINGS: dict[str, tuple[str, str]] = {
    "docs/how-to/authenticate.md": (
        _SUPPORT
        + """
support_team = {"ann"}

class sessions:
    user_of = staticmethod(lambda header: header)
""",
        """
from agentkit.web import create_app

with kit.testing():
    client = create_app(kit).test_client()
    assert client.get("/agents").status_code == 401
    run = client.post("/runs", json={"agent": "support", "input": "go"}, headers={"Authorization": "olga"}).json
    for who, reads, resumes in (("bob", 404, 404), ("olga", 200, 403), ("ann", 200, 202)):
        headers = {"Authorization": who}
        assert client.get(f"/runs/{run['id']}", headers=headers).status_code == reads, who
        answer = client.post(f"/runs/{run['id']}/resume", json={"decision": {}}, headers=headers)
        assert answer.status_code == resumes, (who, answer.json)
""",
    ),
    "docs/how-to/fastapi.md": (
        _SUPPORT
        + """
from fastapi import FastAPI

app = FastAPI()
kit = AgentKit([support])
""",
        """
from types import SimpleNamespace

assert {"/agents", "/orders/{run_id}/live"} <= {route.path for route in app.routes}
assert authenticate(SimpleNamespace(environ={"asgi.scope": {"session": {"user": "ann"}}})) == "ann"
""",
    ),
    "docs/how-to/operate.md": (
        _SUPPORT + "principal_of = lambda request: None\n",
        """
assert kit.is_operator("ops@example.com")
assert not kit.is_operator("ann")
""",
    ),
    "docs/how-to/stream-to-browsers.md": (
        _SUPPORT
        + """
import json

from flask import Flask, Response, request

from agentkit.web import sse_response

app = Flask("chat")
kit = AgentKit([support])
render_template = lambda name, item: f"<p>{item['toolName']}</p>"
""",
        """
with kit.testing():
    run = kit.start("support", "go").run
    kit.resume(run.id, {})
    live = app.test_client().get(f"/chat/{run.id}/live").text
    assert "event: tool_decision_pending" in live and "data: <p>refund</p>" in live and "turn_start" not in live
    lines = app.test_client().get(f"/chat/{run.id}").text.splitlines()
    assert json.loads(lines[-1])["type"] == "agent_end"
""",
    ),
    "docs/reference/http.md": (
        _SUPPORT
        + """
kit = AgentKit([support])
testing = kit.testing()
testing.__enter__()
kit.start("support", "go", metadata={"title": "A refund"})
""",
        'assert item.title == "A refund" and item.tool_name == "refund"\n',
    ),
}
