"""Parts of a log: by session, by time, chosen."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from recil.errors import InputError
from recil.logs.align import align
from recil.logs.session_log import Column, SessionLog
from recil.logs.split import DIVIDED, USERS_ON_BOTH_SIDES


def many(sessions: int = 400, prefix: str = "s") -> SessionLog:
    frame = pd.DataFrame(
        {
            "session_id": [f"{prefix}{number}" for number in np.repeat(np.arange(sessions), 2)],
            "step": np.tile([0, 1], sessions),
            "item_id": np.arange(2 * sessions) % 7,
            "click": 0.0,
            "timestamp": np.repeat(np.arange(sessions), 2) * 10 + np.tile([0, 15], sessions),
            "terminated": True,
            "user_id": np.repeat(np.arange(sessions), 2) % 5,
            "context_tab": np.where(np.arange(2 * sessions) % 3, "a", "b"),
        }
    )
    return SessionLog.from_frame(frame)


def with_users(users: object, sessions: int = 400) -> SessionLog:
    log = many(sessions)
    return replace(log, user_ids=None if users is None else np.asarray(users)[np.arange(sessions) % len(users)])


USERS = {
    "whole numbers": np.arange(90) * 7 - 40,
    "text": np.array([f"user {number}" for number in range(90)]),
    "objects": np.array([*(f"user {number}" for number in range(89)), None], dtype=object),
    "numbers with gaps": np.append(np.arange(89.0), np.nan),
}


@pytest.mark.parametrize("users", USERS.values(), ids=USERS)
@pytest.mark.parametrize("by", ["session", "user"])
def test_no_user_is_on_both_sides(by: str, users: np.ndarray) -> None:
    log = with_users(users)
    train, test = log.split(by=by, test=0.3, seed=1)
    assert sorted([*train.session_ids, *test.session_ids]) == sorted(log.session_ids)
    known = [{str(user) for user in part.user_ids if user is not None and user == user} for part in (train, test)]
    assert known[0] and known[1] and not known[0] & known[1]
    assert len(known[0] | known[1]) == 90 - (users.dtype.kind in "fO")
    assert USERS_ON_BOTH_SIDES not in train.notes and USERS_ON_BOTH_SIDES not in test.notes


@pytest.mark.parametrize("missing", [None, np.nan, ""])
def test_sessions_of_nobody_are_divided_like_sessions_without_users(missing: object) -> None:
    log = replace(many(2000), user_ids=np.array([missing] * 2000, dtype=object))
    _, test = log.split(by="session", test=0.3)
    assert abs(test.sessions - 600) < 5 * np.sqrt(2000 * 0.3 * 0.7)


@pytest.mark.parametrize("users", [None, np.arange(2000)], ids=["no users", "a user a session"])
def test_by_session_about_the_share_asked_for_is_held_out(users: np.ndarray | None) -> None:
    log = with_users(users, 2000)
    train, test = log.split(by="session", test=0.3, seed=1)
    # A binomial share: 5 standard deviations, false alarm below one in a million.
    assert abs(test.sessions - 600) < 5 * np.sqrt(2000 * 0.3 * 0.7)
    assert set(log.split(by="session", test=0.3, seed=2)[1].session_ids) != set(test.session_ids)
    assert log.split(by="session", test=0.3, seed=1) == (train, test)


@pytest.mark.parametrize("users", [None, *USERS.values()], ids=["no users", *USERS])
def test_a_side_depends_on_the_name_alone(users: np.ndarray | None) -> None:
    log = with_users(users, 200)
    held_out = set(log.split(by="session", seed=5)[1].session_ids)
    turned = log.select(np.arange(200)[::-1][:120])
    assert set(turned.split(by="session", seed=5)[1].session_ids) == held_out & set(turned.session_ids)


def test_a_larger_test_share_holds_the_smaller() -> None:
    for log in (with_users(None, 200), with_users(np.arange(50))):
        small, large = (set(log.split(by="session", test=share)[1].session_ids) for share in (0.2, 0.5))
        assert small < large


@pytest.mark.parametrize("cluster", ["session", "context_tab", "user_kind"])
def test_other_units_divide_users_and_the_notes_count_them(cluster: str) -> None:
    log = with_users(np.arange(90))
    kind = Column((np.arange(400) % 30).astype(np.int32), tuple(map(str, range(30))))
    tab = Column(np.repeat(kind.values, 2), kind.categories)
    log = replace(log, user_features={"user_kind": kind}, context={"context_tab": tab})
    train, test = log.split(by="session", test=0.4, seed=3, cluster=cluster)
    both = set(train.user_ids) & set(test.user_ids)
    assert train.notes == test.notes == {USERS_ON_BOTH_SIDES: len(both)}
    if cluster == "session":
        assert len(both) > 60
        assert set(test.session_ids) == set(with_users(None).split(by="session", test=0.4, seed=3)[1].session_ids)
    else:  # kinds are users modulo 30
        assert not both and len(set(test.user_features["user_kind"].values)) < 30


def test_by_time_steps_before_the_cut_are_train_and_a_session_on_both_sides_is_divided() -> None:
    log = many(10)  # session n has steps at 10 n and 10 n + 15
    train, test = log.split(by="time", at=50)
    assert train.timestamp.max() < 50 <= test.timestamp.min()
    assert train.steps + test.steps == log.steps
    assert train.session_ids.tolist() == ["s0", "s1", "s2", "s3", "s4"]
    assert test.session_ids.tolist() == ["s4", "s5", "s6", "s7", "s8", "s9"]
    assert train.terminated.tolist() == [True, True, True, True, False]
    assert test.terminated.all()
    assert train.user_ids.tolist() == [0, 1, 2, 3, 4] and test.user_ids.tolist() == [4, 0, 1, 2, 3, 4]
    assert test.to_frame()["step"].tolist() == [0, *[0, 1] * 5]
    for part in (train, test):
        assert part.notes == {DIVIDED: 1, USERS_ON_BOTH_SIDES: 5}
        assert part.item_ids is log.item_ids
        assert part.context["context_tab"].categories == ("a", "b")
    rows = pd.concat([train.to_frame(), test.to_frame()]).sort_values(["session_id", "timestamp"])
    whole = log.to_frame().sort_values(["session_id", "timestamp"])
    for name in ("session_id", "item_id", "timestamp", "context_tab", "user_id"):
        assert rows[name].tolist() == whole[name].tolist()


def test_by_time_the_cut_defaults_to_the_quantile_of_the_steps() -> None:
    train, test = many(100).split(test=0.25)
    assert abs(test.steps - 50) <= 1
    assert train.timestamp.max() < test.timestamp.min()


def test_steps_of_the_same_time_fall_on_the_same_side() -> None:
    frame = many(10).to_frame().assign(timestamp=lambda rows: rows["timestamp"] // 100)
    train, test = SessionLog.from_frame(frame).split(test=0.05)
    assert set(train.timestamp) == {0} and set(test.timestamp) == {1}


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"at": -5}, "the train side is empty: the cut is at -5, the log runs from 0 to 105"),
        ({"at": 1000}, "the test side is empty: the cut is at 1000"),
        ({"test": 0.0}, "test=0.0 is no share"),
        ({"test": 1.5}, "test=1.5 is no share"),
        ({"by": "day"}, "by='day' is unknown"),
        ({"by": "time", "cluster": "session"}, "by='time' takes no cluster='session'"),
        ({"by": "user", "cluster": "session"}, "by='user' takes no cluster='session'"),
        (
            {"by": "session", "cluster": "day"},
            "'day' is no column of the log -> choose among user, session, context_tab",
        ),
        ({"by": "session", "test": 1e-9}, "the test side is empty: 5 user(s), test=1e-09, seed=0"),
        (
            {"by": "session", "test": 1e-9, "cluster": "session"},
            "the test side is empty: 10 session(s), test=1e-09, seed=0",
        ),
        ({"by": "session", "test": 1 - 1e-9}, "the train side is empty"),
    ],
)
def test_a_split_that_cannot_be_is_refused(options: dict, said: str) -> None:
    with pytest.raises(InputError) as caught:
        many(10).split(**options)
    assert said in str(caught.value)


def test_without_user_ids_nothing_is_counted_and_no_split_by_user() -> None:
    log = with_users(None)
    assert log.split(by="time")[0].notes == {DIVIDED: 2}
    assert log.split(by="session", cluster="session")[0].notes == {}
    with pytest.raises(InputError, match="the log names no users -> add a column user_id"):
        log.split(by="user")


def test_a_log_without_time_is_not_split_by_time() -> None:
    log = SessionLog.from_frame(many(10).to_frame().drop(columns="timestamp"))
    with pytest.raises(InputError, match='no timestamp column to split by time -> use by="session"'):
        log.split()


def test_select_takes_positions_in_their_order_or_a_mask() -> None:
    log = many(6)
    assert log.select([4, 1]).session_ids.tolist() == ["s4", "s1"]
    assert log.select([4, 1]).timestamp.tolist() == [40, 55, 10, 25]
    mask = np.array([True, False, False, False, False, True])
    assert log.select(mask).session_ids.tolist() == ["s0", "s5"]
    assert log.select(np.arange(6)) == log
    for bad in ([6], [-1]):
        with pytest.raises(InputError, match=f"session {bad[0]} of a log with 6"):
            log.select(bad)
    with pytest.raises(InputError, match="no session is left"):
        log.select([])


def test_align_puts_one_log_into_the_words_of_another() -> None:
    like = many(10)
    frame = many(3, "t").to_frame().assign(extra=1.0)
    frame["item_id"] = [3, 5, 3, 5, 3, 5]
    frame["context_tab"] = ["b", "zz", "b", "b", "b", "b"]
    other = align(SessionLog.from_frame(frame), like)
    assert other.item_ids.tolist() == like.item_ids.tolist()
    assert other.items[:2].tolist() == [[3], [5]]
    assert other.context["context_tab"].categories == ("a", "b")
    assert other.context["context_tab"].values.tolist() == [1, -1, 1, 1, 1, 1]
    assert other.notes == {
        "feedback columns the other log lacks, left out": 1,
        "values of context_tab the other log does not know, taken as missing": 1,
    }
    assert align(like, like) == like


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda f: f.assign(item_id=99), "item 99 is not in the other log's catalogue; 6 items shown are not"),
        (lambda f: f.assign(item_id="3"), "item ids are whole numbers in one log and text in the other"),
        (lambda f: f.drop(columns="context_tab"), "the log has no context column context_tab"),
        (lambda f: f.assign(context_tab=1.0), "column 'context_tab' is numeric in one log and categorical"),
    ],
)
def test_logs_that_cannot_be_aligned_are_refused(change, said: str) -> None:
    with pytest.raises(InputError, match=said):
        align(SessionLog.from_frame(change(many(3).to_frame())), many(10))
