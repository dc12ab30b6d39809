"""check_log: how often it is wrong about sound logs, and what it finds and names in logs with a known fault."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from logs_drawn import TEN, annealed, drifting, log_of, moods, of_candidates, plain, slates
from statistics_helper import assert_rate_at_least

from recil.errors import InputError
from recil.evaluate.log_checks import check_log
from recil.logs.session_log import Column

LOGS = 150
ZIPF = np.arange(1, 201.0) ** -1.0
ZIPF /= ZIPF.sum()


def same_for_a_user(seed):
    """Every user meets one draw in all five sessions."""
    items = np.repeat(np.random.default_rng(seed).choice(10, 200, p=TEN), 5)
    return log_of(items, TEN[items], 10, users=np.repeat(np.arange(200), 5))


SOUND = {
    "few sessions": lambda seed: plain(seed, 100),
    "skewed": lambda seed: plain(seed, 500, np.array([0.9, 0.05, 0.03, 0.01, 0.01])),
    "many items": lambda seed: plain(seed, 2000, ZIPF),
    "moods": lambda seed: moods(seed, 500),
    "many steps": lambda seed: moods(seed, 50, steps=20),
    "slates": lambda seed: slates(seed, 300)[0],
    "weights change in time": lambda seed: annealed(seed, 500),
    "one draw a user": same_for_a_user,
    "candidates": lambda seed: of_candidates(seed, 300),
    "candidates in slates": lambda seed: of_candidates(seed, 300, places=3),
}


@pytest.mark.parametrize("kind", SOUND)
def test_chances_are_what_they_say(kind):
    """Below .05 in at most 7% of sound logs, below .01 in at most 2%; fails by chance once in 100,000 times."""
    quiet, refused = Counter(), 0
    for seed in range(LOGS):
        found = check_log(SOUND[kind](seed))
        refused += found.verdict == "refuse"
        for row in found.rows:
            if not np.isnan(row.chance):
                quiet[row.name, 0.07] += row.chance >= 0.05
                quiet[row.name, 0.02] += row.chance >= 0.01
    assert len(quiet) >= 4 and refused == 0
    for (_, most), count in quiet.items():
        assert_rate_at_least(count, LOGS, 1 - most, false_alarm=1e-5)


@pytest.mark.parametrize("policies", [2, 3])
def test_averaged_propensities_of_policies_in_time_are_found(policies):
    """All the way: refused from 1,000 sessions on. A third of the way: found in most logs of 2,000."""
    full = [check_log(drifting(seed, 1000, 1.0, policies)).verdict == "refuse" for seed in range(40)]
    assert_rate_at_least(sum(full), 40, 0.95, false_alarm=1e-4)
    mild = [check_log(drifting(seed, 2000, 1 / 3, policies))["drift: all groups"].grade > 0 for seed in range(60)]
    assert_rate_at_least(sum(mild), 60, 0.6, false_alarm=1e-4)
    large = check_log(drifting(0, 10_000, 1 / 3, policies))
    assert large.verdict == "refuse" and any("several policies" in reason for reason in large.reasons)


def test_a_misfit_as_large_as_what_is_seen_is_seen_in_four_of_five_logs():
    def found(size, seed):
        draw = np.random.default_rng(seed)
        turn = size * np.where(np.arange(10) % 2, 1.0, -1.0)[:, None] * np.array([1.0, -1.0])
        chances = (0.1 * (1 + turn)).T
        items = np.concatenate([draw.choice(10, 1000, p=own) for own in chances])
        return check_log(log_of(items, np.full(2000, 0.1), 10))

    sees = found(0.0, 0).sees
    assert found(0.0, 0).power == f"propensities wrong by less than {sees:.0%} could not be seen in this log"
    hits = sum(found(sees, seed)["drift: all groups"].grade > 0 for seed in range(150))
    assert_rate_at_least(hits, 150, 0.8, false_alarm=1e-4)
    assert_rate_at_least(150 - hits, 150, 0.08, false_alarm=1e-4)
    assert sum(found(sees / 2, seed)["drift: all groups"].grade > 0 for seed in range(40)) < 15
    assert check_log(plain(0, 60)).sees > 1 and "too small" in check_log(plain(0, 60)).power
    # From more sessions less is seen, but never what counts as nothing.
    assert check_log(plain(0, 200_000)).sees == 0.02


def spoilt(log, change):
    return replace(log, propensity=change(log.propensity.astype(np.float64)).astype(np.float32))


FAULTS = {
    "halved": (lambda: spoilt(plain(0, 500), lambda p: p / 2), "add up to 0.5"),
    "halved, moods": (lambda: spoilt(moods(0, 500), lambda p: p / 2), "add up to 0.4"),
    "too large": (lambda: spoilt(plain(0, 500), lambda p: 1.2 * p), "add up to 1.2"),
    "too large, moods": (lambda: spoilt(moods(0, 10_000), lambda p: np.minimum(1.2 * p, 1)), "too large"),
    "of the slate": (lambda: spoilt(slates(0, 500)[0], lambda p: p.prod(1, keepdims=True) + 0 * p), "slate's prob"),
    "of the first place": (
        lambda: replace(slates(0, 500)[0], propensity=slates(0, 500)[1].astype(np.float32)),
        "those of the first place",
    ),
    "of the place before": (lambda: spoilt(slates(0, 500)[0], lambda p: np.roll(p, 1, 1)), "place"),
    "one decimal": (lambda: spoilt(moods(0, 500), lambda p: np.maximum(p.round(1), 0.1)), "multiples of 0.1: rounded"),
    "clipped": (lambda: spoilt(moods(0, 2000), lambda p: np.maximum(p, 0.05)), "0.05 stands at many different items"),
    "clipped, no context": (lambda: spoilt(plain(0, 500, ZIPF), lambda p: np.maximum(p, 0.01)), "clipped from below"),
}


@pytest.mark.parametrize("kind", FAULTS)
def test_faults_are_refused_and_named(kind):
    make, word = FAULTS[kind]
    found = check_log(make())
    assert found.verdict == "refuse"
    grave = [row.reason for row in found.rows if row.verdict == "refuse"]
    assert any(word in reason for reason in grave), grave
    assert max(map(len, str(found).splitlines())) <= 80


def test_what_only_looks_like_a_fault_is_none():
    """Two decimals, a floor that many items share, one propensity in a whole slate: all right where they calibrate."""
    assert check_log(plain(0, 2000)).verdict == "trust"
    floor = np.full(10, 0.05)
    floor[0] = 0.55
    assert check_log(plain(0, 2000, floor)).verdict == "trust"
    items = np.random.default_rng(0).integers(0, 10, (2000, 3))
    assert check_log(log_of(items, np.full(items.shape, 0.1), 10)).verdict == "trust"


def test_a_low_ratio_that_rare_items_explain_is_no_more_than_caution():
    """Contexts in which an item is as good as never shown: of the propensities nothing is wrong."""
    worst = Counter(check_log(moods(seed, 500, spread=1.2)).verdict for seed in range(100))
    assert worst["refuse"] <= 2 and worst["caution"] > 10


def test_constant_propensities_must_add_up_to_one_without_chance():
    """Nine of ten items at 21 sessions: no statistic could tell, the sum does."""
    items = np.repeat(np.arange(10), 3)
    found = check_log(log_of(items, 0.9 * np.full(30, 0.1), 10))["sum of constant propensities"]
    assert (found.verdict, found.found) == ("refuse", pytest.approx(0.9))
    unseen = check_log(log_of(np.repeat(np.arange(9), 3), np.full(27, 0.1), 10))["sum of constant propensities"]
    assert unseen.verdict == "trust"  # the tenth item may well not have been drawn
    many = log_of(np.repeat(np.arange(9), 300), np.full(2700, 0.1), 10)
    assert check_log(many)["sum of constant propensities"].verdict == "refuse"
    assert check_log(replace(many, user_ids=np.arange(2700) // 300))["sum of constant propensities"].verdict == "trust"


@pytest.mark.parametrize("places", [1, 3])
def test_candidates_that_differ_are_a_column_and_no_fault(places):
    found = check_log(of_candidates(0, 1000, places))
    assert found.verdict == "trust" and np.isfinite(found.sees)
    assert not any("calibration" in row.name for row in found.rows)
    untold = check_log(of_candidates(0, 1000, places, told=False))
    assert untold.verdict != "trust" and "context_candidates" in untold.reasons[0]
    halved = check_log(spoilt(of_candidates(0, 1000, places), lambda p: p / 2))
    assert halved.verdict == "refuse"
    late = of_candidates(0, 1000, places)
    late.propensity[500:] /= 2
    assert check_log(late)["sample ratio: worst period's"].verdict == "refuse"


def test_candidates_that_cannot_be_are_said():
    log = of_candidates(0, 50, 3)
    for wrong in (2.0, 21.0, np.nan):
        number = log.context["candidates"].values.copy()
        number[7] = wrong
        with pytest.raises(InputError, match=r"context_candidates.*in step 7 of the log, where 3 of 20 items"):
            check_log(replace(log, context={"candidates": Column(number)}))
    with pytest.raises(InputError, match="holds no numbers"):
        check_log(replace(log, context={"candidates": Column(np.zeros(50, dtype=np.int32), ("many",))}))


def test_each_policy_of_a_log_is_checked_by_itself():
    """Two policies by turns: each with its own propensities is sound; with the average of both neither is."""
    draw = np.random.default_rng(0)
    code = draw.integers(0, 2, 2000).astype(np.int32)
    chances = np.stack([TEN, TEN[::-1]])
    items = np.array([draw.choice(10, p=chances[one]) for one in code])
    column = Column(code, ("old", "new"))
    sound = check_log(log_of(items, chances[code, items], 10, policy=column))
    assert sound.verdict == "trust" and sound["policies: the worst one's worst"].verdict == "trust"
    averaged = log_of(items, chances.mean(0)[items], 10, policy=column)
    found = check_log(averaged)
    assert found.verdict == "refuse" and found.reasons[0].startswith("policy ")
    assert check_log(replace(averaged, context={})).verdict == "trust"
    # A fault of one policy alone is that policy's.
    propensity = np.where(code == 1, 0.5, 1.0) * chances[code, items]
    assert any("policy new" in reason for reason in check_log(log_of(items, propensity, 10, policy=column)).reasons)
