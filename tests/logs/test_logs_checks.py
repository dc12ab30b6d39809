"""Bad input: one error that names the place, the value and the remedy; nothing dropped in silence."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from recil.errors import InputError
from recil.logs.session_log import SessionLog
from recil.logs.table import from_frame


def good() -> pd.DataFrame:
    return pd.DataFrame(
        {
            "session_id": [1, 1, 1, 2, 2, 3],
            "step": [0, 0, 1, 0, 1, 0],
            "position": [0, 1, 0, 0, 0, 0],
            "item_id": [10, 20, 10, 20, 10, 10],
            "click": [0.0, 1.0, 0.0, 0.0, 1.0, 0.0],
            "propensity": [0.5, 0.5, 0.25, 0.5, 1.0, 0.5],
            "timestamp": [5, 5, 6, 7, 7, 1],
            "user_id": [8, 8, 8, 9, 9, 8],
            "terminated": [True, True, True, False, False, True],
            "context_tab": ["a", "a", "b", "a", "a", "b"],
            "user_age": [3.0, 3.0, 3.0, 4.0, 4.0, 3.0],
            "mood": [0.0, 0.5, 0.0, 0.0, 0.0, 1.0],
        }
    )


ITEMS = pd.DataFrame({"item_id": [10, 20, 30]})


def spoilt(column: str, row: int, value: object) -> pd.DataFrame:
    frame = good()
    frame[column] = frame[column].astype(object)
    frame.loc[row, column] = value
    return frame


# column, row, value, session as shown, what the message says of it, the remedy's first words
ROWS = [
    ("propensity", 3, 0.0, "2", "0.0 is not a probability in (0, 1]", "give the probability"),
    ("propensity", 3, 1.25, "2", "1.25 is not a probability in (0, 1]", "give the probability"),
    ("propensity", 3, -0.5, "2", "-0.5 is not a probability in (0, 1]", "give the probability"),
    ("propensity", 3, np.nan, "2", "nan is not a probability in (0, 1]", "give the probability"),
    ("propensity", 3, 1e-60, "2", "1e-60 is not a probability in (0, 1]", "give the probability"),
    ("propensity", 3, "half", "2", "'half' is not a probability in (0, 1]", "give the probability"),
    ("click", 4, np.nan, "2", "nan is not a finite number", "give every item shown its reward"),
    ("click", 4, -np.inf, "2", "-inf is not a finite number", "give every item shown its reward"),
    ("click", 4, "yes", "2", "'yes' is not a finite number", "give every item shown its reward"),
    ("step", 4, 0.5, "2", "0.5 is not a whole number", "number the slates"),
    ("step", 4, "one", "2", "'one' is not a whole number", "number the slates"),
    ("step", 4, None, "2", "None is not a whole number", "number the slates"),
    ("step", 4, -1, "2", "-1 is negative", "number the slates"),
    ("position", 1, -2, "1", "-2 is negative", "number the slots"),
    ("position", 1, 0.5, "1", "0.5 is not a whole number", "number the slots"),
    ("position", 1, 0, "1", "0 stands twice in the same session, step and position", "give each item of a slate"),
    ("item_id", 5, 40, "3", "40 is not in the items table", "add the item"),
    ("item_id", 5, None, "3", "None is null", "name the item"),
    ("session_id", 5, None, "None", "None is null", "give every row its session"),
    ("user_id", 5, None, "3", "None is null", "name every session's user"),
    ("user_id", 2, 9, "1", "9 is not the same throughout the session", "give one value per session"),
    ("user_age", 2, 9.5, "1", "9.5 is not the same throughout the session", "give one value per session"),
    ("user_age", 5, np.nan, "3", "nan is not a finite number", "fill the gaps"),
    ("terminated", 2, False, "1", "False is not the same throughout the session", "give one value per session"),
    ("terminated", 5, "maybe", "3", "'maybe' is neither true nor false", "leave the column out"),
    ("context_tab", 1, "b", "1", "'b' is not the same throughout the slate", "give one value per slate"),
    ("timestamp", 1, 6, "1", "6 is not the same throughout the slate", "give one value per slate"),
    ("timestamp", 2, 4, "1", "4 is earlier than the step before in its session", "number the steps in the order"),
    ("timestamp", 4, "noon", "2", "'noon' is neither a whole number nor a date", "give whole seconds"),
    ("mood", 1, np.inf, "1", "inf is not a finite number", "fill the gaps"),
    ("mood", 1, 1e60, "1", "1e+60 is not a finite number", "fill the gaps"),
]


def test_the_table_that_the_cases_spoil_is_good() -> None:
    log = from_frame(good(), ITEMS)
    assert (log.sessions, log.steps, log.impressions, log.catalogue) == (3, 5, 6, 3)
    assert log.notes == {}


@pytest.mark.parametrize(("column", "row", "value", "session", "said", "remedy"), ROWS)
def test_a_bad_row_is_named_with_column_value_and_remedy(
    column: str, row: int, value: object, session: str, said: str, remedy: str
) -> None:
    with pytest.raises(InputError) as caught:
        from_frame(spoilt(column, row, value), ITEMS, place="my log.csv")
    text = str(caught.value)
    start = f"my log.csv: column {column!r}, row {row} (counted from 0, session {session}): {said}; 1 row in 1 session"
    assert text.startswith(f"{start} -> {remedy}"), text
    assert text.endswith("or set such sessions aside with quarantine")


@pytest.mark.parametrize(("column", "row", "value", "session", "said", "remedy"), ROWS)
def test_quarantine_sets_the_whole_session_aside_and_keeps_the_others(
    tmp_path, column: str, row: int, value: object, session: str, said: str, remedy: str
) -> None:
    bad = spoilt(column, row, value)
    file = tmp_path / "new folder" / "aside.csv"
    log = from_frame(bad, ITEMS, quarantine=file)
    mask = np.arange(6) == 5 if session == "None" else (good()["session_id"] == int(session)).to_numpy()
    assert log == from_frame(good()[~mask], ITEMS)
    assert log.notes["sessions quarantined"] == 1
    assert log.notes["rows quarantined"] == mask.sum()
    assert log.notes[f"rows with {column} that {said.split(' ', 1)[1]}"] == 1
    aside = pd.read_csv(file)
    assert len(aside) == mask.sum()
    assert aside["quarantine_reason"].notna().sum() == 1
    assert [entry.name for entry in file.parent.iterdir()] == ["aside.csv"]


def test_every_violation_is_counted_before_stopping() -> None:
    frame = spoilt("propensity", 3, 0.0)
    frame.loc[5, "propensity"] = 2.0
    frame.loc[5, "click"] = np.nan
    with pytest.raises(InputError) as caught:
        from_frame(frame)
    text = str(caught.value)
    assert "2 kinds of violation in 2 sessions" in text
    assert "column 'click', row 5 (counted from 0, session 3): nan is not a finite number; 1 row in 1 session" in text
    assert (
        "column 'propensity', row 3 (counted from 0, session 2): 0.0 is not a probability in (0, 1]; 2 rows in 2 "
        in text
    )
    log = from_frame(frame, quarantine=True)
    assert log.session_ids.tolist() == [1]
    assert log.notes == {
        "rows with click that is not a finite number": 1,
        "rows with propensity that is not a probability in (0, 1]": 2,
        "rows quarantined": 3,
        "sessions quarantined": 2,
    }


def test_rows_are_counted_in_the_order_of_the_table_whatever_the_index() -> None:
    frame = spoilt("propensity", 5, 0.0).iloc[::-1]
    with pytest.raises(InputError, match=r"row 0 \(counted from 0, session 3\)"):
        from_frame(frame)


def test_quarantine_with_no_session_left_is_an_error_and_writes_nothing(tmp_path) -> None:
    with pytest.raises(InputError, match="every session has a violation"):
        from_frame(good().assign(propensity=0.0), quarantine=tmp_path / "aside.csv")
    assert not list(tmp_path.iterdir())


def test_quarantine_overwrites_no_file(tmp_path) -> None:
    file = tmp_path / "precious.csv"
    file.write_text("precious")
    with pytest.raises(InputError, match="already there"):
        from_frame(spoilt("propensity", 5, 0.0), quarantine=file)
    assert file.read_text() == "precious"


@pytest.mark.parametrize(
    ("change", "said", "remedy"),
    [
        (lambda f: f.drop(columns="item_id"), "no column 'item_id' among session_id, step", "rename the column"),
        (lambda f: f.rename(columns={"step": "stepp"}), "no column 'step' among", "did you mean 'stepp'?"),
        (lambda f: f.drop(columns="click"), "no column 'click' among", "name the reward column with reward="),
        (lambda f: f.iloc[:0], "the log is empty", "give at least one session"),
        (lambda f: pd.DataFrame(), "no column 'session_id', 'step', 'item_id', 'click' among none", "rename"),
        (
            lambda f: f.assign(item_id=[1, "a", 2, 3, 4, 5]),
            "column 'item_id', row 1 (counted from 0): 'a' is not",
            "all",
        ),
        (
            lambda f: f.assign(item_id=[1.5, 2, 3, 4, 5, 6]),
            "column 'item_id', row 0 (counted from 0): 1.5 is not",
            "all",
        ),
        (
            lambda f: f.assign(session_id=[True] * 6),
            "column 'session_id', row 0 (counted from 0): ",
            "all whole numbers",
        ),
        (lambda f: f.assign(item_price=1.0), "column 'item_price' describes items", "give it in the items table"),
        (lambda f: f.assign(when=pd.Timestamp("2020-01-01")), "column 'when' holds datetime64", "give numbers or text"),
        (lambda f: f.assign(tags=[["a"]] * 6), "column 'tags' holds object", "give numbers or text"),
        (
            lambda f: f.assign(position=[0, 5_000_000, 0, 0, 0, 0]),
            "column 'position' reaches 5000000",
            "number the positions",
        ),
        (lambda f: pd.concat([f, f[["click"]]], axis=1), "column 'click' is there twice", "rename or drop"),
    ],
)
def test_a_bad_table_is_refused_as_a_whole(change, said: str, remedy: str) -> None:
    for quarantine in (None, True):
        with pytest.raises(InputError) as caught:
            from_frame(change(good()), quarantine=quarantine)
        assert said in caught.value.problem and remedy in caught.value.remedy, str(caught.value)


@pytest.mark.parametrize(
    ("items", "said"),
    [
        ({"item_id": [10, 20, 10]}, "column 'item_id', row 2 (counted from 0): item 10 is there twice; 1 such rows"),
        ({"item_id": [10, 20, None]}, "column 'item_id', row 2 (counted from 0) is null"),
        ({"item_id": ["10", "20"]}, "column 'item_id' holds whole numbers (10), the items table text (10)"),
        ({"item": [10, 20]}, "no column 'item_id' among item"),
        (
            {"item_id": [10, 20], "item_price": [1, None]},
            "column 'item_price', row 1 (counted from 0): nan is no finite",
        ),
        ({"item_id": [10, 20], "item_day": pd.to_datetime(["2020-01-01"] * 2)}, "column 'item_day' holds datetime64"),
    ],
)
def test_a_bad_items_table_is_refused(items: dict, said: str) -> None:
    with pytest.raises(InputError) as caught:
        from_frame(good(), pd.DataFrame(items))
    assert said in caught.value.problem, str(caught.value)


def test_numbers_written_as_text_are_numbers() -> None:
    frame = good()
    as_text = frame.astype(dict.fromkeys(("step", "position", "click", "propensity", "timestamp", "terminated"), str))
    assert SessionLog.from_frame(as_text) == SessionLog.from_frame(frame)


def test_one_session_and_no_click_at_all_and_negative_rewards_are_legal_logs() -> None:
    one = SessionLog.from_frame(good().query("session_id == 1"))
    assert one.sessions == 1
    none = SessionLog.from_frame(good().assign(click=0.0))
    assert none.sessions == 3
    assert ("sessions, none of which has any reward", 3) in none.summary().notes
    assert SessionLog.from_frame(good().assign(click=-1.0)).reward.sum() == -6
