"""Users who come again stand on one side: what is held out, and what is drawn again, is whole users."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from known_users import SMALL, log_of_users, sessions_of

from recil.errors import InputError
from recil.logs.clusters import clusters_of
from recil.logs.session_log import SessionLog
from recil.random import Streams
from recil.sim import ensemble as members_of
from recil.sim import reference, select_choice
from recil.sim.ensemble import fit_ensemble
from recil.sim.fit import fit_users, split_sessions
from recil.sim.generate import Truth
from recil.sim.rates import baselines_of, fit_rates
from recil.sim.reference import ReferenceConfig, fit_reference
from recil.sim.select_choice import _clearly_best
from recil.sim.units import error_of_mean, set_aside
from recil.sim.user_config import UserConfig
from recil.sim.users import UserModel

QUICK = UserConfig(types=2, dimension=2, epochs=1, batch=64, held_out=0.2)
DECIDED = replace(QUICK, choice="multinomial", window=0)
BRIEF = ReferenceConfig(width=4, epochs=1, held_out=0.2)


@pytest.fixture(scope="module")
def log() -> SessionLog:
    """40 users: the first comes 30 times, the last once."""
    return log_of_users(Truth(SMALL), [30, *([5] * 20), *([2] * 18), 1])


def one_side(log: SessionLog, *sides: np.ndarray) -> None:
    users = [set(log.user_ids[side].tolist()) for side in sides]
    assert all(users) and not users[0] & users[1]


def named(sizes: list[int]) -> SessionLog:
    """Sessions of one step, of users who have so many each, in no order."""
    user = np.random.default_rng(0).permutation(np.repeat(np.arange(len(sizes)), sizes))
    count = len(user)
    return SessionLog(
        item_ids=np.arange(2),
        items=np.zeros((count, 1), dtype=np.int32),
        reward=np.zeros((count, 1), dtype=np.float32),
        offsets=np.arange(count + 1),
        session_ids=np.arange(count),
        user_ids=user,
    )


@given(st.lists(st.integers(1, 6), min_size=2, max_size=12), st.floats(0, 1), st.integers(0, 9))
def test_whole_units_are_set_aside_and_nothing_is_lost(sizes: list[int], share: float, seed: int) -> None:
    log = named(sizes)
    wanted = min(max(1, int(share * log.sessions)), log.sessions - 1)
    aside, rest = set_aside(clusters_of(log), wanted, np.random.default_rng(seed))
    assert sorted([*aside, *rest]) == list(range(log.sessions))
    one_side(log, aside, rest)
    # No more than asked for, but for the one that reaches it; fewer only where a unit had to be left.
    drawn = Counter(log.user_ids[aside].tolist())
    assert len(aside) - max(drawn.values()) < wanted
    assert len(aside) >= wanted or len(set(log.user_ids[rest].tolist())) == 1


def test_units_of_one_session_are_set_aside_as_sessions_are() -> None:
    log = named([1] * 50)
    for each in (log, replace(log, user_ids=None)):
        aside, rest = set_aside(clusters_of(each), 10, np.random.default_rng(3))
        assert [*aside, *rest] == np.random.default_rng(3).permutation(50).tolist() and len(aside) == 10


def test_every_user_is_set_aside_alike() -> None:
    """One of 20 users, in 2,000 draws: 100 times each, chance of a false alarm below 1e-6."""
    log, count = named([3] * 20), Counter()
    for seed in range(2000):
        aside, _ = set_aside(clusters_of(log), 1, np.random.default_rng(seed))
        (user,) = set(log.user_ids[aside].tolist())
        count[user] += 1
    assert len(count) == 20 and all(40 < seen < 160 for seen in count.values())


def test_the_error_of_a_mean_is_that_of_its_units() -> None:
    values = np.random.default_rng(0).normal(size=(60, 3))
    alone = error_of_mean(values)
    assert (alone == values.std(0) / np.sqrt(60)).all()
    assert error_of_mean(values, np.random.default_rng(1).permutation(60)) == pytest.approx(alone)
    # What stands there three times tells nothing more.
    assert error_of_mean(np.repeat(values, 3, 0), np.repeat(np.arange(60), 3)) == pytest.approx(alone)


def test_a_gain_of_one_user_is_not_clear() -> None:
    """The second predicts half of the sessions better, the others worse by less: those of 40 users, or of one."""
    scores = [np.zeros(80), np.where(np.arange(80) < 40, 0.1, -0.06)]
    assert _clearly_best(scores, None) == 1
    assert _clearly_best(scores, np.arange(80) // 40) == 0


def test_no_user_is_climbed_on_and_says_when_to_stop(log) -> None:
    train, held_out = split_sessions(log, QUICK, Streams(0))
    one_side(log, train, held_out)
    assert 0.2 * log.sessions <= len(held_out) < 0.2 * log.sessions + 30
    divided = split_sessions(log, replace(QUICK, cluster="session"), Streams(0))
    assert set(log.user_ids[divided[0]].tolist()) & set(log.user_ids[divided[1]].tolist())


def parts_seen(monkeypatch, module, name: str, log_at: int) -> list[tuple[SessionLog, tuple[np.ndarray, np.ndarray]]]:
    """(log, parts) of every call of an optimiser, which finds its log at this place and its parts after it."""
    seen, optimise = [], getattr(module, name)

    def spy(*given):
        seen.append(given[log_at : log_at + 2])
        return optimise(*given)

    monkeypatch.setattr(module, name, spy)
    return seen


@pytest.mark.parametrize("sessions", [60, 4000])
def test_no_user_is_on_both_sides_of_a_choice_between_models(log, monkeypatch, sessions: int) -> None:
    """Whether all of the log decides or a part of it."""
    monkeypatch.setattr(select_choice, "SESSIONS", sessions)
    seen = parts_seen(monkeypatch, select_choice, "optimise", 2)
    select_choice.select_choice(log, QUICK, Streams(0))
    assert len(seen) == 3
    for part, (train, held_out) in seen:
        one_side(part, train, held_out)
        assert part.sessions == min(sessions, log.sessions)


def test_no_user_is_on_both_sides_of_the_reference(log, monkeypatch) -> None:
    seen = parts_seen(monkeypatch, reference, "optimise_reference", 1)
    fit_reference(log, BRIEF)
    fit_reference(log, replace(BRIEF, cluster="session"))
    (told, (train, held_out)), (_, divided) = seen
    one_side(told, train, held_out)
    assert set(log.user_ids[divided[0]].tolist()) & set(log.user_ids[divided[1]].tolist())


def test_users_who_are_held_out_choose_the_strength_of_rates(log, monkeypatch) -> None:
    chosen, select = [], SessionLog.select
    monkeypatch.setattr(SessionLog, "select", lambda self, given: chosen.append(given) or select(self, given))
    fit_rates(log, ("item",))
    baselines_of(log, "session")
    whole, *divided = (np.isin(np.arange(log.sessions), given) for given in chosen)
    one_side(log, ~whole, whole)
    assert all(set(log.user_ids[each].tolist()) & set(log.user_ids[~each].tolist()) for each in divided)


@pytest.fixture(scope="module")
def central(log) -> UserModel:
    return fit_users(log, DECIDED)


def test_members_are_fitted_to_users_drawn_again_with_all_their_sessions(log, central, monkeypatch) -> None:
    seen = parts_seen(monkeypatch, members_of, "optimise", 2)
    fit_ensemble(log, DECIDED, members=3, users=central)
    parts, sizes = split_sessions(log, DECIDED, Streams(0)), Counter(log.user_ids.tolist())
    for _, drawn in seen:
        one_side(log, *drawn)
        for again, part in zip(drawn, parts, strict=True):
            users, times = set(log.user_ids[part].tolist()), Counter(again.tolist())
            assert set(again.tolist()) <= set(part.tolist())
            found = Counter(log.user_ids[again].tolist())
            assert sum(found[user] / sizes[user] for user in found) == len(users)
            for user in found:
                assert {times[session] for session in np.flatnonzero(log.user_ids == user)} == {
                    found[user] // sizes[user]
                }
    assert len({tuple(climbed) for _, (climbed, _) in seen}) == 3
    assert any(len(set(log.user_ids[climbed].tolist())) < 30 for _, (climbed, _) in seen)


def test_nine_users_are_too_few_however_often_they_come(log) -> None:
    few = log.select(log.user_ids < 9)
    for fit, config, what in ((fit_users, DECIDED, "users"), (fit_reference, BRIEF, "a reference")):
        message = rf'9 users are too few to fit {what} to -> bring at least 10, or set cluster to "session"'
        with pytest.raises(InputError, match=message):
            fit(few, config)
        fit(few, replace(config, cluster="session"))
    with pytest.raises(InputError, match="cluster: 'house' is no column of the log"):
        fit_users(log, replace(QUICK, cluster="house"))


def test_users_of_one_session_change_nothing() -> None:
    log = sessions_of(Truth(SMALL), 60)
    alone = replace(log, user_ids=np.array([f"user {name}" for name in log.session_ids], dtype=object))
    one, other = (fit_ensemble(each, QUICK, 3, members=2) for each in (log, alone))
    for first, second in zip((one.central, *one.members), (other.central, *other.members), strict=True):
        assert first.digest == second.digest and first.report == second.report
        assert [rates.predict(log).tolist() for rates in first.baselines.values()] == [
            rates.predict(log).tolist() for rates in second.baselines.values()
        ]
    assert (fit_reference(log, BRIEF).predict(log) == fit_reference(alone, BRIEF).predict(log)).all()
