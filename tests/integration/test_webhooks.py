"""Webhooks as their receivers see them: verified by the published package, over real HTTP."""

from __future__ import annotations

import base64
import logging
import secrets
import time
from collections.abc import Iterator
from typing import Any

import pytest

from agentkit import Settings
from agentkit.client import webhooks
from agentkit.errors import ConfigurationError
from agentkit.store.memory import MemoryStore
from agentkit.testing.store import Clock
from tests.apps import App
from tests.tools import YES, refund_with
from tests.turns import call
from tests.webhook_receiver import Receiver

DAY = 86_400


def new_secret(size: int = 32) -> str:
    return "whsec_" + base64.b64encode(secrets.token_bytes(size)).decode()


@pytest.fixture
def secret() -> str:
    return new_secret()


@pytest.fixture
def receiver(secret: str) -> Iterator[Receiver]:
    with Receiver(secret) as receiver:
        yield receiver


class Place:
    """An application with webhooks, whose notifications a test delivers by hand, on a store whose clock it moves."""

    def __init__(self, urls: list[str], secret: str, *turns: Any, **options: Any) -> None:
        self.clock = Clock()
        self.app = App(
            *(turns or ("done",)),
            store=MemoryStore(retention_seconds=7 * DAY, clock=self.clock.now),
            webhooks=tuple(urls),
            webhook_secret=tuple(secret.split()),
            **options,
        )

    def deliver(self) -> None:
        while self.app.queue.notifications:
            self.app.kit.deliver(*self.app.queue.notifications.pop(0))

    def run(self) -> str:
        run_id = self.app.run()
        self.deliver()
        return run_id

    def after(self, seconds: float) -> None:
        self.clock.ms += round(seconds * 1000)
        while self.app.kit.recovery().sweep():
            self.deliver()
        self.deliver()

    def waits(self, run_id: str) -> int:
        """How many notifications wait."""
        return len(self.app.store.outbox(run_id))


def test_a_receiver_gets_every_event_signed(receiver: Receiver, secret: str) -> None:
    refund = refund_with(decision_timeout=100)
    place = Place([receiver.url()], secret, [call("refund", cents=5)], "done", tools=[refund], remind_before=10)
    run_id = place.run()
    place.after(90)
    place.app.kit.resume(run_id, YES)
    place.app.work()
    place.deliver()
    assert [event["type"] for event in receiver.events] == [
        "decision.pending",
        "run.paused",
        "decision.expiring",
        "run.completed",
    ]
    for request in receiver.requests:
        assert request.headers["webhook-id"] == request.event["id"]
        assert abs(int(request.headers["webhook-timestamp"]) - time.time()) < 60 + 90
        assert request.headers["content-type"] == "application/json"
        assert request.event["data"]["runId"] == run_id
    assert place.waits(run_id) == 0


@pytest.mark.parametrize("place_of_known", [0, 1])
def test_while_secrets_are_rotated_a_receiver_that_knows_one_can_verify(place_of_known: int, secret: str) -> None:
    both = [new_secret(), new_secret(24)]
    with Receiver(both[place_of_known]) as receiver:
        Place([receiver.url()], " ".join(both)).run()
        assert [event["type"] for event in receiver.events] == ["run.completed"]
        assert len(receiver.requests[0].headers["webhook-signature"].split()) == 2
        Place([receiver.url()], secret).run()
        assert receiver.events[1] is None, "a secret that it does not know"


def test_what_is_refused_is_sent_again_with_the_same_id_and_a_new_time(receiver: Receiver, secret: str) -> None:
    receiver.answer = lambda request, number: [500, 404, (429, {"retry-after": "1"}), 200][number]
    place = Place([receiver.url()], secret)
    run_id = place.run()
    for _ in range(3):
        assert place.waits(run_id) == 1
        place.after(60)
    assert place.waits(run_id) == 0
    assert len({request.headers["webhook-id"] for request in receiver.requests}) == 1
    assert len({request.body for request in receiver.requests}) == 1
    assert len({request.headers["webhook-timestamp"] for request in receiver.requests}) == 4
    assert [event is not None for event in receiver.events] == [True] * 4


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_no_redirect_is_followed(receiver: Receiver, secret: str, status: int) -> None:
    receiver.answer = lambda request, number: (status, {"location": receiver.url("/elsewhere")})
    place = Place([receiver.url()], secret)
    run_id = place.run()
    place.after(60)
    assert [request.path for request in receiver.requests] == ["/hook", "/hook"]
    assert place.waits(run_id) == 1


def test_gone_ends_it_for_that_url_for_good_and_for_no_other(receiver: Receiver, secret: str) -> None:
    receiver.answer = lambda request, number: 410 if request.path == "/gone" else 200
    place = Place([receiver.url("/gone"), receiver.url("/there")], secret)
    runs = [place.app.run(), place.app.run()]
    place.deliver()
    for _ in range(2):
        place.app.another_worker()
        runs.append(place.run())
    place.after(DAY)
    paths = [request.path for request in receiver.requests]
    assert (paths.count("/gone"), paths.count("/there")) == (1, 4)
    assert [place.waits(run_id) for run_id in runs] == [0] * 4
    again = Place([receiver.url("/gone#2")], secret)
    again.app.store = place.app.store
    again.app.another_worker()
    again.run()
    assert receiver.requests[-1].path == "/gone", "another fragment is another webhook"


def test_each_url_has_its_own_fate(receiver: Receiver, secret: str) -> None:
    receiver.answer = lambda request, number: 500 if request.path == "/broken" else 200
    place = Place([receiver.url("/broken"), receiver.url("/there")], secret)
    run_id = place.run()
    place.after(60)
    paths = [request.path for request in receiver.requests]
    assert paths.count("/there") == 1
    assert paths.count("/broken") >= 2
    assert place.waits(run_id) == 1


def test_a_receiver_that_is_away_is_tried_for_a_day(secret: str, caplog: pytest.LogCaptureFixture) -> None:
    with Receiver(secret) as receiver:
        url = receiver.url()
    place = Place([url], secret)
    run_id = place.run()
    for _ in range(23):
        place.after(3600)
        assert place.waits(run_id) == 1
    place.after(2 * 3600)
    assert place.waits(run_id) == 0
    assert "is dropped after" in caplog.text


def test_a_receiver_that_says_nothing_is_given_up_in_time(
    receiver: Receiver, secret: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    assert webhooks.TIMEOUT == 10
    monkeypatch.setattr(webhooks, "TIMEOUT", 0.3)
    receiver.answer = lambda request, number: None
    place = Place([receiver.url()], secret)
    began = time.monotonic()
    run_id = place.run()
    assert time.monotonic() - began < 5
    assert place.waits(run_id) == 1
    assert "no answer within 0.3 s" in caplog.text or "silent for 0.3 s" in caplog.text


def test_a_login_in_the_url_is_sent_and_never_logged(
    receiver: Receiver, secret: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    receiver.answer = lambda request, number: [500, 410][number]
    place = Place([receiver.url("/hook?token=hunter3", "ann:hunter2@")], secret)
    place.run()
    place.after(60)
    assert len(receiver.requests) == 2
    assert receiver.requests[0].headers["authorization"] == "Basic " + base64.b64encode(b"ann:hunter2").decode()
    assert "127.0.0.1" in caplog.text
    for hidden in ("hunter2", "hunter3", secret):
        assert hidden not in caplog.text


def test_a_test_and_a_run_in_this_thread_send_nothing(receiver: Receiver, secret: str) -> None:
    place = Place([receiver.url()], secret)
    with place.app.kit.testing():
        place.app.kit.start("a", "go")
    place.app.kit.run("a", "go")
    assert receiver.requests == []


# -- settings


def test_settings_are_read_from_the_environment(secret: str) -> None:
    other = new_secret(64)
    settings = Settings.from_env(
        {
            "AGENTKIT_WEBHOOKS": " https://a.example/x  http://10.0.0.7:8080/hook https://a.example/x",
            "AGENTKIT_WEBHOOK_SECRET": f"{secret} {other}",
        }
    )
    assert settings.webhooks == ("https://a.example/x", "http://10.0.0.7:8080/hook")
    assert settings.webhook_secret == (secret, other)
    assert secret not in repr(settings)


@pytest.mark.parametrize(
    "urls", ["ftp://a.example", "a.example", "https://", "https://a.example:99999/", "file:///etc/passwd", "http://:80"]
)
def test_what_is_no_url_is_refused_without_a_secret_in_the_error(urls: str, secret: str) -> None:
    with pytest.raises(
        ConfigurationError, match=r"AGENTKIT_WEBHOOKS is .* expected http:// or https:// URLs"
    ) as caught:
        Settings.from_env(
            {"AGENTKIT_WEBHOOKS": f"https://u:hunter2@b.example {urls}", "AGENTKIT_WEBHOOK_SECRET": secret}
        )
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    "bad", ["x", "whsec_", "whsec_!!!!", "whsec_" + "eHh4" * 7, "whsec_" + "eHh4" * 22, "eHh4" * 10]
)
def test_what_is_no_secret_is_refused_and_not_shown(bad: str, secret: str) -> None:
    with pytest.raises(ConfigurationError, match=r"AGENTKIT_WEBHOOK_SECRET is .*whsec_ and the base64 of 24") as caught:
        Settings.from_env({"AGENTKIT_WEBHOOK_SECRET": f"{secret} {bad}"})
    assert secret not in str(caught.value)


def test_webhooks_without_a_secret_are_refused() -> None:
    with pytest.raises(ConfigurationError, match="AGENTKIT_WEBHOOK_SECRET is not"):
        Settings.from_env({"AGENTKIT_WEBHOOKS": "https://a.example/x"})
    with pytest.raises(ConfigurationError, match="AGENTKIT_WEBHOOK_SECRET is not"):
        Settings(webhooks=("https://a.example/x",))
