from __future__ import annotations

from dataclasses import dataclass

import pytest

from bench.figures import Goal, show_goals


@dataclass
class Result:
    ms: float


def verdict(capsys: pytest.CaptureFixture[str], goal: Goal, ours: list[float], theirs: list[float]) -> str:
    show_goals([goal], {"ours": [Result(ms) for ms in ours], "rival": [Result(ms) for ms in theirs]})
    return capsys.readouterr().out


def test_a_goal_is_met_by_the_median_of_the_ratios_of_each_round(capsys: pytest.CaptureFixture[str]) -> None:
    goal = Goal("time", "ms", "ours", "rival", 0.5)
    assert verdict(capsys, goal, [1, 4, 900], [2, 10, 1000]).startswith("met      time: 0.50 (goal: at most 0.5;")
    assert verdict(capsys, goal, [1, 6, 900], [2, 10, 1000]).startswith("NOT MET  time: 0.60")


def test_a_goal_may_ask_for_more_and_for_a_bound_of_its_own(capsys: pytest.CaptureFixture[str]) -> None:
    assert verdict(capsys, Goal("rate", "ms", "ours", "rival", 3, at_least=True), [30], [10]).startswith("met ")
    assert verdict(capsys, Goal("rate", "ms", "ours", "rival", 3, at_least=True), [29], [10]).startswith("NOT MET")
    assert verdict(capsys, Goal("time", "ms", "ours", "rival", 3, below=20), [20], [10]).startswith("NOT MET")
    assert verdict(capsys, Goal("time", "ms", "ours", "rival", 3, below=20), [19], [10]).startswith("met ")


def test_a_rival_that_was_not_measured_has_no_verdict(capsys: pytest.CaptureFixture[str]) -> None:
    assert verdict(capsys, Goal("time", "ms", "ours", "absent", 1), [1], [1]) == ""
