"""The requests of Google's generateContent: a conversation, its tools and options in the vendor's shape.

What the vendor demands of a conversation beyond what all do (`agentkit.providers.replay`) only this module knows; each
rule is noted where it is met. Pure.
"""

from __future__ import annotations

import mimetypes
import re
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

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
)
from agentkit.errors import ProviderError
from agentkit.providers.google_schema import google_schema
from agentkit.providers.protocol import ModelRequest, ToolSpec
from agentkit.providers.replay import prepare

__all__ = ["API", "TIMEOUTS", "build_request"]

API = "google-generate-content"
TIMEOUTS = ("connect_timeout", "read_timeout")

_BUDGETED = re.compile(r"gemini-(1|2)[.-]|gemma")
"""Models from before Gemini 3: they think by a budget of tokens, sign no calls, and take no media in results."""
_FOREIGN_SIGNATURE = "skip_thought_signature_validator"
"""What Google documents for calls that another model made (ai.google.dev/gemini-api/docs/thought-signatures)."""


def build_request(request: ModelRequest, provider: str = "google") -> Json:
    """Write the body of POST …:streamGenerateContent.

    Options that are none of the request's (`safetySettings`, `cachedContent`, `labels`, `toolConfig`, `tools`, …) go
    into its `generationConfig`, by Google's names or in snake_case. `max_output_tokens`, `stop`, `reasoning_effort` and
    `tool_choice` may be spelled as other vendors do; Google has nothing for `parallel_tool_calls`. With
    `cachedContent`, instructions and tools are the cache's. Raises ProviderError for options that Google cannot take.
    """
    try:
        options = _options(request)
    except (AttributeError, KeyError, TypeError) as error:
        raise ProviderError(f"the model options have a wrong shape: {error!r}", vendor=provider) from error
    tools = options.pop("tools", [])
    body: Json = {**options, "contents": _contents(request, provider)}
    if body.get("cachedContent"):
        body.pop("toolConfig", None)  # refused beside a cache, which holds all three
        return body
    if request.tools:
        tools.insert(0, {"functionDeclarations": [_declaration(tool) for tool in request.tools]})
    if tools:
        body["tools"] = tools
    if not any("functionDeclarations" in tool for tool in tools):
        config = {key: value for key, value in body.pop("toolConfig", {}).items() if key != "functionCallingConfig"}
        body |= {"toolConfig": config} if config else {}  # refused without functions
    if request.instructions.strip():
        body["systemInstruction"] = {"parts": [{"text": request.instructions}]}
    return body


def _declaration(tool: ToolSpec) -> Json:
    declaration: Json = {"name": tool.name, "description": tool.description}
    if tool.parameters.get("properties") or "$ref" in tool.parameters:  # an object without any is refused
        declaration["parametersJsonSchema"] = google_schema(tool.parameters)
    return declaration


# -- the conversation

_SIGNATURE = {"thought", "thoughtSignature"}
_ECHOED = {"codeExecutionResult", "executableCode", "inlineData", "toolCall", "toolResponse", *_SIGNATURE}
"""Fields of parts that go back as they came. Not among them are files of the application's, which callers who pass a
whole conversation are not to name, and what is written from blocks."""
_MIME_TYPES = {
    "application/json": "text/plain",
    "audio/wave": "audio/wav",
    "audio/x-wav": "audio/wav",
    "image/jpg": "image/jpeg",
}
_RESULT_MEDIA = {"application/pdf", "image/jpeg", "image/png", "image/webp", "text/plain"}
"""What a function's response may hold from Gemini 3 on. Other media stand beside it."""


def _contents(request: ModelRequest, provider: str) -> list[Json]:
    """Write the conversation. Results of one turn's calls are one content, in the order of the calls."""
    contents: list[Json] = []
    named: set[str] = set()  # the calls to which the vendor gave their ids
    last: type | None = None
    for message in prepare(request.messages, api=API, provider=provider, model=request.model):
        match message:
            case UserMessage():
                role, parts = "user", _user_parts(message.content)
            case AssistantMessage():
                named |= {block.id for block in message.content if isinstance(block, ToolCallBlock) and _has_id(block)}
                role, parts = "model", _model_parts(message, request.model)
            case ToolResultMessage():
                role, parts = "user", _result_parts(message, request.model, message.tool_call_id in named)
        if parts and last is type(message):
            contents[-1]["parts"] += parts
        elif parts:
            contents.append({"role": role, "parts": parts})
            last = type(message)
    if contents and contents[0]["role"] == "model":  # calls must follow the user
        contents.insert(0, {"role": "user", "parts": [{"text": "(The conversation begins.)"}]})
    return contents


def _model_parts(message: AssistantMessage, model: str) -> list[Json]:
    """Write an answer as the parts that it came as: signed by the model that is to read it, or unsigned."""
    is_author = message.model == model
    parts: list[Json] = []
    for block in message.content:
        match block:
            case ThinkingBlock(thinking, signature) if signature:  # unsigned thoughts are for people alone
                parts.append({"text": thinking, "thought": True, "thoughtSignature": signature})
            case TextBlock():
                parts += _text_parts(block, is_author)
            case ToolCallBlock():
                parts.append(_call(block, is_author))
    first = next((part for part in parts if "functionCall" in part), None)
    if first and not _BUDGETED.search(model):
        first.setdefault("thoughtSignature", _FOREIGN_SIGNATURE)  # Gemini 3 refuses an answer without any on its calls
    return parts


def _text_parts(block: TextBlock, is_author: bool) -> list[Json]:
    data = (block.provider_data or {}) if is_author else {}
    parts: list[Json] = []
    at = 0
    for start, end, signature in _signed(data.get("signed")):
        if block.text[at:start]:
            parts.append({"text": block.text[at:start]})
        parts.append({"text": block.text[start:end], "thoughtSignature": signature})
        at = end
    if block.text[at:]:
        parts.append({"text": block.text[at:]})
    others = data.get("parts")
    for other in others if isinstance(others, list) else ():
        echoed = {key: value for key, value in other.items() if key in _ECHOED} if isinstance(other, dict) else {}
        if echoed.keys() - _SIGNATURE:
            parts.append(echoed)
    return parts


def _signed(pieces: Any) -> Iterator[tuple[int, int, str]]:
    """Yield what ChunkDecoder noted of the signed pieces of a text; callers may have written something else there."""
    at = 0
    for piece in pieces if isinstance(pieces, list) else ():
        match piece:
            case [int(start), int(end), str(signature)] if at <= start <= end:
                yield start, end, signature
                at = end


def _has_id(call: ToolCallBlock) -> bool:
    """Whether the vendor gave the call its id, which it wants to see again then; otherwise the id is ours."""
    return bool((call.provider_data or {}).get("id"))


def _call(call: ToolCallBlock, is_author: bool) -> Json:
    function: Json = {"name": _function_name(call.name), "args": call.arguments}
    part: Json = {"functionCall": {"id": call.id, **function} if _has_id(call) else function}
    signature = (call.provider_data or {}).get("thoughtSignature")
    return {**part, "thoughtSignature": signature} if signature and is_author else part


def _function_name(name: str) -> str:
    """Return the name of a call such as Google takes it: a model may have made one up."""
    fitting = re.sub(r"[^a-zA-Z0-9_.:-]", "_", name)[:128]
    return fitting if re.match("[a-zA-Z_]", fitting) else f"_{fitting}"


def _result_parts(message: ToolResultMessage, model: str, has_id: bool) -> list[Json]:
    inside: list[Json] = []
    beside: list[Json] = []
    for block in message.content:
        if not isinstance(block, TextBlock):
            media = _media(block)
            fits = media.get("inlineData", {}).get("mimeType") in _RESULT_MEDIA and not _BUDGETED.search(model)
            (inside if fits else beside).append(media)
    text = text_of(message) or ("(see the attachment)" if inside or beside else "(no output)")
    response: Json = {
        "name": _function_name(message.tool_name),
        "response": {"error" if message.is_error else "output": text},
    }
    if has_id:
        response["id"] = message.tool_call_id
    if inside:
        response["parts"] = inside
    return [{"functionResponse": response}, *beside]


def _user_parts(content: str | list[ContentBlock]) -> list[Json]:
    """Write a user's content. Empty texts are left out: the vendor refuses them."""
    if isinstance(content, str):
        content = [TextBlock(content)]
    return [_content_part(block) for block in content if not isinstance(block, TextBlock) or block.text]


def _content_part(block: ContentBlock) -> Json:
    return {"text": block.text} if isinstance(block, TextBlock) else _media(block)


def _media(block: ImageBlock | DocumentBlock | AudioBlock) -> Json:
    if isinstance(block, ImageBlock) and block.url is not None:
        mime_type = _mime_type(block.mime_type or mimetypes.guess_type(urlsplit(block.url).path)[0] or "")
        return {"fileData": {"fileUri": block.url, **({"mimeType": mime_type} if mime_type else {})}}
    return {"inlineData": {"mimeType": _mime_type(block.mime_type or ""), "data": block.data}}


def _mime_type(mime_type: str) -> str:
    """Return the name by which Google knows a type. Text of any kind is plain text: Vertex AI takes no other."""
    mime_type = mime_type.partition(";")[0].strip().lower()
    return "text/plain" if mime_type.startswith("text/") else _MIME_TYPES.get(mime_type, mime_type)


# -- options

_OUR_OPTIONS = (*TIMEOUTS, "compat", "parallel_tool_calls")
_RENAMED = {"max_tokens": "maxOutputTokens", "stop": "stopSequences"}
_OF_REQUEST = {"cachedContent", "labels", "modelArmorConfig", "safetySettings", "serviceTier", "store", "toolConfig"}
_OF_REQUEST |= {"tools"}
_BUDGETS = {"minimal": 1024, "low": 1024, "medium": 8192, "high": 24_576, "xhigh": 24_576, "max": 24_576}
"""Tokens by effort, as Google's OpenAI-compatible endpoint has them."""
_CANNOT_STOP = re.compile(r"gemini-2\.5-pro")
_LEAST_BUDGET = 128
_LEVELS = {"minimal": "minimal", "low": "low", "medium": "medium", "high": "high", "xhigh": "high", "max": "high"}
_THINKS_MINIMALLY = re.compile(r"gemini-3(\.[1-6])?-flash|flash-lite")
"""Models that know the level `minimal`. None of level can be told not to think at all."""
_TWO_LEVELS = re.compile(r"gemini-3-pro")


def _options(request: ModelRequest) -> Json:
    options: Json = {}
    config: Json = {}
    for option, value in request.options.items():
        if option in _OUR_OPTIONS or value is None:
            continue
        name = _RENAMED.get(option) or _camel(option)
        (options if name in _OF_REQUEST else config)[name] = value
    if "tools" in options:
        options["tools"] = [{**tool} for tool in options["tools"]]
    if "toolConfig" in options:
        options["toolConfig"] = {**options["toolConfig"]}
    effort, choice = config.pop("reasoningEffort", None), config.pop("toolChoice", None)
    config |= config.pop("generationConfig", {})
    if isinstance(config.get("stopSequences"), str):
        config["stopSequences"] = [config["stopSequences"]]
    if effort is not None:
        config["thinkingConfig"] = {**_thinking(effort, request.model), **config.get("thinkingConfig", {})}
    if config:
        options["generationConfig"] = config
    if choice is not None:
        options["toolConfig"] = {"functionCallingConfig": _calling(choice), **options.get("toolConfig", {})}
    return options


def _camel(name: str) -> str:
    return re.sub("_([a-z0-9])", lambda match: match[1].upper(), name)


def _thinking(effort: str, model: str) -> Json:
    """Return the options that make `model` think as hard as asked, and summarise it for people.

    Raises ProviderError for an effort that is none.
    """
    if effort not in ("none", *_BUDGETS):
        raise ProviderError(f"reasoning_effort must be one of none, {', '.join(_BUDGETS)}, not {effort!r}")
    if _BUDGETED.search(model):
        if effort == "none":
            return {"thinkingBudget": _LEAST_BUDGET if _CANNOT_STOP.search(model) else 0}
        return {"includeThoughts": True, "thinkingBudget": _BUDGETS[effort]}
    level = _LEVELS["minimal" if effort == "none" else effort]
    if level == "minimal" and not _THINKS_MINIMALLY.search(model):
        level = "low"
    if level == "medium" and _TWO_LEVELS.search(model):
        level = "high"
    return {"thinkingLevel": level} if effort == "none" else {"includeThoughts": True, "thinkingLevel": level}


_MODES = {"auto": "AUTO", "none": "NONE", "required": "ANY", "any": "ANY"}


def _calling(choice: Any) -> Json:
    """Convert the spellings of other vendors: a mode, a function by name, or the tools that are allowed."""
    if isinstance(choice, str):
        return {"mode": _MODES.get(choice, choice)}
    if choice.get("type") == "allowed_tools":
        allowed = choice.get("allowed_tools") or choice
        names = [_chosen(tool) for tool in allowed["tools"]]
        return {"mode": "ANY" if allowed.get("mode") == "required" else "VALIDATED", "allowedFunctionNames": names}
    if choice.get("type") in ("function", "tool"):
        return {"mode": "ANY", "allowedFunctionNames": [_chosen(choice)]}
    if choice.get("type") in _MODES:
        return {"mode": _MODES[choice["type"]]}
    return dict(choice)


def _chosen(tool: Json) -> str:
    """Return the name of the function that a choice names, as either of OpenAI's wires or Anthropic spells it."""
    name = tool["function"]["name"] if "function" in tool else tool["name"]
    return str(name)
