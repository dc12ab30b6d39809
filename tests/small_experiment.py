"""A log of a small known world and an experiment file on it: the whole line in seconds."""

from __future__ import annotations

import functools
import shutil
import tempfile
from dataclasses import replace
from pathlib import Path

from recil.sim.generate import Truth, load_settings

SETTINGS = """
seed = 5
sessions = 600
horizon = 5
items = 15
slate_size = 2
types = 4
click_rate = 0.06
"""
FILE = """
name = "small"
seeds = [0, 1]
[log]
path = "log"
[truth]
settings = "settings.toml"
[users]
types = 2
dimension = 3
epochs = 2
[world]
horizon = 5
sessions = 200
[evaluate]
replicates = 50
[[methods]]
name = "random"
kind = "uniform"
[[methods]]
name = "logged"
kind = "logged"
[[methods]]
name = "scratch"
kind = "reinforce"
like = "clone"
sessions = 200
sessions_per_iteration = 100
critic_warmup = 2
[[methods]]
name = "clone"
kind = "clone"
width = 8
epochs = 3
[[methods]]
name = "finetuned"
kind = "finetune"
start = "clone"
epochs = 2
critic_warmup = 2
"""


@functools.cache
def _log_folder() -> Path:
    folder = Path(tempfile.mkdtemp(prefix="recil-small-"))
    (folder / "settings.toml").write_text(SETTINGS)
    Truth(load_settings(folder / "settings.toml")).log().save(folder / "log")
    return folder


def write_experiment(folder: Path, text: str = FILE, propensities: bool = True) -> Path:
    """The experiment's file in this folder, with its log and settings beside it."""
    shutil.copytree(_log_folder(), folder, dirs_exist_ok=True)
    if not propensities:
        log = Truth(load_settings(folder / "settings.toml")).log()
        replace(log, propensity=None).save(folder / "log")
    (folder / "experiment.toml").write_text(text)
    return folder / "experiment.toml"
