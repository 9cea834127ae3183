"""The agent loop as pure transitions: a run's state goes in, a `Change` comes out.

    begin_run ─► model step ─► finish_model ─► tool steps ─► finish_tool ─► … ─► end
                                    │                            │
                                    └─► pending items ─► resolve / expire ─► tool steps

Each transition takes what a store knows (`RunState`) and what has happened, and returns what should become true (a
`Change`): messages, events, steps to open and to close. No I/O, no clock, no threads; a transition whose commit meets
another's is simply computed again from the newer state. It reads no message of the conversation: events refer to
messages by their number.
"""

from agentkit.loop.admission import Admission, admissions, counts_for, has_cut_call, remembered_for
from agentkit.loop.answers import Answer, client_result, expire, extend, find_pending, not_pending, resolve
from agentkit.loop.calls import RememberedAnswer, bounded, call_end, check_inquiry, result_message, which_item
from agentkit.loop.children import MAX_DEPTH, delegate, delegated, fail_lost_child, find_child, update_from_child
from agentkit.loop.ends import abort, fail
from agentkit.loop.limits import over_limits, with_discarded
from agentkit.loop.reminders import next_reminder, remind
from agentkit.loop.turns import (
    add_message,
    ask_client,
    ask_input,
    begin_run,
    doubt,
    finish_model,
    finish_tool,
    next_turn,
    park,
    postpone,
)

__all__ = [
    "MAX_DEPTH",
    "Admission",
    "Answer",
    "RememberedAnswer",
    "abort",
    "add_message",
    "admissions",
    "ask_client",
    "ask_input",
    "begin_run",
    "bounded",
    "call_end",
    "check_inquiry",
    "client_result",
    "counts_for",
    "delegate",
    "delegated",
    "doubt",
    "expire",
    "extend",
    "fail",
    "fail_lost_child",
    "find_child",
    "find_pending",
    "finish_model",
    "finish_tool",
    "has_cut_call",
    "next_reminder",
    "next_turn",
    "not_pending",
    "over_limits",
    "park",
    "postpone",
    "remembered_for",
    "remind",
    "resolve",
    "result_message",
    "update_from_child",
    "which_item",
    "with_discarded",
]
