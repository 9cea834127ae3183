"""Documents, sound and images by URL on the wires that have no such tests beside their other requests."""

from __future__ import annotations

from typing import Any

import pytest

from agentkit.core.messages import AudioBlock, DocumentBlock, ImageBlock, TextBlock, UserMessage
from agentkit.errors import ProviderError
from agentkit.providers import ollama, openai
from agentkit.providers.protocol import ModelRequest

LINK = ImageBlock(url="https://example.org/a.png")
DOCUMENT = DocumentBlock("aGk=", "application/pdf", "a.pdf")
SOUND = AudioBlock("aGk=", "audio/mpeg")


def asked(block: Any) -> ModelRequest:
    return ModelRequest("gpt-5.1", "", [UserMessage([TextBlock("see"), block], 0)])


@pytest.mark.parametrize(
    ("block", "part"),
    [
        (LINK, {"type": "image_url", "image_url": {"url": "https://example.org/a.png"}}),
        (DOCUMENT, {"type": "file", "file": {"filename": "a.pdf", "file_data": "data:application/pdf;base64,aGk="}}),
        (SOUND, {"type": "input_audio", "input_audio": {"data": "aGk=", "format": "mp3"}}),
    ],
)
def test_chat_completions_carry_links_documents_and_sound(block: Any, part: Any) -> None:
    (message,) = openai.build_request(asked(block))["messages"]
    assert message["content"] == [{"type": "text", "text": "see"}, part]


@pytest.mark.parametrize(("block", "words"), [(LINK, "by URL"), (DOCUMENT, "no documents"), (SOUND, "no audio")])
def test_ollama_refuses_links_documents_and_sound_with_a_clear_error(block: Any, words: str) -> None:
    with pytest.raises(ProviderError, match=words):
        ollama.build_request(asked(block))
