"""What is concluded follows from verdicts and paired differences, and from nothing else."""

from __future__ import annotations

from dataclasses import replace

import pytest
from found_evidence import evidence, gain, row

from recil.report.conclusions import conclusions, conclusions_section
from recil.report.page import Text

NEW, OLD = row("new"), row("old", "logged")


def said(*gains, rows=(NEW, OLD), **options) -> tuple[str, str]:
    yes, no = conclusions(evidence(rows, gains, **options))
    return "\n".join(yes), "\n".join(no)


def test_a_clear_difference_in_the_known_world_is_concluded_with_what_the_others_say() -> None:
    yes, no = said(gain("new", "old", "true", 1), gain("new", "old", "simulated", 1), gain("new", "old", "ope", 0))
    expected = "new brings more than old in the known world: +0.1000 [+0.0500, +0.1500] per session"
    assert yes == f"{expected} (among simulated users as well; on the held-out log it is a tie)."
    assert "cannot be told apart" not in no and "That any method" not in no


def test_the_better_one_stands_first_whatever_the_order_of_the_pair() -> None:
    yes, _ = said(gain("new", "old", "true", -1))
    assert yes == "old brings more than new in the known world: +0.1000 [+0.0500, +0.1500] per session."


def test_point_values_alone_conclude_nothing() -> None:
    apart = (replace(NEW, true=(0.9, 0.8, 1.0)), replace(OLD, true=(0.1, 0.0, 0.2)))
    assert said(rows=apart)[0] == ""
    tie = replace(gain("new", "old", "true", 0), value=0.04)
    yes, no = said(tie, rows=apart)
    assert yes == ""
    assert "new and old cannot be told apart in the known world: +0.0400" in no
    assert "That any method brings more than the recommender that wrote the log (old)." in no
    blocks = conclusions_section(evidence(apart, [tie])).blocks
    assert isinstance(blocks[0], Text) and blocks[0].words.startswith("No difference between methods is clear")
    (alone, *_) = conclusions_section(evidence(apart)).blocks
    assert isinstance(alone, Text) and alone.words.startswith("No two methods were measured by one measure")


def test_measures_that_contradict_each_other_conclude_nothing_without_a_truth() -> None:
    against = (gain("new", "old", "simulated", 1), gain("new", "old", "ope", -1))
    yes, no = said(*against, truth=False)
    assert yes == ""
    assert "the measures contradict each other, +0.1000" in no and "but -0.1000" in no
    yes, _ = said(gain("new", "old", "true", 1), *against)
    assert "on the held-out log the opposite seems clear, which misleads here" in yes


def test_a_tie_in_the_known_world_overrules_what_seems_clear_elsewhere() -> None:
    yes, no = said(gain("new", "old", "true", 0), gain("new", "old", "simulated", 1), gain("new", "old", "ope", 0))
    assert yes == ""
    assert "(though among simulated users a difference seems clear; nor on the held-out log)" in no


@pytest.mark.parametrize(
    ("rows", "measure"),
    [
        ((replace(NEW, own_world=True), OLD), "simulated"),
        ((replace(NEW, warrant="refuse"), OLD), "simulated"),
        ((NEW, replace(OLD, warrant=None)), "simulated"),
        ((replace(NEW, verdict="refuse"), OLD), "ope"),
        ((NEW, replace(OLD, verdict="refuse")), "ope"),
    ],
)
def test_what_is_refused_or_flatters_concludes_nothing(rows, measure: str) -> None:
    yes, no = said(gain("new", "old", measure, 1), rows=rows, truth=False)
    assert yes == ""
    assert "new against old: compared only" in no
    assert said(gain("new", "old", measure, 1), truth=False)[0] != ""


def test_caution_is_said_where_it_applies() -> None:
    rows = (replace(NEW, verdict="caution"), OLD)
    yes, no = said(gain("new", "old", "ope", 1), rows=rows, truth=False)
    assert yes.startswith("new brings more than old, with caution, on the held-out log")
    assert "More than a hint from the value on the log of new" in no
    assert "caution" not in said(gain("new", "old", "ope", 1), truth=False)[0]


def test_what_limits_all_conclusions_is_said() -> None:
    refused = (replace(NEW, verdict="refuse", seeds=(1, 2), own_world=True), replace(OLD, verdict="refuse"))
    world = ("refuse", ("clicks too much",))
    gains = [gain("new", "old", "true", 0)] * 4
    _, no = said(*gains, rows=refused, world=world)
    assert "What new or old would have brought on the log: refused" in no
    assert "Anything from simulated users: they fail on sessions they never saw (clicks too much)." in no
    assert "That new is as good as its simulated value" in no
    assert "How new does on all seeds: 1 of 2 are finished" in no
    assert "of the 4 differences about 0.2 would look clear" in no
    assert "one seed" not in no
    assert "How new would do if trained again: one seed says nothing of others." in said(seeds=(0,))[1]
    assert "That the same holds for another log" in no
    assert "That the same holds for another log" not in said(truth=False)[1]


def test_without_users_nothing_is_said_of_them() -> None:
    no = said(gain("new", "old", "true", 1), users=None, world=None)[1]
    assert "users" not in no
