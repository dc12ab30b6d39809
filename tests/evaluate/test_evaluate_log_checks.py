"""check_log: sound logs pass, each way of being wrong is found and named."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from tiny_worlds import MoodyWorld, RecallPolicy

from recil.errors import InputError
from recil.evaluate import log_checks, simulate
from recil.evaluate.log_checks import check_log
from recil.logs.session_log import PAD, SessionLog

WORLD = MoodyWorld.make(6, 2, 3)
BEHAVIOUR = RecallPolicy.make(6, 1, 0.6)


@pytest.fixture(scope="module")
def sound():
    return simulate(BEHAVIOUR, WORLD, 3000, 5)


def drawn(sessions, seed, chances, slate=1, repeat=False):
    """One-step sessions drawn with these chances [A]; with or without repetition in a slate."""
    draw = np.random.default_rng(seed)
    items = np.zeros((sessions, slate), dtype=np.int32)
    propensity = np.zeros((sessions, slate), dtype=np.float32)
    left = np.tile(chances, (sessions, 1)).astype(float)
    for place in range(slate):
        share = left / left.sum(1, keepdims=True)
        items[:, place] = (share.cumsum(1) < draw.random((sessions, 1))).sum(1)
        propensity[:, place] = share[np.arange(sessions), items[:, place]]
        if not repeat:
            left[np.arange(sessions), items[:, place]] = 0.0
    reward = np.zeros_like(propensity)
    return SessionLog(np.arange(len(chances)), items, reward, np.arange(sessions + 1), np.arange(sessions), propensity)


EVEN = np.array([0.3, 0.2, 0.2, 0.1, 0.1, 0.1])


def test_a_sound_log_is_trusted(sound):
    found = check_log(sound)
    assert found.verdict == "trust" and found.reasons == ()
    assert found["sum of propensities"].found == pytest.approx(1.0, abs=0.05)
    assert max(map(len, str(found).splitlines())) <= 80
    assert "3,000 sessions" in str(found) and "could not be seen in this log" in str(found).splitlines()[-1]
    assert list(found.to_frame()["verdict"].unique()) == ["trust"]


@pytest.mark.parametrize("repeat", [False, True])
def test_slates_with_and_without_repetition_are_sound(repeat):
    assert check_log(drawn(3000, 0, EVEN, 3, repeat)).verdict == "trust"


@pytest.mark.parametrize(
    ("factor", "verdict", "word"), [(0.8, "refuse", "add up to 0.8"), (1.2, "refuse", "too large")]
)
def test_propensities_that_do_not_sum_to_one(factor, verdict, word):
    log = drawn(5000, 1, EVEN)
    found = check_log(replace(log, propensity=log.propensity * np.float32(factor)))
    row = found["sum of propensities"]
    assert row.found == pytest.approx(factor, abs=0.02)
    assert row.verdict == verdict and word in row.reason
    assert found.verdict == verdict


def test_a_policy_that_shows_other_than_it_says():
    """Propensities sum to 1, of a policy that was not the one that chose."""
    log = drawn(5000, 2, EVEN)
    claimed = np.array([0.1, 0.2, 0.2, 0.1, 0.1, 0.3])[log.items].astype(np.float32)
    found = check_log(replace(log, propensity=claimed), groups=6)
    assert found["calibration: worst group's ratio"].verdict == "refuse"
    assert found["calibration: worst group's ratio"].found == pytest.approx(3.0, abs=0.3)


@pytest.mark.parametrize("timed", [False, True])
def test_a_period_in_which_the_randomisation_failed(timed):
    """A tenth of the log shows item 0 far more often: hardly seen over all, plain in its period."""
    log = drawn(10_000, 3, EVEN)
    items, propensity = log.items.copy(), log.propensity.copy()
    where = slice(4000, 5000)
    items[where][::2] = 0
    propensity[where] = EVEN[items[where]]
    broken = replace(log, items=items, propensity=propensity)
    if timed:
        order = np.random.default_rng(0).permutation(10_000)
        broken = replace(broken.select(order), timestamp=order.astype(np.int64))
    found = check_log(broken, groups=6)
    row = found["sample ratio: worst period's"]
    assert row.verdict == "refuse" and "period 5 of 10" in row.reason


def test_items_never_shown_and_hardly_ever_shown():
    withheld = np.array([0.5, 0.3, 0.2, 0.0, 0.0, 0.0])
    found = check_log(drawn(3000, 4, withheld), groups=6)
    assert found.verdict == "caution" and found["sum of constant propensities"].verdict == "trust"
    assert found["calibration: worst group's ratio"].verdict == "trust"  # of what was shown it says nothing wrong
    assert found["share of items never shown"].found == pytest.approx(0.5)
    assert any("50% of the catalogue" in reason for reason in found.reasons)
    assert found["sum of propensities"].found == pytest.approx(2.0, abs=0.1)
    assert found["sum of propensities"].verdict == "caution"  # without these it is 1
    rare = np.append(np.full(5, 0.2 - 2e-8), 1e-7)
    assert check_log(drawn(3000, 4, rare)).verdict == "caution"


def test_a_log_without_chance_is_refused():
    log = drawn(500, 5, EVEN)
    found = check_log(replace(log, propensity=np.ones_like(log.propensity)))
    assert found.verdict == "refuse" and "certainty" in found.reasons[0]


def test_bad_and_missing_propensities():
    log = drawn(500, 6, EVEN)
    wrong = log.propensity.copy()
    wrong[3:5] = 0.0
    found = check_log(replace(log, propensity=wrong))
    assert found.verdict == "refuse" and found.reasons == ("2 propensities are not in (0, 1]",)
    missing = check_log(replace(log, propensity=None))
    assert missing.verdict == "refuse" and "behaviour=" in missing.reasons[0]
    with pytest.raises(InputError, match="1 or more"):
        check_log(log, groups=0)
    with pytest.raises(KeyError, match="sum of"):
        _ = check_log(log)["sums"]


def test_the_clone_is_checked_in_place_of_propensities(sound):
    bare = replace(sound, propensity=None)
    assert check_log(bare, BEHAVIOUR).verdict == "trust"
    assert check_log(bare, BEHAVIOUR)["clone: shown over expected"].found == pytest.approx(1.0, abs=0.1)
    flat = check_log(bare, RecallPolicy(torch.arange(6).double().expand(7, 2, 6) / 2))
    assert flat["clone: shown over expected"].verdict == "refuse"
    assert any("not calibrated" in reason for reason in flat.reasons)


def test_pads_are_nothing(sound):
    items, reward = (
        np.pad(part, ((0, 0), (0, 2)), constant_values=fill) for part, fill in ((sound.items, PAD), (sound.reward, 0))
    )
    propensity = np.pad(sound.propensity, ((0, 0), (0, 2)), constant_values=1)
    padded = check_log(replace(sound, items=items, reward=reward, propensity=propensity))
    assert [row.found for row in padded.rows] == pytest.approx([row.found for row in check_log(sound).rows])


def test_a_large_log_is_looked_at_in_all_its_parts(monkeypatch):
    """Ten policies by turns hide in every tenth session; one of ten periods is broken."""
    monkeypatch.setattr(log_checks, "MOST_SESSIONS", 3000)
    log = drawn(30_000, 7, EVEN)
    found = check_log(log)
    assert (found.looked_at, found.sessions, found.verdict) == (3000, 30_000, "trust")
    assert "3,000 sessions from all parts" in str(found)
    propensity = log.propensity.copy()
    propensity[27_000:] /= 3
    assert check_log(replace(log, propensity=propensity))["sample ratio: worst period's"].verdict == "refuse"
    propensity = log.propensity.copy()
    propensity[3::10] /= 3
    assert check_log(replace(log, propensity=propensity))["sum of propensities"].found == pytest.approx(5 / 6, abs=0.02)


def test_an_answer_is_kept_as_long_as_its_log(monkeypatch):
    def never(_):
        raise AssertionError("the content of a log is costly to read")

    monkeypatch.setattr("recil.logs.digest.content_digest", never)
    log = drawn(300, 8, EVEN)
    found = check_log(log)
    assert check_log(log) is found and check_log(log, periods=5) is not found
    assert check_log(replace(log)) is not found
    known = id(log)
    assert known in log_checks._KNOWN
    del log
    assert known not in log_checks._KNOWN
