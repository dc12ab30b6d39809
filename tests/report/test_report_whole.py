"""A report of a whole experiment: complete without a network, the same bytes for the same results, in MLflow too."""

from __future__ import annotations

import re
from html import unescape
from pathlib import Path

import pytest
from mlflow import MlflowClient
from small_experiment import FILE, write_experiment
from store_template import MLFLOW_WARNINGS, fresh_store
from test_report_page import Reader

from recil.cli import main
from recil.config import load_experiment
from recil.errors import InputError
from recil.experiment import plan, run_experiment, walk
from recil.experiment.evidence import Evidence
from recil.report import report_files
from recil.track.find import find_runs
from recil.track.store import Store, ensure_experiment

pytestmark = MLFLOW_WARNINGS
HOSTILE = "# <script>alert(1)</script>\n"
SMALL = FILE.replace("sessions = 200\n[evaluate]", "sessions = 60\n[evaluate]")
BARE = FILE[: FILE.index("[truth]")] + '[[methods]]\nname = "random"\nkind = "uniform"\n'
HEADINGS = (
    "What to conclude, and what not", "What the policies are worth", "Differences, paired", "Held against the truth",
    "Regret by step", "Coverage of the catalogue", "Learning curves", "Weights on the held-out log", "Simulated users",
    "What was run", "How to reproduce it",
)  # fmt: skip


@pytest.fixture(autouse=True)
def quiet_environment(monkeypatch):
    monkeypatch.delenv("MLFLOW_RUN_ID", raising=False)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    for module in (plan, walk):
        monkeypatch.setattr(module, "code_version", lambda: "0.1.0+test")


@pytest.fixture(scope="module")
def ran(tmp_path_factory) -> tuple[Path, Store, Path]:
    """An experiment that was run with its report: its file, its store, its report.html."""
    folder = tmp_path_factory.mktemp("whole")
    file, store = write_experiment(folder, HOSTILE + SMALL), fresh_store(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_RUN_ID", raising=False)
        for module in (plan, walk):
            patch.setattr(module, "code_version", lambda: "0.1.0+test")
        result = run_experiment(load_experiment(file), store, folder / ".recil", report=report_files)
    return file, store, Path(result.report)


def _evidence(ran) -> Evidence:
    file, store, _ = ran
    return walk.find_evidence(load_experiment(file), store, file.parent / ".recil")


def test_the_page_has_every_section_and_needs_nothing_else(ran) -> None:
    page, reader = ran[2].read_text(encoding="utf-8"), Reader()
    reader.feed(page)
    assert reader.open == []
    assert tuple(map(unescape, re.findall(r"<h2 id='s\d+'>(.*?)</h2>", page))) == HEADINGS
    assert not re.search(r"<script|<link|src='(?!data:)|url\(|@import", page)
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page
    pictures = [attributes for tag, attributes in reader.tags if tag == "img"]
    assert len(pictures) == 9 and all(attributes["alt"] for attributes in pictures)
    text = " ".join(reader.texts)
    for method in ("random", "logged", "scratch", "clone", "finetuned"):
        assert method in text
    assert "15 items, slates of 2" in text and "0.1.0+test" in text
    assert re.search(r"Learned (at|between) 20\d\d-", text)
    for section, pictured in zip(HEADINGS, (0, 1, 1, 1, 1, 1, 1, 2, 1, 0, 0), strict=True):
        part = page.split(f">{section}</h2>")[1].split("<h2")[0]
        assert part.count("<img") == pictured, section


def test_the_markdown_says_the_same(ran) -> None:
    page = (ran[2].parent / "report.md").read_text(encoding="utf-8")
    assert tuple(re.findall(r"^## (.*)$", page, re.MULTILINE)) == HEADINGS
    assert page.count("](data:image/png;base64,") == 9
    assert "recil run experiment.toml" in page


def test_values_and_differences_are_those_of_the_result(ran) -> None:
    found = _evidence(ran)
    page = (ran[2].parent / "report.md").read_text(encoding="utf-8")
    for row in found.result.rows:
        assert row.true is not None and f"{row.true[0]:.4f}" in page
    for gain in found.result.gains:
        assert f"{gain.value:+.4f} &#91;{gain.low:+.4f}, {gain.high:+.4f}&#93;" in page


def test_the_same_results_give_the_same_bytes(ran) -> None:
    again = report_files(_evidence(ran))
    assert {name: (ran[2].parent / name).read_text(encoding="utf-8") for name in again} == again


def test_the_report_is_among_the_artifacts_of_the_summary_run(ran) -> None:
    _, store, report = ran
    experiment_id = ensure_experiment(store, "recil-small")
    (summary,) = find_runs(store, experiment_id, {"recil.stage": "summary"})
    client = MlflowClient(store.uri)
    artifacts = {entry.path for entry in client.list_artifacts(summary.run_id)}
    assert artifacts >= {"report.html", "report.md", "comparison.csv", "card.html"}
    kept = Path(client.download_artifacts(summary.run_id, "report.html", str(report.parent.parent)))
    assert kept.read_bytes() == report.read_bytes()


def test_the_command_writes_the_same_report_where_it_is_told_to(ran, tmp_path, monkeypatch, capsys) -> None:
    file, store, report = ran
    monkeypatch.chdir(file.parent)
    with pytest.raises(SystemExit) as ended:
        main(["report", "experiment.toml", "--out", str(tmp_path / "pages"), "--tracking-uri", store.uri])
    told = capsys.readouterr()
    assert ended.value.code == 0, told.err
    assert told.out.split() == [str(tmp_path / "pages" / name) for name in ("report.html", "report.md")]
    assert (tmp_path / "pages" / "report.html").read_bytes() == report.read_bytes()


def test_a_seed_that_failed_is_missing_by_name(ran) -> None:
    found = _evidence(ran)
    kept = tuple(item for item in found.found if item.unit.label != "clone-1")
    rows, _ = walk.gather(found.setting.experiment, kept, True)
    fewer = Evidence(found.setting, kept, found.card, walk.replace(found.result, rows=rows))
    page = report_files(fewer)["report.md"]
    assert "How clone does on all seeds: 1 of 2 are finished, and the rest may differ." in page
    assert "| clone | 1 of 2 |" in page


def test_run_prints_where_the_report_is_and_little_is_reported_of_little(tmp_path, monkeypatch, capsys) -> None:
    write_experiment(tmp_path, BARE)
    fresh_store(tmp_path)
    monkeypatch.chdir(tmp_path)
    for _ in range(2):  # the second time everything is there
        with pytest.raises(SystemExit) as ended:
            main(["run", "experiment.toml", "--jobs", "1", "--set", "evaluate.gamma=0.9"])
        assert ended.value.code == 0
        (told,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("report: ")]
    page = Path(told.removeprefix("report: ")).read_text(encoding="utf-8")
    assert "recil run experiment.toml --set evaluate.gamma=0.9" in page
    assert "No policy was put into a world" in page
    assert "None were fitted" in page
    assert "Held against the truth" not in page


def test_the_report_goes_into_the_run_that_mlflow_has_begun(tmp_path, monkeypatch) -> None:
    store = fresh_store(tmp_path)
    client = MlflowClient(store.uri)
    begun = client.create_run(ensure_experiment(store, "of-mlflow-run")).info.run_id
    monkeypatch.setenv("MLFLOW_RUN_ID", begun)
    run_experiment(load_experiment(write_experiment(tmp_path, BARE)), store, tmp_path / "work", report=report_files)
    assert client.get_run(begun).info.status == "FINISHED"
    assert {entry.path for entry in client.list_artifacts(begun)} >= {"report.html", "report.md", "comparison.csv"}


def test_what_was_never_run_has_no_report(tmp_path) -> None:
    file = write_experiment(tmp_path, BARE)
    with pytest.raises(InputError, match=r"small: nothing of it is finished in .*work -> run it first"):
        walk.find_evidence(load_experiment(file), fresh_store(tmp_path), tmp_path / "work")


def test_a_folder_that_cannot_be_written_is_named(ran, tmp_path) -> None:
    (tmp_path / "plain").touch()
    with pytest.raises(InputError, match=r"plain: cannot be written .* -> name another folder"):
        walk.keep_report(_evidence(ran), report_files, tmp_path / "plain")
