"""The settings that agentkit reads from environment variables: the fields of `Settings`.

A setting's name, type, default and meaning stand in one place; the environment variable is
`AGENTKIT_` and the field's name in capitals. The table in docs/reference/settings.md is checked against this
one. This module reads no file and knows nothing of what the settings are for; the variables of
model vendors (`OPENAI_API_KEY` and the like) belong to the vendors' adapters.
"""

from __future__ import annotations

import binascii
import dataclasses
import math
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlsplit

from agentkit.codec import KEY_HINT, is_fernet_key
from agentkit.core.bounds import Bounds
from agentkit.core.hosts import HostPattern
from agentkit.core.masking import mask_url
from agentkit.core.urls import ClusterUrl
from agentkit.errors import ConfigurationError

__all__ = ["Setting", "Settings", "describe", "parse_setting", "webhook_key"]

PREFIX: Final = "AGENTKIT_"
_SECRET_BYTES: Final = 32
_WEBHOOK_PREFIX: Final = "whsec_"
_WEBHOOK_BYTES: Final = (24, 64)  # as Standard Webhooks has it
_WEBHOOK_SECRET_HINT: Final = (
    """python -c "import base64, secrets; """
    """print('whsec_' + base64.b64encode(secrets.token_bytes(32)).decode())\""""
)
_BOUNDS: Final = Bounds()


@dataclass(frozen=True, slots=True)
class Kind:
    """A type of setting. `parse` converts a text or raises ValueError; `expected` says in errors what it takes."""

    name: str
    expected: str
    parse: Callable[[str], object]


def _matching(name: str, expected: str, pattern: str) -> Kind:
    compiled = re.compile(pattern)

    def parse(text: str) -> str:
        if not compiled.fullmatch(text):
            raise ValueError(text)
        return text

    return Kind(name, expected, parse)


def _number(
    name: str, expected: str, read: Callable[[str], float], accept: Callable[[float], bool] = lambda _: True
) -> Kind:
    def parse(text: str) -> float:
        value = read(text)
        if not math.isfinite(value) or not accept(value):
            raise ValueError(text)
        return value

    return Kind(name, expected, parse)


def _origins(text: str) -> tuple[str, ...]:
    origins = tuple(part.strip().lower() for part in text.split(","))
    if origins != ("*",) and not all(re.fullmatch(r"[a-z][a-z0-9+.-]*://[\w.:\[\]-]+", origin) for origin in origins):
        raise ValueError(text)
    return origins


def _hosts(text: str) -> tuple[str, ...]:
    hosts = tuple(part.strip().lower() for part in text.split(","))
    if not all(HostPattern.read(host) for host in hosts):
        raise ValueError(text)
    return hosts


def _encryption_keys(text: str) -> tuple[str, ...]:
    keys = tuple(text.split())
    if not all(is_fernet_key(key) for key in keys):
        raise ValueError(text)
    return keys


def _webhooks(text: str) -> tuple[str, ...]:
    urls = tuple(dict.fromkeys(text.split()))
    for url in urls:
        parts = urlsplit(url)
        if parts.scheme.lower() not in ("http", "https") or not parts.hostname or parts.port == 0:  # may raise itself
            raise ValueError(text)
    return urls


def webhook_key(secret: str) -> bytes:
    """Return the key that a secret of AGENTKIT_WEBHOOK_SECRET stands for. Raises ValueError."""
    text = secret.removeprefix(_WEBHOOK_PREFIX)
    return binascii.a2b_base64(text + "=" * (-len(text) % 4), strict_mode=True)  # the padding may be left out


def _webhook_secrets(text: str) -> tuple[str, ...]:
    secrets = tuple(dict.fromkeys(text.split()))
    for secret in secrets:
        if not secret.startswith(_WEBHOOK_PREFIX):
            raise ValueError(text)
        size = len(webhook_key(secret))
        if not _WEBHOOK_BYTES[0] <= size <= _WEBHOOK_BYTES[1]:
            raise ValueError(text)
    return secrets


def _flag(text: str) -> bool:
    value = {"1": True, "true": True, "on": True, "0": False, "false": False, "off": False}.get(text.lower())
    if value is None:
        raise ValueError(text)
    return value


_TEXT = Kind("text", "text", str)
_FLAG = Kind("0 or 1", "1 or 0", _flag)
_APP = _matching("module:name", "module:name, such as shop.agents:kit", r"[A-Za-z_][\w.]*:[A-Za-z_][\w.]*")
_REDIS_URL = _matching(
    "URL",
    "a redis://, rediss:// or unix:// URL, redis+sentinel://host:port[,host:port]/service[/db], or "
    "redis+cluster://host:port[,host:port] without a database",
    r"(?:rediss?|unix)://\S+|rediss?\+sentinel://(?:[^@/\s]*@)?[^@/?#\s]+/[^/?#\s]+(?:/\d+)?/?(?:\?[^#\s]*)?"
    r"|rediss?\+cluster://(?:[^@/\s]*@)?[^@/?#\s]+(?:/0?)?(?:\?\S*)?",
)
_BROKER_URL = _matching("URL", "a broker URL that Celery understands, such as amqp://host", r"[a-z][\w+.-]*://\S*")
_HTTP_URL = _matching("URL", "an http:// or https:// URL", r"https?://[^\s/]\S*")
_PAGE_URL = _matching(
    "URL", "a path such as /login, or an http:// or https:// URL", r"/(?![/\\])\S*|https?://[^\s/]\S*"
)
# In a Redis Cluster, braces here would become the hash tag in place of the run id.
_KEY_PREFIX = _matching("text", "text without spaces, braces and glob characters", r"[^\s{}*?\[\]\\]+")
_TOKEN = _matching("text", "a token: visible ASCII characters without spaces", r"[!-~]+")
_QUEUE = _matching("text", "text of at most 200 characters without spaces and commas", r"[^\s,]{1,200}")
_ORIGINS = Kind("origins", "* or origins such as https://app.example.com, separated by commas", _origins)
_HOSTS = Kind("hosts", "hosts such as app.example.com or [::1]:8000, separated by commas", _hosts)
_ENCRYPTION_KEYS = Kind(
    "keys", f"Fernet keys separated by spaces, the newest first; a new one is printed by {KEY_HINT}", _encryption_keys
)
_WEBHOOKS = Kind("URLs", "http:// or https:// URLs separated by spaces", _webhooks)
_WEBHOOK_SECRETS = Kind(
    "secrets",
    "secrets separated by spaces, each whsec_ and the base64 of 24 to 64 bytes; a new one is printed by "
    + _WEBHOOK_SECRET_HINT,
    _webhook_secrets,
)
_LOG = _matching("word", "text or json", r"text|json")
_COUNT = _number("whole number", "a whole number of at least 1", int, lambda value: value >= 1)
_COUNT_OR_NONE = _number("whole number", "a whole number, 0 or more", int, lambda value: value >= 0)
_SECONDS = _number("seconds", "a number of seconds above 0", float, lambda value: value > 0)
_SECONDS_OR_NONE = _number("seconds", "a number of seconds, 0 or more", float, lambda value: value >= 0)
_KEEPALIVE = _number("seconds", "a number of seconds above 0 and below 15", float, lambda value: 0 < value < 15)


def _setting(default: object, kind: Kind, meaning: str, *, secret: bool = False) -> Any:
    """Declare a field of `Settings`. `secret`: it may hold a password, and stays out of the repr."""
    return dataclasses.field(
        default=default, repr=not secret, metadata={"kind": kind, "meaning": meaning, "secret": secret}
    )


@dataclass(frozen=True, kw_only=True)
class Settings:
    """The settings of one process. Read them once, with `from_env`, when it starts.

    An empty `broker_url` becomes `redis_url`, and an empty `queue` what `key_prefix` makes it.
    docs/reference/settings.md describes the fields.
    """

    app: str | None = _setting(None, _APP, "The application: the module and the name of its `AgentKit`.")
    redis_url: str = _setting(
        "redis://127.0.0.1:6379/0",
        _REDIS_URL,
        "The store of runs, and the broker where `AGENTKIT_BROKER_URL` is unset. Behind Sentinel: "
        "`redis+sentinel://[user:password@]host:port[,host:port]/service[/db]`. A Redis Cluster: "
        "`redis+cluster://[user:password@]host:port[,host:port]`, beside an `AGENTKIT_BROKER_URL` "
        "([On a Redis Cluster](../how-to/redis-cluster.md)). With TLS `rediss://`, `rediss+sentinel://` or "
        "`rediss+cluster://` ([Encrypted connections](../how-to/secure.md#encrypted-connections)). "
        "`agentkit dev` starts its own server where this is unset.",
        secret=True,
    )
    broker_url: str = _setting(
        "", _BROKER_URL, "Celery's broker. Unset, it is `AGENTKIT_REDIS_URL`, and a step costs less.", secret=True
    )
    key_prefix: str = _setting(
        "agentkit:",
        _KEY_PREFIX,
        "What every Redis key and channel of agentkit begins with. One prefix is one installation, its queue included.",
    )
    queue: str = _setting(
        "",
        _QUEUE,
        "The queue that steps are sent to, and that a worker serves unless `-Q` names others. Unset, it is "
        "`AGENTKIT_KEY_PREFIX` without its last colon.",
    )
    lease_seconds: float = _setting(
        30.0,
        _SECONDS,
        "How long a step stays leased to a worker that sends no heartbeat. A run whose worker died, or whose "
        "message was lost, goes on after about this time.",
    )
    ready_seconds: float = _setting(
        20.0,
        _SECONDS,
        "How long `/readyz` counts a queue as served after a worker has executed something of it.",
    )
    retention_seconds: int = _setting(
        604_800, _COUNT, "How long an ended run and its events are kept. The default is a week."
    )
    audit_seconds: int = _setting(
        31_536_000,
        _COUNT_OR_NONE,
        "How long the record of answers keeps an entry, which outlives its run ([The record of "
        "answers](../how-to/approvals.md#the-record-of-answers)). The default is a year; 0 keeps none.",
    )
    max_events: int = _setting(
        100_000,
        _COUNT,
        "Events kept per run. Older ones are trimmed, and a reader who asks for them gets `stream_reset`.",
    )
    steps_per_message: int = _setting(
        1,
        _COUNT,
        "How many steps of a run a worker executes for one message of the queue, one after the other and each as a "
        "task of its own, as long as nothing else waits "
        "([Several steps per message](../explanation/how-it-works.md#several-steps-per-message)). "
        "With 1 each goes through the broker; more costs less.",
    )
    max_attempts: int = _setting(5, _COUNT, "Attempts of one step before its run fails with `step_failed`.")
    flush_seconds: float = _setting(
        0.03,
        _SECONDS_OR_NONE,
        "How long streamed deltas are buffered before they are written together, where somebody follows the run; "
        "longer while the process is busy. 0 writes each by itself.",
    )
    flush_unfollowed_seconds: float = _setting(
        1.0,
        _SECONDS_OR_NONE,
        "The same where nobody follows the run. Whoever begins to gets the log at once, and what comes next after "
        "this at the latest.",
    )
    otel: bool = _setting(
        False,
        _FLAG,
        "1: traces and metrics of runs by OpenTelemetry, exported as the standard variables `OTEL_…` say "
        "(extra `[otel]`; [Traces by OpenTelemetry](../how-to/tracing.md)).",
    )
    stop_grace_seconds: float = _setting(
        5.0,
        _SECONDS_OR_NONE,
        "How long a model call may go on in a worker that is shutting down, before another worker takes it over. "
        "Keep it below the time after which your platform kills.",
    )
    max_body_bytes: int = _setting(10_000_000, _COUNT, "The largest HTTP request body that is read.")
    model_line_bytes: int = _setting(
        _BOUNDS.model_line_bytes,
        _COUNT,
        "The longest line of a model vendor's answer. A longer one ends the call with an error.",
    )
    model_answer_bytes: int = _setting(
        _BOUNDS.model_answer_bytes,
        _COUNT,
        "The largest answer of a model vendor, as it comes and decompressed. A larger one ends the call with an error.",
    )
    model_silence_seconds: float = _setting(
        _BOUNDS.model_silence_seconds,
        _SECONDS,
        "How long a model vendor may send no content: keepalives, comments and empty lines are none. An agent's model "
        "option `read_timeout` takes its place.",
    )
    max_result_bytes: int = _setting(
        _BOUNDS.max_result_bytes,
        _COUNT,
        "The largest result of a tool call, its details included. A larger one becomes an error result for the model; "
        "of a client or a person it is refused with 413.",
    )
    max_calls_per_turn: int = _setting(
        _BOUNDS.max_calls_per_turn,
        _COUNT,
        "Tool calls of one answer of a model that are carried out. Those beyond it get an error result.",
    )
    max_child_runs: int = _setting(
        _BOUNDS.max_child_runs,
        _COUNT,
        "Runs of sub-agents that one run may start. Calls beyond it get an error result.",
    )
    max_queued_messages: int = _setting(
        _BOUNDS.max_queued_messages,
        _COUNT,
        "Messages that were sent into one run and wait. One more is refused with 413.",
    )
    max_queued_bytes: int = _setting(
        _BOUNDS.max_queued_bytes,
        _COUNT,
        "Bytes that the messages which wait in one run may have together. What would exceed it is refused with 413.",
    )
    max_history_bytes: int = _setting(
        _BOUNDS.max_history_bytes,
        _COUNT,
        "Bytes of the messages that a run may take from another to begin with (`from`), as JSON. More is refused "
        "with 413.",
    )
    data_dir: str = _setting(".agentkit", _TEXT, "Where `agentkit dev` keeps its embedded store.")
    url: str = _setting("http://127.0.0.1:8000", _HTTP_URL, "The server that the command line talks to.", secret=True)
    token: str | None = _setting(
        None,
        _TOKEN,
        "The bearer token that the command line sends to the server, where that asks for one.",
        secret=True,
    )
    keepalive_seconds: float = _setting(
        14.0,
        _KEEPALIVE,
        "The longest silence of an event stream. A client that hung up is noticed within twice this time.",
    )
    max_watchers: int | None = _setting(
        None,
        _COUNT,
        "Event streams and WebSockets that one web process serves at once; more are refused with 503. Unset, it is "
        "seven eighths of gunicorn's `--threads` or `--worker-connections`, or of uvicorn's `--limit-concurrency`.",
    )
    max_watchers_per_principal: int | None = _setting(
        None,
        _COUNT,
        "Of these, those that one principal may hold; more are refused with 503. Unset, it is half of them, so that "
        "nobody takes every place.",
    )
    cors_origins: tuple[str, ...] = _setting(
        (),
        _ORIGINS,
        "Web pages of other origins that may call: `*`, or origins separated by commas.",
    )
    hosts: tuple[str, ...] = _setting(
        (),
        _HOSTS,
        "The `Host` headers that are answered, separated by commas; others get 400. `*.example.com` stands for all "
        "hosts below it, and a host without a port for any port. Unset, any host is answered.",
    )
    secret_key: str | None = _setting(
        None,
        _TEXT,
        "Signs stream tokens, which are off without it. Random, of at least 32 bytes; the same in all web processes.",
        secret=True,
    )
    encryption_keys: tuple[str, ...] = _setting(
        (),
        _ENCRYPTION_KEYS,
        "Encrypts what people, models and tools wrote, in the store and in what is published "
        "([Encryption at rest](../how-to/secure.md#encryption-at-rest)). Fernet keys separated by spaces, "
        "the newest first: that one encrypts, each decrypts. The same in all processes. Needs the extra `[crypto]`.",
        secret=True,
    )
    login_url: str | None = _setting(
        None,
        _PAGE_URL,
        "Where the page sends a person whom `authenticate` does not know, with the page's own address as `next`: a "
        "path of the host, or a URL.",
    )
    webhooks: tuple[str, ...] = _setting(
        (),
        _WEBHOOKS,
        "URLs, separated by spaces, that get notifications by POST as Standard Webhooks has it "
        "([Webhooks](../how-to/notifications.md#webhooks)).",
        secret=True,
    )
    webhook_secret: tuple[str, ...] = _setting(
        (),
        _WEBHOOK_SECRETS,
        "Signs them: `whsec_` and the base64 of 24 to 64 random bytes. Several, separated by spaces, while they are "
        "rotated: each signs.",
        secret=True,
    )
    stream_token_seconds: int = _setting(300, _COUNT, "How long a stream token opens its run's streams.")
    log: str = _setting(
        "text",
        _LOG,
        "How the workers and web processes that agentkit's own commands start write their logs: `text` or `json`, a "
        "line for each record with the ids of its step ([Logs](../how-to/logs.md)).",
    )

    def __post_init__(self) -> None:
        if ClusterUrl.names(self.broker_url or self.redis_url):
            which = (
                "AGENTKIT_BROKER_URL names" if self.broker_url else "AGENTKIT_BROKER_URL is not set, and the store is"
            )
            raise ConfigurationError(
                f"{which} a Redis Cluster, which Celery cannot use as its broker; set AGENTKIT_BROKER_URL to a "
                "RabbitMQ (amqp://…), or to a Redis that is no Cluster"
            )
        if not self.broker_url:
            object.__setattr__(self, "broker_url", self.redis_url)
        if self.secret_key is not None and len(self.secret_key.encode()) < _SECRET_BYTES:
            raise ConfigurationError(
                f"AGENTKIT_SECRET_KEY has {len(self.secret_key.encode())} bytes; expected at least {_SECRET_BYTES}, "
                """such as python -c "import secrets; print(secrets.token_urlsafe(32))" prints."""
            )
        if self.webhooks and not self.webhook_secret:
            raise ConfigurationError(
                "AGENTKIT_WEBHOOKS is set, and AGENTKIT_WEBHOOK_SECRET is not: their receivers could not tell who "
                f"calls; a secret is printed by {_WEBHOOK_SECRET_HINT}"
            )
        if not self.queue:
            object.__setattr__(self, "queue", self.key_prefix.removesuffix(":") or self.key_prefix)

    @property
    def bounds(self) -> Bounds:
        """The settings that bound what models, their vendors and tools may cost."""
        return Bounds(**{field.name: getattr(self, field.name) for field in dataclasses.fields(Bounds)})

    @classmethod
    def from_env(cls, env: Mapping[str, str] = os.environ) -> Settings:
        """Read the `AGENTKIT_…` variables of `env`, where an empty one counts as unset; unknown ones are ignored.

        Raises ConfigurationError, which names the variable, its value and what is expected.
        """
        values: dict[str, Any] = {}
        for field in dataclasses.fields(cls):
            variable = PREFIX + field.name.upper()
            text = env.get(variable, "").strip()
            if text:
                values[field.name] = _parse(variable, field, text)
        return cls(**values)


@dataclass(frozen=True, slots=True)
class Setting:
    """A row of the table of settings. `default`: the text that would set the default; None where there is none."""

    variable: str
    type: str
    default: str | None
    meaning: str


def describe() -> tuple[Setting, ...]:
    """Describe every setting, in the order of the table in docs/reference/settings.md."""
    return tuple(
        Setting(
            variable=PREFIX + field.name.upper(),
            type=field.metadata["kind"].name,
            default=_as_text(field.default),
            meaning=field.metadata["meaning"],
        )
        for field in dataclasses.fields(Settings)
    )


def parse_setting(name: str, text: str, variable: str) -> Any:
    """Parse a value of the field `name`, which a user knows as `variable`. Raises ConfigurationError."""
    return _parse(variable, Settings.__dataclass_fields__[name], text)


def _parse(variable: str, field: dataclasses.Field[Any], text: str) -> object:
    kind: Kind = field.metadata["kind"]
    try:
        return kind.parse(text)
    except ValueError:
        # No password in error texts and logs.
        shown = text if not field.metadata["secret"] else mask_url(text) if kind.name == "URL" else "***"
        raise ConfigurationError(f"{variable} is {shown!r}; expected {kind.expected}.") from None


def _as_text(default: object) -> str | None:
    if default in (None, "", ()):
        return None
    return f"{default:g}" if isinstance(default, float | bool) else str(default)
