"""recil doctor: what is here, and what would stop a run."""

from __future__ import annotations

import os
import platform
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click

from recil.cli.options import common, emit, tracking_uri
from recil.errors import GateError, InputError

if TYPE_CHECKING:
    from recil.track.store import Store

_NEEDED = ("torch", "mlflow", "recsim-ng", "numpy", "pandas", "scipy", "pyarrow", "pydantic", "safetensors")
_EXTRAS = {"gymnasium": "gym", "ray": "ray"}
_LEAST_DISK = 2**30


@dataclass(frozen=True)
class Finding:
    """One line. state: fine, note (it works, with less) or problem (it does not); remedy: what would mend it."""

    what: str
    found: str
    state: Literal["fine", "note", "problem"] = "fine"
    remedy: str = ""

    def line(self, width: int) -> str:
        mark = {"fine": "", "note": "  note", "problem": "  PROBLEM"}[self.state]
        return f"{self.what:<{width}}{self.found}{mark}{f' -> {self.remedy}' if self.remedy else ''}"


@click.command()
@tracking_uri
@common
def doctor(tracking_uri: str | None, form: str) -> None:
    """Say what is installed, where runs are kept and whether they can be, and what this machine has to compute with.

    Nothing is created or changed. Exit code 1 where something would stop a run.

    \b
    recil doctor
    recil doctor --format json
    """
    import pandas as pd

    found = [*_versions(), *_store(tracking_uri), *_machine()]
    width = 2 + max(len(finding.what) for finding in found)
    names = ("what", "found", "state", "remedy")
    frame = pd.DataFrame([{name: getattr(finding, name) for name in names} for finding in found])
    emit(form, "\n".join(finding.line(width) for finding in found), frame)
    problems = [finding.what for finding in found if finding.state == "problem"]
    if problems:
        raise GateError(f"what would stop a run: {', '.join(problems)}")


def _versions() -> Iterator[Finding]:
    yield _version("recil", "make demo")
    yield Finding("python", f"{platform.python_version()} ({platform.system()} {platform.machine()})")
    for name in _NEEDED:
        yield _version(name, "make demo installs what is missing")
    for name, extra in _EXTRAS.items():
        found = _version(name, "")
        yield found if found.state == "fine" else Finding(name, "not installed, not needed", remedy=f"extra {extra}")


def _version(name: str, remedy: str) -> Finding:
    try:
        return Finding(name, metadata.version(name))
    except metadata.PackageNotFoundError:
        return Finding(name, "not installed", "problem", remedy)


def _store(tracking_uri: str | None) -> Iterator[Finding]:
    """The store, and whether it takes runs; a missing one is not made."""
    from recil.track.store import resolve_store

    try:
        store = resolve_store(tracking_uri)
    except InputError as error:
        yield Finding("store", f"{error.place}: {error.problem}", "problem", error.remedy)
        return
    yield _answers(store)
    folder = Path.cwd() if store.path is None else _existing(store.path.parent)
    free = shutil.disk_usage(folder).free
    enough = free >= _LEAST_DISK
    remedy = "" if enough else "make room, or run in another folder"
    yield Finding("disk", f"{free / 2**30:,.1f} GB free at {folder}", "fine" if enough else "note", remedy)
    if os.environ.get("MLFLOW_RUN_ID"):
        yield Finding("MLFLOW_RUN_ID", os.environ["MLFLOW_RUN_ID"], "note", "the summary goes into this run")


def _answers(store: Store) -> Finding:
    from recil.track.store import prepare_store

    if store.path is not None and not store.path.exists():
        folder = _existing(store.path.parent)
        if os.access(folder, os.W_OK):
            return Finding("store", f"{store.uri}, made by the first run")
        return Finding("store", f"{store.uri}: {folder} cannot be written", "problem", "choose another --tracking-uri")
    try:
        prepare_store(store)
    except InputError as error:
        return Finding("store", f"{store.uri}: {error.problem}", "problem", error.remedy)
    if store.path is not None and not os.access(store.path, os.W_OK):
        return Finding("store", f"{store.uri}: the file cannot be written", "problem", "choose another --tracking-uri")
    return Finding("store", f"{store.uri}, answers" + ("" if store.path is None else " and can be written"))


def _existing(folder: Path) -> Path:
    """The folder, or the nearest one above it that exists."""
    return next(place for place in (folder, *folder.parents) if place.exists())


def _machine() -> Iterator[Finding]:
    import torch

    from recil.jobs import usable_cores

    gpus = [torch.cuda.get_device_name(number) for number in range(torch.cuda.device_count())]
    gpus += ["Apple GPU (mps)"] if torch.backends.mps.is_available() else []
    yield Finding("devices", ", ".join(["cpu", *gpus]))
    said = os.environ.get("OMP_NUM_THREADS")
    asked = f", OMP_NUM_THREADS={said}" if said else ""
    yield Finding("threads", f"{usable_cores()} cores, torch uses {torch.get_num_threads()}{asked}")
    compiler = next(filter(None, map(shutil.which, (os.environ.get("CXX", ""), "g++", "clang++", "cl"))), None)
    if compiler:
        yield Finding("compiler", compiler)
    else:
        yield Finding("compiler", "none", "note", "simulations run uncompiled; a C++ compiler makes them faster")
    points = metadata.entry_points(group="mlflow.model_evaluator")
    known = any(point.name == "recil-ope" for point in points)
    remedy = "" if known else "install recil again: pip install --no-deps -e ."
    state: Literal["fine", "note"] = "fine" if known else "note"
    yield Finding("evaluator", "recil-ope" if known else "MLflow does not know recil-ope", state, remedy)
    yield Finding("interpreter", sys.executable)
