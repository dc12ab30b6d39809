"""Logs on disk: what is saved comes back, whole or not at all."""

from __future__ import annotations

import gzip
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from recil.errors import InputError
from recil.logs import storage
from recil.logs.read import read_log
from recil.logs.session_log import Column, SessionLog


def some_log(sessions: int = 40) -> SessionLog:
    random = np.random.default_rng(3)
    rows = sessions * 6
    frame = pd.DataFrame(
        {
            "session_id": [f"s{number:03}" for number in np.repeat(np.arange(sessions), 6)],
            "step": np.tile(np.repeat(np.arange(3), 2), sessions),
            "position": np.tile([0, 1], rows // 2),
            "item_id": random.integers(0, 9, rows),
            "click": (random.random(rows) < 0.2).astype(float),
            "propensity": 1 - random.random(rows).astype(np.float32),
            "timestamp": np.repeat(np.arange(sessions), 6) * 100 + np.tile(np.repeat(np.arange(3), 2), sessions),
            "context_tab": pd.Categorical(np.tile(np.repeat(["b", "a", "b"], 2), sessions), categories=["c", "b", "a"]),
            "user_age": np.repeat(random.normal(size=sessions), 6),
            "op": np.where(random.random(rows) < 0.5, "L", None),
        }
    )
    items = pd.DataFrame(
        {"item_id": np.arange(9), "item_tags": [["x"], ["x", "y"], [], *[["z"]] * 6], "item_price": random.random(9)}
    )
    return SessionLog.from_frame(frame, items)


def test_a_saved_log_comes_back_with_its_notes(tmp_path: Path) -> None:
    log = replace(some_log(), notes={"rows quarantined": 2})
    assert log.save(tmp_path / "deep" / "log") == tmp_path / "deep" / "log"
    again = read_log(tmp_path / "deep" / "log")
    assert again == log
    assert again.notes == log.notes
    assert again.context["context_tab"].categories == ("c", "b", "a")
    assert list(again.item_features) == ["item_tags", "item_price"]
    description = json.loads((tmp_path / "deep" / "log" / "log.json").read_text())
    assert (description["sessions"], description["impressions"], description["reward"]) == (40, 240, "click")
    assert description["digest"] == log.digest


def test_parts_of_a_log_keep_catalogue_categories_and_empty_slots(tmp_path: Path) -> None:
    log = some_log()
    items = log.items.copy()
    items[:3, 1] = -1
    first = replace(log, items=items).select([0])
    tags = Column(np.full((9, 4), -1, dtype=np.int32), ("unused",))
    first = replace(first, item_features={"item_tags": tags})
    first.save(tmp_path / "log")
    assert read_log(tmp_path / "log") == first


def test_the_same_content_gives_the_same_bytes(tmp_path: Path) -> None:
    for name in ("one", "two"):
        some_log().save(tmp_path / name)
    assert sorted(file.name for file in (tmp_path / "one").iterdir()) == sorted(storage.FILES)
    for file in storage.FILES:
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes()
    for file in storage.FILES[:2]:  # no version of pandas in the bytes
        assert pq.read_schema(tmp_path / "one" / file).metadata is None


def test_saving_replaces_a_saved_log_and_leaves_other_files(tmp_path: Path) -> None:
    folder = tmp_path / "log"
    some_log(4).save(folder)
    (folder / "README.md").write_text("mine")
    some_log(5).save(folder)
    assert read_log(folder).sessions == 5
    assert (folder / "README.md").read_text() == "mine"
    assert [entry.name for entry in tmp_path.iterdir()] == ["log"]


def test_saving_overwrites_nothing_else(tmp_path: Path) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    (folder / "one.jpg").write_text("precious")
    file = tmp_path / "file"
    file.write_text("precious")
    for path in (folder, file):
        with pytest.raises(InputError, match="is there and is not a saved log -> choose another folder"):
            some_log(3).save(path)
    assert (folder / "one.jpg").read_text() == file.read_text() == "precious"
    with pytest.raises(InputError, match="cannot be written"):
        some_log(3).save(file / "below")


def test_a_failed_save_leaves_the_older_log_and_no_half_written_one(tmp_path: Path, monkeypatch) -> None:
    log = some_log(4)
    log.save(tmp_path / "log")

    def full(*_: object) -> None:
        raise OSError("No space left on device")

    monkeypatch.setattr(storage, "_description", full)
    for name in ("log", "other"):
        with pytest.raises(InputError, match="No space left on device"):
            some_log(5).save(tmp_path / name)
    assert [entry.name for entry in tmp_path.iterdir()] == ["log"]
    assert read_log(tmp_path / "log") == log


def test_a_changed_or_damaged_saved_log_is_refused(tmp_path: Path) -> None:
    folder = some_log(4).save(tmp_path / "log")
    parquet = (folder / "log.parquet").read_bytes()
    (folder / "log.parquet").write_bytes(parquet[:-40])
    with pytest.raises(InputError, match=r"log\.parquet: not a whole Parquet file .* -> write or copy the file anew"):
        read_log(folder)
    some_log(5).save(tmp_path / "other")
    (folder / "log.parquet").write_bytes((tmp_path / "other" / "log.parquet").read_bytes())
    with pytest.raises(InputError, match="digest differs"):
        read_log(folder)
    (folder / "log.parquet").write_bytes(parquet)
    (folder / "items.parquet").unlink()
    with pytest.raises(InputError, match=r"items\.parquet: is missing"):
        read_log(folder)
    (folder / "log.json").write_text('{"recil_log": 99}')
    with pytest.raises(InputError, match=r"log\.json: has schema 99, this version reads 1"):
        read_log(folder)
    (folder / "log.json").write_text("{}")
    with pytest.raises(InputError, match=r"log\.json: is not the description of a saved log"):
        read_log(folder)


def test_another_reward_of_a_saved_log(tmp_path: Path) -> None:
    frame = some_log().to_frame().assign(like=lambda rows: (rows["item_id"] == 3) * 1.0)
    log = SessionLog.from_frame(frame, some_log().items_frame())
    log.save(tmp_path / "log")
    likes = read_log(tmp_path / "log", reward="like")
    assert likes == SessionLog.from_frame(frame, some_log().items_frame(), reward="like")
    assert "click" in likes.feedback and likes.reward_name == "like"
    with pytest.raises(InputError, match=r"no column 'love' to be the reward; it has click, op, like"):
        read_log(tmp_path / "log", reward="love")
    likes.save(tmp_path / "likes")
    assert read_log(tmp_path / "likes", reward="like") == likes
    assert read_log(tmp_path / "likes", reward="click").reward_name == "click"


def test_tables_of_every_kind_read_alike(tmp_path: Path) -> None:
    frame = some_log().to_frame()
    frame.to_csv(tmp_path / "log.csv", index=False)
    frame.to_csv(tmp_path / "log.csv.gz", index=False)
    frame.to_parquet(tmp_path / "log.parquet")
    shards = tmp_path / "shards"
    shards.mkdir()
    for number, rows in enumerate((frame[:50], frame[50:51], frame[51:])):  # a session on both sides of a cut
        used = rows.assign(context_tab=rows["context_tab"].cat.remove_unused_categories())
        used.to_parquet(shards / f"part-{number}.parquet")
    some_log().items_frame().to_parquet(tmp_path / "items.parquet")
    want = SessionLog.from_frame(frame.assign(context_tab=frame["context_tab"].astype(str)), some_log().items_frame())
    for name in ("log.csv", "log.csv.gz"):
        assert read_log(tmp_path / name, items=tmp_path / "items.parquet") == want
    for name in ("log.parquet", "shards"):  # Parquet keeps the order of categories
        log = read_log(tmp_path / name, items=tmp_path / "items.parquet")
        assert set(log.context["context_tab"].categories or ()) >= {"a", "b"}
        pd.testing.assert_frame_equal(
            log.to_frame().astype({"context_tab": str}), want.to_frame().astype({"context_tab": str})
        )


def test_ids_in_a_csv_keep_their_zeros(tmp_path: Path) -> None:
    (tmp_path / "log.csv").write_text("session_id,step,item_id,click\n007,0,NA,1\n7,0,null,0\n")
    log = read_log(tmp_path / "log.csv")
    assert log.session_ids.tolist() == ["007", "7"]
    assert log.item_ids.tolist() == ["NA", "null"]
    (tmp_path / "log.csv").write_text("session_id,step,item_id,click\n7,0,-1,1\n8,0,10,0\n")
    assert read_log(tmp_path / "log.csv").item_ids.tolist() == [-1, 10]


def test_a_csv_saved_with_its_index_reads_and_says_so(tmp_path: Path) -> None:
    some_log(3).to_frame().to_csv(tmp_path / "log.csv")
    log = read_log(tmp_path / "log.csv")
    assert log.notes == {"columns without a name left out": 1}
    assert list(log.feedback) == ["op"]


def unreadable(folder: Path) -> list[tuple[str, bytes | None, str]]:
    whole = folder / "whole.parquet"
    some_log(3).to_frame().to_parquet(whole)
    zipped = gzip.compress(some_log(3).to_frame().to_csv(index=False).encode())
    header = b"session_id,step,item_id,click\n"
    return [
        ("absent.csv", None, "there is no such file or folder -> check the path"),
        ("cut.parquet", whole.read_bytes()[:-100], "not a whole Parquet file"),
        ("empty.parquet", b"", "not a whole Parquet file"),
        ("latin.csv", header + "1,0,caf\xe9,1\n".encode("latin-1"), "not UTF-8 (byte 0xe9) -> save the file as UTF-8"),
        ("utf16.csv", header.decode().encode("utf-16"), "not UTF-8 (byte 0xff) -> save the file as UTF-8"),
        ("empty.csv", b"", "not a CSV table (No columns to parse from file)"),
        ("ragged.csv", header + b"1,0,5,1\n1,1,5,1,9,9\n", "not a CSV table"),
        ("header.csv", header, "the log is empty: it has columns but no row"),
        ("cut.csv.gz", zipped[:-20], "cannot be read"),
        ("plain.csv.gz", header + b"1,0,5,1\n", "cannot be read"),
        ("log.xlsx", b"PK", "the file's name says no format -> use .parquet, .csv or .csv.gz"),
        ("columns.csv", b"a;b\n1;2\n", "no column 'session_id', 'step', 'item_id', 'click' among a;b"),
    ]


def test_what_cannot_be_read_is_one_error_with_the_file_and_the_remedy(tmp_path: Path) -> None:
    for name, content, said in unreadable(tmp_path):
        if content is not None:
            (tmp_path / name).write_bytes(content)
        with pytest.raises(InputError) as caught:
            read_log(tmp_path / name)
        assert str(caught.value).startswith(f"{tmp_path / name}: {said}"), str(caught.value)


def test_a_folder_without_a_log_and_an_unknown_format_are_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("nothing")
    with pytest.raises(InputError, match=r"the folder holds no \.parquet file and no log of a known format"):
        read_log(tmp_path)
    with pytest.raises(
        InputError, match="format: 'kuai' is unknown -> use one of table, kuairand, entree, open-bandit"
    ):
        read_log(tmp_path, format="kuai")


def test_shards_that_do_not_fit_together_are_refused(tmp_path: Path) -> None:
    frame = some_log(3).to_frame()
    frame.to_parquet(tmp_path / "a.parquet")
    frame.assign(item_id="x").to_parquet(tmp_path / "b.parquet")
    with pytest.raises(InputError, match="the shards' columns do not fit together"):
        read_log(tmp_path)
