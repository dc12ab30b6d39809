"""The summary and the digest."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from recil.logs.session_log import Column, SessionLog


def log() -> SessionLog:
    frame = pd.DataFrame(
        {
            "session_id": [1, 1, 1, 2],
            "step": [0, 0, 1, 0],
            "position": [0, 1, 0, 2],
            "item_id": ["a", "b", "a", "b"],
            "click": [1.0, 0.0, 0.5, 0.0],
            "propensity": [0.5, 0.25, 0.5, 0.75],
            "timestamp": [3, 3, 9, 4],
            "user_id": [5, 5, 5, 5],
            "terminated": [True, True, True, False],
            "context_tab": ["x", "x", "y", "x"],
            "mood": [1.0, 2.0, 3.0, 4.0],
        }
    )
    return SessionLog.from_frame(frame, pd.DataFrame({"item_id": ["b", "c", "a"], "item_price": [1.0, 2.0, 3.0]}))


def test_the_figures_are_those_of_the_log() -> None:
    summary = replace(log(), notes={"rows quarantined": 1234}).summary()
    assert (summary.sessions, summary.steps, summary.impressions) == (2, 3, 4)
    assert (summary.items, summary.items_shown, summary.users) == (3, 2, 1)
    assert summary.reward_per_item == pytest.approx(1.5 / 4)
    assert summary.reward_per_session == pytest.approx(0.75)
    assert summary.sessions_with_reward == 0.5
    assert (summary.length_mean, summary.length[0], summary.length[-1]) == (1.5, 1, 2)
    assert (summary.slate_size, summary.shown_per_step) == (3, pytest.approx(4 / 3))
    assert summary.propensity == (0.25, 0.5)
    assert (summary.time, summary.terminated) == ((3, 9), 0.5)
    assert (summary.feedback, summary.context, summary.item_features) == (("mood",), ("context_tab",), ("item_price",))
    text = str(summary)
    assert "note            rows quarantined: 1,234" in text
    assert "reward          click: 0.375 per item shown, 0.75 per session" in text
    assert summary.to_frame()["value"].tolist()[0] == "2"


def test_it_fits_80_columns_whatever_the_names() -> None:
    columns = {f"user_a_rather_long_name_{number}": Column(np.zeros(2, dtype=np.float32)) for number in range(30)}
    summary = replace(log(), user_features=columns, notes={"word " * 30: 5}).summary()
    assert max(len(line) for line in str(summary).splitlines()) <= 80
    assert all(name in str(summary) for name in columns)


def test_what_is_unknown_is_said_to_be() -> None:
    bare = replace(log(), propensity=None, timestamp=None, user_ids=None, terminated=None)
    text = str(bare.summary())
    for line in ("users           unknown", "propensities    none", "time            none", "user left       unknown"):
        assert line in text


@pytest.mark.parametrize(
    ("first", "last", "said"),
    [
        (1767225600, 1767855240, "2026-01-01 00:00 to 2026-01-08 06:54 UTC, in seconds"),
        (1767225600000000, 1767855240000000, "2026-01-01 00:00 to 2026-01-08 06:54 UTC, in microseconds"),
        (0, 7, "0 to 7"),
        (17, 1767225600, "17 to 1767225600"),
    ],
)
def test_times_are_dates_where_their_size_tells_the_unit(first: int, last: int, said: str) -> None:
    times = np.full(log().steps, first)
    times[-1] = last
    assert f"time            {said}\n" in str(replace(log(), timestamp=times).summary())


def changed() -> dict[str, SessionLog]:
    base = log()
    reward, items = base.reward.copy(), base.items.copy()
    reward[0, 0] = 0.25
    items[0] = items[0][::-1]
    tab = base.context["context_tab"]
    return {
        "reward": replace(base, reward=reward),
        "items": replace(base, items=items),
        "ids": replace(base, item_ids=np.array(["b", "c", "d"])),
        "sessions": replace(base, session_ids=np.array(["1", "2"])),
        "time": replace(base, timestamp=base.timestamp + 1),
        "no time": replace(base, timestamp=None),
        "terminated": replace(base, terminated=~base.terminated),
        "propensity": replace(base, propensity=None),
        "categories": replace(base, context={"context_tab": Column(tab.values, ("x", "z"))}),
        "names": replace(base, context={"context_tub": tab}),
        "feedback": replace(base, feedback={}),
        "reward name": replace(base, reward_name="like"),
    }


def test_the_digest_sees_every_part_of_the_content() -> None:
    digests = {name: other.digest for name, other in changed().items()} | {"base": log().digest}
    assert len(set(digests.values())) == len(digests)
    assert all(len(digest) == 64 for digest in digests.values())
    assert all(other != log() for other in changed().values())


def test_the_digest_does_not_see_notes_pads_or_the_width_of_integers() -> None:
    base = log()
    propensity = base.propensity.copy()
    propensity[base.items < 0] = 7
    for other in (
        replace(base, notes={"anything": 1}),
        replace(base, propensity=propensity),
        replace(base, session_ids=base.session_ids.astype(np.int32)),
        replace(base, item_ids=base.item_ids.astype(object)),
    ):
        assert other == base and hash(other) == hash(base)


def test_the_digest_is_the_same_in_another_process() -> None:
    code = "import sys; sys.path.insert(0, sys.argv[1]); from test_logs_summary import log; print(log().digest)"
    folder = str(Path(__file__).parent)
    found = subprocess.run([sys.executable, "-c", code, folder], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == log().digest
