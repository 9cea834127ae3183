"""The OpenAPI document: valid, complete, and true of what is really sent."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator

from agentkit.server.schemas import schemas
from tests.unit.web.conftest import Web, frames

FOLDER = Path(__file__).parents[2] / "golden" / "events"


@pytest.fixture(scope="module")
def components() -> dict[str, Any]:
    return schemas()


NAMES = {"run_id": "runId", "chat_id": "chatId"}
"""The document's names of the routes' variables."""


def _document(web: Web) -> dict[str, Any]:
    document: dict[str, Any] = web.client.get("/openapi.json").json
    return document


def _validator(document: dict[str, Any], name: str) -> jsonschema.Draft202012Validator:
    return jsonschema.Draft202012Validator(
        {"$ref": f"#/components/schemas/{name}", "components": document["components"]}
    )


def test_the_document_is_valid(web: Web) -> None:
    OpenAPIV31SpecValidator(_document(web)).validate()


def test_every_route_is_in_the_document_and_nothing_else(web: Web) -> None:
    routes = set()
    for rule in web.app.url_map.iter_rules():
        if rule.endpoint == "agentkit.page.asset":
            continue  # what the page is made of: its own business
        path = re.sub(r"<(\w+)>", lambda name: f"{{{NAMES.get(name[1], name[1])}}}", rule.rule)
        routes |= {(path, method.lower()) for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}}
    described = {
        (path, method)
        for path, item in _document(web)["paths"].items()
        for method in item
        if method not in ("parameters",)
    }
    assert described == routes


def test_every_change_may_be_refused_to_a_page_of_another_origin(web: Web) -> None:
    changes = {
        (path, method): operation["responses"]
        for path, item in _document(web)["paths"].items()
        for method, operation in item.items()
        if method in ("post", "delete")
    }
    assert len(changes) == 10
    for (path, method), responses in changes.items():
        assert "`forbidden`" in responses["403"]["description"], (method, path)


def test_what_is_sent_is_what_is_described(web: Web) -> None:
    document = _document(web)
    events: list[dict[str, Any]] = []
    for agent, answer in (
        ("hello", None),
        ("shop", {"decision": {"approved": True}}),
        ("shop", {"reject": {"reason": "no"}}),
        ("map", {"result": "home"}),
    ):
        run_id = web.start(agent)
        _validator(document, "Run").validate(web.client.get(f"/runs/{run_id}").json)
        if answer is not None:
            _validator(document, "ResumeBody").validate(answer)
            web.resume(run_id, answer)
            web.kit.handle(run_id).wait(10)
        _validator(document, "Run").validate(web.client.get(f"/runs/{run_id}").json)
        events += [event for _, event in frames(web.client.get(f"/runs/{run_id}/events").data)]
    schemas = document["components"]["schemas"]
    check = _validator(document, "Event")
    for event in events:
        check.validate(event)
        name = schemas["Event"]["discriminator"]["mapping"][event["type"]].rpartition("/")[2]
        assert event.keys() <= schemas[name]["properties"].keys()
    assert {"agent_start", "message_update", "tool_decision_resolved", "agent_end"} <= {e["type"] for e in events}
    web.start("shop")
    assert web.client.get("/decisions").json["decisions"] != []
    for path, name in (
        ("/runs", "RunPage"),
        ("/decisions", "DecisionPage"),
        ("/decisions/count", "PendingCount"),
        ("/agents", "AgentList"),
        ("/readyz", "Readiness"),
        ("/healthz", "Health"),
    ):
        _validator(document, name).validate(web.client.get(path).json)
    _validator(document, "Problem").validate(web.client.get("/nothing").json)


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.json")), ids=lambda path: path.stem)
def test_a_golden_log_is_what_is_described(path: Path, components: dict[str, Any]) -> None:
    log = json.loads(path.read_text())
    for event in log["events"]:
        _validator({"components": {"schemas": components}}, "Event").validate(event)
        name = components["Event"]["discriminator"]["mapping"][event["type"]].rpartition("/")[2]
        assert event.keys() <= components[name]["properties"].keys()
    for message in log["messages"]:
        _validator({"components": {"schemas": components}}, "Message").validate(message)


def test_what_is_left_out_is_never_null_and_what_is_sent_may_grow(components: dict[str, Any]) -> None:
    structures = {name: component for name, component in components.items() if "properties" in component}
    for name, component in structures.items():
        closed = name.endswith(("Body", "Frame")) or name in ("FromRun", "Limits", "Rejection")
        assert component.get("additionalProperties", True) is not closed, name
        optional = component["properties"].keys() - set(component.get("required", ()))
        for field in optional:
            assert "null" not in json.dumps(component["properties"][field]), (name, field)
    assert components["Capabilities"]["properties"]["contextWindow"]["anyOf"] == [{"type": "integer"}, {"type": "null"}]


def test_every_component_is_referred_to(web: Web) -> None:
    document = _document(web)
    text = json.dumps(document)
    for name in document["components"]["schemas"]:
        assert f'"#/components/schemas/{name}"' in text, name


def test_every_event_of_the_protocol_is_described(web: Web) -> None:
    described = set(_document(web)["components"]["schemas"]["Event"]["discriminator"]["mapping"])
    assert described == {
        *("agent_start", "agent_resume", "agent_pause", "agent_end", "turn_start", "turn_end"),
        *("message_start", "message_update", "message_end", "message_discard", "model_retry", "model_wait"),
        *("tool_execution_start", "tool_execution_update", "tool_execution_end"),
        *(
            "tool_decision_pending",
            "tool_client_execute_pending",
            "tool_in_doubt",
            "tool_decision_vote",
            "tool_decision_resolved",
        ),
        "stream_reset",
    }
