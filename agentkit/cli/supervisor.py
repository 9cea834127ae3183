"""Keeps a few programs running as children of this process, and leaves none of them behind.

Rules that this module alone knows:

1. Each program is a process group of its own: a Ctrl-C in the terminal reaches the supervisor alone, and
   when a program ends, however it ends, what is left of its group is killed.
2. On Linux the kernel ends the programs when the supervisor dies, even by SIGKILL. It watches the thread
   that started them, so everything here happens in the main thread.
3. A program that dies is started again, after a pause that grows while it keeps dying.

It knows nothing of what the programs are.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import selectors
import signal
import socket
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import FrameType
from typing import Any, Self

from agentkit.errors import AgentKitError

__all__ = ["Program", "ProgramFailedError", "StoppedError", "Supervisor"]

_PR_SET_PDEATHSIG = 1
_FIRST_PAUSE, _LONGEST_PAUSE, _STEADY_SECONDS = 0.2, 5.0, 10.0
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class ProgramFailedError(AgentKitError):
    """A program ended while it was being started."""

    code = "program_failed"


class StoppedError(AgentKitError):
    """Stopped by a signal."""

    code = "stopped"


@dataclass(frozen=True, slots=True)
class Program:
    """What to run. `grace`: seconds between SIGTERM and SIGKILL when it is stopped.

    `on_orphan`: the signal that it gets when the supervisor is gone. `keep`: open files that it inherits.
    `log`: where its output goes instead of the supervisor's report.
    """

    name: str
    words: Sequence[str]
    env: Mapping[str, str]
    grace: float = 8.0
    on_orphan: signal.Signals = signal.SIGKILL
    keep: tuple[int, ...] = ()
    log: str | None = None


@dataclass(eq=False, slots=True)
class _Child:
    program: Program
    process: subprocess.Popen[bytes] | None = None
    started_at: float = 0.0
    start_at: float | None = None
    pause: float = _FIRST_PAUSE
    rest: bytes = b""
    last: str = ""


class Supervisor:
    """A context manager: its end is the end of all programs.

    `report(program, line)` gets every line that a program prints; `note(line)` what the supervisor did.
    """

    def __init__(self, report: Callable[[str, str], None], note: Callable[[str], None]) -> None:
        self._report = report
        self._note = note
        self._children: dict[str, _Child] = {}
        self._selector = selectors.DefaultSelector()
        self._wake, self._waker = socket.socketpair()
        self._handlers: dict[int, Any] = {}
        self._steady = False
        self.signals = 0
        """How many times it was told to stop."""

    def __enter__(self) -> Self:
        for end in (self._wake, self._waker):
            end.setblocking(False)
        self._selector.register(self._wake, selectors.EVENT_READ)
        for number in (*_SIGNALS, signal.SIGCHLD):
            self._handlers[number] = signal.signal(number, self._on_signal)
        self._old_wakeup = signal.set_wakeup_fd(self._waker.fileno(), warn_on_full_buffer=False)
        return self

    def __exit__(self, *exc: object) -> None:
        try:
            self._stop()
        finally:
            signal.set_wakeup_fd(self._old_wakeup)
            for number, handler in self._handlers.items():
                signal.signal(number, handler)
            self._selector.close()
            self._wake.close()
            self._waker.close()

    def wake(self) -> None:
        """Make a running `turn` return. The one method that other threads may call, beside `pids`."""
        with contextlib.suppress(OSError):
            self._waker.send(b"\0")

    def pids(self) -> dict[str, int]:
        """The pids of the programs that run, in the order of their start."""
        children = list(self._children.values())
        return {c.program.name: c.process.pid for c in children if c.process is not None}

    def start(self, program: Program) -> None:
        """Start a program; from now on it is kept running. Raises ProgramFailedError where it cannot be found."""
        child = self._children[program.name] = _Child(program)
        try:
            self._launch(child)
        except OSError as error:
            raise ProgramFailedError(f"{program.name} cannot be started: {error}") from error

    def wait(self, ready: Callable[[], bool], seconds: float, every: float = 0.1) -> bool:
        """Turn until `ready`, at most so long; whether it is.

        Until a first `steady()`, a program that ends is not started again, but is a ProgramFailedError with
        the last line that it printed. A signal to stop is a StoppedError.
        """
        deadline = time.monotonic() + seconds
        while not ready():
            if self.signals:
                raise StoppedError
            if time.monotonic() >= deadline:
                return False
            self.turn(every)
        return True

    def steady(self) -> None:
        """The start is over: from now on programs that end are started again."""
        self._steady = True

    def turn(self, timeout: float) -> None:
        """Wait at most so long for something to happen, and deal with what did."""
        due = [child.start_at for child in self._children.values() if child.start_at is not None]
        until = min([time.monotonic() + timeout, *due])
        for key, _ in self._selector.select(max(0.0, until - time.monotonic())):
            if key.data is None:
                with contextlib.suppress(BlockingIOError):
                    while self._wake.recv(4096):
                        pass
            else:
                self._read(key.data, key.fd)
        for child in self._children.values():
            if child.process is not None and child.process.poll() is not None:
                self._died(child)
            elif child.start_at is not None and child.start_at <= time.monotonic():
                self._launch(child)
                self._note(f"{child.program.name} runs again, pid {self.pids()[child.program.name]}")

    # -- inside

    def _on_signal(self, number: int, _frame: FrameType | None) -> None:
        if number != signal.SIGCHLD:
            self.signals += 1

    def _launch(self, child: _Child) -> None:
        program = child.program
        child.start_at = None
        child.started_at = time.monotonic()
        with contextlib.ExitStack() as stack:
            output: Any = subprocess.PIPE
            if program.log is not None:
                output = stack.enter_context(open(program.log, "ab"))
            child.process = subprocess.Popen(
                program.words,
                env=dict(program.env),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=_orphan_guard(program.on_orphan),
                pass_fds=program.keep,
            )
        if child.process.stdout is not None:
            os.set_blocking(child.process.stdout.fileno(), False)
            self._selector.register(child.process.stdout, selectors.EVENT_READ, child)

    def _read(self, child: _Child, fd: int) -> None:
        try:
            data = os.read(fd, 65536)
        except BlockingIOError:
            return
        *lines, child.rest = (child.rest + data).split(b"\n")
        if not data:
            if child.rest:
                lines, child.rest = [child.rest], b""
            if child.process is not None and child.process.stdout is not None:
                self._selector.unregister(child.process.stdout)
                child.process.stdout.close()
                child.process.stdout = None
        for line in lines:
            text = line.decode(errors="replace").rstrip()
            child.last = text or child.last
            self._report(child.program.name, text)

    def _died(self, child: _Child) -> None:
        process = self._bury(child)
        name = child.program.name
        how = _how(process.returncode)
        if not self._steady:
            said = self._last_words(child)
            raise ProgramFailedError(f"the {name} did not start ({how}){': ' if said else ''}{said}")
        lived = time.monotonic() - child.started_at
        child.pause = _FIRST_PAUSE if lived >= _STEADY_SECONDS else min(child.pause * 2, _LONGEST_PAUSE)
        child.start_at = time.monotonic() + child.pause
        self._note(f"{name} is gone ({how}, pid {process.pid}); starting it again")

    def _bury(self, child: _Child) -> subprocess.Popen[bytes]:
        """End what is left of a dead program's group, and read what it still said."""
        process = child.process
        assert process is not None
        _kill_group(process.pid, signal.SIGKILL)
        while process.stdout is not None:
            self._read(child, process.stdout.fileno())
            if process.stdout is not None and not self._readable(process.stdout):
                self._selector.unregister(process.stdout)
                process.stdout.close()
                process.stdout = None
        child.process = None
        return process

    def _readable(self, stream: Any) -> bool:
        with selectors.DefaultSelector() as selector:
            selector.register(stream, selectors.EVENT_READ)
            return bool(selector.select(0.05))

    def _last_words(self, child: _Child) -> str:
        if child.program.log is not None:
            with contextlib.suppress(OSError), open(child.program.log, errors="replace") as log:
                return "".join(deque(log, maxlen=1)).strip()
        return child.last

    def _stop(self) -> None:
        """End all programs, the last started first. A further signal kills what is left at once."""
        asked = self.signals
        for child in reversed(self._children.values()):
            child.start_at = None
            process = child.process
            if process is None:
                continue
            with contextlib.suppress(ProcessLookupError):
                process.terminate()
            deadline = time.monotonic() + child.program.grace
            while process.poll() is None and time.monotonic() < deadline and self.signals <= asked:
                for key, _ in self._selector.select(0.1):
                    if key.data is None:
                        with contextlib.suppress(BlockingIOError):
                            self._wake.recv(4096)
                    else:
                        self._read(key.data, key.fd)
            _kill_group(process.pid, signal.SIGKILL)
            process.wait()
            self._bury(child)


def _orphan_guard(number: signal.Signals) -> Callable[[], None] | None:
    if sys.platform != "linux":
        return None
    prctl = ctypes.CDLL(None).prctl
    parent = os.getpid()

    def guard() -> None:
        prctl(_PR_SET_PDEATHSIG, int(number))
        if os.getppid() != parent:  # it died before the kernel was told
            os._exit(1)

    return guard


def _kill_group(pid: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, number)


def _how(returncode: int) -> str:
    if returncode >= 0:
        return f"exit status {returncode}"
    try:
        return f"killed by {signal.Signals(-returncode).name}"
    except ValueError:
        return f"killed by signal {-returncode}"
