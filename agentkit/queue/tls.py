"""RabbitMQ over TLS, with the certificate and its host name checked.

Celery's own transport checks the certificate, and takes one that was made for any other host.
"""

from __future__ import annotations

import ssl
from typing import Any
from urllib.parse import quote, urlsplit

from kombu.transport import TRANSPORT_ALIASES
from kombu.transport.pyamqp import SSLTransport

__all__ = ["Transport", "checked"]

_SCHEME = "amqps-checked"  # of its own: other Celery applications of the process keep theirs
TRANSPORT_ALIASES[_SCHEME] = f"{__name__}:Transport"


def checked(url: str) -> str:
    """Return a broker URL, or several with semicolons between, whose `amqps://` hosts this transport connects to.

    Each carries the name to be checked: kombu replaces `localhost` by an address, and has one set of options for all.
    """
    return ";".join(_checked(part) if part.startswith("amqps://") else part for part in url.split(";"))


def _checked(url: str) -> str:
    host = urlsplit(url).hostname or "localhost"
    mark = "&" if "?" in url else "?"
    return f"{_SCHEME}{url.removeprefix('amqps')}{mark}ssl_server_hostname={quote(host)}"


class Transport(SSLTransport):
    """Connect as kombu does, to a server that proves its name.

    The options of the URL are those of `rediss://`: `ssl_ca_certs`, `ssl_certfile`, `ssl_keyfile`, `ssl_cert_reqs` and
    `ssl_check_hostname`.
    """

    def establish_connection(self) -> Any:
        """Connect. Raises ssl.SSLCertVerificationError where the server is another one."""
        client: Any = self.client
        client.ssl = _options(client.ssl)
        return super().establish_connection()  # type: ignore[no-untyped-call]


def _options(url_options: dict[str, Any]) -> dict[str, Any]:
    """Convert the URL's options, or those of the connection before, to py-amqp's, which checks a `server_hostname`."""
    options: dict[str, Any] = {"cert_reqs": ssl.CERT_REQUIRED}
    options |= {name.removeprefix("ssl_"): value for name, value in url_options.items()}
    if not options.pop("check_hostname", True) or options["cert_reqs"] == ssl.CERT_NONE:
        options.pop("server_hostname", None)  # one that is None would become the connection's
    return options
