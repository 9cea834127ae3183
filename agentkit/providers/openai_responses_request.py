"""The request that OpenAI's Responses API takes: the conversation as input items, of which the vendor stores none.

Nothing is stored, so nothing may be named by an id: reasoning goes back with its encrypted content, and the ids of
reasoning, messages and calls stay behind. Items of tools that the vendor runs itself go back as they came, because
their ids are a part of them. Pure.
"""

from __future__ import annotations

import json
import re

from agentkit.core.messages import (
    AssistantMessage,
    AudioBlock,
    ContentBlock,
    DocumentBlock,
    ImageBlock,
    Json,
    TextBlock,
    ThinkingBlock,
    ToolCallBlock,
    ToolResultMessage,
    UserMessage,
    text_of,
    tool_calls_of,
)
from agentkit.errors import ProviderError
from agentkit.providers.compat import OPENAI, Compat
from agentkit.providers.openai_request import MAX_TOKENS, OF_TOOLS, OUR_OPTIONS, audio_format, cache_hints, is_strict
from agentkit.providers.protocol import ModelRequest, ToolSpec
from agentkit.providers.replay import prepare

__all__ = ["API", "CALL_DATA", "build_request"]

API = "openai-responses"

_CALL_ID_PATTERN = r"[\x21-\x7e]{1,64}"
_ENCRYPTED = "reasoning.encrypted_content"
_ANSWERS_AT_ONCE = re.compile(r"(ft:)?(gpt-[34]|chatgpt-)|.*-chat\b")
"""Models that do not reason, and refuse the options of those that do."""
_COMPLETIONS_ALONE = frozenset(
    {
        "frequency_penalty",
        "functions",
        "function_call",
        "logit_bias",
        "logprobs",
        "n",
        "presence_penalty",
        "seed",
        "stop",
    }
)
"""Options of chat completions for which this API has nothing."""
_OUR_TYPES = frozenset({"function_call", "function_call_output", "item_reference", "message", "reasoning"})
"""Items that are written from blocks, never as they came beside a text."""
CALL_DATA = ("async", "caller", "namespace")
"""What a call carries besides its id, name and arguments."""


def build_request(request: ModelRequest, provider: str = API, compat: Compat = OPENAI) -> Json:
    """Write the body of POST /responses. Raises ProviderError for an option that only chat completions have."""
    body: Json = {"store": False, **_options(request, provider, compat)}
    tools = [*(_function(tool, compat) for tool in request.tools), *body.pop("tools", [])]
    if tools:
        body["tools"] = tools
    else:
        body = {name: value for name, value in body.items() if name not in OF_TOOLS}
    if request.instructions:
        body["instructions"] = request.instructions
    return {**body, "model": request.model, "input": _input(request, provider), "stream": True}


def _options(request: ModelRequest, provider: str, compat: Compat) -> Json:
    options = cache_hints(request) if compat.cache_hints else {}
    for name, value in request.options.items():
        if name in _COMPLETIONS_ALONE:
            raise ProviderError(
                f"{provider}: the Responses API has no option {name}",
                vendor=provider,
                internal=f"leave it out, or name the model openai-completions:{request.model}",
            )
        if name not in OUR_OPTIONS:
            options["max_output_tokens" if name in (*MAX_TOKENS, "max_completion_tokens") else name] = value
    _move_reasoning(options)
    _move_text(options)
    if "tool_choice" in options:
        options["tool_choice"] = _tool_choice(options["tool_choice"])
    if not _ANSWERS_AT_ONCE.match(request.model):
        options["include"] = list(dict.fromkeys([_ENCRYPTED, *(options.get("include") or [])]))
    return options


def _move_reasoning(options: Json) -> None:
    """Put the effort where the API wants it, with the summary that it does not send unless asked."""
    reasoning: Json = {}
    effort = options.pop("reasoning_effort", None)
    if effort is not None:
        reasoning["effort"] = effort
    summary = options.pop("reasoning_summary", "auto" if effort not in (None, "none") else None)
    if summary is not None:
        reasoning["summary"] = summary
    if reasoning:
        options["reasoning"] = {**reasoning, **(options.get("reasoning") or {})}


def _move_text(options: Json) -> None:
    """Put what chat completions call `verbosity` and `response_format` where this API wants it."""
    text: Json = {}
    verbosity, answer_format = options.pop("verbosity", None), options.pop("response_format", None)
    if verbosity is not None:
        text["verbosity"] = verbosity
    if isinstance(answer_format, dict):
        schema = answer_format.get("json_schema")
        text["format"] = {"type": "json_schema", **schema} if isinstance(schema, dict) else answer_format
    if text:
        options["text"] = {**text, **(options.get("text") or {})}


def _tool_choice(choice: object) -> object:
    """Return the choice as the API wants it, also where it has the shape of chat completions or is a tool's name."""
    if isinstance(choice, str) and choice not in ("auto", "none", "required"):
        return {"type": "function", "name": choice}
    if isinstance(choice, dict) and isinstance(choice.get("function"), dict):
        return {"type": "function", "name": choice["function"].get("name")}
    return choice


def _function(tool: ToolSpec, compat: Compat) -> Json:
    # Left out, `strict` means that the vendor rewrites the schema: all properties required, and no others.
    return {
        "type": "function",
        "name": tool.name,
        "description": tool.description,
        "parameters": tool.parameters,
        "strict": compat.strict_tools and is_strict(tool.parameters),
    }


# -- the conversation


def _input(request: ModelRequest, provider: str) -> list[Json]:
    prepared = prepare(request.messages, api=API, provider=provider, model=request.model, id_pattern=_CALL_ID_PATTERN)
    items: list[Json] = []
    callers: dict[str, Json] = {}
    sounds: list[AudioBlock] = []  # of the tool results before, which cannot carry them
    for message in prepared:
        if sounds and not isinstance(message, ToolResultMessage):
            items.append({"role": "user", "content": [_part(sound) for sound in sounds]})
            sounds = []
        match message:
            case UserMessage(content):
                written = content if isinstance(content, str) else [_part(block) for block in content]
                items.append({"role": "user", "content": written})
            case AssistantMessage():
                items += _output_items(message)
                callers |= {call.id: _caller(call) for call in tool_calls_of(message)}
            case ToolResultMessage():
                items.append({**_result(message), **callers.get(message.tool_call_id, {})})
                sounds += [block for block in message.content if isinstance(block, AudioBlock)]
    return [*items, {"role": "user", "content": [_part(sound) for sound in sounds]}] if sounds else items


def _output_items(message: AssistantMessage) -> list[Json]:
    """Write an answer as the items that it came as. Reasoning with nothing after it is left out: it is refused."""
    items: list[Json] = []
    for block in message.content:
        match block:
            case ThinkingBlock():
                items += _reasoning(block)
            case TextBlock():
                items += _message(block)
            case ToolCallBlock():
                items.append(_call(block))
    while items and items[-1]["type"] == "reasoning":
        items.pop()
    return items


def _reasoning(block: ThinkingBlock) -> list[Json]:
    """Write the item as it came; none where it holds nothing that the vendor could read again."""
    item = (block.provider_data or {}).get("item")
    if not isinstance(item, dict) or item.get("type") != "reasoning":
        return []
    if item.get("encrypted_content"):
        # Without its id, by which the vendor would look for it, and its text, which only open models may be sent.
        return [{key: value for key, value in item.items() if key not in ("id", "content", "status")}]
    return [item] if item.get("content") else []


def _message(block: TextBlock) -> list[Json]:
    """Write a message of one part; or the item of a tool of the vendor's that the block stands for."""
    data = block.provider_data or {}
    item = data.get("item")
    if isinstance(item, dict):
        # Callers may pass whole conversations, and are not to write messages of another role this way.
        is_tool = isinstance(item.get("type"), str) and item["type"] not in _OUR_TYPES and "role" not in item
        return [item] if is_tool else []
    if not block.text.strip():
        return []
    content: str | list[Json] = block.text  # the shape that every server takes
    if data.get("refusal"):
        content = [{"type": "refusal", "refusal": block.text}]
    elif data.get("annotations"):
        content = [{"type": "output_text", "text": block.text, "annotations": data["annotations"]}]
    message: Json = {"type": "message", "role": "assistant", "content": content}
    return [{**message, "phase": data["phase"]} if data.get("phase") else message]


def _call(call: ToolCallBlock) -> Json:
    # Always the JSON of an object, also where the model wrote something else.
    arguments = json.dumps(call.arguments, ensure_ascii=False)
    written: Json = {"type": "function_call", "call_id": call.id, "name": call.name, "arguments": arguments}
    return {**{key: value for key, value in (call.provider_data or {}).items() if key in CALL_DATA}, **written}


def _caller(call: ToolCallBlock) -> Json:
    """Return what the result must repeat of its call: the program of the model's that asked for it."""
    caller = (call.provider_data or {}).get("caller")
    return {"caller": caller} if caller else {}


def _result(message: ToolResultMessage) -> Json:
    parts = [_part(block) for block in message.content if not isinstance(block, AudioBlock)]
    output: str | list[Json] = parts
    if all(isinstance(block, TextBlock | AudioBlock) for block in message.content):
        output = text_of(message) or ("(see the attachment below)" if message.content else "(no output)")
    return {"type": "function_call_output", "call_id": message.tool_call_id, "output": output}


def _part(block: ContentBlock) -> Json:
    match block:
        case TextBlock(text):
            return {"type": "input_text", "text": text}
        case ImageBlock(data, mime_type, url=url):
            return {"type": "input_image", "detail": "auto", "image_url": url or f"data:{mime_type};base64,{data}"}
        case DocumentBlock(data, mime_type, name):
            file_data = f"data:{mime_type};base64,{data}"
            return {"type": "input_file", "filename": name or "document.pdf", "file_data": file_data}
        case AudioBlock(data, mime_type):
            return {"type": "input_audio", "input_audio": {"data": data, "format": audio_format(mime_type)}}
