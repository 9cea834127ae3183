"""Sends notifications to URLs, as Standard Webhooks has it (https://www.standardwebhooks.com, version 1).

Its signature is `v1,` and the base64 of HMAC-SHA256 over `id.timestamp.body`, once for each secret while they rotate:
a receiver which knows one of them can verify it.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
from binascii import b2a_base64
from collections.abc import Sequence
from urllib.parse import urlsplit

import httpx

from agentkit.core import event_loop
from agentkit.core.masking import mask_log
from agentkit.core.messages import Json
from agentkit.core.notifications import NOTIFICATION_TYPES
from agentkit.core.struct import encode
from agentkit.errors import ProviderError
from agentkit.providers.transport import client_for, connection_error
from agentkit.runtime.notifications import DeliveryError, RecipientGoneError
from agentkit.settings import webhook_key

__all__ = ["Webhook"]

TIMEOUT = 10.0
"""Seconds from the first byte out to the status in."""
_GONE = 410

mask_log("httpx")  # its line for each request shows the whole URL, at -l info


class Webhook:
    """One URL that gets all notifications: a `Recipient`. `secrets`: as AGENTKIT_WEBHOOK_SECRET has them.

    It is named by a digest of its URL, which may hold a token: another URL is another webhook.
    """

    types: frozenset[str] = frozenset(NOTIFICATION_TYPES)

    def __init__(self, url: str, secrets: Sequence[str]) -> None:
        self._url = url
        self._keys = [webhook_key(secret) for secret in secrets]
        self.name = f"webhook:{hashlib.sha256(url.encode()).hexdigest()[:16]}"

    def __str__(self) -> str:
        return f"the webhook at {urlsplit(self._url).hostname} ({self.name})"

    def send(self, event: Json, timestamp: int) -> None:
        """POST the event. Raises DeliveryError unless the answer is a 2xx, and RecipientGoneError for a 410."""
        body = encode(event)
        status = event_loop.submit(self._post(body, self._headers(event["id"], timestamp // 1000, body))).result()
        if status == _GONE:
            raise RecipientGoneError(f"it answered {status}; what is due to it later is dropped too")
        if not 200 <= status < 300:
            hint = "; a redirect is not followed" if 300 <= status < 400 else ""
            raise DeliveryError(f"it answered {status}{hint}")

    def _headers(self, event_id: str, seconds: int, body: bytes) -> dict[str, str]:
        signed = b"%b.%d.%b" % (event_id.encode(), seconds, body)
        digests = [hmac.digest(key, signed, "sha256") for key in self._keys]
        return {
            "content-type": "application/json",
            "user-agent": "agentkit",
            "webhook-id": event_id,
            "webhook-timestamp": str(seconds),
            "webhook-signature": " ".join(f"v1,{b2a_base64(each, newline=False).decode()}" for each in digests),
        }

    async def _post(self, body: bytes, headers: dict[str, str]) -> int:
        """Return the status of the answer, whose body is not read."""
        try:
            async with asyncio.timeout(TIMEOUT):
                client = client_for(self._url, "the webhook")
                async with client.stream("POST", self._url, content=body, headers=headers, timeout=TIMEOUT) as response:
                    return response.status_code
        except TimeoutError:
            raise DeliveryError(f"no answer within {TIMEOUT:g} s") from None
        except ProviderError as error:  # the proxy, or the certificates
            raise DeliveryError(str(error)) from None
        except (httpx.HTTPError, httpx.InvalidURL, OSError) as error:
            problem = connection_error(
                error,
                vendor="the webhook",
                url=self._url,
                url_setting="AGENTKIT_WEBHOOKS",
                connect_timeout=TIMEOUT,
                silence_seconds=TIMEOUT,
            )
            raise DeliveryError(str(problem)) from None
