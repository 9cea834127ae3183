"""LangGraph with Postgres, one process that executes what it is told: W of bench/work.py, or answers that stream.

    python -m bench.rivals.langgraph_worker steps|tokens POSTGRES_URL

Runs in the rivals' environment. Commands come as JSON lines on stdin: {"id": …, "act": "start" | "resume"}; events go
as JSON lines to stdout: {"id": …, "event": "ready" | "paused" | "token" | "done"}, "token" with the first of an answer.
`tokens` reads answers of bench/token_server.py (OPENAI_BASE_URL) and gives with "done" how late each delta was, in ms.

As its documentation does it: a graph of a model node and LangGraph's own ToolNode, streamed by `astream` in an event
loop, a checkpoint after each step in Postgres, through a pool of connections. `durability` is "async", its default and
the faster one: a step's checkpoint is written while the next step executes.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import AsyncIterator
from typing import Any

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage, HumanMessage, ToolMessage
from langchain_core.outputs import ChatGenerationChunk, ChatResult
from langchain_core.tools import tool
from langgraph.checkpoint.postgres.aio import AsyncPostgresSaver
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.prebuilt import ToolNode, tools_condition
from langgraph.types import Command, interrupt
from psycopg.rows import dict_row
from psycopg_pool import AsyncConnectionPool

CONNECTIONS = 16
ANSWER = "0123456789" * 20
CHUNK = 10


@tool
def look_up(order_id: str) -> str:
    """Look an order up."""
    return f"order {order_id}: paid"


@tool
def refund(order_id: str, cents: int) -> str:
    """Refund an order."""
    decision = interrupt({"order_id": order_id, "cents": cents})
    return f"refunded {cents} of {order_id}: {decision['approved']}"


class Scripted(BaseChatModel):
    """The model of W: five look-ups, a refund, and an answer in 20 deltas."""

    @property
    def _llm_type(self) -> str:
        return "scripted"

    def _generate(self, *args: Any, **named: Any) -> ChatResult:
        raise NotImplementedError("it only streams")

    async def _astream(
        self, messages: list[BaseMessage], stop: Any = None, run_manager: Any = None, **named: Any
    ) -> AsyncIterator[ChatGenerationChunk]:
        turn = sum(isinstance(message, ToolMessage) for message in messages)
        if turn < 5:
            chunks = [_call(turn, "look_up", order_id=f"A-{turn}")]
        elif turn == 5:
            chunks = [_call(turn, "refund", order_id="A-1", cents=900)]
        else:
            chunks = [AIMessageChunk(ANSWER[at : at + CHUNK]) for at in range(0, len(ANSWER), CHUNK)]
        for message in chunks:
            chunk = ChatGenerationChunk(message=message)
            if run_manager:
                await run_manager.on_llm_new_token(message.content, chunk=chunk)
            yield chunk


def _call(turn: int, name: str, **arguments: Any) -> AIMessageChunk:
    call = {"name": name, "args": json.dumps(arguments), "id": f"call_{turn}", "index": 0}
    return AIMessageChunk("", tool_call_chunks=[call])


class Worker:
    def __init__(self, model: BaseChatModel, saver: AsyncPostgresSaver, stamped: bool) -> None:
        tools = [look_up, refund]

        async def ask(state: MessagesState) -> dict[str, list[BaseMessage]]:
            return {"messages": [await model.ainvoke(state["messages"])]}

        graph = StateGraph(MessagesState)
        graph.add_node("model", ask)
        graph.add_node("tools", ToolNode(tools))
        graph.add_edge(START, "model")
        graph.add_conditional_edges("model", tools_condition)
        graph.add_edge("tools", "model")
        self._graph = graph.compile(checkpointer=saver)
        self._stamped = stamped

    async def execute(self, command: dict[str, Any]) -> None:
        """Execute a run until it pauses or ends."""
        config = {"configurable": {"thread_id": str(command["id"])}}
        resumed = command["act"] == "resume"
        given = Command(resume={"approved": True}) if resumed else {"messages": [HumanMessage("go")]}
        ended, late = False, []
        async for message, _ in self._graph.astream(given, config, stream_mode="messages"):
            if not (isinstance(message, AIMessage) and message.content):
                continue
            if not ended:
                say(command["id"], "token")
            ended = True
            if self._stamped:
                now = time.monotonic_ns() / 1000
                late += [(now - int(stamp)) / 1000 for stamp in str(message.content).split()]
        say(command["id"], "done" if ended else "paused", late=late)


def say(number: int, event: str, **more: Any) -> None:
    print(json.dumps({"id": number, "event": event, **more}), flush=True)


async def main(kind: str, url: str) -> None:
    loop = asyncio.get_running_loop()
    lines = asyncio.StreamReader(loop=loop)
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
    options = {"autocommit": True, "prepare_threshold": 0, "row_factory": dict_row}
    async with AsyncConnectionPool(url, min_size=CONNECTIONS, max_size=CONNECTIONS, kwargs=options, open=False) as pool:
        saver = AsyncPostgresSaver(pool)
        await saver.setup()
        model: BaseChatModel
        if kind == "tokens":
            from langchain_openai import ChatOpenAI

            model = ChatOpenAI(model="bench", stream_usage=True, max_retries=0)
        else:
            model = Scripted()
        worker = Worker(model, saver, stamped=kind == "tokens")
        say(0, "ready")
        running: set[asyncio.Task[None]] = set()
        while line := await lines.readline():
            task = asyncio.create_task(worker.execute(json.loads(line)))
            running.add(task)
            task.add_done_callback(running.discard)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2]))
