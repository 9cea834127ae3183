"""OpenAI's Responses API: what its newest models want tools on, and what carries reasoning from turn to turn.

`build_request` (of `openai_responses_request`) and `ResponseDecoder` are pure; `OpenAIResponsesProvider` joins them to
HTTP as chat completions are. Other servers that speak this wire leave out events or fields, or send some twice: the
decoder takes each text from its deltas, and what is missing from the events that repeat the whole.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import ClassVar

from httpx_sse import ServerSentEvent

from agentkit.core.cancellation import Cancellation
from agentkit.core.messages import Json, Usage
from agentkit.errors import ProviderError
from agentkit.providers.compat import Compat
from agentkit.providers.counts import token_count
from agentkit.providers.decoding import decoded
from agentkit.providers.failures import stream_error
from agentkit.providers.finish_reasons import end_of
from agentkit.providers.http import answer_parts, stream_sse
from agentkit.providers.json_events import DONE_MARKS, is_done, json_objects
from agentkit.providers.openai import DEFAULT_URL, KEY_SETTING, OpenAIProvider
from agentkit.providers.openai_output import OutputItems
from agentkit.providers.openai_problems import problem_of
from agentkit.providers.openai_responses_request import API, build_request
from agentkit.providers.protocol import Finish, ModelRequest, Part

__all__ = ["OpenAIResponsesProvider", "ResponseDecoder", "build_request", "decode"]

_ENDS = frozenset({"response.completed", "response.incomplete", "response.failed", "response.cancelled"})


class OpenAIResponsesProvider(OpenAIProvider):
    """Models of OpenAI, and of every server that speaks its Responses API; the arguments are OpenAIProvider's.

    Nothing is stored at the vendor, unless the option `store` says so. `reasoning_effort` goes with the summary "auto",
    which the option `reasoning_summary` replaces (None: no summary). The option `tools` is a list of tools that the
    vendor runs itself, beside the agent's.
    """

    path: ClassVar[str] = "/responses"

    def __init__(
        self,
        name: str = "openai-responses",
        *,
        url: str = DEFAULT_URL,
        key_setting: str = KEY_SETTING,
        url_setting: str = "OPENAI_BASE_URL",
        compat: Compat | None = None,
    ) -> None:
        super().__init__(name, url=url, key_setting=key_setting, url_setting=url_setting, compat=compat)

    @property
    def api(self) -> str:
        """The wire."""
        return API

    def stream(self, request: ModelRequest, cancel: Cancellation) -> Iterator[Part]:
        """Call the model, as `Provider.stream` has it."""
        call = self._call(request)
        answer = stream_sse(call, cancel, is_last=is_done, last_events=_ENDS, last_marks=DONE_MARKS)
        yield from answer_parts(call, cancel, answer, ResponseDecoder(self.name))

    def _body(self, request: ModelRequest, compat: Compat) -> Json:
        return build_request(request, self.name, compat)


# -- the answer


def decode(events: Iterable[ServerSentEvent], vendor: str) -> Iterator[Part]:
    """Yield the parts of a whole event stream. Raises ProviderError for an error in it, and where it is cut short."""
    return decoded(events, ResponseDecoder(vendor))


class ResponseDecoder:
    """Turns the events of one answer into parts. `finish()` is due when there are no more events."""

    def __init__(self, vendor: str = API) -> None:
        self._vendor = vendor
        self._items = OutputItems()
        self._model: str | None = None
        self._usage: Json = {}
        self._response: Json | None = None

    @property
    def complete(self) -> bool:
        """Whether the event has come after which there is no other."""
        return self._response is not None

    def read(self, event: ServerSentEvent) -> Iterator[Part]:
        """Yield the parts of one event."""
        for name, value in json_objects(event, self._vendor):
            yield from self.feed(value, name)
            if self.complete:
                return

    def feed(self, event: Json, name: str = "") -> list[Part]:
        """Return the parts of one event; `name` counts where the event itself has no type.

        Raises ProviderError where it carries an error.
        """
        if event.get("object") == "response":  # the whole answer, in place of a stream
            event = {"type": f"response.{event.get('status') or 'completed'}", "response": event}
        kind = event.get("type") or name
        if kind == "error":
            problem = event.get("error") or {key: value for key, value in event.items() if key != "type"}
            raise stream_error(self._vendor, problem)
        if ("type" not in event or event.get("object") == "error") and (problem := problem_of(event)):
            raise stream_error(self._vendor, problem)
        try:
            if isinstance(event.get("response"), dict):
                self._note(event["response"])
            if kind in _ENDS:
                return self._end(event["response"], kind.removeprefix("response."))
            return self._items.feed(kind, event)
        except (AttributeError, KeyError, TypeError) as error:
            message = f"{self._vendor} sent an event of an unknown shape: {error}"
            raise ProviderError(message, vendor=self._vendor) from error

    def usage(self) -> Usage:
        """Return what the vendor has counted so far."""
        return _usage(self._usage)

    def finish(self) -> list[Part]:
        """Return the last part. Raises ProviderError where the answer failed, is not complete, or was filtered."""
        response = self._response
        if response is None:
            message = f"{self._vendor}: the stream ended before the answer was complete"
            raise ProviderError(message, retryable=True, vendor=self._vendor)
        usage = _usage(self._usage)
        if response.get("status") == "incomplete":
            self._check_incomplete(response)
            return [Finish("length", usage, self._model)]
        if unanswered := self._items.unanswered():
            message = f"{self._vendor}: the model asks for {unanswered}, which only the vendor's own clients carry out"
            raise ProviderError(message, vendor=self._vendor)
        return [Finish("toolUse" if self._items.has_calls else "stop", usage, self._model)]

    def _note(self, response: Json) -> None:
        model = response.get("model")
        self._model = model if isinstance(model, str) and model else self._model
        self._usage = response.get("usage") or self._usage

    def _end(self, response: Json, status: str) -> list[Part]:
        """Return what the whole response has and the stream had not. Raises ProviderError where it failed."""
        if status == "completed" and response.get("status") in ("cancelled", "failed", "incomplete"):
            status = response["status"]
        if response.get("error") or status in ("cancelled", "failed"):
            raise stream_error(self._vendor, response.get("error") or f"the response was {status}")
        parts = self._items.complete(response.get("output") or [])
        self._response = {**response, "status": status}
        return parts

    def _check_incomplete(self, response: Json) -> None:
        """Raise ProviderError unless the answer is incomplete because it reached its limit."""
        details = response.get("incomplete_details")
        reason = str((details.get("reason") if isinstance(details, dict) else None) or "it gave no reason")[:100]
        end = end_of(reason)
        if end == "filtered":
            raise ProviderError(f"{self._vendor}: the answer was content filtered ({reason})", vendor=self._vendor)
        if end != "length":
            raise stream_error(self._vendor, f"the response is incomplete: {reason}")


def _usage(usage: Json) -> Usage:
    """Convert the counts: the vendor's input count includes what it read from and wrote to a cache, ours does not."""
    details = usage.get("input_tokens_details") or {}
    cache_read, cache_write = token_count(details.get("cached_tokens")), token_count(details.get("cache_write_tokens"))
    return Usage.of(
        input=max(0, token_count(usage.get("input_tokens")) - cache_read - cache_write),
        output=token_count(usage.get("output_tokens")),
        cache_read=cache_read,
        cache_write=cache_write,
    )
