"""Images, documents and audio on every vendor's wire, from messages and from tools. No URL of them is ever fetched."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from agentkit import Agent, AgentKit, Run, tool
from agentkit.testing.wire_server import Reply, Request, WireServer
from tests import anthropic_server, bedrock_server, google_server, ollama_server, openai_server, responses_server

TEXT = {"type": "text", "text": "What is this?"}
IMAGE = {"type": "image", "data": "aW1n", "mimeType": "image/png"}
PDF = {"type": "document", "data": "cGRm", "mimeType": "application/pdf", "name": "a.pdf"}
SOUND = {"type": "audio", "data": "d2F2", "mimeType": "audio/wav"}
CALL = {"type": "toolCall", "id": "call_1", "name": "look", "arguments": {}}

Turn = str | list[dict[str, Any]]
Frames = Callable[[Turn], list[bytes]]

VENDORS: dict[str, tuple[str, Frames, str]] = {
    "openai-completions": ("openai-completions:gpt-5.1", openai_server.frames, "text/event-stream"),
    "openai-responses": ("openai-responses:gpt-5.1", responses_server.frames, "text/event-stream"),
    "unknown": ("openai-completions:acme-1", openai_server.frames, "text/event-stream"),
    "anthropic": ("anthropic:claude-sonnet-5", anthropic_server.frames, "text/event-stream"),
    "bedrock": ("bedrock:anthropic.claude-sonnet-5", bedrock_server.frames, "application/vnd.amazon.eventstream"),
    "vertex": ("vertex:claude-sonnet-5", anthropic_server.frames, "text/event-stream"),
    "google": ("google:gemini-3.8-flash", google_server.frames, "text/event-stream"),
    "ollama": ("ollama:llava", ollama_server.lines, "application/x-ndjson"),
}


@pytest.fixture(autouse=True)
def settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANTHROPIC_VERTEX_PROJECT_ID", "shop")


@pytest.fixture
def url() -> Iterator[str]:
    """The URL of an image, at a server that nobody connects to."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/a.png"
        listener.setblocking(False)
        with pytest.raises(BlockingIOError):
            listener.accept()


def play(vendor: str, content: list[dict[str, Any]], returned: list[dict[str, Any]] | None = None) -> tuple[Run, Any]:
    """Run an agent with the content, and a tool that returns blocks if any. Return the run and the last body."""
    model, frames, content_type = VENDORS[vendor]
    turns = iter([[CALL], "done"] if returned else ["done"])

    @tool
    def look() -> Any:
        """Look."""
        return returned

    def answer(_: Request) -> Reply:
        return Reply(frames(next(turns)), content_type=content_type)

    with WireServer(answer) as server:
        agent = Agent("a", model, tools=[look], base_url=server.url, api_key="key-1")
        run = AgentKit([agent]).run("a", content)
    return run, server.requests[-1].body


def anthropic_parts(url: str | None) -> list[Any]:
    parts: list[Any] = [
        {"type": "text", "text": "What is this?"},
        {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "aW1n"}},
        {
            "type": "document",
            "source": {"type": "base64", "media_type": "application/pdf", "data": "cGRm"},
            "title": "a.pdf",
        },
    ]
    return [*parts, {"type": "image", "source": {"type": "url", "url": url}}] if url else parts


def openai_parts(url: str) -> list[Any]:
    return [
        {"type": "text", "text": "What is this?"},
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,aW1n"}},
        {"type": "file", "file": {"filename": "a.pdf", "file_data": "data:application/pdf;base64,cGRm"}},
        {"type": "image_url", "image_url": {"url": url}},
    ]


def responses_parts(url: str) -> list[Any]:
    return [
        {"type": "input_text", "text": "What is this?"},
        {"type": "input_image", "detail": "auto", "image_url": "data:image/png;base64,aW1n"},
        {"type": "input_file", "filename": "a.pdf", "file_data": "data:application/pdf;base64,cGRm"},
        {"type": "input_image", "detail": "auto", "image_url": url},
    ]


def google_parts(url: str) -> list[Any]:
    return [
        {"text": "What is this?"},
        {"inlineData": {"mimeType": "image/png", "data": "aW1n"}},
        {"inlineData": {"mimeType": "application/pdf", "data": "cGRm"}},
        {"fileData": {"fileUri": url, "mimeType": "image/png"}},
    ]


MESSAGES: dict[str, Callable[[str], Any]] = {
    "openai-completions": lambda url: {"role": "user", "content": openai_parts(url)},
    "openai-responses": lambda url: {"role": "user", "content": responses_parts(url)},
    "anthropic": lambda url: {"role": "user", "content": anthropic_parts(url)},
    "google": lambda url: {"role": "user", "parts": google_parts(url)},
}


@pytest.mark.parametrize("vendor", MESSAGES)
def test_images_by_url_and_documents_reach_the_vendor(vendor: str, url: str) -> None:
    run, body = play(vendor, [TEXT, IMAGE, PDF, {"type": "image", "url": url}])
    assert (run.status, run.error) == ("completed", None)
    messages = body.get("input") or body.get("contents") or body["messages"]
    assert messages == [MESSAGES[vendor](url)]


@pytest.mark.parametrize("vendor", ["bedrock", "vertex"])
def test_documents_reach_claude_on_clouds(vendor: str) -> None:
    run, body = play(vendor, [TEXT, IMAGE, PDF])
    assert (run.status, run.error) == ("completed", None)
    assert body["messages"] == [{"role": "user", "content": anthropic_parts(None)}]


def test_images_reach_ollama() -> None:
    _, body = play("ollama", [TEXT, IMAGE])
    assert body["messages"] == [{"role": "user", "content": "What is this?", "images": ["aW1n"]}]


def test_audio_reaches_those_who_take_it_and_those_of_whom_nothing_is_known() -> None:
    _, body = play("google", [TEXT, SOUND])
    assert body["contents"][0]["parts"][1] == {"inlineData": {"mimeType": "audio/wav", "data": "d2F2"}}
    _, body = play("unknown", [TEXT, SOUND])
    assert body["messages"][0]["content"][1] == {
        "type": "input_audio",
        "input_audio": {"data": "d2F2", "format": "wav"},
    }


@pytest.mark.parametrize("vendor", VENDORS)
def test_a_tool_may_return_anything_to_every_vendor(vendor: str, url: str) -> None:
    """What the model takes is sent, all else is a text in its place: the run goes on in any case."""
    returned = [TEXT, IMAGE, PDF, SOUND, {"type": "image", "url": url}]
    run, body = play(vendor, [TEXT], returned)
    assert (run.status, run.error) == ("completed", None)
    sent = json.dumps(body)
    takes_documents, takes_audio, takes_urls = {
        "unknown": (True, True, True),
        "google": (True, True, True),
        "bedrock": (True, False, False),
        "vertex": (True, False, False),
        "ollama": (False, False, False),
    }.get(vendor, (True, False, True))
    assert "aW1n" in sent
    assert ("cGRm" in sent) is takes_documents
    assert ("d2F2" in sent) is takes_audio
    named = {"(a document 'a.pdf' of type": takes_documents, "(audio of type": takes_audio, "(an image at": takes_urls}
    assert [text in sent for text in named] == [not taken for taken in named.values()]
    stored = next(each for each in run.messages or [] if each["role"] == "toolResult")
    assert stored["content"] == returned


def test_a_fallback_that_does_not_take_a_users_document_fails_clearly() -> None:
    first = Reply([openai_server.error_body("no")], 400, "application/json")
    with WireServer(lambda _: first) as openai, WireServer(lambda _: Reply(ollama_server.lines("hi"))) as ollama:
        from agentkit import Model

        agent = Agent(
            "a",
            [
                Model("openai-completions:gpt-5.1", base_url=openai.url, api_key="key-1"),
                Model("ollama:llava", base_url=ollama.url),
            ],
        )
        run = AgentKit([agent]).run("a", [TEXT, PDF])
    assert (run.status, len(openai.requests), len(ollama.requests)) == ("failed", 1, 0)
    assert "Ollama takes no documents" in run.error["message"]
