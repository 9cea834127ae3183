"""Structures that several threads read first at once, which msgspec alone answers by a segmentation fault."""

from __future__ import annotations

import subprocess
import sys

import pytest

PROGRAM = """
import sys, threading
import msgspec
from agentkit.core.struct import check, decode

entered, over = threading.Event(), threading.Event()
read = {"decode": lambda: decode(b'{"inner": {"n": 1}}', Outer), "check": lambda: check({"inner": {"n": 1}}, Outer)}
found = []

def number():
    entered.set()
    over.wait(30)
    return int

class Inner(msgspec.Struct):
    n: "number()"

class Outer(msgspec.Struct):
    inner: "Inner"

first, second = (threading.Thread(target=lambda: found.append(read[sys.argv[1]]())) for _ in range(2))
first.start()
entered.wait(30)
second.start()
second.join(0.5)
over.set()
first.join(30)
second.join(30)
assert found == [Outer(Inner(1))] * 2
"""


@pytest.mark.parametrize("how", ["decode", "check"])
def test_a_structure_is_found_out_about_by_one_thread_before_another_reads_it(how: str) -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM, how], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
