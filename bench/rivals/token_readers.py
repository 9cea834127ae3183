"""Clients of a vendor's wire that only read: many answers at once, through httpx or the `openai` package.

    python -m bench.rivals.token_readers httpx|openai URL ANSWERS

Prints a line of JSON: the CPU seconds of the process while it read, and the lateness of each delta in ms.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Callable

PROMPT = [{"role": "user", "content": "go"}]


def stamps_of(text: str, now: float) -> list[float]:
    """Return how late each delta of `text` is, in ms; `now` in microseconds."""
    return [(now - int(stamp)) / 1000 for stamp in text.split()]


async def read_httpx(url: str, answers: int, take: Callable[[str], None]) -> None:
    import httpx

    body = {"model": "bench", "messages": PROMPT, "stream": True, "stream_options": {"include_usage": True}}

    async def one() -> None:
        async with client.stream("POST", f"{url}/chat/completions", json=body) as response:
            async for line in response.aiter_lines():
                if line.startswith("data: {"):
                    for choice in json.loads(line[6:])["choices"]:
                        take(choice["delta"].get("content") or "")

    async with httpx.AsyncClient(limits=httpx.Limits(max_connections=None), timeout=60) as client:
        await asyncio.gather(*(one() for _ in range(answers)))


async def read_openai(url: str, answers: int, take: Callable[[str], None]) -> None:
    import openai

    async def one() -> None:
        stream = await client.chat.completions.create(
            model="bench",
            messages=[{"role": "user", "content": "go"}],
            stream=True,
            stream_options={"include_usage": True},
        )
        async for chunk in stream:
            for choice in chunk.choices:
                take(choice.delta.content or "")

    async with openai.AsyncOpenAI(base_url=url, api_key="none", max_retries=0) as client:
        await asyncio.gather(*(one() for _ in range(answers)))


def main() -> None:
    kind, url, answers = sys.argv[1], sys.argv[2], int(sys.argv[3])
    late: list[float] = []

    def take(text: str) -> None:
        if text:
            late.extend(stamps_of(text, time.monotonic_ns() / 1000))

    began = time.process_time()
    asyncio.run({"httpx": read_httpx, "openai": read_openai}[kind](url, answers, take))
    print(json.dumps({"cpu_seconds": time.process_time() - began, "late": late}))


if __name__ == "__main__":
    main()
