from __future__ import annotations

import re
from pathlib import Path

import pytest

from agentkit.errors import ConfigurationError
from agentkit.settings import Settings, describe

DOCS = Path(__file__).parents[2] / "docs" / "reference" / "settings.md"


def test_an_empty_environment_gives_the_defaults() -> None:
    settings = Settings.from_env({})
    assert settings == Settings()
    assert settings.app is None
    assert settings.redis_url == "redis://127.0.0.1:6379/0"
    assert settings.key_prefix == "agentkit:"
    assert settings.lease_seconds == 30
    assert settings.retention_seconds == 7 * 24 * 3600
    assert settings.max_events == 100_000
    assert settings.max_attempts == 5
    assert settings.flush_seconds == 0.03
    assert settings.max_body_bytes == 10_000_000
    assert settings.data_dir == ".agentkit"
    assert settings.url == "http://127.0.0.1:8000"
    assert settings.keepalive_seconds == 14


def test_values_are_read_with_their_types() -> None:
    settings = Settings.from_env(
        {
            "AGENTKIT_APP": "shop.agents:kit",
            "AGENTKIT_LEASE_SECONDS": "0.5",
            "AGENTKIT_MAX_EVENTS": "250",
            "AGENTKIT_FLUSH_SECONDS": "0",
            "AGENTKIT_KEY_PREFIX": "ak:",
            "AGENTKIT_DATA_DIR": " /var/lib/agentkit ",
        }
    )
    assert settings == Settings(
        app="shop.agents:kit",
        lease_seconds=0.5,
        max_events=250,
        flush_seconds=0.0,
        key_prefix="ak:",
        data_dir="/var/lib/agentkit",
    )
    assert type(settings.max_events) is int
    assert type(settings.lease_seconds) is float


def test_the_broker_is_the_store_unless_it_is_named() -> None:
    store = {"AGENTKIT_REDIS_URL": "rediss://redis.example/3"}
    assert Settings.from_env(store).broker_url == "rediss://redis.example/3"
    assert Settings.from_env({**store, "AGENTKIT_BROKER_URL": "amqp://rabbit"}).broker_url == "amqp://rabbit"


def test_an_empty_variable_counts_as_unset() -> None:
    assert Settings.from_env({"AGENTKIT_REDIS_URL": "", "AGENTKIT_MAX_EVENTS": " "}) == Settings()


def test_unknown_variables_are_ignored() -> None:
    assert Settings.from_env({"AGENTKIT_COLOUR": "blue", "PATH": "/bin"}) == Settings()


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("AGENTKIT_APP", "shop.agents"),
        ("AGENTKIT_REDIS_URL", "127.0.0.1:6379"),
        ("AGENTKIT_BROKER_URL", "rabbit"),
        ("AGENTKIT_KEY_PREFIX", "{agentkit}:"),
        ("AGENTKIT_LEASE_SECONDS", "0"),
        ("AGENTKIT_LEASE_SECONDS", "nan"),
        ("AGENTKIT_RETENTION_SECONDS", "a week"),
        ("AGENTKIT_MAX_EVENTS", "1.5"),
        ("AGENTKIT_MAX_ATTEMPTS", "0"),
        ("AGENTKIT_FLUSH_SECONDS", "-1"),
        ("AGENTKIT_MAX_BODY_BYTES", "10MB"),
        ("AGENTKIT_URL", "localhost:8000"),
        ("AGENTKIT_KEEPALIVE_SECONDS", "15"),
        ("AGENTKIT_LOGIN_URL", "login"),
        ("AGENTKIT_LOGIN_URL", "//evil.example/login"),
        ("AGENTKIT_LOGIN_URL", "javascript:alert(1)"),
        ("AGENTKIT_KEEPALIVE_SECONDS", "inf"),
    ],
)
def test_a_bad_value_is_an_error_that_names_variable_value_and_expectation(variable: str, value: str) -> None:
    with pytest.raises(ConfigurationError, match=f"^{variable} is '{re.escape(value)}'; expected .+[.]$"):
        Settings.from_env({variable: value})


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("AGENTKIT_REDIS_URL", "http://user:hunter2@redis.example/0"),
        ("AGENTKIT_REDIS_URL", "redis ://:hunter2/x@redis.example/0"),
        ("AGENTKIT_REDIS_URL", "user:hunter2@redis.example:6379"),
        ("AGENTKIT_REDIS_URL", "redis.example/0?password=hunter2"),
        ("AGENTKIT_REDIS_URL", "redis+sentinel://u:hunter2@a:1"),
        ("AGENTKIT_BROKER_URL", "AMQP://user:hunter2@rabbit"),
        ("AGENTKIT_URL", "ftp://user:hunter2@host"),
        ("AGENTKIT_TOKEN", "hunter2 hunter2"),
    ],
)
def test_no_error_about_a_setting_shows_a_password(variable: str, value: str) -> None:
    with pytest.raises(ConfigurationError, match=f"^{variable} is ") as caught:
        Settings.from_env({variable: value})
    assert "hunter2" not in str(caught.value)


def test_no_repr_shows_a_password() -> None:
    settings = Settings(
        redis_url="redis://user:hunter2@redis.example/0",
        broker_url="amqp://user:hunter2@rabbit",
        url="http://user:hunter2@host",
        token="hunter2",
        secret_key="hunter2" * 10,
    )
    assert "hunter2" not in repr(settings)
    assert "hunter2" not in str(settings)


def test_every_default_is_a_value_that_the_environment_could_give() -> None:
    defaults = {row.variable: row.default for row in describe() if row.default is not None}
    assert Settings.from_env(defaults) == Settings()


def test_the_table_in_the_docs_is_true() -> None:
    expected = ["| Variable | Type | Default | Meaning |", "| --- | --- | --- | --- |"]
    for row in describe():
        default = f"`{row.default}`" if row.default is not None else "–"
        expected.append(f"| `{row.variable}` | {row.type} | {default} | {row.meaning} |")
    table = "\n".join(expected)
    assert table in DOCS.read_text(encoding="utf-8"), f"docs/reference/settings.md should hold this table:\n\n{table}\n"
