"""The cases of the golden logs: each drives one run by hand, on the store in memory, and returns it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

from agentkit import Agent, ProviderError, RetryPolicy, ScriptedModel, ToolError, tool
from agentkit.core.cancellation import Cancellation
from agentkit.core.ids import now_ms
from agentkit.core.messages import Cost, Usage, UserMessage
from agentkit.loop import expire
from agentkit.providers.protocol import Finish, ModelRequest, Part, TextDelta, ToolCallDelta
from agentkit.tools import Tool, ToolContext
from tests.apps import App, Failing, Silent, die, in_background
from tests.tools import APPROVAL, YES, locate, look, pay, photo, refund, refund_with
from tests.turns import call, with_ids
from tests.waiting import wait_until

__all__ = ["CASES", "HOUR", "Case"]

HOUR = 3600


def expiring(on_expire: Any) -> Tool:
    return refund_with(decision_timeout=HOUR, on_expire=on_expire)


class Case:
    """A run that a case drives by hand."""

    def __init__(
        self, *turns: Any, tools: Any = (), model: Any = None, limits: Any = None, retry: RetryPolicy | None = None
    ) -> None:
        self.app = App(model=model or ScriptedModel([with_ids(turn) for turn in turns]), tools=tools, retry=retry)
        self.id = self.app.kit.start("a", "Refund order A-1, please.", limits=limits).id

    def work(self) -> Case:
        self.app.work()
        return self

    def answer(self, number: int = 0, **answer: Any) -> Case:
        """Answer a pending item, and execute what that makes due."""
        item = self.app.kit.get(self.id).pending[number]
        self.app.kit.resume(self.id, **{"decision": None, **answer}, decision_id=item["decisionId"])
        return self.work()

    def expire(self) -> Case:
        """What a worker does when the hour is over."""
        kit = self.app.kit
        state = kit.store.load(self.id)
        change = expire(state, kit.bind("a"), now_ms() + HOUR * 1000)
        assert change is not None
        kit.store.commit(change, state.version)
        self.app.queue.enqueued += [(self.id, step.number) for step in change.opened]
        return self.work()

    def cut(self, reached: Callable[[], object], reason: str) -> Case:
        """Abort while a step executes, as soon as `reached`."""
        thread = in_background(self.app.work)
        wait_until(reached, what="the step")
        self.app.kit.abort(self.id, reason)
        thread.join(10)
        assert not thread.is_alive()
        return self

    def crash(self) -> Case:
        """The model step is done; the worker of the tool step after it dies."""
        self.app.execute_next()
        die(self.app, *self.app.queue.enqueued[0])
        return self.work()


# -- no decision -----------------------------------------------------------------------------------


def plain() -> Case:
    """An answer without tools."""
    return Case("Hello.").work()


def thinking() -> Case:
    """A model that thinks before it answers."""
    turn = [{"type": "thinking", "thinking": "Short, then."}, {"type": "text", "text": "Hello."}]
    return Case(turn).work()


def parallel_tools() -> Case:
    """Two tool calls in one turn that need no decision."""
    return Case([call("look", "one", what="a"), call("look", "two", what="b")], "Done.", tools=[look]).work()


def mistaken_calls() -> Case:
    """An unknown tool, arguments that are no JSON, and arguments that miss the schema: errors for the model."""
    raw = {"type": "toolCall", "id": "three", "name": "look", "arguments": {}, "rawArguments": '{"what": '}
    return Case([call("nothing", "one"), call("look", "two", what=5), raw], "Done.", tools=[look]).work()


def failing_tool() -> Case:
    """A tool that shows progress and then raises."""

    @tool
    def look(what: str, ctx: ToolContext) -> str:
        """Look something up."""
        ctx.update({"done": 0.5})
        raise ToolError(f"no {what} here")

    return Case([call("look", what="a")], "Done.", tools=[look]).work()


# -- decisions -------------------------------------------------------------------------------------


def asking(*tools: Any) -> Case:
    return Case([call("refund", cents=500)], "Done.", tools=tools or [refund]).work()


def decision_pending() -> Case:
    """A run that waits for a decision."""
    return asking()


def decision_approve() -> Case:
    """One decision, given by somebody with a name."""
    return asking().answer(decision=YES, decided_by="ann")


def decision_edit_input() -> Case:
    """The person who decides corrects the arguments."""
    return asking().answer(decision=YES, input={"cents": 400})


def decision_reject() -> Case:
    """One decision, refused with a reason."""
    return asking().answer(reject="too much")


def decision_expire_reject() -> Case:
    """Nobody answers in time: the call is refused."""
    return asking(expiring("reject")).expire()


def decision_expire_abort() -> Case:
    """Nobody answers in time: the run ends."""
    return asking(expiring("abort")).expire()


def decision_expire_default() -> Case:
    """Nobody answers in time: the default decision counts."""
    return asking(expiring({"approved": False})).expire()


def decisions_two() -> Case:
    """Three calls in one turn: two wait and are answered last one first, the third is executed before the pause."""
    calls = [call("refund", "one", cents=1), call("look", "two", what="a"), call("refund", "three", cents=3)]
    run = Case(calls, "Done.", tools=[refund, look]).work()
    return run.answer(1, decision=YES).answer(0, reject="not this one")


def decision_votes() -> Case:
    """Two principals give the same decision, with the same corrected arguments."""
    answer = {"decision": YES, "input": {"cents": 400}}
    run = asking(refund_with(approvals=2))
    return run.answer(**answer, decided_by="ann").answer(**answer, decided_by="bob")


def decision_votes_rejected() -> Case:
    """Of two principals, one gives a decision and the other rejects."""
    return asking(refund_with(approvals=2)).answer(decision=YES, decided_by="ann").answer(reject="no", decided_by="bob")


def decision_remembered() -> Case:
    """The first answer counts for the second call, which is made in another turn."""
    calls = [[call("refund", name, cents=500)] for name in ("one", "two")]
    run = Case(*calls, "Done.", tools=[refund_with(remember=True)]).work()
    return run.answer(decision=YES, decided_by="ann", remember=True)


def decision_when() -> Case:
    """Of two calls, the larger one needs a decision."""

    @tool(decision=APPROVAL, decision_when=lambda args, ctx: args["cents"] > 100)
    def refund(cents: int, decision: Any) -> str:
        """Refund some cents."""
        return f"refunded {cents}"

    calls = [call("refund", "one", cents=100), call("refund", "two", cents=101)]
    return Case(calls, "Done.", tools=[refund]).work()


def client_tool() -> Case:
    """A tool that the client executes."""
    return Case([call("locate")], "Done.", tools=[locate]).work().answer(result="Zürich")


def client_tool_with_decision() -> Case:
    """A tool that the client executes after a decision."""
    return Case([call("photo")], "Done.", tools=[photo]).work().answer(decision=YES).answer(result="click")


# -- crashes ---------------------------------------------------------------------------------------


def in_doubt(verdict: str, **more: Any) -> Case:
    run = Case([call("pay", cents=500)], "Done.", tools=[pay]).crash()
    return run.answer(decision={"verdict": verdict, **more})


def in_doubt_retry() -> Case:
    """A worker died in a tool of effects "once": a person says to execute it again."""
    return in_doubt("retry")


def in_doubt_done() -> Case:
    """A worker died in a tool of effects "once": a person knows that it was done."""
    return in_doubt("done", result="paid 500, says the bank")


def in_doubt_failed() -> Case:
    """A worker died in a tool of effects "once": a person knows that it was not done."""
    return in_doubt("failed", result="the bank knows nothing of it")


def model_step_again() -> Case:
    """A worker died in a model call: what it had streamed is void."""
    run = Case("Hello.")
    die(run.app, *run.app.queue.enqueued[0])
    return run.work()


# -- cut short -------------------------------------------------------------------------------------


def abort_running_model() -> Case:
    """Aborted while the model streams."""
    model = Silent()
    run = Case(model=model)
    return run.cut(lambda: run.app.log(run.id)[-1]["type"] == "message_update", "enough")


def abort_running_tool() -> Case:
    """Aborted while a tool executes that does not notice, after another of its turn had its result."""
    reached, release = threading.Event(), threading.Event()

    @tool
    def wait() -> str:
        """Wait."""
        reached.set()
        release.wait(30)
        return "late"

    run = Case([call("look", what="a"), call("wait")], "Done.", tools=[look, wait]).cut(reached.is_set, "enough")
    release.set()
    return run


def abort_paused() -> Case:
    """Aborted while it waits for a decision."""
    run = asking()
    run.app.kit.abort(run.id, "nobody wants it any more")
    return run


def abort_queued() -> Case:
    """Aborted before any worker had it."""
    run = Case("Hello.")
    run.app.kit.abort(run.id)
    return run


def provider_error() -> Case:
    """The model fails while it streams."""
    return Case(model=Failing()).work()


class Passing(Failing):
    """Fails once, then answers."""

    def __init__(self) -> None:
        self._failed = False

    def stream(self, request: ModelRequest, cancel: Cancellation) -> Iterator[Part]:
        if not self._failed:
            self._failed = True
            yield TextDelta("I th")
            raise ProviderError("overloaded", retryable=True, status=529)
        yield TextDelta("I think so.")
        yield Finish("stop", Usage.of())


def model_retry() -> Case:
    """The model fails while it streams, and is asked again."""
    return Case(model=Passing(), retry=RetryPolicy(attempts=2, base=0, cap=0)).work()


def model_fallback() -> Case:
    """The model fails for good, and the next one of the agent's answers."""
    return Case(model=[Failing(), ScriptedModel(["Hello."])]).work()


# -- sub-agents ------------------------------------------------------------------------------------


def desk() -> Case:
    """An agent that asks another, which asks a person."""
    cashier = Agent("cashier", ScriptedModel([[call("refund", "refund", cents=500)], "It is paid back."]), "", [refund])
    return Case([call("cashier", "one", input="Pay it back.")], "Done.", tools=[cashier.as_tool()]).work()


def sub_agent_pending() -> Case:
    """A sub-agent's run waits for a decision, and so does the run that asked it."""
    return desk()


def sub_agent() -> Case:
    """A sub-agent's decision is given, and its answer is the result of the call."""
    run = desk()
    [item] = run.app.kit.get(run.id).pending
    run.app.kit.resume(item["runId"], YES)
    return run.work()


def sub_agent_aborted() -> Case:
    """Aborted while a sub-agent's run waits."""
    run = desk()
    run.app.kit.abort(run.id, "enough")
    return run


# -- messages from outside -------------------------------------------------------------------------


def steer_paused() -> Case:
    """A message to a paused run is no approval: it waits, and the next model call sees it."""
    run = Case([call("refund", cents=500)], "unused", tools=[refund])
    run.work().app.kit.send(run.id, "Make it quick.", "steer")
    return run.answer(decision=YES)


def steer_too_late() -> Case:
    """A steer that comes while the last answer streams starts another turn."""

    class Interrupted(ScriptedModel):
        def stream(self, request: ModelRequest, cancel: Cancellation) -> Iterator[Part]:
            if sum(isinstance(message, UserMessage) for message in request.messages) == 1:
                run.app.kit.send(run.id, "And order A-2?", "steer")
            return super().stream(request, cancel)

    run = Case(model=Interrupted(["Hello."]))
    return run.work()


def follow_up() -> Case:
    """Two follow-ups start a turn each when the run would end."""
    run = Case("Hello.")
    run.app.kit.send(run.id, "And order A-2?", "followUp")
    run.app.kit.send(run.id, "And A-3?", "followUp")
    return run.work()


def unsent_aborted() -> Case:
    """What waits when a paused run is aborted is in agent_end, in the order in which it was sent."""
    run = asking()
    run.app.kit.send(run.id, [{"type": "text", "text": "And order A-2?"}], "followUp", by="ann")
    run.app.kit.send(run.id, "Make it quick.", "steer")
    run.app.kit.abort(run.id, "enough")
    return run


def unsent_limit() -> Case:
    """A follow-up whose turn would be one more than the run may have."""
    run = Case("Hello.", limits={"maxTurns": 1})
    run.app.kit.send(run.id, "And order A-2?", "followUp")
    return run.work()


# -- limits ----------------------------------------------------------------------------------------


def limit_turns() -> Case:
    """The model wants another turn than the run may have."""
    return Case([call("look", what="a")], "Done.", tools=[look], limits={"maxTurns": 1}).work()


def limit_tokens() -> Case:
    """The run has used more tokens than it may, and executes no tool more."""
    return Case([call("look", what="a")], "Done.", tools=[look], limits={"maxTokens": 1}).work()


def limit_cost() -> Case:
    """The run has cost more than it may."""

    class Dear:
        name = api = "dear"
        model = "m"

        def stream(self, request: ModelRequest, cancel: Cancellation) -> Iterator[Part]:
            yield TextDelta("I look.")
            yield ToolCallDelta(0, "look", "look", '{"what": "a"}')
            yield Finish("toolUse", Usage.of(output=10, cost=Cost.of(output=0.75)))

    return Case(model=Dear(), tools=[look], limits={"maxCost": 0.5}).work()


def limit_time() -> Case:
    """The run's time is over while the model is silent."""
    return Case(model=Silent(), limits={"timeout": 1.0}).work()


CASES: dict[str, Callable[[], Case]] = {
    make.__name__: make
    for make in (
        *(plain, thinking, parallel_tools, mistaken_calls, failing_tool),
        *(decision_pending, decision_approve, decision_edit_input, decision_reject),
        *(decision_expire_reject, decision_expire_abort, decision_expire_default),
        *(decision_votes, decision_votes_rejected, decision_remembered, decision_when),
        *(decisions_two, client_tool, client_tool_with_decision),
        *(in_doubt_retry, in_doubt_done, in_doubt_failed, model_step_again),
        *(abort_running_model, abort_running_tool, abort_paused, abort_queued),
        *(provider_error, model_retry, model_fallback, sub_agent_pending, sub_agent, sub_agent_aborted),
        *(steer_paused, steer_too_late, follow_up, unsent_aborted, unsent_limit),
        *(limit_turns, limit_tokens, limit_cost, limit_time),
    )
}
