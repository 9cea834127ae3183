"""The configuration file of `agentkit dev`'s gunicorn: it is read by path, and holds what no option can say.

A version of gunicorn that does not know one of these names ignores it.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from typing import Any

worker_class = "gthread"
workers = 1
threads = 64
timeout = 30
graceful_timeout = 2
loglevel = "warning"
control_socket_disable = True  # it would be in the user's home, one for all servers of the machine


def post_fork(server: Any, _worker: Any) -> None:
    """Let the kernel kill this worker with its master: with an open event stream it would outlive a SIGKILL of it."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # 1: PR_SET_PDEATHSIG
        if os.getppid() != server.pid:
            os._exit(1)
