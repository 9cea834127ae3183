"""Claude on Amazon Bedrock: the Messages API by InvokeModelWithResponseStream.

The body is Anthropic's but for the model's name, which stands in the URL; the answer's events come in frames of AWS's
event stream. A request carries a Bedrock API key as bearer token, or is signed by AWS's Signature Version 4.
Credentials, signatures and frames are botocore's, the transfer is ours, so that its bounds and an abort hold, too.
"""

from __future__ import annotations

import base64
import json
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any
from urllib.parse import quote, urlsplit

from httpx_sse import ServerSentEvent

from agentkit.core.cancellation import Cancellation
from agentkit.core.forks import ForkSafeLock
from agentkit.core.messages import Json
from agentkit.errors import ConfigurationError, ProviderError
from agentkit.providers.anthropic import MessagesProvider, beta_features, timeouts
from agentkit.providers.connection import Endpoint
from agentkit.providers.failures import stream_error
from agentkit.providers.http import Answer, HttpRequest, stream_binary
from agentkit.providers.protocol import ModelRequest
from agentkit.providers.transfer import encoded

try:
    from botocore.auth import SigV4Auth
    from botocore.awsrequest import AWSRequest
    from botocore.credentials import ReadOnlyCredentials
    from botocore.eventstream import EventStreamBuffer
    from botocore.session import Session
except ImportError as error:
    raise ConfigurationError("bedrock: models need botocore: pip install 'agentkit-celery[bedrock]'") from error

__all__ = ["AwsFrames", "BedrockProvider"]

_CONTENT_TYPE = "application/vnd.amazon.eventstream"
_VERSION = "bedrock-2023-05-31"
_KEY_SETTING = "AWS_BEARER_TOKEN_BEDROCK"
_URL_SETTING = "ANTHROPIC_BEDROCK_BASE_URL"
_REGION_SETTING = "AWS_REGION"
_REGION_HOST = re.compile(r"(?:^|\.)bedrock-runtime(?:-fips)?\.([a-z0-9-]+)\.(?:vpce\.)?(?:amazonaws|api\.aws)")
_CREDENTIALS = "the AWS credentials"
_LEAST_FRAME = 16  # bytes: two lengths and two checksums
_STATUSES = {
    "internalServerException": 500,
    "modelStreamErrorException": 500,  # by its own account 424, but asking again helps
    "modelTimeoutException": 408,
    "serviceUnavailableException": 503,
    "throttlingException": 429,
    "validationException": 400,
}


class BedrockProvider(MessagesProvider):
    """Claude on Amazon Bedrock, by `bedrock:anthropic.claude-…`, an inference profile's name, or its ARN.

    The region is that of the base URL, else AWS_REGION, else that of botocore (AWS_DEFAULT_REGION, AWS_PROFILE). The
    key is a Bedrock API key, AWS_BEARER_TOKEN_BEDROCK or the agent's `api_key`; without one, requests are signed with
    the credentials that botocore finds. The options are those of `anthropic:`.
    """

    name = "bedrock"

    def _call(self, request: ModelRequest, body: Json) -> HttpRequest:
        region = _region_setting()
        endpoint = request.connection.endpoint(
            self.name,
            url=_base_url(region) if region else "",
            url_setting=_URL_SETTING,
            key_setting=_KEY_SETTING,
        )
        if not endpoint.url:
            raise ProviderError("no AWS region for bedrock", vendor=self.name, internal=f"set {_REGION_SETTING}")
        url = f"{endpoint.url.rstrip('/')}/model/{quote(request.model, safe=':')}/invoke-with-response-stream"
        content = encoded(_bedrock_body(request, body))
        if endpoint.key:
            headers = {"authorization": f"Bearer {endpoint.key}"}
        elif "authorization" in {name.lower() for name in endpoint.headers}:
            headers = {}
        else:
            endpoint, headers = _signed(endpoint, url, content, region)
        return HttpRequest(
            vendor=self.name,
            url=url,
            body=content,
            headers=headers,
            endpoint=endpoint,
            bounds=request.bounds,
            pace=request.pace,
            reader=request.reader,
            **timeouts(request.options),
        )

    def _events(self, call: HttpRequest, cancel: Cancellation) -> Answer[ServerSentEvent]:
        framing = partial(AwsFrames, call.vendor, frame_bytes=call.bounds.model_line_bytes)
        return stream_binary(call, cancel, content_type=_CONTENT_TYPE, framing=framing, is_last=_is_last)


def _bedrock_body(request: ModelRequest, body: Json) -> Json:
    """Return the body as Bedrock wants it: the model stands in the URL, versions stand in the body."""
    ours = {name: value for name, value in body.items() if name not in ("model", "stream")}
    if betas := beta_features(request.options):
        ours["anthropic_beta"] = betas
    return {"anthropic_version": _VERSION, **ours}


def _base_url(region: str) -> str:
    return f"https://bedrock-runtime.{region}.amazonaws.com" + (".cn" if region.startswith("cn-") else "")


# -- credentials


def _region_setting() -> str:
    return os.environ.get(_REGION_SETTING, "").strip() or _session().get_config_variable("region") or ""


def _signed(endpoint: Endpoint, url: str, content: bytes, region: str) -> tuple[Endpoint, dict[str, str]]:
    """Sign a request. Returns its headers, and the endpoint with what no error may show."""
    if in_host := _REGION_HOST.search(urlsplit(url).hostname or ""):
        region = in_host[1]
    if not region:
        raise ProviderError("no AWS region for bedrock", vendor="bedrock", internal=f"set {_REGION_SETTING}")
    credentials = _credentials()
    signed = AWSRequest("POST", url, {"content-type": "application/json", **endpoint.headers}, content)
    SigV4Auth(credentials, "bedrock", region).add_auth(signed)
    headers = {name: value for name, value in signed.headers.items() if name not in endpoint.headers}
    secrets = (credentials.secret_key, credentials.token or "", headers.get("Authorization", ""))
    return replace(endpoint, key_setting=_CREDENTIALS, secrets=(*endpoint.secrets, *secrets)), headers


@dataclass
class _Process:
    """botocore's session of this process, which keeps credentials and renews them."""

    session: Any = None
    pid: int = 0


_lock = ForkSafeLock(reentrant=True)
_process = _Process()


def _session() -> Any:
    with _lock:
        if _process.pid != os.getpid():  # the locks of a parent's session may be held for ever in its child
            _process.session, _process.pid = Session(), os.getpid()
        return _process.session


def _credentials() -> ReadOnlyCredentials:
    """Find the credentials of now; where they are old, that asks AWS, in the step's thread. Raises ProviderError."""
    try:
        with _lock:  # botocore's session is not for several threads
            credentials = _session().get_credentials()
        found = credentials and credentials.get_frozen_credentials()
    except Exception as error:
        raise ProviderError(
            "the AWS credentials for bedrock cannot be read",
            retryable=True,
            vendor="bedrock",
            internal=f"{type(error).__name__}: {error}"[:500],
        ) from error
    if not found:
        raise ProviderError(
            "no AWS credentials for bedrock",
            vendor="bedrock",
            internal=f"set AWS_PROFILE, AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, a role, or {_KEY_SETTING}",
        )
    return found


# -- the framing


class AwsFrames:
    """The events in the frames of AWS's event stream.

    Feeding it raises ProviderError for a frame that is broken or longer than `frame_bytes`, and for AWS's errors.
    """

    refused = False

    def __init__(self, vendor: str, *, frame_bytes: int) -> None:
        self._vendor = vendor
        self._frame_bytes = frame_bytes
        self._buffer = bytearray()

    def feed(self, piece: bytes) -> Iterator[ServerSentEvent]:
        """Yield the events that a piece of the body ends."""
        buffer = self._buffer
        buffer += piece
        while len(buffer) >= _LEAST_FRAME:
            length = int.from_bytes(buffer[:4], "big")
            if length > self._frame_bytes:
                raise ProviderError(
                    f"{self._vendor}: a frame of its answer has more than {self._frame_bytes} bytes",
                    vendor=self._vendor,
                    internal="the bound is AGENTKIT_MODEL_LINE_BYTES",
                )
            if len(buffer) < max(length, _LEAST_FRAME):
                break
            frame = bytes(buffer[: max(length, _LEAST_FRAME)])
            del buffer[: len(frame)]
            if event := _event(frame, self._vendor):
                yield event

    def end(self) -> Iterator[ServerSentEvent]:
        """Yield nothing: a frame that is cut off is none."""
        yield from ()


def _event(frame: bytes, vendor: str) -> ServerSentEvent | None:
    """Return the event in a frame; None for one of another kind."""
    try:
        decoder = EventStreamBuffer()
        decoder.add_data(frame)
        message = next(decoder)
        headers: Mapping[str, Any] = message.headers
        payload = json.loads(message.payload or b"{}")
        kind = headers.get(":message-type")
        if kind == "event":
            if headers.get(":event-type") != "chunk":
                return None
            return ServerSentEvent(event="chunk", data=base64.b64decode(payload["bytes"]).decode(errors="replace"))
    except Exception as error:
        message_text = f"{vendor} sent an event stream that cannot be read: {type(error).__name__}"
        raise ProviderError(message_text, retryable=True, vendor=vendor) from error
    raise _aws_error(vendor, headers, payload)


def _aws_error(vendor: str, headers: Mapping[str, Any], payload: Any) -> ProviderError:
    kind = str(headers.get(":exception-type") or headers.get(":error-code") or "")
    words = payload.get("originalMessage") or payload.get("message") if isinstance(payload, dict) else None
    problem: Json = {"type": kind, "message": words or headers.get(":error-message") or kind}
    if kind in _STATUSES:
        problem["status"] = _STATUSES[kind]
    return stream_error(vendor, problem)


def _is_last(event: ServerSentEvent) -> bool:
    if '"message_stop"' not in event.data:
        return False
    try:
        value = json.loads(event.data)
    except (ValueError, RecursionError):
        return False
    return isinstance(value, dict) and value.get("type") == "message_stop"
