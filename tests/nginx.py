"""An nginx that tests start as their own child: the proxy that stands before most web processes."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
from pathlib import Path

from tests.deployments import DEPLOY
from tests.needs import program
from tests.servers import free_port
from tests.waiting import wait_until

__all__ = ["Nginx", "ShippedNginx"]

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
    {server}
}}
"""
_SERVER = """server {{
        listen 127.0.0.1:{port};
        location / {{
            proxy_pass http://127.0.0.1:{upstream};
            {options}
        }}
    }}"""


class Nginx:
    """Passes requests on to `upstream`, with nginx's defaults (which buffer answers) and `options` over them."""

    def __init__(self, folder: Path, upstream: int, options: str = "") -> None:
        self.port = free_port()
        self.folder = folder
        folder.mkdir(parents=True)
        text = _CONFIGURATION.format(folder=folder, server=self._servers(upstream, options))
        if os.geteuid() == 0:
            text = "user root;" + text
        (folder / "nginx.conf").write_text(text)
        self._process: subprocess.Popen[bytes] | None = None

    def _servers(self, upstream: int, options: str) -> str:
        return _SERVER.format(port=self.port, upstream=upstream, options=options)

    def __enter__(self) -> Nginx:
        words = [program("nginx"), "-p", str(self.folder), "-e", str(self.folder / "error.log")]
        with (self.folder / "output.log").open("ab") as output:
            self._process = subprocess.Popen(
                [*words, "-c", str(self.folder / "nginx.conf")],
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
        assert self._process.poll() is None, (self.folder / "error.log").read_text()
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0


class ShippedNginx(Nginx):
    """The proxy of `deploy/nginx/agentkit.conf`, with ports, a certificate for localhost and logs of its own.

    `port` speaks TLS, and `plain_port` sends browsers to it.
    """

    def _servers(self, upstream: int, options: str) -> str:
        self.plain_port = free_port()
        key, certificate = self.folder / "agentkit.key", self.folder / "agentkit.crt"
        words = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
        words += ["-days", "2", "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"]
        subprocess.run([*words, "-keyout", key, "-out", certificate], check=True, capture_output=True)
        text = (DEPLOY / "nginx" / "agentkit.conf").read_text()
        for old, new in (
            (r"\[::\]:(80|443)\b", r"[::1]:\1"),
            (r"listen 80;", f"listen 127.0.0.1:{self.plain_port};"),
            (r"listen 443 ", f"listen 127.0.0.1:{self.port} "),
            (r":80;", f":{self.plain_port};"),
            (r":443 ", f":{self.port} "),
            (r"127\.0\.0\.1:8000", f"127.0.0.1:{upstream}"),
            (r"/etc/nginx/tls|/var/log/nginx", str(self.folder)),
        ):
            text, count = re.subn(old, new, text)
            assert count, f"{old} is not in the file"
        return text + options
