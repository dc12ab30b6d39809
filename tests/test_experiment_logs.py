"""Policies judged on further logs, and the words in which a result is printed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from small_experiment import write_experiment
from store_template import MLFLOW_WARNINGS, fresh_store

from recil.config import load_experiment
from recil.errors import InputError
from recil.experiment import run_experiment
from recil.experiment.result import Gain, Result, Row
from recil.logs.read import read_log

pytestmark = MLFLOW_WARNINGS

FILE = """
name = "small"
[log]
path = "log"
[evaluate]
replicates = 50
[evaluate.logs.half]
path = "half"
[[methods]]
name = "logged"
kind = "logged"
[[methods]]
name = "random"
kind = "uniform"
"""


def test_every_method_is_judged_on_each_further_log_as_a_whole(tmp_path: Path) -> None:
    file = write_experiment(tmp_path, FILE)
    log = read_log(tmp_path / "log")
    half = log.select(np.arange(0, log.sessions, 2))
    half.save(tmp_path / "half")
    result = run_experiment(load_experiment(file), fresh_store(tmp_path), tmp_path / "work")
    logged, random = result.on_logs["half"]
    assert logged.ope is not None and logged.ope[0] == pytest.approx(half.reward.sum() / half.sessions)
    assert logged.ope[0] != result.rows[0].ope[0], "the held-out sessions are others than those of the further log"
    assert (random.method, random.estimator) == ("random", result.rows[1].estimator)
    assert "on the log half, whole:" in str(result)
    assert result.log_table("half").rows[0][:2] == ("logged", logged.ope[0])


@pytest.mark.parametrize("split", [{}, {"cluster": "session"}, {"by": "time"}])
def test_the_log_is_split_as_the_file_says_and_users_stay_whole_where_it_says_nothing(
    tmp_path: Path, split: dict[str, str]
) -> None:
    lines = "".join(f"split.{name} = '{value}'\n" for name, value in split.items())
    own = FILE.replace('[evaluate.logs.half]\npath = "half"\n', "").replace('path = "log"\n', f'path = "log"\n{lines}')
    file = write_experiment(tmp_path, own)
    log = read_log(tmp_path / "log")
    log = replace(log, user_ids=np.arange(log.sessions) % 150, timestamp=np.arange(log.steps))
    log.save(tmp_path / "log")
    run_experiment(load_experiment(file), fresh_store(tmp_path), tmp_path / "work")
    kept = {read_log(found.parent) for found in (tmp_path / "work").rglob("log.json")}
    assert kept == set(log.split(**{"by": "session"} | split))
    divided = len(set.intersection(*(set(part.user_ids) for part in kept)))
    assert (divided > 0) == (split in ({"cluster": "session"}, {"by": "time"}))


def test_a_further_log_needs_propensities(tmp_path: Path) -> None:
    file = write_experiment(tmp_path, FILE)
    replace(read_log(tmp_path / "log"), propensity=None).save(tmp_path / "half")
    with pytest.raises(InputError, match=r"evaluate\.logs\.half: .*half has no propensities"):
        run_experiment(load_experiment(file), fresh_store(tmp_path), tmp_path / "work")
    assert not (tmp_path / "work").exists()


def test_a_result_is_read_in_80_columns_and_marks_what_flatters() -> None:
    long = (
        "rests on 12.5 effective of 10,000 sessions",
        "one session carries 44% of the weight",
        "few have any reward",
    )
    rows = (
        Row("logged", "logged", (1, 1), None, (0.2, 0.1, 0.3), (0.2, 0.1, 0.3), "logged", "trust", ()),
        Row("in-world", "finetune", (4, 5), None, (0.4, 0.3, 0.5), None, "pdwis", "refuse", long, own_world=True),
    )
    gains = (
        Gain("in-world", "logged", "simulated", 0.2, 0.1, 0.3),
        Gain("in-world", "logged", "ope", 0.1, -0.1, 0.3),
    )
    lines = str(Result("x", rows, gains, 0.95, world=("caution", ("does not clearly beat item rate",)))).splitlines()
    assert max(map(len, lines)) <= 80
    assert lines[1].split() == ["logged", "0.2000", "±0.1000", "0.2000", "[0.1000,", "0.3000]", "trust"]
    assert lines[2].split() == ["in-world", "0.4000", "±0.1000*", "-", "refuse"]
    text = "\n".join(lines)
    assert "* learned in these simulated users" in text
    assert "in-world: 4 of 5 seeds" in text
    assert "paired differences, simulated value:" in text and "held-out log:" not in text
    assert "in-world: refuse: rests on 12.5 effective" in text
