"""What agents and models declare of their calls (URL, key, headers), as a vendor's server receives it."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from agentkit import Agent, AgentKit, Model, ProviderError, RetryPolicy
from agentkit.core.cancellation import Cancellation
from agentkit.core.messages import UserMessage
from agentkit.providers import register_provider
from agentkit.providers.compat import Compat
from agentkit.providers.connection import Connection
from agentkit.providers.openai import OpenAIProvider
from agentkit.providers.protocol import ModelRequest
from agentkit.testing.wire_server import Reply, Request, WireServer
from tests import anthropic_server, google_server, ollama_server, openai_server

REPLIES: dict[str, Callable[[], Reply]] = {
    "openai": lambda: Reply(openai_server.frames("hi")),
    "anthropic": lambda: Reply(anthropic_server.frames("hi")),
    "google": lambda: Reply(google_server.frames("hi")),
    "ollama": lambda: Reply(ollama_server.lines("hi"), content_type="application/x-ndjson"),
}
every_vendor = pytest.mark.parametrize("vendor", REPLIES)
SETTINGS = ("API_KEY", "BASE_URL", "AUTH_TOKEN", "ORG_ID", "PROJECT_ID")


@pytest.fixture(autouse=True)
def no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing of the environment is to reach a server, unless a test says so."""
    for vendor in REPLIES:
        for setting in SETTINGS:
            monkeypatch.delenv(f"{vendor.upper()}_{setting}", raising=False)
    monkeypatch.setenv("OPENAI_API_KEY", "sk-environment")
    monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-environment")
    monkeypatch.setenv("OLLAMA_API_KEY", "sk-environment")
    monkeypatch.setenv("GEMINI_API_KEY", "sk-environment")
    monkeypatch.delenv("GOOGLE_GEMINI_BASE_URL", raising=False)


@contextmanager
def serving(vendor: str, answer: Callable[[Request], Reply] | None = None) -> Iterator[WireServer]:
    with WireServer(answer or (lambda _: REPLIES[vendor]())) as server:
        yield server


def key_of(request: Request) -> str | None:
    authorization = request.headers.get("authorization", "")
    key = request.headers.get("x-api-key") or request.headers.get("x-goog-api-key")
    return key or authorization.removeprefix("Bearer ") or None


def completed(agent: Agent, times: int = 1) -> None:
    kit = AgentKit([agent])
    for _ in range(times):
        run = kit.run(agent.name, "hello")
        assert (run.status, run.error) == ("completed", None)


def failed(agent: Agent) -> str:
    run = AgentKit([agent]).run(agent.name, "hello")
    assert run.status == "failed"
    assert run.error is not None
    return str(run.error["message"])


# -- where it goes, and with which key


@every_vendor
def test_an_agents_url_key_and_headers_take_the_place_of_the_settings(
    vendor: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(f"{vendor.upper()}_BASE_URL", "http://127.0.0.1:1")
    monkeypatch.setenv("OLLAMA_HOST", "http://127.0.0.1:1")
    monkeypatch.setenv("GOOGLE_GEMINI_BASE_URL", "http://127.0.0.1:1")
    with serving(vendor) as server:
        completed(Agent("a", f"{vendor}:m", base_url=server.url, api_key=" sk-1\n", headers={"X-Team": "support"}))
    assert key_of(server.requests[0]) == "sk-1"
    assert server.requests[0].headers["x-team"] == "support"
    assert "sk-environment" not in str(server.requests[0].headers)


@every_vendor
def test_a_url_alone_is_sent_the_key_of_the_settings(vendor: str) -> None:
    with serving(vendor) as server:
        completed(Agent("a", f"{vendor}:m", base_url=server.url))
    assert key_of(server.requests[0]) == "sk-environment"


@every_vendor
def test_an_empty_key_is_none(vendor: str) -> None:
    with serving(vendor) as server:
        completed(Agent("a", f"{vendor}:m", base_url=server.url, api_key=""))
    assert key_of(server.requests[0]) is None


@every_vendor
def test_each_model_of_a_list_has_its_own(vendor: str) -> None:
    broken = lambda _: Reply([b"{}"], 503, "application/json")  # noqa: E731
    with serving(vendor, broken) as first, serving(vendor) as second:
        models = [
            Model(f"{vendor}:m", base_url=first.url, api_key="sk-1", options={"temperature": 0.1}),
            Model(f"{vendor}:m", base_url=second.url, api_key=lambda: "sk-2", headers={"x-region": "two"}),
        ]
        completed(Agent("a", models, temperature=0.7, retry=RetryPolicy(attempts=1)))
    assert [key_of(request) for request in (*first.requests, *second.requests)] == ["sk-1", "sk-2"]
    assert "x-region" not in first.requests[0].headers
    assert second.requests[0].headers["x-region"] == "two"
    bodies = [request.body for request in (*first.requests, *second.requests)]
    options = [body.get("options") or body.get("generationConfig") or body for body in bodies]
    assert [option["temperature"] for option in options] == [0.1, 0.7]


def test_a_model_that_a_start_names_has_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    with serving("openai") as main, serving("openai") as other, serving("anthropic") as third:
        monkeypatch.setenv("ANTHROPIC_BASE_URL", third.url)
        models = [Model("openai:other", base_url=other.url, api_key="sk-2"), Model("anthropic:claude")]
        agent = Agent("a", "openai:main", models=models, base_url=main.url, api_key="sk-1")
        kit = AgentKit([agent])
        assert kit.bind("a").definition().models == ["openai:main", "openai:other", "anthropic:claude"]
        for name, server, key in (
            ("openai:main", main, "sk-1"),
            ("openai:other", other, "sk-2"),
            ("anthropic:claude", third, "sk-environment"),
        ):
            bound = kit.bind("a", name)
            request = ModelRequest(bound.model, "", [UserMessage("hi", 0)], connection=bound.connection)
            list(bound.provider.stream(request, Cancellation()))
            assert [key_of(received) for received in server.requests] == [key]


def test_a_record_of_another_vendors_model_is_not_sent_the_agents_key(monkeypatch: pytest.MonkeyPatch) -> None:
    """The agent named it when the run began, and names another vendor's since."""
    kit = AgentKit([Agent("a", "openai:main", base_url="http://127.0.0.1:1", api_key="sk-1")])
    assert kit.bind("a", "openai:older").connection.api_key == "sk-1"
    assert not kit.bind("a", "anthropic:claude").connection.is_declared


# -- keys and headers of functions


@every_vendor
def test_functions_are_asked_for_each_request(vendor: str) -> None:
    calls = iter(range(100))
    with serving(vendor) as server:
        agent = Agent(
            "a",
            f"{vendor}:m",
            base_url=server.url,
            api_key=lambda: f"sk-{next(calls)}",
            headers=lambda: {"x-call": f"{next(calls)}"},
        )
        completed(agent, times=2)
    assert [key_of(request) for request in server.requests] == ["sk-0", "sk-2"]
    assert [request.headers["x-call"] for request in server.requests] == ["1", "3"]


@pytest.mark.parametrize("as_time", [lambda at: at, lambda at: datetime.fromtimestamp(at, UTC)], ids=["s", "datetime"])
@every_vendor
def test_a_key_is_kept_until_its_function_says(vendor: str, as_time: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = iter(range(100))
    with serving(vendor) as server:
        token = lambda: (f"sk-{next(calls)}", as_time(time.time() + 3600))  # noqa: E731
        agent = Agent("a", f"{vendor}:m", base_url=server.url, api_key=token)
        completed(agent, times=3)
        now = time.time
        for later in (3500, 3601):
            monkeypatch.setattr(time, "time", lambda later=later: now() + later)
            completed(agent)
    assert [key_of(request) for request in server.requests] == ["sk-0"] * 4 + ["sk-1"]


def test_a_key_that_is_over_already_is_not_kept() -> None:
    calls = iter(range(100))
    with serving("openai") as server:
        token = lambda: (f"sk-{next(calls)}", datetime.now(UTC) - timedelta(seconds=1))  # noqa: E731
        completed(Agent("a", "openai:m", base_url=server.url, api_key=token), times=2)
    assert [key_of(request) for request in server.requests] == ["sk-0", "sk-1"]


@every_vendor
def test_a_key_that_the_vendor_refuses_is_not_kept(vendor: str) -> None:
    calls = iter(range(100))
    refused = lambda request: (  # noqa: E731
        Reply([b"{}"], 401, "application/json") if key_of(request) == "sk-0" else REPLIES[vendor]()
    )
    with serving(vendor, refused) as server:
        token = lambda: (f"sk-{next(calls)}", time.time() + 3600)  # noqa: E731
        agent = Agent("a", f"{vendor}:m", base_url=server.url, api_key=token)
        assert "401" in failed(agent)
        completed(agent)


@pytest.mark.parametrize(
    "returned",
    [
        None,
        5,
        b"sk-1",
        "",
        "sk 1",
        "sk-ключ",
        ("sk-1",),
        ("sk-1", "soon"),
        ("sk-1", True),
        ("sk-1", datetime(2999, 1, 1)),  # noqa: DTZ001
    ],
)
def test_what_is_no_key_ends_the_run_without_a_request(returned: Any) -> None:
    with serving("openai") as server:
        agent = Agent("a", "openai:m", base_url=server.url, api_key=lambda: returned)
        assert "the api_key function for openai returned no usable" in failed(agent)
    assert not server.requests


@pytest.mark.parametrize(
    "returned", [None, [("a", "b")], {"a b": "c"}, {"x-a": "b\r\nx-b: c"}, {"x-a": 5}, {"Content-Length": "3"}]
)
def test_what_are_no_headers_ends_the_run_without_a_request(returned: Any) -> None:
    with serving("openai") as server:
        agent = Agent("a", "openai:m", base_url=server.url, headers=lambda: returned)
        assert "the headers function for openai" in failed(agent)
    assert not server.requests


def test_a_function_that_fails_is_asked_again_as_a_failed_call_is(caplog: pytest.LogCaptureFixture) -> None:
    outcomes: list[Any] = [ConnectionError("https://user:hunter22@login.test/ is down"), "sk-1"]

    def token() -> str:
        outcome = outcomes.pop(0)
        if isinstance(outcome, Exception):
            raise outcome
        return str(outcome)

    with serving("openai") as server, caplog.at_level(logging.WARNING):
        retry = RetryPolicy(attempts=2, base=0)
        completed(Agent("a", "openai:m", base_url=server.url, api_key=token, retry=retry))
    assert "the api_key function for openai failed (ConnectionError" in caplog.text
    assert "hunter22" not in caplog.text


def test_a_function_may_say_itself_that_trying_again_is_of_no_use() -> None:
    def token() -> str:
        raise ProviderError("the vault is sealed")

    assert failed(Agent("a", "openai:m", api_key=token, retry=RetryPolicy(attempts=9, base=9))) == "the vault is sealed"


# -- headers


@every_vendor
def test_a_header_of_the_application_stands_in_front_of_the_adapters_whatever_its_case(vendor: str) -> None:
    with serving(vendor) as server:
        headers = {"AUTHORIZATION": "Custom 1", "X-Api-Key": "k", "User-Agent": "shop/1", "Anthropic-Version": "9"}
        completed(Agent("a", f"{vendor}:m", base_url=server.url, headers=headers))
    received = server.requests[0].headers
    assert {name: received[name.lower()] for name in headers} == headers


def test_headers_alone_may_carry_the_credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY")
    monkeypatch.delenv("ANTHROPIC_API_KEY")
    for name in ("openai", "anthropic"):
        endpoint = Connection(headers={"Authorization": "Bearer t"}).endpoint(
            name, url="", url_setting="", key_setting=""
        )
        endpoint.require_key(name)
        with pytest.raises(ProviderError, match="no API key"):
            Connection(headers={"x-team": "t"}).endpoint(name, url="", url_setting="", key_setting="").require_key(name)


# -- what vendors define


@pytest.mark.parametrize(("key", "both"), [("", False), ("sk-1", True)])
def test_anthropics_bearer_token_is_sent(monkeypatch: pytest.MonkeyPatch, key: str, both: bool) -> None:
    monkeypatch.setenv("ANTHROPIC_API_KEY", key)
    monkeypatch.setenv("ANTHROPIC_AUTH_TOKEN", "token-1")
    with serving("anthropic") as server:
        monkeypatch.setenv("ANTHROPIC_BASE_URL", server.url)
        completed(Agent("a", "anthropic:m"))
        completed(Agent("a", "anthropic:m", api_key="sk-2"))
    first, second = server.requests
    assert first.headers["authorization"] == "Bearer token-1"
    assert ("x-api-key" in first.headers) == both
    assert (second.headers["x-api-key"], "authorization" in second.headers) == ("sk-2", False)


def test_openais_organisation_and_project_go_to_openai_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_ORG_ID", "org-1")
    monkeypatch.setenv("OPENAI_PROJECT_ID", "proj-1")
    register_provider(
        OpenAIProvider("other", url="http://other.test", key_setting="OTHER_KEY", url_setting="OTHER_URL")
    )
    with serving("openai") as server:
        completed(Agent("a", "openai:m", base_url=server.url))
        completed(Agent("a", "other:m", base_url=server.url))
        completed(Agent("a", "openai:m", base_url=server.url, headers={"OpenAI-Project": "proj-2"}))
    names = ("openai-organization", "openai-project")
    received = [tuple(request.headers.get(name) for name in names) for request in server.requests]
    assert received == [("org-1", "proj-1"), (None, None), ("org-1", "proj-2")]


def test_azure_is_sent_keys_in_its_own_header_and_tokens_of_functions_as_bearer() -> None:
    register_provider(OpenAIProvider("azure-test", key_setting="AZURE_KEY", compat=Compat(key_header="api-key")))
    with serving("openai") as server:
        for key in ("key-1", lambda: "token-1"):
            completed(Agent("a", "azure-test:m", base_url=f"{server.url}/openai/v1?api-version=1", api_key=key))
    by_key, by_token = (request.headers for request in server.requests)
    assert (by_key["api-key"], "authorization" in by_key) == ("key-1", False)
    assert (by_token["authorization"], "api-key" in by_token) == ("Bearer token-1", False)
    assert server.requests[0].path == "/openai/v1/chat/completions?api-version=1"


# -- secrets


@every_vendor
def test_no_secret_is_in_an_error_an_event_a_log_or_a_repr(vendor: str, caplog: pytest.LogCaptureFixture) -> None:
    secrets = ["sk-secret-1", "gate-secret-2", "pass-secret-3"]
    refusal = Reply([f'{{"error": {{"message": "bad {" ".join(secrets)}"}}}}'.encode()], 400, "application/json")
    with serving(vendor, lambda _: refusal) as server, caplog.at_level(logging.INFO):
        url = server.url.replace("http://", "http://me:pass-secret-3@")
        headers = {"x-gate": "gate-secret-2", "authorization": "Bearer sk-secret-1"}
        declared: dict[str, Any] = {"base_url": url, "api_key": "sk-secret-1", "headers": headers}
        for model in (Model(f"{vendor}:m", **declared), f"{vendor}:m"):
            agent = Agent("a", model, **({} if isinstance(model, Model) else declared))
            kit = AgentKit([agent])
            run = kit.run("a", "hello")
            shown = [run.error, list(kit.handle(run.id).events()), caplog.text, agent, kit.bind("a").definition()]
            assert "bad*** *** ***" in str(run.error).replace("bad ***", "bad***")
            assert not [secret for secret in secrets if secret in repr(shown)]


@pytest.mark.parametrize("failure", ["no connection", "an answer that is no stream"])
def test_errors_say_that_the_agents_own_url_is_to_be_checked(failure: str, caplog: pytest.LogCaptureFixture) -> None:
    page = lambda _: Reply([b"<html>"], content_type="text/html")  # noqa: E731
    with serving("openai", page) as server:
        url = server.url if failure != "no connection" else "http://127.0.0.1:1"
        failed(Agent("a", "openai:m", base_url=url))
    assert ("check the agent's base_url" in caplog.text) == (failure != "no connection")
    assert "OPENAI_BASE_URL" not in caplog.text
