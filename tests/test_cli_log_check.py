"""recil log check: what is in a log, whether its propensities are right, and what that means for a batch job."""

import csv
import io
import json
from dataclasses import replace

import numpy as np
import pytest

from recil.cli import main
from recil.logs.session_log import SessionLog


@pytest.fixture
def recil(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def command(*arguments):
        with pytest.raises(SystemExit) as ended:
            main([*arguments])
        streams = capsys.readouterr()
        return ended.value.code, streams.out, streams.err

    return command


@pytest.fixture
def log(tmp_path):
    """600 sessions of one of four items, all as likely."""
    items = np.random.default_rng(0).integers(0, 4, (600, 1)).astype(np.int32)
    quarter = np.full(items.shape, 0.25, dtype=np.float32)
    return SessionLog(np.arange(4), items, 0 * quarter, np.arange(601), np.arange(600), quarter)


def test_a_sound_log_passes_with_its_checks_below_its_summary(recil, log, tmp_path):
    log.save(tmp_path / "sound")
    code, out, _ = recil("log", "check", "sound")
    assert code == 0 and "sessions        600" in out and "sum of propensities" in out
    assert "600 sessions, 600 items shown: trust" in out and "could not be seen in this log" in out
    assert max(map(len, out.splitlines())) <= 80


def test_a_refused_log_fails_the_gate_and_says_why(recil, log, tmp_path):
    replace(log, propensity=log.propensity / 2).save(tmp_path / "halved")
    code, out, err = recil("log", "check", "halved")
    assert code == 1 and "refuse" in out and "halved: refused: an item's propensity is always the same" in err
    code, out, _ = recil("log", "check", "halved", "--format", "json", "--quiet")
    rows = [(row["what"], row["value"]) for row in json.loads(out)]
    assert code == 1 and {("sessions", "600"), ("check verdict", "refuse")} <= set(rows)
    assert ("check sum of propensities", "refuse: 0.5, wanted 1") in rows
    assert any(what == "reason" and "add up to 0.5" in value for what, value in rows)
    code, out, _ = recil("log", "check", "halved", "--format", "csv", "--quiet")
    assert {row["what"] for row in csv.DictReader(io.StringIO(out))} >= {"sessions", "check verdict", "power"}


def test_a_log_without_propensities_is_no_failure(recil, log, tmp_path):
    replace(log, propensity=None).save(tmp_path / "bare")
    code, out, _ = recil("log", "check", "bare")
    assert code == 0 and "a clone of the policy" in out and max(map(len, out.splitlines())) <= 80
    code, out, _ = recil("log", "check", "bare", "--format", "json")
    assert code == 0 and "clone" in {row["what"]: row["value"] for row in json.loads(out)}["check propensities"]
