"""Images, documents and audio: what a model takes, what is refused before a run begins, and what tools return."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from flask.testing import FlaskClient

from agentkit import Agent, AgentKit, InvalidRequestError, Settings, ToolResult, register_model, tool
from agentkit.core.messages import (
    AudioBlock,
    DocumentBlock,
    ImageBlock,
    TextBlock,
    UserMessage,
    check_content,
    check_history,
    check_tool_content,
)
from agentkit.core.struct import to_json
from agentkit.providers import models
from agentkit.providers.inputs import readable_by
from agentkit.providers.models import Input
from agentkit.store.memory import MemoryStore
from agentkit.web import create_app
from tests.histories import result
from tests.unit.web.conftest import ThreadQueue

TEXT = {"type": "text", "text": "What is this?"}
IMAGE = {"type": "image", "data": "aGk=", "mimeType": "image/png"}
URL = {"type": "image", "url": "https://example.org/a.png"}
PDF = {"type": "document", "data": "aGk=", "mimeType": "application/pdf", "name": "a.pdf"}
SOUND = {"type": "audio", "data": "aGk=", "mimeType": "audio/wav"}
BLOCKS: dict[Input, dict[str, str]] = {"images": IMAGE, "image_urls": URL, "documents": PDF, "audio": SOUND}
NAMES = {"images": "an image", "image_urls": "an image by URL", "documents": "a document", "audio": "audio"}


@pytest.fixture(autouse=True)
def forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(models, "_registered", {})


def waiting_kit(*choices: str, **options: Any) -> AgentKit:
    """Make a kit whose runs stay queued: no vendor is asked."""
    queue = ThreadQueue()
    queue.up = False
    agent = Agent("a", list(choices), **options)
    queue.kit = AgentKit([agent], settings=Settings(), store=MemoryStore(), queue=queue)
    return queue.kit


def refused(call: Callable[[], Any]) -> tuple[str, str]:
    """Return the JSON Pointer and the text of a refusal."""
    with pytest.raises(InvalidRequestError) as caught:
        call()
    (problem,) = caught.value.errors
    assert problem["message"] == caught.value.message
    return problem["path"], problem["message"]


LACKING: list[tuple[str, Input]] = [
    ("openai:gpt-3.5-turbo", "images"),
    ("openai:gpt-3.5-turbo", "documents"),
    ("openai:gpt-5.1", "audio"),
    ("openai-responses:gpt-4o", "audio"),
    ("openai-completions:gpt-oss-20b", "image_urls"),
    ("openai-completions:gpt-audio", "documents"),
    ("anthropic:claude-sonnet-5", "audio"),
    ("anthropic:any-other", "audio"),
    ("bedrock:us.anthropic.claude-sonnet-5", "image_urls"),
    ("bedrock:us.anthropic.claude-sonnet-5", "audio"),
    ("vertex:claude-sonnet-5", "image_urls"),
    ("google:gemini-2.0-flash", "image_urls"),
    ("google:gemma-3-27b-it", "audio"),
    ("ollama:llava", "documents"),
    ("ollama:any-other", "audio"),
    ("ollama:any-other", "image_urls"),
    ("ollama:llama3", "images"),
]


@pytest.mark.parametrize(("model", "kind"), LACKING)
def test_what_a_model_is_known_not_to_take_is_refused_wherever_it_is_sent(model: str, kind: Input) -> None:
    kit, block = waiting_kit(model), BLOCKS[kind]
    run_id = kit.start("a", "hello").id
    history = [{"role": "user", "content": "hi"}, {"role": "user", "content": [block]}]
    for call, place in [
        (lambda: kit.start("a", [TEXT, block]), "/input/1"),
        (lambda: kit.start("a", messages=history), "/messages/1/content/0"),
        (lambda: kit.send(run_id, [TEXT, TEXT, block]), "/message/2"),
        (lambda: kit.send(run_id, [block], "steer"), "/message/0"),
    ]:
        path, text = refused(call)
        name = "an image" if kind == "image_urls" and models.takes(model, "", "images") is False else NAMES[kind]
        assert path == place
        assert f"is {name}, which the model {model} does not take" in text
        assert "choose another model" in text
        assert f"register_model('{model}', " in text
    assert kit.get(run_id).queued == []


TAKEN: list[tuple[str, Input]] = [
    ("openai:gpt-5.1", "documents"),
    ("openai:gpt-5.1", "image_urls"),
    ("openai-completions:gpt-4o-audio-preview", "audio"),
    ("anthropic:claude-sonnet-5", "documents"),
    ("anthropic:claude-sonnet-5", "image_urls"),
    ("bedrock:us.anthropic.claude-sonnet-5", "documents"),
    ("google:gemini-3.8-flash", "audio"),
    ("google:gemini-3.8-flash", "image_urls"),
    ("ollama:llava", "images"),
    *(("openai:not-known", kind) for kind in BLOCKS),
    ("ollama:not-known", "images"),
    ("anthropic:not-known", "documents"),
]


@pytest.mark.parametrize(("model", "kind"), TAKEN)
def test_what_a_model_takes_or_may_take_is_sent(model: str, kind: Input) -> None:
    kit, block = waiting_kit(model), BLOCKS[kind]
    run = kit.start("a", [TEXT, block])
    assert (run.run.messages or [])[0]["content"] == [TEXT, block]
    kit.send(run.id, [block])
    assert [each["message"] for each in kit.get(run.id).queued] == [[block]]


def test_what_the_application_registers_counts() -> None:
    kit = waiting_kit("openai:mine", "openai:other")
    register_model("openai:mine", documents=False)
    assert refused(lambda: kit.start("a", [PDF]))[0] == "/input/0"
    register_model("openai:mine", documents=True)
    assert kit.start("a", [PDF]).run.status == "queued"


def test_the_first_of_several_models_decides() -> None:
    assert waiting_kit("openai:gpt-5.1", "ollama:llama3").start("a", [PDF]).run.status == "queued"
    assert refused(lambda: waiting_kit("ollama:llama3", "openai:gpt-5.1").start("a", [PDF]))[0] == "/input/0"


def test_the_model_that_a_start_names_decides_then_and_for_later_messages() -> None:
    kit = waiting_kit("openai:gpt-5.1", models=["ollama:llava"])
    assert refused(lambda: kit.start("a", [PDF], model="ollama:llava"))[0] == "/input/0"
    run_id = kit.start("a", [IMAGE], model="ollama:llava").id
    assert refused(lambda: kit.send(run_id, [PDF]))[0] == "/message/0"


def test_an_image_by_url_may_be_sent_as_data_where_the_model_sees() -> None:
    assert "send the image's data" in refused(lambda: waiting_kit("ollama:llava").start("a", [URL]))[1]
    assert "data" not in refused(lambda: waiting_kit("ollama:llama3").start("a", [URL]))[1]


def client_of(model: str) -> FlaskClient:
    return create_app(waiting_kit(model)).test_client()


def test_over_http_the_refusal_is_a_400_that_names_the_place() -> None:
    client = client_of("anthropic:claude-sonnet-5")
    run_id = client.post("/runs", json={"agent": "a", "input": "hello"}).json["id"]
    history = [{"role": "user", "content": [TEXT, SOUND]}]
    for path, body, place in [
        ("/runs", {"agent": "a", "input": [SOUND]}, "/input/0"),
        ("/runs", {"agent": "a", "messages": history}, "/messages/0/content/1"),
        (f"/runs/{run_id}/messages", {"message": [TEXT, SOUND], "when": "steer"}, "/message/1"),
    ]:
        response = client.post(path, json=body)
        assert (response.status_code, response.json["code"]) == (400, "invalid_request")
        assert [each["path"] for each in response.json["errors"]] == [place]
        assert "anthropic:claude-sonnet-5" in response.json["detail"]
    assert len(client.get("/runs").json["runs"]) == 1


def test_agents_show_what_their_model_takes() -> None:
    shown = client_of("google:gemini-3.8-flash").get("/agents").json["agents"][0]["capabilities"]
    assert [shown[name] for name in ("images", "imageUrls", "documents", "audio")] == [True, True, True, True]
    shown = client_of("bedrock:us.anthropic.claude-sonnet-5").get("/agents").json["agents"][0]["capabilities"]
    assert [shown[name] for name in ("images", "imageUrls", "documents", "audio")] == [True, False, True, False]


# -- types and data


@pytest.mark.parametrize(
    ("block", "field"),
    [
        ({**PDF, "mimeType": "application/zip"}, "mimeType"),
        ({**PDF, "mimeType": "application/msword"}, "mimeType"),
        ({**PDF, "mimeType": "image/png"}, "mimeType"),
        ({**PDF, "mimeType": ""}, "mimeType"),
        ({**PDF, "mimeType": "pdf"}, "mimeType"),
        ({**PDF, "mimeType": "text/"}, "mimeType"),
        ({**SOUND, "mimeType": "wav"}, "mimeType"),
        ({**SOUND, "mimeType": "video/mp4"}, "mimeType"),
        ({**SOUND, "mimeType": "audio/wav,x"}, "mimeType"),
        ({**IMAGE, "mimeType": "application/pdf"}, "mimeType"),
        ({**URL, "mimeType": "text/html"}, "mimeType"),
        ({"type": "image", "data": "aGk="}, "mimeType"),
        ({**PDF, "data": ""}, "data"),
        ({**SOUND, "data": ""}, "data"),
        ({**IMAGE, "data": "no base64!"}, "data"),
        ({**PDF, "data": "data:application/pdf;base64,aGk="}, "data"),
        ({**URL, "url": "file:///etc/passwd"}, "url"),
        ({**URL, "url": "data:image/png;base64,aGk="}, "url"),
        ({**URL, "url": "https://"}, "url"),
    ],
)
def test_a_wrong_type_or_wrong_data_is_refused_with_its_place(block: dict[str, str], field: str) -> None:
    path, text = refused(lambda: check_content([TEXT, block]))
    assert path == f"/input/1/{field}"
    assert text.startswith(f"input[1].{field} ")
    assert refused(lambda: check_history([{"role": "user", "content": [block]}], 0))[0] == (
        f"/messages/0/content/0/{field}"
    )


def test_an_image_has_either_data_or_a_url() -> None:
    for block in ({**IMAGE, **URL}, {"type": "image"}):
        assert refused(lambda block=block: check_content([block]))[0] == "/input/0"


@pytest.mark.parametrize(
    "block",
    [
        PDF,
        {**PDF, "mimeType": "Application/PDF"},
        {**PDF, "mimeType": "text/plain; charset=utf-8"},
        {**PDF, "mimeType": "text/csv"},
        {**PDF, "mimeType": "application/json"},
        {**SOUND, "mimeType": "audio/mpeg"},
        {**SOUND, "mimeType": "audio/ogg; codecs=opus"},
        {**SOUND, "mimeType": "audio/x-wav"},
        {**IMAGE, "mimeType": "image/svg+xml"},
        {**URL, "mimeType": "image/webp"},
        {**URL, "url": "http://127.0.0.1:1/a.png?x=1#y"},
    ],
)
def test_types_that_vendors_know_pass(block: dict[str, str]) -> None:
    assert to_json(check_content([block])) == [block]


# -- tool results

RESULT = [
    TextBlock("Here it is."),
    ImageBlock("aGk=", "image/png"),
    ImageBlock(url="https://example.org/a.png"),
    DocumentBlock("aGk=", "application/pdf", "a.pdf"),
    AudioBlock("aGk=", "audio/wav", cache="short"),
]


def test_a_text_stands_where_the_model_cannot_read_a_result() -> None:
    (message,) = readable_by("ollama:llama3", "ollama-chat", [result("c", *RESULT)])
    assert message.content == [
        TextBlock("Here it is."),
        TextBlock("(an image of type image/png, which the model ollama:llama3 does not take)"),
        TextBlock("(an image at https://example.org/a.png, which the model ollama:llama3 does not take)"),
        TextBlock("(a document 'a.pdf' of type application/pdf, which the model ollama:llama3 does not take)"),
        TextBlock("(audio of type audio/wav, which the model ollama:llama3 does not take)", cache="short"),
    ]


def test_what_the_model_takes_or_may_take_stays_in_a_result() -> None:
    for model, api in (("google:gemini-3.8-flash", ""), ("openai:not-known", "openai-completions")):
        assert readable_by(model, api, [result("c", *RESULT)]) == [result("c", *RESULT)]


def test_a_document_of_a_type_that_nobody_takes_is_named_by_a_text() -> None:
    (message,) = readable_by("google:gemini-3.8-flash", "", [result("c", DocumentBlock("aGk=", "application/zip"))])
    assert message.content == [
        TextBlock("(a document of type application/zip, which models do not take: PDF and text can be shown)")
    ]


def test_a_users_message_stays_as_it_is() -> None:
    sent = UserMessage([DocumentBlock("aGk=", "application/pdf")], 0)
    assert readable_by("ollama:llama3", "ollama-chat", [sent]) == [sent]


def test_a_tool_may_return_whatever_type_it_has() -> None:
    assert check_tool_content([{**PDF, "mimeType": "application/zip"}], "") == [
        DocumentBlock("aGk=", "application/zip", "a.pdf")
    ]


@pytest.mark.parametrize("kind", ["document", "audio"])
def test_a_result_over_the_bound_is_an_error_result(kind: str) -> None:
    from agentkit import ScriptedModel
    from tests.turns import call

    block = {"type": kind, "data": "QUJD" * 1000, "mimeType": "application/pdf" if kind == "document" else "audio/wav"}

    @tool
    def fetch() -> ToolResult:
        """Fetch."""
        return ToolResult([block])

    agent = Agent("a", ScriptedModel([[call("fetch")], "done"]), tools=[fetch])
    run = AgentKit([agent], settings=Settings(max_result_bytes=2000)).run("a", "go")
    answer = next(each for each in run.messages or [] if each["role"] == "toolResult")
    assert answer["isError"]
    assert "AGENTKIT_MAX_RESULT_BYTES" in answer["content"][0]["text"]
