"""What was run, on which data, at which state of the code, and how long it took."""

from __future__ import annotations

import datetime
import platform
from collections.abc import Iterator
from importlib import metadata

import numpy as np

from recil.experiment.evidence import Evidence
from recil.logs.session_log import SessionLog
from recil.logs.split import DIVIDED, USERS_ON_BOTH_SIDES
from recil.report.curves import Record, read_record, records_of
from recil.report.page import Code, Grid, Section, Text, section
from recil.report.words import DASH, listed, seconds

_PACKAGES = ("torch", "numpy", "scipy", "mlflow", "recsim-ng")


def lead(evidence: Evidence) -> str:
    """The report in two sentences: on what, and with what."""
    setting, experiment = evidence.setting, evidence.setting.experiment
    train, test = evidence.train, evidence.test
    seeds = f"{len(experiment.seeds)} seeds" if len(experiment.seeds) > 1 else "one seed"
    judged = ["on the held-out sessions"]
    judged += ["in simulated users fitted to the others"] if setting.users is not None else []
    judged += ["in the known world that wrote the log"] if setting.truth is not None else []
    return (
        f"{len(experiment.methods)} methods, {seeds}, on {train.sessions + test.sessions:,} sessions:"
        f" {train.sessions:,} to learn from and {test.sessions:,} held out. Values are reward per session, judged"
        f" {listed(judged)}."
    )


def facts_section(evidence: Evidence) -> Section:
    """A table of facts, the times, and the experiment file."""
    return section(
        "What was run",
        Grid(("", ""), tuple(_facts(evidence)), words=(0, 1)),
        _times(evidence),
    )


def _facts(evidence: Evidence) -> Iterator[tuple[str, str]]:
    setting, experiment = evidence.setting, evidence.setting.experiment
    train, test = evidence.train, evidence.test
    split = experiment.log.split
    yield "log", f"{experiment.log.path}, reward: {train.reward_name}"
    yield "catalogue", f"{train.catalogue:,} items, slates of {train.slate_size}"
    at = "" if split.at is None else f", at {split.at}"
    whole = "" if split.cluster is None else f", each {split.cluster} whole"
    yield "split", f"by {split.by}, {split.test:.0%} held out{at}{whole}"
    for note in (DIVIDED, USERS_ON_BOTH_SIDES):
        if note in test.notes:
            yield "", f"{note}: {test.notes[note]:,}"
    yield "to learn from", _log(train)
    yield "held out", _log(test)
    given = "the log's own" if test.propensity is not None else "of a clone fitted to the sessions to learn from"
    yield "propensities", given
    for name, digest in setting.others.items():
        yield f"log {name}", f"{experiment.evaluate.logs[name].path}, digest {digest[:16]}"
    if experiment.truth is not None:
        yield "known world", experiment.truth.settings
    if setting.users is not None:
        members = experiment.world.members
        more = f", with {members} ensemble members" if members else ""
        yield "simulated users", f"{setting.users}, fitted to the sessions to learn from{more}"
    if setting.users is not None or setting.truth is not None:
        world = experiment.world
        yield "simulation", f"{world.sessions:,} sessions of at most {world.horizon} steps for each value and seed"
    yield "seeds", ", ".join(map(str, experiment.seeds))
    yield "code", f"recil {setting.tags['recil.version']}"
    if "mlflow.source.git.commit" in setting.tags:
        branch = setting.tags.get("mlflow.source.git.branch", "")
        yield "git commit of the file", f"{setting.tags['mlflow.source.git.commit']} ({branch})"
    yield "sweep in MLflow", setting.tags["recil.sweep"]
    versions = [f"{name} {_version(name)}" for name in _PACKAGES]
    yield "with", f"Python {platform.python_version()}, {', '.join(versions)}"


def _log(log: SessionLog) -> str:
    rewarded = float((np.add.reduceat(log.reward.sum(1), log.offsets[:-1]) > 0).mean()) if log.sessions else 0.0
    return (
        f"{log.sessions:,} sessions, {log.steps:,} steps, {log.impressions:,} items shown; reward in {rewarded:.1%} of"
        f" sessions, {float(log.reward.sum(dtype=np.float64)) / max(log.impressions, 1):.5f} per item shown; digest"
        f" {log.digest[:16]}"
    )


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "of unknown version"


def _times(evidence: Evidence) -> list[Grid | Text]:
    rows, total, stamps = [], 0.0, []
    users = read_record(evidence.setting.users_folder() / "metrics.jsonl")
    if users:
        stamps += _stamps(users)
        rows.append(("simulated users", seconds((max(stamps) - min(stamps)) / 1000), DASH))
        total += (max(stamps) - min(stamps)) / 1000
    for method in evidence.setting.experiment.methods:
        records = records_of(evidence, method.name)
        trained = [record["time/training_seconds"] for record in records if "time/training_seconds" in record]
        training = sum(value for steps in trained for value, _ in steps.values())
        judging = sum(item.judged["seconds"] for item in evidence.of(method.name))
        stamps += [when for record in records for when in _stamps(record)]
        total += training + judging
        rows.append((method.name, seconds(training) if trained else DASH, seconds(judging)))
    words = f"In all {seconds(total)} of computing, seeds added up; side by side it takes less."
    if stamps:
        first, last = (
            datetime.datetime.fromtimestamp(when / 1000, datetime.UTC) for when in (min(stamps), max(stamps))
        )
        begun, ended = f"{first:%Y-%m-%d %H:%M}", f"{last:%Y-%m-%d %H:%M}"
        words += f" Learned at {begun} UTC." if begun == ended else f" Learned between {begun} and {ended} UTC."
        words += " The users' time is from the first to the last record of their fit." if users else ""
    return [Grid(("time", "learning", "judging"), tuple(rows)), Text(words, quiet=True)]


def _stamps(record: Record) -> list[int]:
    return [when for steps in record.values() for _, when in steps.values()]


def reproduce_section(evidence: Evidence, command: str) -> Section:
    """The commands, and the file they read."""
    commit = evidence.setting.tags.get("mlflow.source.git.commit")
    lines = [f"git checkout {commit}   # the file's folder at the time"] if commit else []
    lines += [command, command.replace("recil run", "recil report", 1).replace("recil demo", "recil report", 1)]
    said = Text(
        "The numbers do not depend on the number of processes, on the order of work, or on whether it was interrupted."
        f" The code was recil {evidence.setting.tags['recil.version']}; the part after the plus is a digest of its"
        " source, so that results of other code are never taken for these."
    )
    text = evidence.setting.experiment.text
    file = Code(text, "toml", "The experiment file") if text.strip() else None
    return section("How to reproduce it", Code("\n".join(lines), "sh"), said, None if file is None else [file])
