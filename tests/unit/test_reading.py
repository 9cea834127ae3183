"""A model's answer is read by two threads in turn, and nothing of it is lost between them."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Iterator
from queue import Empty, SimpleQueue

import pytest

from agentkit.providers.protocol import NOTHING, Part, TextDelta
from agentkit.runtime.reading import AnswerReader
from tests.waiting import wait_until

SECONDS = 60.0


class Source:
    """Parts that come as the test says, to a reader that is not held."""

    def __init__(self, reader: Callable[[], AnswerReader]) -> None:
        self._reader = reader
        self._queue: SimpleQueue[Part | Exception | None] = SimpleQueue()
        self.closed = False

    def put(self, *parts: Part | Exception | None) -> None:
        for part in parts:
            self._queue.put(part)

    def __call__(self) -> Iterator[Part]:
        try:
            while True:
                try:
                    part = self._queue.get_nowait()
                except Empty:
                    self._reader().idle(SECONDS)
                    yield NOTHING
                    continue
                if part is None:
                    return
                if isinstance(part, Exception):
                    raise part
                yield part
        finally:
            self.closed = True


class Reading:
    """An answer that a thread reads; `step`: its name. `takers`: who took each text."""

    def __init__(self, enough: str | None = None) -> None:
        self.texts: list[str] = []
        self.takers: list[str] = []
        self.collected = 0
        self.failure: BaseException | None = None
        self.reader = AnswerReader(lambda part: self._take(part, enough), self._note)
        self.source = Source(lambda: self.reader)
        self._thread = threading.Thread(target=self._read, name="step", daemon=True)

    def _take(self, part: Part, enough: str | None) -> bool:
        assert isinstance(part, TextDelta)
        self.takers.append(threading.current_thread().name)
        self.texts.append(part.text)
        return part.text != enough

    def _note(self) -> None:
        self.collected += 1

    def _read(self) -> None:
        try:
            self.reader.read(self.source())
        except BaseException as error:
            self.failure = error

    def begin(self) -> None:
        self._thread.start()
        self.source.put(TextDelta("first"))
        self.reader.wake()
        wait_until(lambda: self.texts == ["first"], what="the first part")

    def join(self) -> None:
        self._thread.join(SECONDS)
        assert not self._thread.is_alive()


def in_thread(act: Callable[[], None]) -> None:
    thread = threading.Thread(target=act, name="flusher")
    thread.start()
    thread.join(SECONDS)
    assert not thread.is_alive()


def test_what_was_collected_is_read_by_whoever_has_time_and_what_is_in_a_hurry_by_the_step() -> None:
    reading = Reading()
    reading.begin()
    reading.source.put(TextDelta("second"))
    reading.reader.collected()
    assert reading.collected == 1
    in_thread(reading.reader.read_collected)
    reading.source.put(TextDelta("third"), None)
    reading.reader.wake()
    reading.join()
    assert reading.texts == ["first", "second", "third"]
    assert reading.takers == ["step", "flusher", "step"]
    assert reading.source.closed


def test_another_thread_reads_nothing_before_the_step_has_begun() -> None:
    reading = Reading()
    in_thread(reading.reader.read_collected)
    reading.begin()
    reading.source.put(None)
    reading.reader.wake()
    reading.join()
    assert reading.takers == ["step"]


def test_an_answer_that_holds_whoever_reads_it_is_read_by_the_step_alone() -> None:
    reading, go_on = Reading(), threading.Event()

    def parts() -> Iterator[Part]:
        yield TextDelta("first")
        assert go_on.wait(SECONDS)
        yield TextDelta("second")

    step = threading.Thread(target=lambda: reading.reader.read(parts()), name="step")
    step.start()
    wait_until(lambda: reading.texts == ["first"], what="the first part")
    in_thread(reading.reader.read_collected)
    go_on.set()
    step.join(SECONDS)
    assert reading.takers == ["step", "step"]


def test_an_end_that_another_thread_meets_wakes_the_step() -> None:
    reading = Reading()
    reading.begin()
    reading.source.put(TextDelta("last"), None)
    in_thread(reading.reader.read_collected)
    reading.join()
    assert reading.takers == ["step", "flusher"]
    assert reading.failure is None


def test_a_failure_that_another_thread_meets_is_raised_in_the_step() -> None:
    reading = Reading()
    reading.begin()
    reading.source.put(TextDelta("before"), ValueError("broken"))
    in_thread(reading.reader.read_collected)
    reading.join()
    assert reading.texts == ["first", "before"]
    assert isinstance(reading.failure, ValueError)


def test_no_more_is_read_when_there_is_no_use_for_it() -> None:
    reading = Reading(enough="enough")
    reading.begin()
    reading.source.put(TextDelta("enough"), TextDelta("too much"))
    in_thread(reading.reader.read_collected)
    reading.join()
    in_thread(reading.reader.read_collected)
    assert reading.texts == ["first", "enough"]
    assert reading.source.closed


@pytest.mark.parametrize("seed", range(5))
def test_nothing_is_lost_or_doubled_whoever_reads_first(seed: int) -> None:
    reading, rng = Reading(), random.Random(seed)
    reading.begin()
    expected = [str(number) for number in range(500)]
    for text in expected:
        reading.source.put(TextDelta(text))
        if rng.random() < 0.3:
            reading.reader.wake()
        else:
            reading.reader.read_collected()
    reading.source.put(None)
    reading.reader.wake()
    reading.join()
    assert reading.texts == ["first", *expected]
