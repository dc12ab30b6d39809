"""What every reader promises, whatever the format. A new reader joins by a writer in tests/published_logs.py."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest
from published_logs import WRITERS

from recil.errors import InputError
from recil.logs.read import READERS, read_log
from recil.logs.session_log import SessionLog


@pytest.fixture(params=sorted(READERS))
def name(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def source(name: str, tmp_path: Path) -> Path:
    return WRITERS[name](tmp_path / "published")


def test_the_format_is_recognised(name: str, source: Path) -> None:
    assert read_log(source) == read_log(source, format=name)


def test_the_table_of_the_log_gives_the_log_back(source: Path) -> None:
    log = read_log(source)
    again = SessionLog.from_frame(log.to_frame(), log.items_frame(), log.reward_name)
    assert again == log


def test_saved_and_read_it_is_the_same_log(source: Path, tmp_path: Path) -> None:
    log = read_log(source)
    again = read_log(log.save(tmp_path / "saved"))
    assert again == log and dict(again.notes) == dict(log.notes)


def test_its_arrays_have_the_types_of_the_contract(source: Path) -> None:
    log = read_log(source)
    assert (log.items.dtype, log.reward.dtype, log.offsets.dtype) == (np.int32, np.float32, np.int64)
    assert log.item_ids.dtype.kind in "iU" and log.session_ids.dtype.kind in "iU"
    assert len(set(log.item_ids.tolist())) == log.catalogue and len(set(log.session_ids.tolist())) == log.sessions
    assert ((log.items >= 0).any(1)).all() and log.items.max() < log.catalogue and log.items.min() >= -1
    if log.timestamp is not None:
        starts = np.isin(np.arange(1, log.steps), log.offsets)
        assert (starts | (np.diff(log.timestamp) >= 0)).all()
    for columns, prefix in ((log.context, "context_"), (log.user_features, "user_"), (log.item_features, "item_")):
        assert all(key.startswith(prefix) for key in columns)


def test_it_makes_batches(source: Path) -> None:
    log = read_log(source)
    history = log.batch()
    assert history.shown.sum() == log.impressions
    assert history.reward.sum() == pytest.approx(float(log.reward.sum()))
    assert set(history.feedback) == set(log.feedback) and set(history.context) == set(log.context)


def files_of(source: Path) -> list[Path]:
    return [source] if source.is_file() else sorted(path for path in source.iterdir() if ".csv" in path.name)


def spoil(file: Path, change) -> None:
    """Rewrite the text of a file as bytes, zipped where it was."""
    raw = file.read_bytes()
    text = gzip.decompress(raw) if file.suffix == ".gz" else raw
    changed = change(text)
    file.write_bytes(gzip.compress(changed) if file.suffix == ".gz" else changed)


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text + b"\xff\xfe\n",
        lambda text: b"",
        lambda text: b"nothing,of,the,kind\n" + text.split(b"\n", 1)[1],
    ],
    ids=["not UTF-8", "empty", "no such column"],
)
def test_a_spoilt_file_is_one_error_that_names_it(name: str, source: Path, change) -> None:
    for file in files_of(source):
        whole = file.read_bytes()
        spoil(file, change)
        with pytest.raises(InputError) as caught:
            read_log(source, format=name)
        assert str(source) in caught.value.place and caught.value.remedy
        file.write_bytes(whole)
    read_log(source, format=name)


def test_an_unknown_item_is_named(name: str, source: Path, tmp_path: Path) -> None:
    options = {}
    if name == "table":
        file = tmp_path / "items.csv"
        file.write_text("item_id\na\nb\nc\n")
        options = {"items": file}
    else:
        known = {"kuairand": "video_f*", "entree": "items_*", "open-bandit": "item_c*", "movielens": "movies*"}
        (file,) = source.glob(known[name])
    spoil(file, lambda text: b"\n".join(line for at, line in enumerate(text.split(b"\n")) if at != 1))
    with pytest.raises(InputError, match=r"column 'item_id', row .* is not in the items table; .* -> add the item"):
        read_log(source, format=name, **options)


def test_a_folder_of_something_else_is_refused(name: str, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    with pytest.raises(InputError, match=r"holds no (\.parquet )?file"):
        read_log(tmp_path / "other", format=name)
    with pytest.raises(InputError, match="there is no such file or folder"):
        read_log(tmp_path / "absent", format=name)


def test_an_unknown_reward_is_named(name: str, source: Path) -> None:
    with pytest.raises(InputError, match="no column 'bliss'"):
        read_log(source, format=name, reward="bliss")
