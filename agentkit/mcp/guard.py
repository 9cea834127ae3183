"""Starts the server of a `command=` and ends it, with all that it started, when the process that wanted it is gone.

    python -I -S guard.py COMMAND [ARGUMENT …]

A worker that is killed closes its server's standard input and can do no more: a server that does not look, or hangs,
would stay for ever. The guard leads the server's process group, hands standard input and output on untouched, and looks
twice a second whether its parent is still the one that it had. It is a program of its own: it imports nothing of
agentkit.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

_LOOK_SECONDS = 0.5
_GRACE_SECONDS = 2.0


def main(command: list[str]) -> int:
    """Run `command` to its end, and end what it leaves behind; returns where it cannot be started."""
    parent = os.getppid()
    try:
        server = subprocess.Popen(command)
    except OSError as error:
        sys.stderr.write(f"{command[0]}: {error.strerror}\n")
        return 127
    signal.signal(signal.SIGTERM, lambda *_: _end(server))
    while True:
        try:
            server.wait(_LOOK_SECONDS)
        except subprocess.TimeoutExpired:
            if os.getppid() == parent:
                continue
        _end(server)


def _end(server: subprocess.Popen[bytes]) -> None:
    """End the server and what is left of its group, this process among it."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    os.killpg(0, signal.SIGTERM)
    until = time.monotonic() + _GRACE_SECONDS
    while time.monotonic() < until and server.poll() is None:
        time.sleep(0.05)
    time.sleep(0.1)  # for what it started, which may ignore the signal
    os.killpg(0, signal.SIGKILL)


if __name__ == "__main__":
    if os.getpgrp() != os.getpid():
        os.setpgid(0, 0)
    sys.exit(main(sys.argv[1:]))
