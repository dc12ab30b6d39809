"""The long table and back: order, slots, ids, categories, the catalogue."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recil.errors import InputError
from recil.logs.session_log import POLICY, Column, SessionLog
from recil.logs.table import from_frame

TEXT = st.text("abc,é 1|\"'\n", min_size=1, max_size=4)


@st.composite
def logs(draw: st.DrawFn) -> SessionLog:
    """Logs as from_frame makes them: every slate shows something, the widest slot is used somewhere."""
    lengths = draw(st.lists(st.integers(1, 4), min_size=1, max_size=5))
    steps, sessions = sum(lengths), len(lengths)
    slots = draw(st.integers(1, 3))
    catalogue = draw(st.integers(slots, 6))
    random = np.random.default_rng(draw(st.integers(0, 2**32)))
    items = np.argsort(random.random((steps, catalogue)), axis=1)[:, :slots].astype(np.int32)
    empty = random.random(items.shape) < 0.4
    empty[np.arange(steps), random.integers(0, slots, steps)] = False
    empty[0] = False
    shown = ~np.where(True, empty, False)
    items[~shown] = -1

    def ids(size: int) -> np.ndarray:
        if draw(st.booleans()):
            return random.permutation(np.arange(-5, 20))[:size].astype(np.int64)
        return np.array(draw(st.lists(TEXT, min_size=size, max_size=size, unique=True)))

    def numbers(*shape: int) -> Column:
        return Column(random.normal(size=shape).astype(np.float32))

    def codes(*shape: int) -> Column:
        names = tuple(sorted(draw(st.sets(TEXT, min_size=1, max_size=3))))
        return Column(random.integers(-1, len(names), shape).astype(np.int32), names)

    def at_shown(column: Column) -> Column:
        return Column(
            np.where(shown, column.values, column.values.dtype.type(-1 if column.categories else 0)), column.categories
        )

    def of_sessions(column: Column) -> Column:
        return Column(np.repeat(column.values, lengths), column.categories)

    optional = draw(st.booleans())
    several = draw(st.booleans())
    served_by = Column(random.integers(0, 2, sessions).astype(np.int32), ("a", "b 1"))
    return SessionLog(
        item_ids=ids(catalogue),
        items=items,
        reward=np.where(shown, random.normal(size=items.shape), 0).astype(np.float32),
        offsets=np.append(0, np.cumsum(lengths)).astype(np.int64),
        session_ids=ids(sessions),
        propensity=np.where(shown, 1 - random.random(items.shape), 1).astype(np.float32) if optional else None,
        timestamp=np.sort(random.integers(-(2**60), 2**60, steps)) if optional else None,
        user_ids=ids(sessions) if optional else None,
        terminated=random.random(sessions) < 0.5 if optional else None,
        feedback={"mood": at_shown(numbers(steps, slots)), "op": at_shown(codes(steps, slots))},
        context={"context_hour": numbers(steps), "context_tab": codes(steps)}
        | ({POLICY: of_sessions(served_by)} if several else {}),
        user_features={"user_age": numbers(sessions), "user_kind": codes(sessions)},
        item_features={"item_price": numbers(catalogue), "item_kind": codes(catalogue)} if optional else {},
        propensity_of={
            name: np.where(shown, random.random(items.shape) // 0.1 / 10, 1).astype(np.float32)
            for name in (served_by.categories or () if several else ())
        },
    )


@given(logs())
@settings(max_examples=150, deadline=None)
def test_the_table_of_a_log_gives_the_log_back(log: SessionLog) -> None:
    again = SessionLog.from_frame(log.to_frame(), log.items_frame())
    assert again == log
    for name in ("items", "reward", "offsets", "session_ids", "item_ids", "propensity", "timestamp", "terminated"):
        np.testing.assert_array_equal(getattr(again, name), getattr(log, name), err_msg=name)


@given(logs(), st.randoms(use_true_random=False))
@settings(max_examples=50, deadline=None)
def test_the_order_of_rows_within_sessions_does_not_matter(log: SessionLog, random) -> None:
    frame = log.to_frame()
    first = frame.groupby("session_id", sort=False).head(1).index  # sessions keep the order in which they appear
    rest = [row for row in frame.index if row not in set(first)]
    random.shuffle(rest)
    assert SessionLog.from_frame(frame.loc[[*first, *rest]], log.items_frame()) == log


@given(logs())
@settings(max_examples=50, deadline=None)
def test_relabelled_sessions_are_the_same_sessions(log: SessionLog) -> None:
    frame = log.to_frame()
    names = {old: f"new {at}" for at, old in enumerate(log.session_ids.tolist())}
    other = SessionLog.from_frame(frame.assign(session_id=frame["session_id"].map(names)), log.items_frame())
    np.testing.assert_array_equal(other.items, log.items)
    np.testing.assert_array_equal(other.offsets, log.offsets)


def table(**columns: object) -> pd.DataFrame:
    base = {"session_id": [7, 7, 3], "step": [0, 1, 0], "item_id": [20, 10, 20], "click": [0, 1, 0]}
    return pd.DataFrame({**base, **columns})


def test_rows_go_to_their_session_step_and_slot() -> None:
    frame = pd.DataFrame(
        {
            "session_id": ["b", "a", "b", "b", "a"],
            "step": [1, 0, 0, 0, 1],
            "position": [0, 2, 1, 0, 0],
            "item_id": [5, 6, 7, 8, 5],
            "click": [1, 0, 0.5, -2, 0],
            "context_tab": ["x", "y", "z", "z", "y"],
            "user_age": [1, 2, 1, 1, 2],
            "op": ["L", None, "M", "L", "L"],
        }
    )
    log = SessionLog.from_frame(frame)
    assert log.session_ids.tolist() == ["b", "a"]
    assert log.offsets.tolist() == [0, 2, 4]
    assert log.item_ids.tolist() == [5, 6, 7, 8]
    assert log.items.tolist() == [[3, 2, -1], [0, -1, -1], [-1, -1, 1], [0, -1, -1]]
    assert log.reward.tolist() == [[-2, 0.5, 0], [1, 0, 0], [0, 0, 0], [0, 0, 0]]
    assert log.context["context_tab"].categories == ("x", "y", "z")
    assert log.context["context_tab"].values.tolist() == [2, 0, 1, 1]
    assert log.user_features["user_age"].values.tolist() == [1, 2]
    assert log.feedback["op"].values.tolist() == [[0, 1, -1], [0, -1, -1], [-1, -1, -1], [0, -1, -1]]
    assert log.propensity is None and log.timestamp is None and log.user_ids is None and log.terminated is None


def test_ids_keep_their_type_and_text_is_not_read_as_numbers() -> None:
    assert SessionLog.from_frame(table()).item_ids.dtype == np.int64
    text = SessionLog.from_frame(table(item_id=["010", "10", "010"], session_id=["07", "07", "7"]))
    assert text.item_ids.tolist() == ["010", "10"]
    assert text.session_ids.tolist() == ["07", "7"]
    assert SessionLog.from_frame(table(item_id=[20.0, 10.0, 20.0])).item_ids.tolist() == [10, 20]
    categorical = table(item_id=pd.Categorical(["b", "a", "b"], categories=["b", "c", "a"]))
    assert SessionLog.from_frame(categorical).item_ids.tolist() == ["a", "b"]


def test_the_items_table_is_the_catalogue_in_its_order() -> None:
    items = pd.DataFrame(
        {
            "item_id": [20, 30, 10],
            "item_price": [1.5, 2, 3],
            "item_kind": ["x", None, "y"],
            "item_tags": [["b", "a"], [], ["a"]],
            "item_codes": ["214 035", "", "035"],
            "item_words": ["new york", "rome", "rome"],
            "item_genres": ["Drama|War", "War", ""],
            "title": ["A", "B", "C"],
        }
    )
    log = SessionLog.from_frame(table(), items)
    assert log.item_ids.tolist() == [20, 30, 10]
    assert log.items.tolist() == [[0], [2], [0]]
    assert log.item_features["item_price"].values.tolist() == [1.5, 2, 3]
    assert log.item_features["item_kind"].values.tolist() == [0, -1, 1]
    assert log.item_features["item_tags"].values.tolist() == [[1, 0], [-1, -1], [0, -1]]
    assert log.item_features["item_codes"].categories == ("035", "214")
    assert log.item_features["item_codes"].values.tolist() == [[1, 0], [-1, -1], [0, -1]]
    assert log.item_features["item_words"].categories == ("new york", "rome")
    assert log.item_features["item_genres"].values.tolist() == [[0, 1], [1, -1], [-1, -1]]
    assert list(log.notes.items()) == [("columns of the items table without the prefix item_ left out", 1)]


def test_steps_with_gaps_are_numbered_anew_and_counted() -> None:
    log = SessionLog.from_frame(table(session_id=[7, 7, 3], step=[4, 9, 0]))
    assert log.to_frame()["step"].tolist() == [0, 1, 0]
    assert log.notes == {"sessions whose steps had gaps and were numbered anew": 1}
    assert SessionLog.from_frame(table()).notes == {}


def test_whole_numbers_that_float32_cannot_hold_are_counted() -> None:
    log = SessionLog.from_frame(table(author=[2**24 + 1, 5, 7]))
    assert log.notes == {"values of author rounded to float32": 1}


def test_codes_in_numbers_are_categories_where_the_caller_says_so() -> None:
    log = from_frame(table(context_tab=[10, 9, 10]), categorical=["context_tab"])
    assert log.context["context_tab"].categories == ("9", "10")
    assert log.context["context_tab"].values.tolist() == [1, 0, 1]


def test_dates_become_microseconds_and_numbers_keep_their_unit() -> None:
    texts = ["1970-01-01 00:00:01+00:00", "1970-01-01 02:00:02.5+01:00", "1970-01-01 00:00:00+00:00"]
    assert SessionLog.from_frame(table(timestamp=texts)).timestamp.tolist() == [1_000_000, 3_602_500_000, 0]
    dates = pd.to_datetime(pd.Series(["1970-01-01 00:00:01", "1970-01-01 00:00:02", "1970-01-02 00:00:00"]))
    assert SessionLog.from_frame(table(timestamp=dates)).timestamp.tolist() == [1_000_000, 2_000_000, 86_400_000_000]
    large = [2**62 + 1, 2**62 + 2, 0]
    assert SessionLog.from_frame(table(timestamp=large)).timestamp.tolist() == large


def test_a_slate_size_can_be_asked_for() -> None:
    assert from_frame(table(), slate_size=3).items.tolist() == [[1, -1, -1], [0, -1, -1], [1, -1, -1]]


def test_a_column_that_cannot_be_told_apart_is_not_written() -> None:
    log = SessionLog.from_frame(table())
    for name in ("user_mood", "context_x", "item_x", "click", "step"):
        column = Column(np.zeros((3, 1), dtype=np.float32))
        with pytest.raises(InputError, match=f"column {name!r} cannot be told from another"):
            SessionLog(
                log.item_ids, log.items, log.reward, log.offsets, log.session_ids, feedback={name: column}
            ).to_frame()


@pytest.mark.parametrize("unused", [("z",), ()])
def test_categories_that_no_row_has_survive(unused: tuple[str, ...]) -> None:
    tab = pd.Categorical(["b", "a", "b"], categories=["b", "a", *unused])
    log = SessionLog.from_frame(table(context_tab=tab))
    assert log.context["context_tab"].categories == ("b", "a", *unused)
    assert SessionLog.from_frame(log.to_frame()) == log
