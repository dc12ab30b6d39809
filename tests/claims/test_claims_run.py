"""Claims from the file to the page: checked before work, resumed, the same in any number of processes."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
from claims_helper import EXPERIMENTS
from click.testing import CliRunner
from store_template import MLFLOW_WARNINGS, fresh_store

from recil.claims import walk
from recil.claims.claim import Measured
from recil.claims.file import load_claim
from recil.claims.found import above, below, mean_of
from recil.claims.index import claim_files_in, index_page
from recil.claims.publish import sweep_of
from recil.claims.result import newest_result, result_of, summarise, write_pages
from recil.claims.table import CLAIMS, claim_of
from recil.claims.walk import run_claim, units_of
from recil.cli.main import cli
from recil.errors import InputError
from recil.track.find import find_runs

pytestmark = MLFLOW_WARNINGS
SMALL = ("settings.runs=4", "settings.sessions=12", "settings.recommender_sessions=12", "seeds=[0,1]")
SMALLER = (*SMALL[:3], "seeds=[0]")


def small_file(folder: Path, text: str = "") -> Path:
    path = folder / "values" / "experiment.toml"
    path.parent.mkdir(exist_ok=True)
    path.write_text(text or (EXPERIMENTS / "values" / "experiment.toml").read_text(encoding="utf-8"), encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("text", "size", "overrides", "message"),
    [
        ("claim = 'valeus'\nseeds = [0]", "full", (), "claim = 'valeus' is unknown -> give one of values, q_learning"),
        ("claim = 'values'\nseeds = []", "full", (), "seeds = [] -> expected at least one, each once"),
        ("claim = 'values'\nseeds = [1, 1]", "full", (), "each once"),
        (
            "claim = 'values'\nseeds = [0]\n[settings]\nrun = 3",
            "full",
            (),
            "settings.run: unknown key -> did you mean 'runs'",
        ),
        (
            "claim = 'values'\nseeds = [0]\n[settings]\nruns = 'x'",
            "full",
            (),
            'settings.runs = "x" -> expected a whole',
        ),
        ("claim = 'values'", "full", (), "seeds: missing"),
        ("claim = 'values'\nseeds = [0]", "quick", (), "--size: 'quick' is no size"),
        ("claim = 'values'\nseeds = [0]\n[sizes.quick]\nseed = [0]", "quick", (), "sizes.quick.seed: unknown key"),
        ("claim = 'values'\nseeds = [0]", "full", ("settings.runs=1.5",), "settings.runs = 1.5 -> expected a whole"),
        ("claim = 'values'\nseeds = [0", "full", (), "not a TOML file"),
    ],
)
def test_what_a_file_says_wrong_is_told_in_its_words(tmp_path, text, size, overrides, message):
    with pytest.raises(InputError) as error:
        load_claim(small_file(tmp_path, text), size, overrides)
    assert message in str(error.value)


def test_sizes_and_overrides_change_the_settings_in_this_order(tmp_path):
    text = "claim = 'values'\nseeds = [0, 1]\n[settings]\nruns = 9\n[sizes.quick]\nseeds = [5]\nsettings = {runs = 3}"
    path = small_file(tmp_path, text)
    assert (load_claim(path).settings.runs, load_claim(path).seeds) == (9, (0, 1))
    assert (load_claim(path, "quick").settings.runs, load_claim(path, "quick").seeds) == (3, (5,))
    assert load_claim(path, "quick", ("settings.runs=2",)).settings.runs == 2
    assert load_claim(path, "quick").key != load_claim(path).key


@pytest.mark.parametrize("name", CLAIMS)
def test_every_claim_has_a_file_with_its_sizes(name):
    claim = claim_of(name)
    assert claim.name == name and claim.not_shown and claim.columns
    for size in ("full", "quick", "smallest"):
        file = load_claim(EXPERIMENTS / name / "experiment.toml", size)
        parts = claim.parts(file.settings)
        assert parts and len(set(parts)) == len(parts) and set(claim.exact(file.settings)) <= set(parts)


def test_a_claim_is_run_once_and_read_back_from_the_store(tmp_path, monkeypatch):
    store, file = fresh_store(tmp_path), load_claim(small_file(tmp_path), overrides=SMALL)
    told = []
    ran = run_claim(file, store, tmp_path / "work", progress=lambda done, total, what: told.append((done, total)))
    assert not ran.failures and told[-1] == (6, 6)
    result = result_of(ran.sweep)
    summarise(result)
    kept = sorted(path.read_text() for path in (tmp_path / "work" / "claim-values" / "parts").iterdir())
    arms = [(arm, json.loads(text)["arms"][arm]) for text in kept for arm in json.loads(text)["arms"]]
    assert len(result.found.runs) == len(arms)
    for arm in result.found.arms:
        values = sorted(one["values"]["rms"] for name, one in arms if name == arm)
        assert sorted(result.found.values(arm, "rms")) == values
    steps, curve = result.found.curve("TD 0.1", "rms_by_session")
    assert len(steps) == 13 and curve.shape == (2, 13) and result.found.factor("TD 0.1", "alpha") == "0.1"

    monkeypatch.setattr(walk, "claim_of", lambda name: pytest.fail("what is finished was run again"))
    again = run_claim(file, store, tmp_path / "work")
    assert result_of(again.sweep).points == result.points
    summarise(result_of(again.sweep))
    assert len(find_runs(store, ran.sweep.experiment_id, {"recil.stage": "summary"})) == 1
    assert len(find_runs(store, ran.sweep.experiment_id, {"recil.stage": "claim"})) == len(arms)


def test_pages_are_written_out_of_the_store_though_code_and_work_folder_are_gone(tmp_path, monkeypatch):
    store, file = fresh_store(tmp_path), load_claim(small_file(tmp_path), overrides=SMALL)
    first = result_of(run_claim(file, store, tmp_path / "work").sweep)
    from recil.claims import publish

    monkeypatch.setattr(publish, "claim_version", lambda name: "other code")
    sweep = sweep_of(file, store, tmp_path / "spool")
    with pytest.raises(InputError, match="no run of size full is finished"):
        result_of(sweep)
    found = newest_result(sweep)
    assert found.points == first.points
    written = write_pages(found, tmp_path / "pages")
    page = (tmp_path / "pages" / "README.md").read_text(encoding="utf-8")
    assert {path.name for path in written} == {"README.md", "figure-1.png"}
    assert "](figure-1.png)" in page and "## Verdict" in page and str(tmp_path) not in page
    assert all(point.says.split(":")[0] in page for point in found.points)
    index = index_page([found])
    assert "[Values can be learned from experience](values/README.md)" in index and found.standing in index


@pytest.mark.slow
def test_processes_do_not_change_the_numbers(tmp_path):
    file = load_claim(small_file(tmp_path), overrides=SMALLER)
    for jobs in (1, 2):
        run_claim(file, fresh_store(tmp_path, f"{jobs}.db"), tmp_path / str(jobs), jobs)
    parts = [
        {
            unit.key: json.loads(unit.file.read_text())["arms"]
            for unit in units_of(file, tmp_path / jobs / "claim-values")
        }
        for jobs in ("1", "2")
    ]
    assert parts[0] == parts[1]


def test_a_part_that_fails_is_named_and_the_rest_is_kept(tmp_path, monkeypatch):
    store, file = fresh_store(tmp_path), load_claim(small_file(tmp_path), overrides=SMALL)
    claim = file.claim

    def failing(settings, part, seed):
        if (part, seed) == ("batch", 1):
            raise ZeroDivisionError("by nothing")
        return claim.measure(settings, part, seed)

    monkeypatch.setattr(walk, "claim_of", lambda name: dataclasses.replace(claim, measure=failing))
    ran = run_claim(file, store, tmp_path / "work")
    assert list(ran.failures) == ["batch-1"] and "by nothing" in ran.failures["batch-1"].message
    monkeypatch.setattr(walk, "claim_of", lambda name: claim)
    assert not run_claim(file, store, tmp_path / "work").failures
    assert len(result_of(ran.sweep).found.of("batch TD")) == 2


def test_the_commands(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    store, path = fresh_store(tmp_path), small_file(tmp_path)
    options = ["--tracking-uri", store.uri] + [part for one in SMALL for part in ("--set", one)]
    run = CliRunner().invoke(cli, ["run", str(path), "--format", "csv", "--jobs", "1", *options])
    assert run.exit_code == 0 and run.stdout.startswith("arm,measure,value,low,high,seeds\nTD 0.05,rms,0.")
    run = CliRunner().invoke(cli, ["run", str(path), "--jobs", "1", *options])
    assert run.exit_code == 0 and max(map(len, run.stdout.splitlines())) <= 80
    report = CliRunner().invoke(cli, ["report", str(tmp_path), *options])
    assert report.exit_code == 0 and (tmp_path / "README.md").exists() and (path.parent / "figure-1.png").exists()
    report = CliRunner().invoke(cli, ["report", str(path), "--out", "elsewhere", *options])
    assert report.exit_code == 0 and (tmp_path / "elsewhere" / "README.md").exists()


def test_a_folder_without_claims_and_a_size_for_what_has_none_are_refused(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="has no claim"):
        claim_files_in(tmp_path / "empty")
    plain = tmp_path / "plain.toml"
    plain.write_text("name = 'x'\n")
    run = CliRunner().invoke(cli, ["run", str(plain), "--size", "quick"])
    assert run.exit_code != 0


def test_measured_refuses_names_that_mlflow_does_not_take():
    with pytest.raises(InputError, match="refused by MLflow"):
        Measured({"ndcg@10": 1.0})
    with pytest.raises(InputError, match="is a value and a curve"):
        Measured({"x": 1.0}, {"x": [(0, 1.0)]})


def test_points_know_when_intervals_do_not_tell():
    mean = mean_of([1.0, 2.0, 3.0], 0.95)
    assert mean.value == 2 and mean.high - mean.value == pytest.approx(4.302652729911275 / 3**0.5)
    assert (above(mean, 5), above(mean, 2.5), above(mean, -1)) == (False, None, True)
    assert (below(mean, 5), below(mean, 2.5), below(mean, -1)) == (True, None, False)
    assert above(mean_of([2.0], 0.95), 1.5) is True
