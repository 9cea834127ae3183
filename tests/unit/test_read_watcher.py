"""The thread that watches sockets: it wakes who waits, and goes on whatever is wrong with one of them."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterator

import pytest

from agentkit.server.read_watcher import ReadWatcher


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair()
    yield ours, theirs
    ours.close()
    theirs.close()


def wakes(watcher: ReadWatcher, pair: tuple[socket.socket, socket.socket]) -> bool:
    ours, theirs = pair
    woken = threading.Event()
    watcher.watch(ours, woken.set)
    theirs.send(b"x")
    return woken.wait(5)


@pytest.mark.parametrize("error", [OSError(9, "Bad file descriptor"), ValueError("odd"), RuntimeError("changed")])
def test_it_goes_on_after_an_error_of_the_selector(
    error: Exception, pair: tuple[socket.socket, socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    watcher, other = ReadWatcher(), socket.socketpair()
    select, raised, asked = watcher._selector.select, threading.Event(), threading.Event()

    def failing_once(*arguments: float | None) -> object:
        if not raised.is_set():
            raised.set()
            raise error
        return select(*arguments)

    monkeypatch.setattr(watcher._selector, "select", failing_once)
    watcher.watch(other[0], asked.set)  # wakes the thread, which asks the selector again
    assert raised.wait(5)
    assert asked.wait(5), "it may be the socket that cannot be watched: who waits for it finds out by reading"
    assert wakes(watcher, pair)
    for each in other:
        each.close()


def test_it_goes_on_after_a_callback_that_fails(pair: tuple[socket.socket, socket.socket]) -> None:
    def fail() -> None:
        raise OSError("gone")

    watcher, other = ReadWatcher(), socket.socketpair()
    watcher.watch(other[0], fail)
    other[1].send(b"x")
    assert wakes(watcher, pair)
    for each in other:
        each.close()


def test_a_socket_that_was_closed_and_not_forgotten_leaves_its_number_to_the_next() -> None:
    watcher, first, second = ReadWatcher(), socket.socketpair(), socket.socketpair()
    watcher.watch(first[0], lambda: None)
    number = first[0].fileno()
    first[0].close()
    os.dup2(second[0].fileno(), number)
    reused = socket.socket(fileno=number)
    assert wakes(watcher, (reused, second[1]))
    for each in (first[1], *second, reused):
        each.close()
