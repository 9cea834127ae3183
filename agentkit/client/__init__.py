"""A client of the HTTP protocol: what the command line uses, and any Python program elsewhere may.

It knows the protocol and nothing else: no store, no Celery, no application. A server that is away for a
while (a deploy, a crash) is waited for, and a stream goes on exactly where it broke.

What is asked, what an answer means, how long is waited and where a stream stands is written once, as plans
without I/O (`plans`, `calls`). `Client` and `AsyncClient` only carry plans out.
"""

from __future__ import annotations

from agentkit.client.aio import AsyncClient
from agentkit.client.plans import ApiError, Headers, ServerUnreachableError
from agentkit.client.sync import Client

__all__ = ["ApiError", "AsyncClient", "Client", "Headers", "ServerUnreachableError"]
