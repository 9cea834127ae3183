"""A client of the HTTP protocol: what the command line uses, and any Python program elsewhere may.

It knows the HTTP API and nothing else: no store, no Celery, no application. Calls are retried while the server is
unavailable (a deploy, a crash), and a stream continues exactly where it broke.

What is sent, what an answer means, the retries and the position of a stream are written once, as plans without I/O
(`plans`, `calls`). `Client` and `AsyncClient` only execute plans.
"""

from __future__ import annotations

from agentkit.client.aio import AsyncClient
from agentkit.client.plans import ApiError, Headers, ServerUnreachableError
from agentkit.client.sync import Client

__all__ = ["ApiError", "AsyncClient", "Client", "Headers", "ServerUnreachableError"]
