from __future__ import annotations

import base64
import logging
from urllib.parse import quote

import httpx
import pytest

from agentkit.core.masking import mask_secrets, mask_url, url_secrets
from agentkit.providers.http import HttpRequest
from agentkit.queue.application import celery_app
from agentkit.settings import Settings

KEY = "sk-proj-Ab3+dEf/Gh1jKlMnOpQrStUv"


@pytest.mark.parametrize(
    "shown",
    [
        KEY,
        KEY[:12],
        KEY[-9:],
        KEY[5:20],
        base64.b64encode(KEY.encode()).decode(),
        base64.urlsafe_b64encode(f"user:{KEY}".encode()).decode()[9:],
        base64.b64encode(f"ab{KEY}c".encode()).decode()[4:-4],
        KEY.encode().hex(),
        quote(KEY, safe=""),
    ],
)
def test_a_key_its_parts_and_its_encodings_are_replaced(shown: str) -> None:
    text = mask_secrets(f"the key {shown} is wrong", [KEY])
    assert "***" in text
    assert text.startswith("the key ")
    assert text.endswith(" is wrong")
    assert shown[2:-2] not in text


def test_a_text_without_a_secret_stays_as_it_is() -> None:
    assert mask_secrets("the model is unknown", [KEY, ""]) == "the model is unknown"


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://user:pw@host:1/v1?api-key=k&x=y", "https://***@host:1/v1?api-key=***&x=***"),
        ("redis://:p/w@host/0", "redis://***@host/0"),
        ("https://host/v1", "https://host/v1"),
        ("user:pw@host", "***@host"),
    ],
)
def test_a_url_is_shown_without_its_secrets(url: str, shown: str) -> None:
    assert mask_url(url) == shown


def test_what_a_base_url_holds_is_a_secret_in_errors() -> None:
    url = "https://me:hunter22@host/v1?api-version=2024-06-01&api-key=abcdefghij"
    assert set(url_secrets(url)) == {"hunter22", "abcdefghij"}
    text = HttpRequest("v", url, {}).redact("bad login hunter22, bad key abcdefghij, version 2024-06-01")
    assert text == "bad login ***, bad key ***, version 2024-06-01"


def test_the_http_clients_own_log_line_shows_no_secret(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    transport = httpx.MockTransport(lambda _: httpx.Response(200))
    with httpx.Client(transport=transport) as client:
        client.get("https://me:hunter22@host/v1?key=abcdefghij")
    assert "https://***@host/v1?key=***" in caplog.text
    assert "hunter22" not in caplog.text
    assert "abcdefghij" not in caplog.text


@pytest.mark.parametrize(
    "url", ["amqps://u:hunter22@h//", "redis://:hunter22@h/0", "redis+sentinel://u:hunter22@a:1,b:2/svc"]
)
def test_no_repr_of_celerys_objects_shows_the_brokers_password(url: str) -> None:
    app = celery_app(Settings(broker_url=url))
    for shown in (app, app.conf, app.connection_for_write(), app.pool, app.amqp):
        assert "hunter22" not in repr(shown)
        assert "hunter22" not in str(shown)
    assert "hunter22" not in app.bugreport()
