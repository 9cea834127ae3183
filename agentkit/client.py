"""A client of the HTTP protocol: what the command line uses, and any Python program elsewhere may.

It knows the protocol and nothing else: no store, no Celery, no application. A server that is away for a
while (a deploy, a crash) is waited for, and a stream goes on exactly where it broke.
"""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Iterator
from typing import Any, Literal, Self
from urllib.parse import quote

import httpx
from httpx_sse import EventSource, SSEError

from agentkit.errors import AgentKitError
from agentkit.events import Event
from agentkit.messages import Block, Json

__all__ = ["ApiError", "Client", "ServerUnreachableError"]

_AWAY = (502, 503, 504)
_SILENCE_SECONDS = 40.0
"""A stream that is silent for longer is dead: a server sends at least a comment every 15 seconds."""
_FIRST_WAIT, _LONGEST_WAIT = 0.1, 2.0
_UNSET: Any = object()


class ApiError(AgentKitError):
    """The server refused.

    `status`: the HTTP status. `code`: the protocol's error code. `detail`: a sentence. `errors`:
    `[{path, message}]`, where a value missed its schema.
    """

    def __init__(self, status: int, code: str, detail: str, errors: list[Json] | None = None) -> None:
        super().__init__(detail)
        self.status = status
        self.code = code  # type: ignore[misc]  # elsewhere a class has one code, here the server says which
        self.detail = detail
        self.errors: list[Json] = errors or []


class ServerUnreachableError(AgentKitError):
    """The server cannot be reached."""

    code = "server_unreachable"


class Client:
    """One agentkit server, by its URL. Safe to use from several threads.

    `patience`: seconds for which a call or a stream waits for a server that is away before it raises
    ServerUnreachableError; it may be changed at any time. `timeout`: seconds for one answer. Runs are
    dictionaries as the protocol writes them. What the server refuses is an ApiError.
    """

    def __init__(self, url: str, *, timeout: float = 30.0, patience: float = 60.0) -> None:
        self.url = url.rstrip("/")
        self.patience = patience
        try:
            self._http = httpx.Client(base_url=self.url, timeout=httpx.Timeout(timeout, connect=5.0))
        except (httpx.InvalidURL, ValueError) as error:
            raise ServerUnreachableError(f"{url!r} is no URL of a server: {error}") from error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        self._http.close()

    # -- runs

    def start(
        self,
        agent: str,
        input: str | list[Block] | None = None,
        *,
        messages: list[Json] | None = None,
        model: str | None = None,
        metadata: Json | None = None,
        limits: Json | None = None,
        idempotency_key: str | None = None,
    ) -> Json:
        """Start a run and return it. A start whose answer got lost is sent again, and starts no second run."""
        body = {
            "agent": agent,
            "input": input,
            "messages": messages,
            "model": model,
            "metadata": metadata,
            "limits": limits,
        }
        headers = {"Idempotency-Key": idempotency_key or uuid.uuid4().hex}
        return self._call("POST", "/runs", body={k: v for k, v in body.items() if v is not None}, headers=headers)

    def get(self, run_id: str) -> Json:
        """The run with its messages."""
        return self._call("GET", _path(run_id))

    def runs(self, status: str | None = None, agent: str | None = None) -> Iterator[Json]:
        """All runs, newest first, without messages; read page by page."""
        params = {"status": status, "agent": agent, "limit": "100"}
        query = {key: value for key, value in params.items() if value is not None}
        while True:
            page = self._call("GET", "/runs", params=query)
            yield from page["runs"]
            if not page.get("nextCursor"):
                return
            query["cursor"] = page["nextCursor"]

    def resume(
        self,
        run_id: str,
        *,
        decision: Any = _UNSET,
        reject: str | None = None,
        result: Any = _UNSET,
        tool_call_id: str | None = None,
        decision_id: str | None = None,
        input: Json | None = None,
    ) -> Json:
        """Answer a pending item by one of `decision`, `reject` (a reason) and `result`; the run.

        The ids may be left out when one item is pending. With `decision_id`, an answer whose reply got
        lost is sent again.
        """
        body: Json = {"toolCallId": tool_call_id, "decisionId": decision_id, "input": input}
        body = {key: value for key, value in body.items() if value is not None}
        if decision is not _UNSET:
            body["decision"] = decision
        if result is not _UNSET:
            body["result"] = result
        if reject is not None:
            body["reject"] = {"reason": reject}
        return self._call("POST", _path(run_id, "/resume"), body=body, repeatable=decision_id is not None)

    def extend(self, run_id: str, decision_id: str, by: float) -> Json:
        """Give a pending item that expires `by` seconds more; the run.

        It is not sent again where its reply got lost: sent twice, it would move the time twice.
        """
        body = {"decisionId": decision_id, "by": by}
        return self._call("POST", _path(run_id, "/extend"), body=body, repeatable=False)

    def abort(self, run_id: str, reason: str | None = None) -> Json:
        """End a run. Harmless when repeated."""
        return self._call("POST", _path(run_id, "/abort"), body={} if reason is None else {"reason": reason})

    def agents(self) -> list[Json]:
        """The agents that the server has: `[{name, model, tools: […]}]`."""
        answer: Any = self._call("GET", "/agents")
        found: list[Json] = answer["agents"] if isinstance(answer, dict) else answer
        return found

    def ready(self) -> Literal[True] | str:
        """True where the server, its store and a worker answer; otherwise why not. Never waits for the server."""
        try:
            response = self._http.get("/readyz", timeout=2.0)
        except httpx.TransportError as error:
            return str(error) or type(error).__name__
        if response.status_code == 200:
            return True
        try:
            missing = [name for name, fine in response.json()["checks"].items() if not fine]
        except (ValueError, KeyError, TypeError, AttributeError):
            return _problem(response).detail
        return f"no {' and no '.join(missing)}"

    def events(self, run_id: str, after: int = 0, *, until_pause: bool = False) -> Iterator[Event]:
        """The run's events after the seq `after`, as they come, until the run ends (or, asked for, pauses).

        No event twice and none left out, whatever becomes of the connection meanwhile. Where old events
        are no longer kept, a `stream_reset` comes in their place.
        """
        waiting = _Waiting(self)
        while True:
            got = False
            try:
                for event in self._stream(run_id, after, until_pause):
                    if event is None:
                        return
                    got = True
                    waiting.over()
                    after = _seq(event)
                    yield event
                    if _is_last(event, until_pause):
                        return
            except ServerUnreachableError as error:
                waiting.wait(error)
                continue
            if not got and until_pause and self.get(run_id)["status"] == "paused":
                return
            waiting.wait(ServerUnreachableError(f"{self.url} keeps closing the stream"))

    # -- inside

    def _stream(self, run_id: str, after: int, until_pause: bool) -> Iterator[Event | None]:
        """One connection's events; None where there are none left to come."""
        request = self._http.build_request(
            "GET",
            _path(run_id, "/events"),
            params={"until": "pause"} if until_pause else None,
            headers={"Accept": "text/event-stream", **({"Last-Event-ID": str(after)} if after else {})},
            timeout=httpx.Timeout(_SILENCE_SECONDS, connect=5.0),
        )
        try:
            response = self._http.send(request, stream=True)
            try:
                if response.status_code == 204:
                    yield None
                    return
                if response.status_code != 200:
                    response.read()
                    self._check(response)
                for frame in EventSource(response).iter_sse():
                    if frame.data:
                        yield json.loads(frame.data)
            finally:
                response.close()
        except (httpx.TransportError, httpx.StreamError) as error:
            raise self._unreachable(error) from error
        except (SSEError, ValueError) as error:
            raise ApiError(200, "not_agentkit", f"{self.url} answers with no event stream") from error

    def _call(
        self,
        method: str,
        path: str,
        *,
        body: Json | None = None,
        params: dict[str, str] | None = None,
        headers: dict[str, str] | None = None,
        repeatable: bool = True,
    ) -> Json:
        waiting = _Waiting(self)
        while True:
            try:
                response = self._http.request(method, path, json=body, params=params, headers=headers)
                answer: Json = self._check(response)
                return answer
            except httpx.TransportError as error:
                failure = self._unreachable(error)
                if not (repeatable or isinstance(error, httpx.ConnectError)):
                    raise failure from error
            except ServerUnreachableError as error:
                failure = error
            waiting.wait(failure)

    def _check(self, response: httpx.Response) -> Any:
        """The JSON of a good answer; otherwise the error that it is."""
        if response.status_code in _AWAY:
            raise ServerUnreachableError(f"{self.url} is not available: {_problem(response).detail}")
        if response.status_code >= 400:
            raise _problem(response)
        try:
            return response.json()
        except ValueError as error:
            text = f"{self.url} answers with no JSON: is it an agentkit server?"
            raise ApiError(response.status_code, "not_agentkit", text) from error

    def _unreachable(self, error: Exception) -> ServerUnreachableError:
        return ServerUnreachableError(f"no server answers at {self.url} ({error or type(error).__name__})")


class _Waiting:
    """Longer and longer waits for a server that is away, within its client's patience."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self.over()

    def over(self) -> None:
        """The server answers again."""
        self._since: float | None = None
        self._next = _FIRST_WAIT

    def wait(self, failure: ServerUnreachableError) -> None:
        now = time.monotonic()
        if self._since is None:
            self._since = now
        if now - self._since + self._next > self._client.patience:
            raise failure
        time.sleep(self._next)
        self._next = min(self._next * 2, _LONGEST_WAIT)


def _problem(response: httpx.Response) -> ApiError:
    """The error that a problem document, or whatever else came, stands for."""
    status = response.status_code
    try:
        body = response.json()
        return ApiError(status, body["code"], body.get("detail") or body.get("title", ""), body.get("errors"))
    except (ValueError, KeyError, TypeError, AttributeError):
        return ApiError(status, "not_agentkit", f"{response.url} answered {status} {response.reason_phrase}")


def _path(run_id: str, more: str = "") -> str:
    return f"/runs/{quote(run_id, safe='')}{more}"


def _seq(event: Event) -> int:
    seq: int = event["run"]["lastSeq"] if event["type"] == "stream_reset" else event["seq"]
    return seq


def _is_last(event: Event, until_pause: bool) -> bool:
    if event["type"] == "stream_reset":
        status = event["run"]["status"]
        return status in ("completed", "failed", "aborted") or (until_pause and status == "paused")
    return event["type"] == "agent_end" or (until_pause and event["type"] == "agent_pause")
