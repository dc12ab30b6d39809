"""A unit's MLflow run: begun while it learns, completed when it is judged, found by its key and never doubled."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from recil.config import method_settings
from recil.experiment.data import kept_log
from recil.experiment.plan import Setting, Unit, method_of
from recil.track.find import adopted_run
from recil.track.model_fetch import SAVED_POLICIES
from recil.track.run import RunWriter
from recil.track.serve_columns import Columns
from recil.track.view import share_view


def begin(setting: Setting, unit: Unit, folder: Path) -> RunWriter:
    """The run of a unit that starts to learn; it stays open for the judge. folder: where its metrics are recorded."""
    record = folder / "metrics.jsonl"
    return _writer(setting, unit.label, unit.key, _tags(setting, unit), ends=False, record=record)


def begin_users(setting: Setting) -> RunWriter:
    """The run of the users' fit."""
    tags = {"recil.method": "users", "recil.stage": "users", "recil.seed": str(setting.experiment.seeds[0])}
    record = setting.users_folder() / "metrics.jsonl"
    key = f"{setting.users}-{setting.test[:16]}"
    writer = _writer(setting, "users", key, tags | dict(setting.tags), record=record)
    writer.params({"users": setting.experiment.resolved()["users"]})
    _lineage(setting, writer)
    return writer


def publish(setting: Setting, unit: Unit, judged: Mapping[str, Any], metrics: Mapping[str, float]) -> None:
    """Completes the unit's run: settings, lineage, the learning curves where they are not there, what it is worth."""
    method = method_of(setting.experiment, unit)
    with _writer(setting, unit.label, unit.key, _tags(setting, unit)) as writer:
        writer.params({"method": {"name": method.name, **method_settings(method)}, "seed": unit.seed})
        writer.params({"world": setting.experiment.resolved()["world"], "log": setting.experiment.resolved()["log"]})
        _lineage(setting, writer)
        writer.replay(setting.policy(unit.policy_key) / "metrics.jsonl")
        writer.metrics(metrics)
        writer.tags({"recil.policy": str(setting.policy(unit.policy_key) / "policy")})
        _policy(setting, unit, writer)
        if "warrant" in judged:
            writer.tags({"sim.verdict": judged["warrant"]["verdict"]})
        writer.json(judged, "judged.json")


def _policy(setting: Setting, unit: Unit, writer: RunWriter) -> None:
    """The policy goes with its run, so that it can be promoted and served where this work folder is not.

    As files, which costs milliseconds: MLflow takes most of a second to make a model of them, after seconds of imports.
    `recil promote` makes the model, of the one policy in many that is worth it.
    """
    folder = setting.policy(unit.policy_key) / "policy"
    if not folder.is_dir():
        return  # the logged recommender is known, not made
    if Columns.beside(folder) is None:
        Columns.of_log(kept_log(setting.data(setting.train))).save(folder)
    writer.file(folder, SAVED_POLICIES)


def publish_card(setting: Setting, writer: RunWriter) -> None:
    """The card of the fitted users, as its files."""
    for name in ("card.md", "card.html", "card.json"):
        writer.file(setting.users_folder() / name)


def summary_key(setting: Setting) -> str:
    return f"summary-{setting.tags['recil.sweep']}"


def begin_summary(setting: Setting) -> RunWriter:
    """The summary run: the one `mlflow run` has begun, else one for each sweep. The view of the charts is its, too."""
    share_view(setting.store, setting.experiment_id, setting.tags["recil.sweep"])
    adopted = adopted_run(setting.store)
    tags = dict(setting.tags) | {"recil.method": "summary", "recil.stage": "summary"}
    run_id = None if adopted is None else adopted.run_id
    return _writer(setting, "summary", summary_key(setting), tags, run_id=run_id)


def publish_report(setting: Setting, files: Mapping[str, str]) -> None:
    """A report's files as artifacts of the summary run."""
    with begin_summary(setting) as writer:
        for name, text in files.items():
            writer.text(text, name)


def _writer(setting: Setting, name: str, key: str, tags: Mapping[str, str], **options: Any) -> RunWriter:
    return RunWriter(setting.store, setting.experiment_id, name, setting.spool, tags, key=key, **options)


def _tags(setting: Setting, unit: Unit) -> dict[str, str]:
    method = method_of(setting.experiment, unit)
    return dict(setting.tags) | {
        "recil.method": unit.method,
        "recil.kind": method.kind,
        "recil.stage": method.kind if method.seeded else "baseline",
        "recil.seed": "none" if unit.seed is None else str(unit.seed),
        "recil.config_hash": unit.policy_key,
    }


def _lineage(setting: Setting, writer: RunWriter) -> None:
    name = setting.experiment.name
    writer.dataset(kept_log(setting.data(setting.train)), f"{name}-train", "train", setting.source)
    writer.dataset(kept_log(setting.data(setting.test)), f"{name}-test", "evaluate", setting.source)
