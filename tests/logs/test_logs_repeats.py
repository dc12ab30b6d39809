"""Copies under other ids are found, in whatever order they stand, and logs without copies are left alone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from logs_with_copies import (
    WITHOUT_COPIES,
    copied,
    drifting,
    exact_shares,
    hardly_any_click,
    many_items,
    of_users,
    rotation,
    sorted_by_all,
    sorted_by_item,
    stories,
    ten_items,
    timed,
    worth,
)
from statistics_helper import assert_rate_at_least

from recil.logs.clusters import clusters_of
from recil.logs.read import read_log
from recil.logs.repeats import NOTHING, merged, repeats_of
from recil.logs.session_log import SessionLog

Kind = Callable[[np.random.Generator], SessionLog]
KINDS: tuple[Kind, ...] = (
    *(ten_items, many_items, sorted_by_item, sorted_by_all, rotation, exact_shares, drifting, worth, stories, timed),
    of_users,
)
WAYS: dict[str, Callable[[int, np.random.Generator], np.ndarray]] = {
    "side by side": lambda sessions, draw: np.repeat(np.arange(sessions), 2),
    "one behind the other": lambda sessions, draw: np.tile(np.arange(sessions), 2),
    "shuffled": lambda sessions, draw: draw.permutation(np.tile(np.arange(sessions), 2)),
    "three times": lambda sessions, draw: draw.permutation(np.tile(np.arange(sessions), 3)),
}


def check_groups(log: SessionLog, origin: np.ndarray, times: int) -> None:
    """Every group holds `times` units of one content; origin [S] tells which sessions are the same."""
    found = repeats_of(log)
    units = clusters_of(log)
    assert found.of is not None and found.of.shape == (log.sessions,) and found.of.dtype == np.int64
    assert found.copies == units.count - units.count // times
    assert found.chance <= 0.01 and f"{found.copies:,} of {units.count:,} {units.plural}" in found.reason
    assert sorted(set(found.of.tolist())) == list(range(units.count // times))
    sizes = np.bincount(found.of[np.unique(units.numbers, return_index=True)[1]])
    assert (sizes == times).all()
    if units.of is None:  # copies are equal; which of several equal ones go together does not matter
        rows = np.column_stack([log.items[log.offsets[:-1]], log.reward[log.offsets[:-1]], log.lengths])
        order = np.argsort(found.of, kind="stable").reshape(-1, times)
        assert (rows[order] == rows[order[:, :1]]).all()


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_a_log_that_stands_two_or_three_times_is_found_in_any_order(kind: Kind, way: str) -> None:
    draw = np.random.default_rng(5)
    log = kind(draw)
    sessions = WAYS[way](log.sessions, draw)
    check_groups(copied(log, sessions), sessions, len(sessions) // log.sessions)


@pytest.mark.parametrize("order", [np.repeat, np.tile], ids=["side by side", "one behind the other"])
@pytest.mark.parametrize("kind", [ten_items, many_items, drifting, worth], ids=lambda kind: kind.__name__)
def test_in_order_any_number_of_times_is_found(kind: Kind, order: Callable[..., np.ndarray]) -> None:
    log = kind(np.random.default_rng(6))
    sessions = order(np.arange(log.sessions), 7)
    check_groups(copied(log, sessions), sessions, 7)


def test_logs_without_copies_are_left_alone() -> None:
    """Poor, rich, sorted, rotating, drifting: a false alarm in 1 of 100, or this fails once in a million times."""
    logs = [kind(np.random.default_rng([8, number])) for kind in WITHOUT_COPIES for number in range(20)]
    quiet = [repeats_of(log) == NOTHING for log in logs]
    assert len(quiet) == 20 * len(WITHOUT_COPIES) > 300
    assert_rate_at_least(sum(quiet), len(quiet), 0.99)


@pytest.mark.parametrize(
    ("kind", "sessions", "share"), [(timed, 800, 0.3), (timed, 5000, 0.1), (worth, 8000, 0.3), (stories, 1000, 0.01)]
)
def test_a_part_of_a_log_that_stands_twice_is_found_where_contents_are_rich(
    kind: Callable[..., SessionLog], sessions: int, share: float
) -> None:
    draw = np.random.default_rng(9)
    log = kind(draw, sessions)
    again = draw.permutation(sessions)[: int(share * sessions)]
    origin = draw.permutation(np.append(np.arange(sessions), again))
    both = copied(log, origin)
    found = repeats_of(both)
    assert found.of is not None
    groups = {}
    for group, session in zip(found.of.tolist(), origin.tolist(), strict=True):
        groups.setdefault(group, []).append(session)
    together = [members for members in groups.values() if len(members) > 1]
    assert all(len(set(members)) == 1 for members in together), "only copies share a group"
    # Poor ones, bought nothing or of one or two steps, are not found.
    rich = {timed: np.ones(sessions, dtype=bool), worth: log.reward[:, 0] > 0, stories: log.lengths > 3}[kind]
    assert {members[0] for members in together} >= set(again[rich[again]].tolist())
    assert found.copies == both.sessions - len(groups) and found.chance <= 1e-4


def test_answers_that_differ_speak_against_copies() -> None:
    """The same sessions shown to others: every slate stands twice, and is answered anew."""
    draw = np.random.default_rng(10)
    for log in (stories(draw, 1000), stories(draw, 1000, propensities=False), timed(draw, 1000)):
        twice = copied(log, np.tile(np.arange(log.sessions), 2))
        reward = np.where(twice.items >= 0, draw.random(twice.items.shape) < 0.2, 0).astype(np.float32)
        assert repeats_of(replace(twice, reward=reward, feedback={}, terminated=None)) == NOTHING


def test_what_cannot_be_known_is_not_claimed() -> None:
    draw = np.random.default_rng(11)
    poor = ten_items(draw, 1000)
    assert repeats_of(copied(poor, np.append(np.arange(1000), draw.permutation(1000)[:300]))) == NOTHING
    none = hardly_any_click(draw)
    none = replace(none, reward=np.zeros_like(none.reward))
    assert repeats_of(copied(none, draw.permutation(np.tile(np.arange(1000), 2)))) == NOTHING


def test_users_that_stand_twice_are_found_as_users() -> None:
    draw = np.random.default_rng(12)
    log = of_users(draw)
    twice = copied(log, draw.permutation(np.tile(np.arange(log.sessions), 2)))
    found = repeats_of(twice)
    assert found.copies == 300 and found.of is not None
    by_user = np.argsort(twice.user_ids, kind="stable").reshape(600, 5)
    group = found.of[by_user]
    assert (group == group[:, :1]).all(), "a user's sessions stay together"
    held = np.sort(2 * twice.items[by_user, 0] + twice.reward[by_user, 0], 1)
    for number in range(300):
        assert (group[:, 0] == number).sum() == 2 and len(np.unique(held[group[:, 0] == number], axis=0)) == 1


def test_copies_within_a_user_are_the_users_own() -> None:
    draw = np.random.default_rng(13)
    log = of_users(draw)
    twice = replace(copied(log, np.repeat(np.arange(1500), 2)), user_ids=np.repeat(log.user_ids, 2))
    assert repeats_of(twice) == NOTHING
    assert repeats_of(twice, clusters_of(twice, "session")).copies == 1500


def test_merged_units_are_those_of_the_copies() -> None:
    log = copied(ten_items(np.random.default_rng(14)), np.repeat(np.arange(600), 2))
    units = clusters_of(log)
    one = merged(units, repeats_of(log))
    assert (one.name, one.count) == ("session", 600)
    assert one.of is not None and one.of.tolist() == repeats_of(log).of.tolist()
    for group in range(0, 600, 50):
        assert set(one.keys[one.of == group]) == {units.keys[one.of == group].min()}
    assert len(np.unique(one.keys)) == 600
    assert merged(units, NOTHING) is units


def test_small_logs_are_no_trouble() -> None:
    log = ten_items(np.random.default_rng(15))
    for sessions in ([3], [3, 3], [3, 4], [3] * 50):
        assert repeats_of(copied(log, np.array(sessions))) == NOTHING


@pytest.mark.parametrize(
    ("folder", "same_user"),
    [("kuairand", 0), ("entree", 261), ("movielens", 0), ("open_bandit/random/men", 0), ("open_bandit/bts/men", 0)],
)
def test_real_logs_have_no_copies(real_logs: Path, folder: str, same_user: int) -> None:
    """Entree has 261 visits that stand twice, each with the same user, which are one unit already."""
    log = read_log(real_logs / folder)
    assert repeats_of(log) == NOTHING
    from recil.logs.fingerprints import fingerprints

    content = fingerprints(log, clusters_of(log, "session")).content
    assert log.sessions - len(np.unique(content)) == same_user
    if log.user_ids is not None:
        owned = np.column_stack([content, np.unique(log.user_ids, return_inverse=True)[1].astype(np.uint64)])
        assert log.sessions - len(np.unique(owned, axis=0)) == same_user
