"""What the README says works as written: its Python, its experiment file, its commands."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from store_template import MLFLOW_WARNINGS, fresh_store

README = Path(__file__).resolve().parents[1] / "README.md"


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", README.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


@pytest.fixture
def own_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a log such as a reader of the README has: sessions, slates, clicks, ids of their own."""
    draw = np.random.default_rng(3)
    rows = [
        (f"s{session}", step, position, f"item-{item}", int(draw.random() < 0.03 + 0.004 * item))
        for session in range(300)
        for step in range(draw.integers(1, 6))
        for position, item in enumerate(draw.choice(20, 2, replace=False))
    ]
    table = pd.DataFrame(rows, columns=["session_id", "step", "position", "item_id", "click"])
    table.to_csv(tmp_path / "my_log.csv", index=False)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_python_of_the_readme_runs(own_log: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (code,) = blocks("python")
    exec(compile(code, "README.md", "exec"), {})
    printed = capsys.readouterr().out
    assert "verdict" in printed and "pdwis" in printed and "simulated sessions" in printed
    assert (own_log / "better" / "policy.json").exists()


@MLFLOW_WARNINGS
def test_the_experiment_of_the_readme_runs(own_log: Path) -> None:
    (experiment,) = blocks("toml")
    (own_log / "experiment.toml").write_text(experiment, encoding="utf-8")
    fresh_store(own_log)

    def recil(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "recil", *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True, cwd=own_log)

    assert "300" in recil("log", "check", "my_log.csv").stdout
    small = ["--set", "seeds=[0]", "--set", "methods.clone.epochs=3", "--set", "methods.finetuned.epochs=2"]
    done = recil("run", "experiment.toml", "--jobs", "1", *small, "--set", "world.sessions=200")
    table = done.stdout.splitlines()
    assert [line.split()[0] for line in table[1:4]] == ["logged", "clone", "finetuned"]
    assert all(len(line) <= 80 for line in table)
    assert "workflowType=machine_learning" in done.stderr


@pytest.mark.slow
def test_the_demo_prints_what_the_readme_shows(tmp_path: Path) -> None:
    """The same methods and verdicts; values within their own intervals, since training rounds otherwise elsewhere."""
    shown = re.search(r"<!-- demo -->.*?```\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)
    assert shown is not None
    fresh_store(tmp_path)
    command = [sys.executable, "-m", "recil", "demo"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=tmp_path)
    wanted, found = demo_rows(shown[1]), demo_rows(done.stdout)
    assert list(wanted) == list(found) and len(wanted) == 7
    for method, (verdict, pairs) in wanted.items():
        assert found[method][0] == verdict, method
        for (value, width), (other, other_width) in zip(pairs, found[method][1], strict=True):
            assert abs(value - other) <= max(width, other_width), method


def demo_rows(table: str) -> dict[str, tuple[str, list[tuple[float, float]]]]:
    """method -> its verdict, and the values with half their intervals."""
    rows = re.findall(r"^([a-z-]+) +(\d\.\d+ ±.*?)(\w+)$", table, re.MULTILINE)
    values = {method: re.findall(r"(\d\.\d+) ±(\d\.\d+)", middle) for method, middle, _ in rows}
    return {
        method: (verdict, [(float(value), float(width)) for value, width in values[method]])
        for method, _, verdict in rows
    }
