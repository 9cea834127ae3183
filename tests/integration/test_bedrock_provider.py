"""Claude on Bedrock against a local server that speaks AWS's wire."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from agentkit import Agent, AgentKit
from agentkit.core.bounds import Bounds
from agentkit.core.cancellation import Cancellation
from agentkit.core.messages import UserMessage, text_of
from agentkit.errors import ProviderError
from agentkit.providers import bedrock, resolve
from agentkit.providers.bedrock import BedrockProvider
from agentkit.providers.connection import Connection
from agentkit.providers.protocol import ModelRequest, Provider
from agentkit.testing.provider_contract import ProviderContract, build
from agentkit.testing.wire_server import Reply, WireServer
from tests import anthropic_server
from tests.bedrock_server import chunk, error_body, exception, frame, frames, signature_is_right
from tests.misbehaving import MisbehavingServerContract

MEGABYTE = 1024 * 1024
STREAM = "application/vnd.amazon.eventstream"
MODEL = "us.anthropic.claude-opus-4-8-v1:0"
SECRET = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"


@pytest.fixture(autouse=True)
def aws(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing of the machine's own AWS settings counts."""
    monkeypatch.setattr(bedrock, "_process", bedrock._Process())
    for name in ("AWS_PROFILE", "AWS_DEFAULT_REGION", "AWS_BEARER_TOKEN_BEDROCK", "AWS_SESSION_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(name, "/nowhere")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_REGION", "eu-west-1")


@pytest.fixture
def credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    monkeypatch.setenv("AWS_SESSION_TOKEN", "session-token-0123456789")


class TestBedrockProvider(ProviderContract, MisbehavingServerContract):
    content_type = STREAM

    def provider(self) -> Provider:
        return BedrockProvider()

    def point_at(self, url: str, key: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("ANTHROPIC_BEDROCK_BASE_URL", url)
        monkeypatch.setenv("AWS_BEARER_TOKEN_BEDROCK", key)

    def encode(self, turn: Any) -> list[bytes]:
        return frames(turn)

    def error_body(self, message: str) -> bytes:
        return error_body(message)

    # What of the contract's servers misbehaves by lines of text does so by frames here.

    @pytest.mark.parametrize("piece", [4096, MEGABYTE])
    def test_a_line_of_ten_megabytes_is_read(self, serve: Callable[[Reply], WireServer], piece: int) -> None:
        turn = [{"type": "text", "text": "x" * (10 * MEGABYTE)}]
        body = b"".join(chunk(sse.partition(b"data: ")[2]) for sse in anthropic_server.frames(turn, chunk_size=10**9))
        serve(Reply([body[at : at + piece] for at in range(0, len(body), piece)], content_type=STREAM))
        assert len(text_of(build(self.parts()))) == 10 * MEGABYTE

    def test_ten_megabytes_without_an_end_can_be_cancelled(self, serve: Callable[[Reply], WireServer]) -> None:
        begun = frame({":message-type": "event"}, b"x" * 12 * MEGABYTE)[: 10 * MEGABYTE]
        server = serve(Reply([begun], content_type=STREAM, silence="after"))
        cancel = Cancellation()
        threading.Thread(target=lambda: (server.waiting.wait(20), cancel.cancel("test"))).start()
        assert list(self.parts(cancel)) == []

    def test_a_body_that_is_no_utf_8_is_a_provider_error_or_text(self, serve: Callable[[Reply], WireServer]) -> None:
        pieces = [sse.partition(b"data: ")[2].replace(b'"@"', b'"\xff\xfe"') for sse in anthropic_server.frames("@")]
        serve(Reply([chunk(piece) for piece in pieces], content_type=STREAM))
        assert text_of(build(self.parts())) == "\ufffd\ufffd"

    def test_a_frame_beyond_the_bound_is_an_error_before_it_is_read(self, serve: Callable[[Reply], WireServer]) -> None:
        huge = frame({":message-type": "event"}, b"x" * 2 * MEGABYTE)
        serve(Reply([*frames("hi")[:2], huge[:1000]], content_type=STREAM, silence="after"))
        error = self.failure(bounds=Bounds(model_line_bytes=MEGABYTE))
        assert f"a frame of its answer has more than {MEGABYTE} bytes" in error.message
        assert "AGENTKIT_MODEL_LINE_BYTES" in str(error)

    def test_an_answer_without_an_end_is_read_up_to_the_bound(self, serve: Callable[[Reply], WireServer]) -> None:
        def endless() -> Iterator[bytes]:
            first, *_, text = frames("x" * 16)[:4]
            yield first
            while True:
                yield text * 1000

        serve(Reply(endless(), content_type=STREAM))
        error = self.failure(bounds=Bounds(model_answer_bytes=MEGABYTE))
        assert f"its answer has more than {MEGABYTE} bytes" in error.message

    @pytest.mark.parametrize(
        "broken",
        [
            b"\0" * 16,
            b"no frames at all, but text of some length",
            frame({":message-type": "event", ":event-type": "chunk"}, b"{}")[:-1] + b"?",
            frame({":message-type": "event", ":event-type": "chunk"}, b"{}"),
            frame({":message-type": "event", ":event-type": "chunk"}, b"[1]"),
            frame({":message-type": "event", ":event-type": "chunk"}, b'{"bytes": 5}'),
            frame({":message-type": "event", ":event-type": "chunk"}, b"no JSON"),
        ],
    )
    def test_a_broken_frame_is_a_provider_error(self, serve: Callable[[Reply], WireServer], broken: bytes) -> None:
        serve(Reply([frames("hi")[0], broken], content_type=STREAM))
        assert self.failure().message.startswith("bedrock")

    def test_frames_of_other_events_are_passed_over(self, serve: Callable[[Reply], WireServer]) -> None:
        other = frame({":message-type": "event", ":event-type": "dawn"}, b'{"light": 1}')
        serve(Reply([other, *frames("hi"), other], content_type=STREAM))
        assert text_of(build(self.parts())) == "hi"

    @pytest.mark.parametrize(
        ("kind", "payload", "status", "retryable"),
        [
            ("throttlingException", {"message": "Too many tokens"}, 429, True),
            ("serviceUnavailableException", {"message": "no"}, 503, True),
            ("internalServerException", {"message": "no"}, 500, True),
            ("modelTimeoutException", {"message": "no"}, 408, True),
            ("modelStreamErrorException", {"originalMessage": "no", "originalStatusCode": 424}, 500, True),
            ("validationException", {"message": "no"}, 400, False),
        ],
    )
    def test_an_exception_in_the_stream_is_an_error_of_its_kind(
        self, serve: Callable[[Reply], WireServer], kind: str, payload: Any, status: int, retryable: bool
    ) -> None:
        serve(Reply([*frames("hi")[:3], exception(kind, payload)], content_type=STREAM))
        error = self.failure()
        assert (error.status, error.retryable) == (status, retryable)
        assert next(iter(payload.values())) in error.message

    def test_an_error_frame_is_an_error(self, serve: Callable[[Reply], WireServer]) -> None:
        headers = {":message-type": "error", ":error-code": "InternalError", ":error-message": "It broke"}
        serve(Reply([frames("hi")[0], frame(headers, b"")], content_type=STREAM))
        error = self.failure()
        assert "It broke" in error.message
        assert error.retryable

    def test_the_answer_is_over_with_its_last_event_though_the_vendor_lingers(
        self, serve: Callable[[Reply], WireServer]
    ) -> None:
        serve(Reply(frames("hi"), content_type=STREAM, silence="after"))
        assert text_of(build(self.parts(options={"read_timeout": 20.0}))) == "hi"


# -- requests


def ask(server: WireServer, model: str = MODEL, connection: Connection | None = None, **options: Any) -> str:
    request = ModelRequest(
        model,
        "Be brief.",
        [UserMessage("hello", 0)],
        options=options,
        connection=connection or Connection(base_url=server.url),
    )
    return text_of(build(BedrockProvider().stream(request, Cancellation())))


@pytest.fixture
def server() -> Iterator[WireServer]:
    with WireServer(lambda _: Reply(frames("hi"), content_type=STREAM)) as server:
        yield server


@pytest.mark.usefixtures("credentials")
@pytest.mark.parametrize(
    ("model", "path"),
    [
        (MODEL, f"/model/{MODEL}/invoke-with-response-stream"),
        (
            "arn:aws:bedrock:eu-west-1:123:application-inference-profile/ab c",
            "/model/arn:aws:bedrock:eu-west-1:123:application-inference-profile%2Fab%20c/invoke-with-response-stream",
        ),
    ],
)
def test_a_request_is_signed_with_the_credentials(server: WireServer, model: str, path: str) -> None:
    assert ask(server, model, Connection(server.url, headers={"X-Amzn-Bedrock-GuardrailIdentifier": "g1"})) == "hi"
    (request,) = server.requests
    assert request.path == path
    assert request.headers["x-amz-security-token"] == "session-token-0123456789"
    assert request.headers["authorization"].startswith("AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/")
    assert request.headers["x-amzn-bedrock-guardrailidentifier"] == "g1"
    assert signature_is_right(request, SECRET, "eu-west-1")
    assert not signature_is_right(request, SECRET + "x", "eu-west-1")


def test_the_body_is_anthropics_with_the_version_and_betas_and_without_the_model(server: WireServer) -> None:
    ask(server, connection=Connection(server.url, "ABSK-1"), betas=["one", "two"], reasoning_effort="high")
    (request,) = server.requests
    assert request.body == {
        "anthropic_version": "bedrock-2023-05-31",
        "anthropic_beta": ["one", "two"],
        "max_tokens": 32_000,
        "messages": [{"role": "user", "content": [{"type": "text", "text": "hello"}]}],
        "system": [{"type": "text", "text": "Be brief."}],
        "thinking": {"type": "adaptive", "display": "summarized"},
        "output_config": {"effort": "high"},
    }
    assert request.headers["authorization"] == "Bearer ABSK-1"
    assert "x-amz-date" not in request.headers


@pytest.mark.usefixtures("credentials")
@pytest.mark.parametrize(
    ("url", "region"),
    [
        ("https://bedrock-runtime.us-west-2.amazonaws.com", "us-west-2"),
        ("https://bedrock-runtime-fips.us-gov-west-1.amazonaws.com", "us-gov-west-1"),
        ("https://vpce-1.bedrock-runtime.ap-south-1.vpce.amazonaws.com", "ap-south-1"),
        ("https://gateway.example.com", "eu-west-1"),
        (None, "eu-west-1"),
    ],
)
def test_the_region_is_that_of_the_address_or_the_setting(url: str | None, region: str) -> None:
    request = ModelRequest(MODEL, "", [UserMessage("hi", 0)], connection=Connection(url))
    call = BedrockProvider()._call(request, {})
    assert f"/{region}/bedrock/aws4_request" in call.headers["Authorization"]
    assert call.url.startswith(url or "https://bedrock-runtime.eu-west-1.amazonaws.com/model/")


@pytest.mark.parametrize(("unset", "hint"), [("AWS_ACCESS_KEY_ID", "AWS_PROFILE"), ("AWS_REGION", "AWS_REGION")])
@pytest.mark.usefixtures("credentials")
def test_a_missing_setting_is_named_and_not_retried(monkeypatch: pytest.MonkeyPatch, unset: str, hint: str) -> None:
    for name in [unset, *(["AWS_SECRET_ACCESS_KEY"] if "KEY" in unset else [])]:
        monkeypatch.delenv(name)
    with pytest.raises(ProviderError, match=hint) as caught:
        list(BedrockProvider().stream(ModelRequest(MODEL, "", [UserMessage("hi", 0)]), Cancellation()))
    assert not caught.value.retryable


@pytest.mark.usefixtures("credentials")
def test_no_error_shows_a_credential() -> None:
    quoted = f"no: {SECRET} session-token-0123456789"
    refusal = Reply([error_body(quoted)], 403, "application/json")
    with WireServer(lambda _: refusal) as server, pytest.raises(ProviderError) as caught:
        ask(server)
    assert SECRET not in str(caught.getrepr(chain=True))
    assert "session-token" not in str(caught.value)
    assert "the AWS credentials" in str(caught.value)


def test_an_error_names_the_request_by_awss_own_header() -> None:
    refusal = Reply([error_body("no")], 429, "application/json", {"x-amzn-requestid": "req-1"})
    with WireServer(lambda _: refusal) as server, pytest.raises(ProviderError) as caught:
        ask(server, connection=Connection(server.url, "ABSK-1"))
    assert (caught.value.request_id, caught.value.retryable) == ("req-1", True)


def test_a_run_is_paused_by_the_vendor_and_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    def answer(reason: str, text: str) -> Reply:
        block = {"type": "text", "text": text}
        events = [
            {"type": "message_start", "message": {"model": "claude-opus-4-8", "usage": {"input_tokens": 1000}}},
            {"type": "content_block_start", "index": 0, "content_block": block},
            {"type": "message_delta", "delta": {"stop_reason": reason}, "usage": {"output_tokens": 100}},
            {"type": "message_stop", "amazon-bedrock-invocationMetrics": {"inputTokenCount": 1000}},
        ]
        return Reply([chunk(json.dumps(event).encode()) for event in events], content_type=STREAM)

    answers = iter([answer("pause_turn", "One, "), answer("end_turn", "two.")])
    monkeypatch.setenv("AWS_BEARER_TOKEN_BEDROCK", "ABSK-1")
    with WireServer(lambda _: next(answers)) as server:
        monkeypatch.setenv("ANTHROPIC_BEDROCK_BASE_URL", server.url)
        run = AgentKit(agents=[Agent("a", f"bedrock:{MODEL}")]).run("a", "Count")
    assert (run.status, [block["text"] for block in run.messages[-1]["content"]]) == ("completed", ["One, ", "two."])
    assert run.messages[-1]["provider"] == "bedrock"
    assert run.usage["input"] == 2000
    assert run.usage["cost"]["total"] > 0


def test_the_provider_is_found_by_its_name() -> None:
    provider, model = resolve(f"bedrock:{MODEL}")
    assert (type(provider), provider.api, model) == (BedrockProvider, "anthropic-messages", MODEL)


@pytest.mark.parametrize(("name", "library"), [("bedrock", "botocore"), ("vertex", "google.auth")])
def test_a_missing_extra_is_one_clear_line(name: str, library: str) -> None:
    code = (
        f"import sys; sys.modules[{library!r}] = None\n"
        "from agentkit import Agent, AgentKit, ConfigurationError\n"
        f"try: AgentKit(agents=[Agent('a', '{name}:claude')])\n"
        "except ConfigurationError as error: print(error)"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=50, check=True).stdout
    assert shown.strip() == f"{name}: models need {library.replace('.', '-')}: pip install 'agentkit-celery[{name}]'"


def test_the_frames_of_the_test_are_what_botocore_reads() -> None:
    from botocore.eventstream import EventStreamBuffer

    buffer = EventStreamBuffer()
    buffer.add_data(chunk(b'{"type": "ping"}'))
    message = next(buffer)
    assert message.headers[":event-type"] == "chunk"
    assert base64.b64decode(json.loads(message.payload)["bytes"]) == b'{"type": "ping"}'
