"""Imports run one way, and heavy or confined packages stay where they belong."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1] / "recil"
LEARNING = ["random", "ops", "logs", "policies", "exact", "sim", "train", "evaluate"]
LAYERS = ["errors", *LEARNING, "track", "jobs", "config", "experiment", "report", "claims", "cli"]
CONFINED = {
    "pandas": {"logs", "exact", "sim", "evaluate", "experiment", "cli", "track"},
    "mlflow": {"track"},
    "recsim_ng": {"sim"},
    "gymnasium": {"sim"},
    "ray": {"jobs"},
}
FILES = sorted(ROOT.rglob("*.py"))


def layer_of(path: Path) -> str:
    return path.relative_to(ROOT).parts[0].removesuffix(".py")


def imported(path: Path, everywhere: bool) -> Iterator[str]:
    """Full names of imported modules: at the top of the file, or everywhere in it."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree) if everywhere else tree.body:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module or ""


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_point_upwards(path: Path) -> None:
    here = layer_of(path)
    if here in ("__init__", "__main__"):
        return
    for name in imported(path, everywhere=False):
        parts = name.split(".")
        if parts[0] == "recil" and len(parts) > 1:
            assert LAYERS.index(parts[1]) <= LAYERS.index(here), f"{here} imports {name}, which lies below it"


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_confined_packages_stay_in_their_rooms(path: Path) -> None:
    for name in imported(path, everywhere=True):
        rooms = CONFINED.get(name.split(".")[0])
        assert rooms is None or layer_of(path) in rooms, f"{layer_of(path)} imports {name}"


def test_import_recil_loads_neither_torch_nor_mlflow() -> None:
    code = "import sys, recil, recil.cli; print([m for m in ('torch', 'mlflow', 'pandas') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_every_public_name_loads() -> None:
    import recil

    assert all(getattr(recil, name) is not None for name in recil.__all__)
    with pytest.raises(AttributeError, match="no_such_verb"):
        _ = recil.no_such_verb


def test_files_and_functions_stay_small() -> None:
    lengths = {path: len(path.read_text(encoding="utf-8").splitlines()) for path in FILES}
    assert max(lengths.values()) <= 400, max(lengths, key=lambda path: lengths[path])
    ordered = sorted(lengths.values())
    assert ordered[int(0.9 * len(ordered))] <= 300
    functions = sorted(
        (node.end_lineno or 0) - node.lineno + 1
        for path in FILES
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
    )
    assert functions[int(0.95 * len(functions))] <= 40
