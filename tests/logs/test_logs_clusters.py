"""The independent units of a log: users where it names them, sessions, or the categories of a column."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from recil.errors import InputError
from recil.logs.clusters import Clusters, clusters_of
from recil.logs.session_log import Column, SessionLog
from recil.random import stable_hashes

SESSIONS = 6


def log(users: object = None, **columns: object) -> SessionLog:
    """Six sessions of two steps; users: one a session."""
    base = SessionLog(
        item_ids=np.arange(3),
        items=np.zeros((12, 1), dtype=np.int32),
        reward=np.zeros((12, 1), dtype=np.float32),
        offsets=np.arange(0, 13, 2),
        session_ids=np.array(["a", "b", "c", "d", "e", "f"]),
        user_features={
            "user_kind": Column(np.array([0, 1, 1, -1, -1, 2], dtype=np.int32), ("x", "y", "", "unused")),
            "user_age": Column(np.array([3, 4, 4, np.nan, 3, np.nan], dtype=np.float32)),
        },
        context={"context_tab": Column(np.array([0, 1, 1, 1, 0, 0, 1, 0, -1, 1, 1, 0], dtype=np.int32), ("p", "q"))},
    )
    return replace(base, user_ids=None if users is None else np.asarray(users), **columns)


def together(units: Clusters) -> set[str]:
    """The units as sets of sessions, in words."""
    names = np.array(list("abcdef"))
    return {"".join(names[units.numbers == number]) for number in range(units.count)}


@pytest.mark.parametrize(
    "users",
    [
        [7, 3, 7, 9, 3, 7],
        np.array([7, 3, 7, 9, 3, 7], dtype=np.int32),
        np.array([7, 3, 7, 9, 3, 7], dtype=np.uint8),
        [-(2**62), 2**62, -(2**62), 5, 2**62, -(2**62)],
        [7.0, 3.0, 7.0, 9.0, 3.0, 7.0],
        ["u7", "u3", "u7", "u9", "u3", "u7"],
        np.array(["u7", "u3", "u7", "u9", "u3", "u7"], dtype=object),
        np.array([7, 3, 7, 9, 3, 7], dtype=object),
    ],
)
@pytest.mark.parametrize("cluster", [None, "user"])
def test_users_are_the_units_where_the_log_names_them(users: object, cluster: str | None) -> None:
    units = clusters_of(log(users), cluster)
    assert (units.name, units.plural, units.count) == ("user", "users", 3)
    assert units.of is not None and units.of.dtype == units.keys.dtype == np.int64
    assert together(units) == {"acf", "be", "d"}
    assert len(np.unique(units.keys)) == 3 and sorted(set(units.of.tolist())) == [0, 1, 2]


@pytest.mark.parametrize(("users", "cluster"), [(None, None), ([1, 1, 1, 2, 2, 2], "session")])
def test_without_users_or_where_asked_for_sessions_are_the_units(users: object, cluster: str | None) -> None:
    units = clusters_of(log(users), cluster)
    assert (units.name, units.of, units.count) == ("session", None, SESSIONS)
    assert units.numbers.tolist() == [0, 1, 2, 3, 4, 5]
    assert len(np.unique(units.keys)) == SESSIONS


@pytest.mark.parametrize("users", [[4, 2, 9, 1, 0, 5], [2**40, 2, 9, 1, 0, 5], ["r", "s", "t", "u", "v", "w"]])
def test_a_user_a_session_is_the_plain_case(users: list) -> None:
    units = clusters_of(log(users))
    assert (units.name, units.of, units.count) == ("user", None, SESSIONS)
    assert units.keys.tolist() == (users if isinstance(users[0], int) else stable_hashes(users).tolist())


@pytest.mark.parametrize(
    "users",
    [
        np.array(["r", None, "r", None, "", float("nan")], dtype=object),
        np.array(["r", "", "r", "", "", ""]),
        np.array([1.0, np.nan, 1.0, np.nan, np.nan, np.nan]),
    ],
)
def test_a_session_of_nobody_is_a_unit_of_its_own(users: np.ndarray) -> None:
    assert together(clusters_of(log(users))) == {"ac", "b", "d", "e", "f"}


def test_columns_are_units_by_what_they_say_at_the_start_and_gaps_stand_alone() -> None:
    assert together(clusters_of(log(), "user_kind")) == {"a", "bc", "d", "e", "f"}
    assert together(clusters_of(log(), "user_age")) == {"ae", "bc", "d", "f"}
    assert together(clusters_of(log([1] * SESSIONS), "context_tab")) == {"ac", "bdf", "e"}
    assert clusters_of(log(), "context_tab").name == "context_tab"


@pytest.mark.parametrize(
    "users", [[7, 3, 7, 9, 3, 7], ["u7", "u3", "u7", "u9", "u3", "u7"], ["", "s", "", "t", "s", ""]]
)
@pytest.mark.parametrize("cluster", ["user", "session", "user_kind"])
def test_parts_of_a_log_keep_the_addresses_of_their_units(users: list, cluster: str) -> None:
    whole, chosen = log(users), np.array([5, 1, 4])
    part = clusters_of(whole.select(chosen), cluster)
    assert part.keys.tolist() == clusters_of(whole, cluster).keys[chosen].tolist()


def test_one_user_is_one_unit() -> None:
    units = clusters_of(log(["u"] * SESSIONS))
    assert (units.count, units.numbers.tolist()) == (1, [0] * SESSIONS)


def test_what_is_no_unit_is_refused() -> None:
    with pytest.raises(InputError, match='names no users -> add a column user_id, or use cluster="session"'):
        clusters_of(log(), "user")
    with pytest.raises(
        InputError, match="'age' is no column of the log -> choose among user, session, user_kind, user_"
    ):
        clusters_of(log(), "age")
    wide = Column(np.zeros((SESSIONS, 2), dtype=np.int32), ("x",))
    with pytest.raises(InputError, match="'user_tags' has several values a session"):
        clusters_of(log(user_features={"user_tags": wide}), "user_tags")


@pytest.mark.parametrize("spread", [1, 2**40])
def test_many_units_are_those_of_their_ids(spread: int) -> None:
    users = np.random.default_rng(0).integers(0, 300, 5000) * spread
    base = log()
    many = replace(
        base,
        items=base.items[:1].repeat(5000, 0),
        reward=base.reward[:1].repeat(5000, 0),
        offsets=np.arange(5001),
        session_ids=np.arange(5000),
        user_features={},
        context={},
        user_ids=users,
    )
    units = clusters_of(many)
    different, wanted = np.unique(users, return_inverse=True)
    assert units.count == len(different)
    pairs = np.unique(np.stack([units.numbers, wanted]), axis=1)
    assert pairs.shape[1] == len(different)
