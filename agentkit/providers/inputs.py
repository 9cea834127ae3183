"""What a model does not take of a conversation: images, documents and audio, each by its capability.

A user's message is refused before anything begins. A tool has done its work, so what the model cannot read of its
result is named by a text in its place, the same for every vendor. What is not known of a model is sent. Pure.
"""

from __future__ import annotations

from collections.abc import Sequence

from msgspec.structs import replace

from agentkit.core.media import is_document_type
from agentkit.core.message_list import MessageList
from agentkit.core.messages import (
    AudioBlock,
    ContentBlock,
    DocumentBlock,
    ImageBlock,
    Message,
    TextBlock,
    ToolResultMessage,
    UserMessage,
)
from agentkit.core.struct import refusal
from agentkit.providers.models import Input, takes

__all__ = ["check_content_for", "check_history_for", "readable_by"]

_MAX_SHOWN = 200
"""Characters of a URL or a file's name."""


def check_content_for(model: str, api: str, content: str | list[ContentBlock], where: str) -> None:
    """Check that a model takes the content of a user message.

    `model`: `provider:model`. `api`: the wire on which it is asked. `where` names the content in errors, say "input".
    Raises InvalidRequestError for the first block of a kind that the model is known not to take.
    """
    for index, block in enumerate(content if isinstance(content, list) else ()):
        kind = _not_taken(model, api, block)
        if kind is None:
            continue
        instead = "send the image's data, or " if kind == "image_urls" and takes(model, api, "images") else ""
        raise refusal(
            f"{where}[{index}]",
            f"is {_NAMES[kind]}, which the model {model} does not take: {instead}choose another model. If it does take "
            f"it, say so: register_model({model!r}, {kind}=True)",
        )


def check_history_for(model: str, api: str, messages: Sequence[Message]) -> None:
    """Check that a model takes the user's messages of a conversation, as `check_content_for` does with one."""
    for index, message in enumerate(messages):
        if isinstance(message, UserMessage):
            check_content_for(model, api, message.content, f"messages[{index}].content")


def readable_by(model: str, api: str, messages: Sequence[Message]) -> Sequence[Message]:
    """Return the messages with a text in place of whatever the model cannot read in the results of tools."""
    messages = MessageList.of(messages)
    if not messages.media:
        return messages
    shown = list(messages)
    for place in messages.media:
        shown[place] = _readable(model, api, shown[place])
    return shown


def _readable(model: str, api: str, message: Message) -> Message:
    assert isinstance(message, ToolResultMessage)
    return replace(message, content=[_or_text(model, api, block) for block in message.content])


def _or_text(model: str, api: str, block: ContentBlock) -> ContentBlock:
    kind = _not_taken(model, api, block)
    if kind is not None:
        return TextBlock(f"({_described(block)}, which the model {model} does not take)", block.cache)
    if isinstance(block, DocumentBlock) and not is_document_type(block.mime_type):
        return TextBlock(f"({_described(block)}, which models do not take: PDF and text can be shown)", block.cache)
    return block


_NAMES: dict[Input, str] = {
    "images": "an image",
    "image_urls": "an image by URL",
    "documents": "a document",
    "audio": "audio",
}


def _not_taken(model: str, api: str, block: ContentBlock) -> Input | None:
    """Return which capability the model is known to lack for a block."""
    kinds: tuple[Input, ...] = ()
    match block:
        case ImageBlock(url=url):
            kinds = ("images",) if url is None else ("images", "image_urls")
        case DocumentBlock():
            kinds = ("documents",)
        case AudioBlock():
            kinds = ("audio",)
    return next((kind for kind in kinds if takes(model, api, kind) is False), None)


def _described(block: ContentBlock) -> str:
    match block:
        case ImageBlock(url=str(url)):
            return f"an image at {url[:_MAX_SHOWN]}"
        case ImageBlock(mime_type=mime_type):
            return f"an image of type {mime_type}"
        case DocumentBlock(mime_type=mime_type, name=name):
            return f"a document{f' {name[:_MAX_SHOWN]!r}' if name else ''} of type {mime_type}"
        case AudioBlock(mime_type=mime_type):
            return f"audio of type {mime_type}"
        case TextBlock():
            return "a text"
