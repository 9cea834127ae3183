"""Clients that start runs, follow them and answer, over HTTP and through all faults. They know the HTTP API only.

What they must do themselves: repeat a request that was not answered, with its Idempotency-Key or its
decisionId; use another web process; go on after the last event that they have.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Sequence
from random import Random
from typing import Any

import httpx

from chaos.report import Answer, Deadline, Played, Report

__all__ = ["Client", "GiveUpError", "ask"]

_TIMEOUT = httpx.Timeout(5.0)
_PENDING = ("tool_decision_pending", "tool_in_doubt")


class GiveUpError(Exception):
    """The deadline has passed."""


def ask(
    http: httpx.Client, random: Random, urls: Sequence[str], deadline: Deadline, report: Report, method: str, path: str,
    **options: Any,
) -> httpx.Response:  # fmt: skip
    """Send a request until it is answered, to any web process, while none answers or the store is unavailable."""
    while not deadline.passed():
        try:
            response = http.request(method, random.choice(urls) + path, **options)
        except httpx.TransportError:
            report.count("request without answer")
        else:
            if response.status_code == 503:
                report.count("request answered 503")
                if "Retry-After" not in response.headers or response.json()["code"] != "store_unavailable":
                    report.violated(
                        f"{method} {path}: a 503 without Retry-After and the code store_unavailable: {response.text}"
                    )
            elif response.status_code >= 500:
                report.violated(f"{method} {path} answered {response.status_code}: {response.text}")
            else:
                return response
        threading.Event().wait(random.uniform(0.05, 0.3))
    raise GiveUpError(f"{method} {path}")


class Client:
    """One run: started, followed to its end, answered on the way."""

    def __init__(self, seed: str, number: int, urls: Sequence[str], report: Report, deadline: Deadline) -> None:
        self._name = f"{seed}-{number}"
        self._number = number
        self._random = Random(self._name)
        self._urls = urls
        self._report = report
        self._deadline = deadline
        self._answer_threads: list[threading.Thread] = []

    def play(self) -> None:
        """Play the run to its end, or until the deadline."""
        with httpx.Client(timeout=_TIMEOUT) as http:
            try:
                run = self._start(http)
                self._report.accepted(run)
                while not run.ended:
                    self._follow(http, run)
            except GiveUpError as error:
                self._report.violated(f"run {self._name}: no end in time ({error})")
            for thread in self._answer_threads:
                thread.join()

    def _ask(self, http: httpx.Client, random: Random, method: str, path: str, **options: Any) -> httpx.Response:
        return ask(http, random, self._urls, self._deadline, self._report, method, path, **options)

    def _start(self, http: httpx.Client) -> Played:
        options = {"headers": {"Idempotency-Key": self._name}, "json": {"agent": "chaos", "input": self._name}}
        ids = set()
        for _ in range(self._random.choice((1, 1, 2))):  # the same start again is the same run
            response = self._ask(http, self._random, "POST", "/runs", **options)
            if response.status_code != 202:
                self._report.violated(f"POST /runs answered {response.status_code}: {response.text}")
                raise GiveUpError("not accepted")
            ids.add(response.json()["id"])
        if len(ids) > 1:
            self._report.violated(f"one Idempotency-Key made the runs {ids}")
        return Played(self._number, ids.pop())

    def _follow(self, http: httpx.Client, run: Played) -> None:
        """Read one connection until it breaks, the run ends, or at random."""
        if self._deadline.passed():
            raise GiveUpError(f"{run.run_id} after {len(run.events)} events")
        url = f"{self._random.choice(self._urls)}/runs/{run.run_id}/events"
        headers = {"Last-Event-ID": str(len(run.events))} if run.events else {}
        events_left = self._random.randint(5, 60) if self._random.random() < 0.3 else 1_000_000
        self._report.count("stream")
        try:
            with http.stream("GET", url, headers=headers) as response:
                if response.status_code not in (200, 503):
                    refusal = f"{response.status_code}: {response.read().decode(errors='replace')}"
                    self._report.violated(f"events of {run.run_id} after {len(run.events)} answered {refusal}")
                if response.status_code == 200:
                    for event in _frames(response.iter_lines(), self._deadline):
                        self._handle(run, event)
                        events_left -= 1
                        if run.ended or not events_left:
                            return
        except httpx.TransportError:
            self._report.count("stream broken")
        threading.Event().wait(self._random.uniform(0.02, 0.2))

    def _handle(self, run: Played, event: dict[str, Any]) -> None:
        if event.get("seq") != len(run.events) + 1:
            self._report.violated(f"run {run.run_id}: after seq {len(run.events)} came {event}")
            raise GiveUpError("a stream with a gap")
        run.events.append(event)
        if event["type"] in _PENDING:
            self._answer(run, event)
        run.ended = event["type"] == "agent_end"

    def _answer(self, run: Played, event: dict[str, Any]) -> None:
        """Answer an item, at times more than once, with the same or with different values."""
        random = self._random
        same_value = random.random() < 0.5
        wait = random.choice((0.0, 0.0, random.uniform(0, 2)))
        first = self._value(event, 0)
        for variant in range(random.choice((1, 1, 2, 3))):
            value = first if same_value else self._value(event, variant)
            arguments = (run, event["decisionId"], value, wait, Random(random.random()))
            self._answer_threads.append(threading.Thread(target=self._send_answer, args=arguments, daemon=True))
            self._answer_threads[-1].start()

    def _value(self, event: dict[str, Any], variant: int) -> dict[str, Any]:
        if event["type"] == "tool_in_doubt":
            self._report.count("item in doubt")
            return {
                "verdict": self._random.choice(("retry", "retry", "done", "failed")),
                "result": f"variant {variant}",
            }
        return {"approved": self._random.random() < 0.5, "note": f"variant {variant}"}

    def _send_answer(self, run: Played, decision_id: str, value: dict[str, Any], wait: float, random: Random) -> None:
        threading.Event().wait(wait)
        body = {"decision": value, "decisionId": decision_id}
        with httpx.Client(timeout=_TIMEOUT) as http:
            for _ in range(random.choice((1, 1, 2))):  # the same answer again is the same answer
                try:
                    response = self._ask(http, random, "POST", f"/runs/{run.run_id}/resume", json=body)
                except GiveUpError as error:
                    self._report.violated(f"run {run.run_id}: an answer was not accepted in time ({error})")
                    return
                code = response.json().get("code")
                run.answers.append(Answer(decision_id, value, response.status_code, code))


def _frames(lines: Iterator[str], deadline: Deadline) -> Iterator[dict[str, Any]]:
    """Yield the events of whole frames, until the deadline; a frame that was cut off is dropped."""
    fields: dict[str, str] = {}
    for line in lines:
        if deadline.passed():  # comments keep a silent stream alive
            return
        if line:
            name, _, value = line.partition(":")
            fields[name] = value.removeprefix(" ")
        else:
            if "data" in fields:
                event: dict[str, Any] = json.loads(fields["data"])
                if fields.get("id") != str(event.get("seq")):
                    event["seq"] = f"id {fields.get('id')}"  # an id that is not its seq is a gap to the reader
                yield event
            fields = {}
