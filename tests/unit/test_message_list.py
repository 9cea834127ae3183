from __future__ import annotations

import random
import threading

import pytest

from agentkit.core.message_list import MessageList
from agentkit.core.messages import ContentBlock, ImageBlock, Message, TextBlock, ToolResultMessage, UserMessage
from tests.counting import python_calls_of

IMAGE = ImageBlock(data="aGk=", mime_type="image/png")


def message(text: str) -> Message:
    return UserMessage(text, timestamp=1)


def messages(*texts: str) -> list[Message]:
    return [message(text) for text in texts]


def result(*content: ContentBlock) -> Message:
    return ToolResultMessage("c", "t", list(content), is_error=False, timestamp=1)


def test_a_longer_list_leaves_the_shorter_one_as_it_was() -> None:
    short = MessageList(messages("a", "b"))
    long = short.extended(messages("c"))
    assert (list(short), len(short)) == (messages("a", "b"), 2)
    assert (list(long), len(long)) == (messages("a", "b", "c"), 3)
    assert short.extended([]) is short
    assert list(MessageList().extended(messages("a"))) == messages("a")


def test_it_is_read_as_any_sequence_is() -> None:
    plain = messages("a", "b", "c")
    known = MessageList(plain).extended(messages("d"))
    shown = MessageList(plain)
    assert known[3] == message("d")
    assert (shown[0], shown[-1]) == (plain[0], plain[-1])
    for place in (3, -4):
        with pytest.raises(IndexError):
            shown[place]
    for part in (slice(None), slice(1, None), slice(None, None, -1), slice(-2, 10), slice(2, 0, -1)):
        assert shown[part] == plain[part]
    assert list(reversed(shown)) == plain[::-1]
    assert message("b") in shown
    assert message("d") not in shown
    assert bool(shown)
    assert not MessageList()
    assert repr(shown) == f"MessageList({plain!r})"
    assert MessageList.of(shown) is shown
    assert MessageList.of(plain) == shown


def test_it_equals_whatever_has_the_same_messages() -> None:
    plain = messages("a", "b")
    shown = MessageList(plain)
    assert shown == MessageList(plain) == plain
    assert tuple(plain) == shown
    assert shown != MessageList(plain[:1])
    assert shown != messages("a", "c")
    assert shown != "ab"


def test_of_two_that_extend_the_same_list_each_has_its_own_messages() -> None:
    base = MessageList(messages("a"))
    one, other, same = base.extended(messages("b", "c")), base.extended(messages("d")), base.extended(messages("b"))
    assert list(one) == messages("a", "b", "c")
    assert list(other) == messages("a", "d")
    assert list(same) == messages("a", "b")
    assert list(same.extended(messages("c", "e"))) == messages("a", "b", "c", "e")
    assert list(same.extended(messages("f"))) == messages("a", "b", "f")


def test_an_empty_list_shares_nothing_with_those_that_begin_with_it() -> None:
    nothing = MessageList()
    one, other = nothing.extended(messages("a")), nothing.extended(messages("b"))
    assert (list(nothing), list(one), list(other)) == ([], messages("a"), messages("b"))


def test_extending_looks_at_what_is_added_alone() -> None:
    """Also where somebody else has added the same: a step's commit, and the claim that reads it."""
    counts = []
    for length in (10, 1000):
        shown = MessageList(messages(*map(str, range(length))))
        counts.append(python_calls_of(lambda shown=shown: [shown.extended(messages("x", "y")) for _ in range(2)]))
    assert counts[0] == counts[1]


def test_it_knows_which_results_of_tools_show_more_than_text() -> None:
    first = MessageList([message("a"), result(TextBlock("x")), result(TextBlock("x"), IMAGE), result()])
    longer = first.extended([UserMessage([IMAGE], timestamp=1), result(IMAGE)])
    assert first.media == [2]
    assert longer.media == [2, 5]
    assert first.extended([result(TextBlock("y"))]).media == [2], "a copy knows its own"
    assert MessageList(messages("a")).media == []


def test_threads_that_extend_the_same_list_do_not_mix_their_messages() -> None:
    base = MessageList(messages("a"))
    made: list[tuple[list[str], MessageList]] = []
    start = threading.Barrier(8)

    def extend(name: int) -> None:
        random_of = random.Random(name)
        texts, shown = ["a"], base
        start.wait()
        for number in range(200):
            more = [f"{name if random_of.random() < 0.1 else ''}:{number}"]
            shown, texts = shown.extended(messages(*more)), texts + more
        made.append((texts, shown))

    threads = [threading.Thread(target=extend, args=(name,)) for name in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(made) == 8
    for texts, shown in made:
        assert list(shown) == messages(*texts)
