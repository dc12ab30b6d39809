"""The readers of published folders: on a small folder, value by value, and on the real ones, by their counts."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from published_logs import write_entree, write_kuairand, write_movielens, write_open_bandit

from recil.errors import InputError
from recil.logs.read import read_log
from recil.logs.session_log import Column


def names(column: Column) -> list[str | None]:
    assert column.categories is not None
    return [None if code < 0 else column.categories[code] for code in column.values.ravel()]


def test_kuairand(tmp_path: Path) -> None:
    log = read_log(write_kuairand(tmp_path))
    assert log.reward_name == "is_click"
    assert log.item_ids.tolist() == [0, 1, 2, 3]
    assert log.session_ids.tolist() == log.user_ids.tolist() == [7, 8]
    assert log.items.tolist() == [[0], [1], [2], [2]]  # 0 before 1: they tie, and the file has 0 first
    assert log.timestamp.tolist() == [1000, 1000, 3000, 500]
    assert log.reward.ravel().tolist() == [1, 1, 0, 0]
    assert list(log.feedback) == ["long_view", "is_like", "is_hate", "play_seconds_log"]
    assert log.feedback["is_like"].values.ravel().tolist() == [1, 0, 0, 0]
    np.testing.assert_allclose(log.feedback["play_seconds_log"].values[:2, 0], np.log([10, 2]), rtol=1e-6)
    assert names(log.context["context_tab"]) == ["0", "1", "1", "4"]
    assert names(log.user_features["user_active_degree"]) == ["full_active", None]  # user 8 has no features
    assert names(log.user_features["user_onehot_feat4"]) == ["3", None]
    assert "user_follow_user_num" not in log.user_features
    assert log.item_features["item_tag"].categories == ("3", "39")
    assert log.item_features["item_tag"].values.tolist() == [[1, 0], [-1, -1], [0, -1], [0, -1]]
    assert names(log.item_features["item_duration"]) == ["8-16 s", None, "64-128 s", "1-2 s"]
    assert names(log.item_features["item_music_type"]) == ["9", None, "4", "9"]
    assert log.propensity is None and log.terminated is None


def test_kuairand_with_another_reward(tmp_path: Path) -> None:
    log = read_log(write_kuairand(tmp_path), reward="is_like")
    assert log.reward_name == "is_like"
    assert log.reward.ravel().tolist() == [1, 0, 0, 0]
    assert "is_click" in log.feedback and "is_like" not in log.feedback
    with pytest.raises(
        InputError, match=r"log_standard_4_22_to_5_08\.csv\.gz: no column 'is_love' among user_id, video_id"
    ):
        read_log(tmp_path, reward="is_love")


def test_kuairand_of_several_log_files_is_one_log(tmp_path: Path) -> None:
    once = read_log(write_kuairand(tmp_path))
    (tmp_path / "log_standard_5_09.csv").write_text(
        "user_id,video_id,time_ms,author_id,tab,play_time_ms,is_click,long_view,is_like,is_hate\n7,3,2000,9,0,0,0,0,0,0\n"
    )
    log = read_log(tmp_path)
    assert log.steps == once.steps + 1
    assert log.items[:4].ravel().tolist() == [0, 1, 3, 2]


def test_entree(tmp_path: Path) -> None:
    log = read_log(write_entree(tmp_path))
    assert log.session_ids.tolist() == [0, 1, 2]
    assert log.user_ids.tolist() == [5, 6, 5]
    assert log.lengths.tolist() == [3, 1, 2]
    assert log.item_ids[log.items.ravel()].tolist() == [0, 1, 2, 2, 1, 1]
    assert log.reward.ravel().tolist() == [0, 0, 1, 0, 0, 1]
    assert names(log.feedback["operation"]) == ["L", "N", None, "M", "L", None]
    assert log.terminated.all() and log.notes == {}
    assert log.timestamp.tolist() == [86400, 86400, 86400, 86409, 86410, 86410]
    assert names(log.user_features["user_entry_city"]) == ["form", "C", "B"]
    assert names(log.user_features["user_entry_point"]) == ["0", "10C", "10B"]
    assert log.item_features["item_features"].categories == ("005", "075", "249")
    assert log.item_features["item_features"].values.tolist() == [[1, 0, -1], [0, -1, -1], [1, 0, 2], [-1, -1, -1]]


def test_open_bandit(tmp_path: Path) -> None:
    log = read_log(write_open_bandit(tmp_path))
    assert log.items.tolist() == [[-1, -1, 1], [0, -1, -1], [-1, 0, -1]]
    assert log.reward.tolist() == [[0, 0, 0], [1, 0, 0], [0, 0, 0]]
    assert log.propensity.tolist() == [[1, 1, 0.25], [0.5, 1, 1], [1, 0.125, 1]]
    assert log.timestamp.tolist() == [1_000_002, 2_000_000, 3_000_000]
    assert log.lengths.tolist() == [1, 1, 1]
    assert names(log.user_features["user_feature_0"]) == ["aa", "bb", "aa"]
    assert log.item_features["item_feature_0"].values.tolist() == [-0.5, 0.75, 0]
    assert names(log.item_features["item_feature_1"]) == ["aa", "bb", "aa"]
    assert log.notes == {"columns of user-item affinity left out": 2}
    (tmp_path / "women.csv").write_text("")
    with pytest.raises(InputError, match=r"wanted one log beside item_context\.csv, found men\.csv, women\.csv"):
        read_log(tmp_path)


def test_movielens(tmp_path: Path) -> None:
    log = read_log(write_movielens(tmp_path))
    assert log.session_ids.tolist() == [1, 2]
    assert log.item_ids[log.items.ravel()].tolist() == [30, 20, 10, 10]  # 30 before 20: they tie
    assert log.reward.ravel().tolist() == [1, 1, 0, 0]
    assert log.feedback["rating"].values.ravel().tolist() == [4, 5, 3.5, 0.5]
    assert log.item_features["item_genres"].categories == ("Comedy", "Drama")
    assert log.item_features["item_genres"].values.tolist() == [[0, 1], [-1, -1], [1, -1]]
    assert log.notes == {"ratings taken as exposures": 4}
    stars = read_log(tmp_path, reward="rating")
    assert stars.reward.ravel().tolist() == [4, 5, 3.5, 0.5] and stars.feedback == {}


def test_real_kuairand(real_logs: Path) -> None:
    log = read_log(real_logs / "kuairand", reward="is_like")
    assert (log.impressions, log.sessions, log.catalogue) == (92_034, 21_184, 7_583)
    assert len(np.unique(log.items)) == 5_564
    assert log.reward.mean() == pytest.approx(0.017417, abs=1e-5)
    assert log.feedback["is_click"].values.mean() == pytest.approx(0.44677, abs=1e-5)
    assert log.feedback["is_follow"].values.mean() == pytest.approx(0.00138, abs=1e-5)
    frame = log.to_frame()
    # The published file is sorted by user and time and numbers the steps itself.
    published = pd.read_csv(next((real_logs / "kuairand").glob("log_standard*")))
    assert (published["step"].to_numpy() == frame["step"].to_numpy()).all()
    assert (published["video_id"].to_numpy() == frame["item_id"].to_numpy()).all()
    assert (published["is_click"].to_numpy() == frame["is_click"].to_numpy()).all()
    assert published["tab"].astype(str).tolist() == frame["context_tab"].tolist()
    assert all((column.values >= 0).mean() > 0.9 for column in log.user_features.values())


def test_real_entree(real_logs: Path) -> None:
    log = read_log(real_logs / "entree")
    assert (log.sessions, log.catalogue) == (34_579, 676)
    answered = log.feedback["operation"].values[:, 0] >= 0
    assert answered.sum() == 129_235
    assert log.steps - answered.sum() == log.reward.sum() == 30_530
    assert (~answered)[log.offsets[1:] - 1].sum() == 30_530  # only last steps have no operation
    one_answer = np.add.reduceat(answered.astype(int), log.offsets[:-1]) == 1
    assert one_answer.mean() == pytest.approx(0.34, abs=0.005)
    assert (
        log.user_features["user_entry_city"].values == log.user_features["user_entry_city"].categories.index("form")
    ).mean() == pytest.approx(0.88, abs=0.005)


@pytest.mark.parametrize(("policy", "clicks"), [("random", 46), ("bts", 69)])
def test_real_open_bandit(real_logs: Path, policy: str, clicks: int) -> None:
    log = read_log(real_logs / "open_bandit" / policy / "men")
    assert (log.sessions, log.impressions, log.catalogue, log.slate_size) == (10_000, 10_000, 34, 3)
    assert log.reward.sum() == clicks
    shown = log.propensity[log.items >= 0]
    if policy == "random":
        np.testing.assert_allclose(shown, 1 / 34, rtol=1e-6)
    else:
        assert 0 < shown.min() < shown.max() < 1


def test_real_movielens(real_logs: Path) -> None:
    log = read_log(real_logs / "movielens")
    assert (log.impressions, log.sessions) == (100_836, 610)
    assert (len(np.unique(log.items)), log.catalogue) == (9_724, 9_742)


def test_a_damaged_time_stamp_of_movielens_is_named_and_its_session_set_aside(real_logs: Path, tmp_path: Path) -> None:
    folder = tmp_path / "movielens"
    folder.mkdir()
    (folder / "movies.csv").write_bytes((real_logs / "movielens" / "movies.csv").read_bytes())
    lines = (real_logs / "movielens" / "ratings.csv").read_text().splitlines()
    row = next(row for row, line in enumerate(lines[1:]) if line.startswith("5,"))
    lines[1 + row] += " and a half"
    (folder / "ratings.csv").write_text("\n".join(lines) + "\n")
    stamp = lines[1 + row].split(",")[-1]
    with pytest.raises(InputError) as caught:
        read_log(folder)
    assert f"column 'timestamp', row {row} (counted from 0, session 5): '{stamp}' is neither" in str(caught.value)
    log = read_log(folder, quarantine=tmp_path / "aside.csv")
    aside = pd.read_csv(tmp_path / "aside.csv")
    assert log.impressions + len(aside) == 100_836
    assert (log.sessions, aside["session_id"].unique().tolist()) == (609, [5])
