"""recil evaluate --by: a table by segment, the gate by the gravest verdict."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from recil.cli import main
from recil.policies.baselines import uniform
from recil.policies.storage import save
from recil.sim.generate import Settings, Truth


@pytest.fixture
def files(tmp_path, monkeypatch):
    """A saved policy and a log of two tabs, of which one has three sessions."""
    monkeypatch.chdir(tmp_path)
    log = Truth(Settings(horizon=2, items=6, slate_size=1, dimension=2, types=1, sessions=300, click_rate=0.4)).log()
    save(uniform(log), Path("policy"))
    frame = log.to_frame()
    first = np.isin(frame["session_id"], log.session_ids[:3])
    frame.assign(user_tab=np.where(first, "few", "many")).to_csv("log.csv", index=False)


def run(capsys, *arguments: str) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as ended:
        main(["evaluate", "policy", "log.csv", *arguments])
    streams = capsys.readouterr()
    return ended.value.code, streams.out, streams.err


def test_a_policy_is_evaluated_by_segment(files, capsys) -> None:
    code, out, _ = run(capsys, "--by", "user_tab", "--format", "json", "--estimators", "snips")
    rows = {row["segment"]: row for row in json.loads(out)}
    assert code == 0 and rows["few"]["sessions"] == 3 and rows["few"]["verdict"] == "refuse"
    assert rows["many"]["sessions"] == 297 and rows["many"]["verdict"] != "refuse"
    code, out, err = run(capsys, "--by", "user_tab", "--require", "caution")
    assert code == 1 and "2 segments, 1 refused" in out and "the verdict is refuse, caution was required" in err


def test_what_makes_no_segments_is_one_line(files, capsys) -> None:
    code, _, err = run(capsys, "--by", "tab")
    assert code == 2 and "'tab' is no column of users or contexts" in err
    code, _, err = run(capsys, "--by", "user_tab", "--estimators", "snips,ips")
    assert code == 2 and "2 of them by segment -> name one" in err
