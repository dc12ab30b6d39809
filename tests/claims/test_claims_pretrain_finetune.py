"""Pretrain and finetune: the smallest form holds, and would not if guarded and unguarded changed places."""

from __future__ import annotations

from dataclasses import replace

import pytest
from claims_helper import EXPERIMENTS, arm_runs, smallest

from recil.claims.file import load_claim
from recil.claims.found import Found


@pytest.fixture(scope="module")
def tried():
    return smallest("pretrain_finetune")


def standing(tried, says: str) -> str:
    """Of the one point whose words begin so."""
    return next(point.standing for point in tried.points if point.says.startswith(says))


CLONE, BETTER, SCRATCH = "Initialised by likelihood", "Finetuned on the log", "From scratch"
UNGUARDED, GUARDED, MISLED, EMPTY = "Under large steps", "With guards", "A first batch that", "A first batch without"
SAID = "What the held-out"


def test_it_stands(tried):
    """Three small worlds do not tell how much finetuning brings on average: its own point may stay open."""
    assert {point.standing for point in tried.points} <= {"holds", "undecided", "not run"}, tried.points
    assert all(standing(tried, says) == "holds" for says in (SCRATCH, UNGUARDED, GUARDED, MISLED, EMPTY, SAID))
    gained = [tried.found.mean(f"demo, finetuned {where}", "true_of_clone").value for where in ("on the log", "online")]
    assert min(gained) > 1.2


def test_published_logs_that_are_not_there_are_not_run(tried):
    left_out = [point for point in tried.points if point.standing == "not run"]
    assert len(left_out) == 3
    assert {"demo", "first_batch"} == {run.part for run in tried.found.runs}


@pytest.mark.parametrize(
    ("first", "second", "says"),
    [
        ("guarded, as it came", "unguarded, as it came", GUARDED),
        ("guarded, fraud", "unguarded, fraud", MISLED),
        ("guarded, no clicks", "guarded, fraud", EMPTY),
        ("demo, finetuned online", "demo, scratch online", SCRATCH),
    ],
)
def test_it_would_not_if_these_changed_places(tried, first, second, says):
    assert standing(tried, says) == "holds" != standing(tried.swapped(first, second), says)


def test_the_clone_begins_where_the_demonstrator_of_the_bandit_is(tried):
    """Nine items in ten are clicked at .0102, the tenth at .0002."""
    begins = tried.found.values("gentle, as it came", "true") / tried.found.values(
        "gentle, as it came", "true_of_clone"
    )
    assert begins == pytest.approx(0.9 * 0.0102 + 0.1 * 0.0002, rel=0.05)
    steps, kept = tried.found.curve("unguarded, as it came", "kept")
    assert steps[0] == 0 and (kept[:, 0] == 1.0).all()


@pytest.mark.parametrize(
    ("arm", "measure", "value", "says"),
    [
        ("demo, finetuned online", "true", 0.0, BETTER),
        ("demo, logged", "true_of_clone", 2.0, CLONE),
        ("demo, clone", "held", 0.0, SAID),
    ],
)
def test_what_would_show_it_wrong_is_seen(tried, arm, measure, value, says):
    """A policy worth nothing after finetuning, a clone worth half of its demonstrator, intervals beside the truth."""
    runs = tuple(
        replace(run, values={**run.values, measure: value}) if run.arm == arm else run for run in tried.found.runs
    )
    assert standing(replace(tried, found=replace(tried.found, runs=runs)), says) == "does not hold"


@pytest.mark.slow
@pytest.mark.parametrize("name", ["kuairand", "entree"])
def test_a_published_log_is_judged_by_users_that_nobody_learned_from(real_logs, name):
    file = load_claim(EXPERIMENTS / "pretrain_finetune" / "experiment.toml", "smallest")
    settings = replace(file.settings, **{name: str(real_logs / name)}, published=200, published_epochs=1)
    assert name in file.claim.parts(settings) and not file.claim.measure(settings, name, settings.published_seeds)
    measured = file.claim.measure(settings, name, 0)
    assert {"own", "other", "own_of_clone", "other_of_clone"} <= set(measured[f"{name}, finetuned in users"].values)
    assert measured[f"{name}, clone"].values["other_of_clone"] == 1.0
    found = Found(tuple(arm_runs(measured, name, 0)), (0,))
    assert found.factor(f"{name}, clone", "other_card") in ("trust", "caution", "refuse")


@pytest.mark.slow
def test_the_demo_is_judged_by_users_that_nobody_learned_from():
    file = load_claim(EXPERIMENTS / "pretrain_finetune" / "experiment.toml", "smallest")
    measured = file.claim.measure(replace(file.settings, brief=False, epochs=2), "demo", 0)
    for arm in ("demo, finetuned in users", "demo, unguarded in users", "demo, longer scratch online"):
        assert {"own", "other", "true", "true_of_clone"} <= set(measured[arm].values)
