from __future__ import annotations

from agentkit.core.messages import Message, UserMessage
from agentkit.store.conversations import Conversation, Conversations


def message(text: str) -> Message:
    return UserMessage(text, timestamp=1)


def conversation(*texts: str, size: int = 10) -> Conversation:
    return Conversation().extended([text.encode().rjust(size) for text in texts], [message(text) for text in texts])


def test_a_conversation_is_read_from_its_last_known_message_on() -> None:
    known = conversation("a", "b")
    assert (Conversation().first_wanted, known.first_wanted) == (0, 1)
    assert known.is_before([known.last, b"c"])
    assert known.extended([b"c"], [message("c")]).messages == (message("a"), message("b"), message("c"))
    assert known.extended([], []) is known


def test_a_conversation_that_the_store_has_lost_or_changed_is_not_taken() -> None:
    assert not conversation("a", "b").is_before([])
    assert not conversation("a", "b").is_before([b"another", b"c"])
    assert Conversation().is_before([])


def test_the_conversations_that_were_used_last_are_kept_up_to_a_bound() -> None:
    kept = Conversations(max_bytes=30)
    for run_id in ("one", "two", "three"):
        kept.keep(run_id, conversation(run_id))
    kept.keep("one", conversation("one"))
    kept.keep("four", conversation("four"))
    assert [bool(kept.get(name).messages) for name in ("one", "two", "three", "four")] == [True, False, True, True]
    kept.forget("three")
    kept.forget("three")
    kept.keep("five", conversation("five"))
    assert [bool(kept.get(name).messages) for name in ("one", "four", "five")] == [True, True, True]


def test_a_conversation_beyond_the_bound_is_not_kept_and_pushes_all_others_out() -> None:
    kept = Conversations(max_bytes=30)
    kept.keep("one", conversation("one"))
    kept.keep("long", conversation("long", size=31))
    assert not kept.get("long").messages
    kept.keep("two", conversation("two", size=30))
    assert kept.get("two").messages
