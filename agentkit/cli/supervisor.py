"""Keeps a few programs running as children of this process, and leaves none of them behind.

Rules that this module alone knows:

1. Each program is a process group of its own: a Ctrl-C in the terminal reaches the supervisor alone, and
   when a program ends, however it ends, what is left of its group is killed.
2. On Linux the kernel ends the programs when the supervisor dies, even by SIGKILL. It watches the thread
   that started them, so everything here happens in the main thread.
3. A program that dies is restarted, after a delay that doubles while it keeps dying.

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
_FIRST_DELAY, _MAX_DELAY, _STABLE_SECONDS = 0.2, 5.0, 10.0
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class ProgramFailedError(AgentKitError):
    """A program ended while it was being started."""

    code = "program_failed"


class StoppedError(AgentKitError):
    """Stopped by a signal."""

    code = "stopped"


@dataclass(frozen=True, slots=True)
class Program:
    """A program to run. `grace`: seconds between SIGTERM and SIGKILL when it is stopped.

    `umask`: of the files that it makes; -1 for that of the supervisor. `on_orphan`: the signal that it gets when the
    supervisor dies. `pass_fds`: file descriptors that it inherits. `log`: the file that gets its output, which
    otherwise goes to the supervisor's `report`.
    """

    name: str
    command: Sequence[str]
    env: Mapping[str, str]
    grace: float = 8.0
    on_orphan: signal.Signals = signal.SIGKILL
    pass_fds: tuple[int, ...] = ()
    log: str | None = None
    umask: int = -1


@dataclass(eq=False, slots=True)
class _Child:
    program: Program
    process: subprocess.Popen[bytes] | None = None
    started_at: float = 0.0
    start_at: float | None = None
    restart_delay: float = _FIRST_DELAY
    partial_line: bytes = b""
    last_line: str = ""


class Supervisor:
    """Runs programs as children, as a context manager that stops them all at its end.

    `report(program, line)` gets every line that a program prints; `note(line)` what the supervisor did.
    """

    def __init__(self, report: Callable[[str, str], None], note: Callable[[str], None]) -> None:
        self._report = report
        self._note = note
        self._children: dict[str, _Child] = {}
        self._selector = selectors.DefaultSelector()
        self._wake, self._waker = socket.socketpair()
        self._handlers: dict[int, Any] = {}
        self._started = False
        self.signals = 0
        """How many signals to stop have arrived."""

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
        """Make a waiting `run_once` return. Other threads may call this and `pids`, and nothing else."""
        with contextlib.suppress(OSError):
            self._waker.send(b"\0")

    def pids(self) -> dict[str, int]:
        """Return the pids of the programs that run, by name, in the order of their start."""
        children = list(self._children.values())
        return {c.program.name: c.process.pid for c in children if c.process is not None}

    def start(self, program: Program) -> None:
        """Start a program and keep it running from now on. Raises ProgramFailedError where it cannot be executed."""
        child = self._children[program.name] = _Child(program)
        try:
            self._launch(child)
        except OSError as error:
            raise ProgramFailedError(f"{program.name} cannot be started: {error}") from error

    def wait(self, ready: Callable[[], bool], seconds: float, every: float = 0.1) -> bool:
        """Handle events until `ready()`, for `seconds` at most; return whether it is ready.

        Until `started()` is called, a program that ends is not restarted: this raises ProgramFailedError with the
        last line that it printed. A signal to stop raises StoppedError.
        """
        deadline = time.monotonic() + seconds
        while not ready():
            if self.signals:
                raise StoppedError
            if time.monotonic() >= deadline:
                return False
            self.run_once(every)
        return True

    def started(self) -> None:
        """End the start-up phase: from now on programs that end are restarted."""
        self._started = True

    def run_once(self, timeout: float) -> None:
        """Wait for events of the programs, `timeout` seconds at most, and handle them."""
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
                self._on_exit(child)
            elif child.start_at is not None and child.start_at <= time.monotonic():
                self._launch(child)
                self._note(f"{child.program.name} restarted, pid {self.pids()[child.program.name]}")

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
                opened = os.open(program.log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
                output = stack.enter_context(open(opened, "ab"))
            child.process = subprocess.Popen(
                program.command,
                env=dict(program.env),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=_orphan_guard(program.on_orphan),
                pass_fds=program.pass_fds,
                umask=program.umask,
            )
        if child.process.stdout is not None:
            os.set_blocking(child.process.stdout.fileno(), False)
            self._selector.register(child.process.stdout, selectors.EVENT_READ, child)

    def _read(self, child: _Child, fd: int) -> None:
        try:
            data = os.read(fd, 65536)
        except BlockingIOError:
            return
        *lines, child.partial_line = (child.partial_line + data).split(b"\n")
        if not data:
            if child.partial_line:
                lines, child.partial_line = [child.partial_line], b""
            if child.process is not None and child.process.stdout is not None:
                self._selector.unregister(child.process.stdout)
                child.process.stdout.close()
                child.process.stdout = None
        for line in lines:
            text = line.decode(errors="replace").rstrip()
            child.last_line = text or child.last_line
            self._report(child.program.name, text)

    def _on_exit(self, child: _Child) -> None:
        process = self._reap(child)
        name = child.program.name
        exit_text = _exit_text(process.returncode)
        if not self._started:
            output = self._last_output(child)
            raise ProgramFailedError(f"the {name} did not start ({exit_text}){': ' if output else ''}{output}")
        uptime = time.monotonic() - child.started_at
        child.restart_delay = _FIRST_DELAY if uptime >= _STABLE_SECONDS else min(child.restart_delay * 2, _MAX_DELAY)
        child.start_at = time.monotonic() + child.restart_delay
        self._note(f"{name} ended ({exit_text}, pid {process.pid}): restarting it in {child.restart_delay:g} s")

    def _reap(self, child: _Child) -> subprocess.Popen[bytes]:
        """Kill what is left of a dead program's process group, and read the rest of its output."""
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

    def _last_output(self, child: _Child) -> str:
        if child.program.log is not None:
            with contextlib.suppress(OSError), open(child.program.log, errors="replace") as log:
                return "".join(deque(log, maxlen=1)).strip()
        return child.last_line

    def _stop(self) -> None:
        """Stop all programs, the last started first. A further signal kills the rest at once."""
        signals_before = self.signals
        for child in reversed(self._children.values()):
            child.start_at = None
            process = child.process
            if process is None:
                continue
            with contextlib.suppress(ProcessLookupError):
                process.terminate()
            deadline = time.monotonic() + child.program.grace
            while process.poll() is None and time.monotonic() < deadline and self.signals <= signals_before:
                for key, _ in self._selector.select(0.1):
                    if key.data is None:
                        with contextlib.suppress(BlockingIOError):
                            self._wake.recv(4096)
                    else:
                        self._read(key.data, key.fd)
            _kill_group(process.pid, signal.SIGKILL)
            process.wait()
            self._reap(child)


def _orphan_guard(number: signal.Signals) -> Callable[[], None] | None:
    if sys.platform != "linux":
        return None
    prctl = ctypes.CDLL(None).prctl
    parent = os.getpid()

    def guard() -> None:
        prctl(_PR_SET_PDEATHSIG, int(number))
        if os.getppid() != parent:  # the parent died before the kernel knew
            os._exit(1)

    return guard


def _kill_group(pid: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, number)


def _exit_text(returncode: int) -> str:
    if returncode >= 0:
        return f"exit status {returncode}"
    try:
        return f"killed by {signal.Signals(-returncode).name}"
    except ValueError:
        return f"killed by signal {-returncode}"
