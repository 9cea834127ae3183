"""An nginx that tests start as their own child: the proxy that stands before most web processes."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
from pathlib import Path

from tests.needs import program
from tests.servers import free_port
from tests.waiting import wait_until

__all__ = ["Nginx"]

_CONFIGURATION = """
daemon off;
pid {folder}/nginx.pid;
error_log {folder}/error.log;
events {{ worker_connections 256; }}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    server {{
        listen 127.0.0.1:{port};
        location / {{
            proxy_pass http://127.0.0.1:{upstream};
            {options}
        }}
    }}
}}
"""


class Nginx:
    """Passes requests on to `upstream`, with nginx's defaults (which buffer answers) and `options` over them."""

    def __init__(self, folder: Path, upstream: int, options: str = "") -> None:
        self.port = free_port()
        self._folder = folder
        folder.mkdir(parents=True)
        text = _CONFIGURATION.format(folder=folder, port=self.port, upstream=upstream, options=options)
        if os.geteuid() == 0:
            text = "user root;" + text
        (folder / "nginx.conf").write_text(text)
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Nginx:
        words = [program("nginx"), "-p", str(self._folder), "-e", str(self._folder / "error.log")]
        with (self._folder / "output.log").open("ab") as output:
            self._process = subprocess.Popen(
                [*words, "-c", str(self._folder / "nginx.conf")],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        wait_until(self._listens, what="nginx to listen")
        return self

    def __exit__(self, *exc: object) -> None:
        process, self._process = self._process, None
        if process is not None:
            os.killpg(process.pid, signal.SIGTERM)  # its own group: the workers as well
            process.wait(10)

    def _listens(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, (self._folder / "error.log").read_text()
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0
