"""The documentation names what there is."""

from __future__ import annotations

import dataclasses
import re
import runpy
import shlex
import shutil
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from mlflow import MlflowClient
from small_experiment import FILE, write_experiment
from store_template import MLFLOW_WARNINGS, fresh_store

from recil.cli import main
from recil.config import load_experiment
from recil.config.kinds import KINDS
from recil.config.tables import EvaluateTable, LogTable, SplitTable, WorldTable

DOCS = Path(__file__).resolve().parents[1] / "docs"
REFERENCE = (DOCS / "experiment.md").read_text(encoding="utf-8")


def keys(text: str) -> set[str]:
    return set(re.findall(r"`(\w+)`", text))


def test_every_kind_of_method_and_each_of_its_keys_is_documented() -> None:
    rows = {row.split("|")[1].strip(" `"): row for row in REFERENCE.splitlines() if re.match(r"\| `(?!kind)", row)}
    assert set(rows) == set(KINDS)
    finetune = keys(rows["finetune"])
    for name, kind in KINDS.items():
        config = kind.settings() if kind.settings else None
        wanted = {field.name for field in dataclasses.fields(config)} if config else set()
        wanted |= {field for field, _, _ in kind.own}
        documented = keys(rows[name]) | (finetune if name in ("reinforce", "adversarial") else set())
        assert wanted <= documented, (name, wanted - documented)


def test_the_example_has_every_key_and_loads(tmp_path: Path) -> None:
    (example,) = re.findall(r"^```toml\n(.*?)^```", REFERENCE, re.MULTILINE | re.DOTALL)
    data = tomllib.loads(example)
    assert set(data["log"]) == set(LogTable.model_fields)
    assert set(data["log"]["split"]) | {"at", "cluster"} == set(SplitTable.model_fields)
    assert set(data["world"]) == set(WorldTable.model_fields)
    assert set(data["evaluate"]) == set(EvaluateTable.model_fields)
    (tmp_path / "experiment.toml").write_text(example, encoding="utf-8")
    assert load_experiment(tmp_path / "experiment.toml").name == "mine"


@pytest.mark.parametrize("page", ["runtime.md", "worlds.md", "learning.md"])
def test_the_pages_code_runs(page: str, capsys) -> None:
    names: dict[str, object] = {}
    for block in re.findall(
        r"^```python\n(.*?)^```", (DOCS / page).read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL
    ):
        if "gym" in block:
            pytest.importorskip("gymnasium")
        exec(compile(block, page, "exec"), names)
    assert capsys.readouterr().out


def test_the_worlds_settings_file_writes_a_log(tmp_path: Path) -> None:
    from recil.sim.generate import Truth, load_settings
    from recil.sim.worlds.settings import WORLDS

    text = (DOCS / "worlds.md").read_text(encoding="utf-8")
    (example,) = re.findall(r"^```toml\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    (tmp_path / "settings.toml").write_text(example.replace("2000", "50"), encoding="utf-8")
    log = Truth(load_settings(tmp_path / "settings.toml")).log()
    assert (log.sessions, log.steps, log.catalogue) == (50, 500, 50)
    assert all(f"`{name}`" in text for name in WORLDS)


def test_links_between_pages_lead_somewhere() -> None:
    for page in [*DOCS.rglob("*.md"), DOCS.parent / "README.md"]:
        for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text(encoding="utf-8")):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"


def test_the_reference_is_that_of_the_code() -> None:
    written = runpy.run_path(str(DOCS / "write_reference.py"))["page"]()
    assert (DOCS / "reference.md").read_text(encoding="utf-8") == written, "python docs/write_reference.py"


@pytest.fixture
def own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name in ("MLFLOW_TRACKING_URI", "MLFLOW_RUN_ID"):
        monkeypatch.delenv(name, raising=False)
    fresh_store(tmp_path)
    return tmp_path


def recil(command: str) -> None:
    with pytest.raises(SystemExit) as ended:
        main(shlex.split(command)[1:])
    assert ended.value.code == 0, command


@MLFLOW_WARNINGS
@pytest.mark.filterwarnings("ignore:.*Any type hint:UserWarning")
def test_the_tutorial_runs_as_written(own_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = (DOCS / "tutorial.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    exec(compile(code, "tutorial.md", "exec"), {})
    commands = [line for line in text.splitlines() if line.startswith("recil ")]
    check, init, run, ui, promote, serve = commands
    assert ui == "recil ui" and serve.startswith("recil serve models:/shop@champion")
    recil(check)
    recil(init)
    small = ["methods.clone.epochs=3", "methods.finetuned.epochs=2", "world.sessions=200", "evaluate.replicates=100"]
    capsys.readouterr()
    recil(" ".join([run, "--jobs 1", *(f"--set {key}" for key in small)]))
    printed = capsys.readouterr()
    assert [line.split()[0] for line in printed.out.splitlines()[1:6]] == [
        "random", "popular", "logged", "clone", "finetuned",
    ]  # fmt: skip
    assert all(f"{word}: " in printed.err for word in ("report", "MLflow", "charts"))

    # The run is all that is needed: the work folder may be another machine's.
    shutil.rmtree(own_folder / ".recil")
    client = MlflowClient(f"sqlite:///{own_folder}/mlflow.db")
    (trained,) = [found for found in client.search_runs(["1"]) if found.info.run_name == "clone-0"]
    # A later log: the one that the clone learned from would flatter it, and is refused.
    later = code.replace("default_rng(3)", "default_rng(4)").replace("my_log.csv", "held_out.csv")
    exec(compile(later, "tutorial.md", "exec"), {})
    recil(promote.replace("RUN", trained.info.run_id))
    version = client.get_model_version_by_alias("shop", "champion")
    assert version.run_id == trained.info.run_id and "version 1 now" in capsys.readouterr().out


# Logged where the small experiment has no occasion: adversarial imitation, ensembles, references, other logs, commands.
ELSEWHERE = re.compile(r"adversarial/|sim/(within|between)$|card/reference_gap|ope_<log>|compare/")
PLACES = {
    "<estimator>": r"[a-z]+[a-z0-9_]*?", "<method>": r"[a-z]+", "<measure>": r"(true|simulated|ope)",
    "<stage>": r"(clone|dagger|q_learning|users)", "<gradient>": r"(finetune|reinforce)", "<model>": r"[a-z_]+?",
    "<log>": r"\w+", "<policy>": r"\w+",
}  # fmt: skip


def documented() -> Iterator[tuple[str, re.Pattern[str]]]:
    """Names on the page of metrics, with what matches them; of a value, the ends of its interval are understood."""
    for row in (DOCS / "metrics.md").read_text(encoding="utf-8").splitlines():
        if not row.startswith("| `"):
            continue
        _, names, direction, meaning, _ = (cell.strip() for cell in row.split("|"))
        assert direction in "↑↓·" and meaning, row
        for name in keys_with_signs(names):
            pattern = re.escape(name)
            for place, what in PLACES.items():
                pattern = pattern.replace(re.escape(place), what)
            yield name, re.compile(pattern + (r"(_low|_high)?" if direction == "↑" else "") + "$")


def keys_with_signs(text: str) -> list[str]:
    return re.findall(r"`([^`]+)`", text)


@MLFLOW_WARNINGS
def test_the_page_of_metrics_names_all_that_is_logged_and_nothing_else(own_folder: Path) -> None:
    foils = (
        '[[methods]]\nname = "values"\nkind = "q_learning"\nwidth = 8\nepochs = 1\n'
        '[[methods]]\nname = "relabelled"\nkind = "dagger"\nstart = "clone"\nrounds = 2\nsessions = 40\nepochs = 1\n'
    )
    write_experiment(own_folder, FILE.replace("seeds = [0, 1]", "seeds = [0]") + foils)
    recil("recil run experiment.toml --jobs 1 --quiet")
    logged = {
        name
        for run in MlflowClient(f"sqlite:///{own_folder}/mlflow.db").search_runs(["1"])
        for name in run.data.metrics
    }
    known = dict(documented())
    unknown = sorted(name for name in logged if not any(pattern.match(name) for pattern in known.values()))
    assert not unknown, f"not on the page of metrics: {unknown}"
    idle = [name for name, pattern in known.items() if not any(map(pattern.match, logged))]
    assert [name for name in idle if not ELSEWHERE.match(name)] == [], "on the page, and logged by nothing"
