"""The line from a log to what policies are worth, walked once for a whole experiment file."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from recil.config import Experiment, content_hash
from recil.errors import InputError
from recil.evaluate.on_log import check_estimators
from recil.experiment.data import check_truth, keep_log, truth_of
from recil.experiment.evidence import Evidence, Report
from recil.experiment.figures import gains_figure, values_figure
from recil.experiment.gather import Found, gather, rows_on
from recil.experiment.judge import judge, read_arrays
from recil.experiment.learn import is_made, learn, users_are_made
from recil.experiment.plan import Plan, Setting, Unit, plan_of
from recil.experiment.publish import begin_summary, publish_card, publish_report, summary_key
from recil.experiment.result import Result
from recil.experiment.version import code_version
from recil.jobs import Failure, run_units
from recil.logs.align import align
from recil.logs.read import read_log
from recil.logs.session_log import SessionLog
from recil.sim.card import SimulatorCard, card_beside
from recil.track.find import adopted_run, end_runs, find_runs
from recil.track.git import git_tags
from recil.track.links import runs_link
from recil.track.outbox import send_spooled
from recil.track.run import RunWriter
from recil.track.store import Store, ensure_experiment, prepare_store
from recil.track.summary import write_summary

Progress = Callable[[int, int, str], None]


@dataclass
class _Walk:
    """One run of an experiment. failures: label -> reason, of units that came to nothing; done: steps behind us."""

    setting: Setting
    plan: Plan
    jobs: int
    progress: Progress
    failures: dict[str, Failure] = field(default_factory=dict)
    broken: set[str] = field(default_factory=set)
    done: int = 0
    total: int = 0

    def tell(self, what: str) -> None:
        self.done += 1
        self.progress(self.done, self.total, what)


def run_experiment(
    experiment: Experiment,
    store: Store,
    work: Path = Path(".recil"),
    jobs: int = 1,
    progress: Progress = lambda done, total, what: None,
    report: Report | None = None,
) -> Result:
    """Runs what an experiment file says, and returns the comparison; MLflow has it run by run and in a summary.

    work: folder for what is made on the way. Units finished earlier are taken from there, broken ones go on from their
    checkpoints. progress: called with (steps done, steps in all, what was done). report: gives the files of a report
    (recil.report.report_files), kept in the work folder and in the summary. The result is the same whatever `jobs` is.
    Raises InputError before any work for what cannot be run; a unit that fails later is named in the result.
    """
    setting, plan = _prepare(experiment, store, Path(work).resolve())
    send_spooled(setting.spool)
    walk = _Walk(setting, plan, jobs, progress)
    try:
        judged = _walk(walk)
    except KeyboardInterrupt:
        end_runs(store, setting.experiment_id, {"recil.sweep": setting.tags["recil.sweep"]})
        raise
    evidence = _evidence(walk, judged)
    _summarise(walk, evidence.result)
    if report is None:
        return evidence.result
    if walk.total or adopted_run(store) is not None or not any(evidence.folder.glob("report.*")):
        publish_report(setting, keep_report(evidence, report))
    return replace(evidence.result, report=str(evidence.folder / "report.html"))


def find_evidence(experiment: Experiment, store: Store, work: Path = Path(".recil")) -> Evidence:
    """What earlier runs have found of this experiment, without any work. Raises InputError where that is nothing."""
    setting, plan = _prepare(experiment, store, Path(work).resolve())
    found = _judged(setting, plan)
    if not found:
        remedy = "run it first; settings, data and code must be those it was run with"
        raise InputError(experiment.name, f"nothing of it is finished in {work}", remedy)
    return _evidence(_Walk(setting, plan, 1, lambda done, total, what: None), found)


def keep_report(evidence: Evidence, report: Report, folder: Path | None = None) -> Mapping[str, str]:
    """Writes a report's files, into the work folder when no other is named, and returns them: name -> text."""
    folder = folder or evidence.folder
    try:
        folder.mkdir(parents=True, exist_ok=True)
        files = report(evidence)
        for name, text in files.items():
            (folder / name).write_text(text, encoding="utf-8")
    except OSError as error:
        raise InputError(str(folder), f"cannot be written ({error})", "name another folder") from error
    return files


def _prepare(experiment: Experiment, store: Store, work: Path) -> tuple[Setting, Plan]:
    """Everything that can be found wrong before any work: estimators, log, truth, store."""
    names = check_estimators(experiment.evaluate.estimators)
    source = experiment.path(experiment.log.path)
    split = experiment.log.split
    log = read_log(source, experiment.log.format, experiment.log.reward)
    train, test = log.split(by=split.by, test=split.test, at=split.at, cluster=split.cluster)
    truth = None if experiment.truth is None else experiment.path(experiment.truth.settings)
    if truth is not None:
        check_truth(truth_of(truth), log, str(truth))
    others = {name: _other_log(experiment, name, train) for name in experiment.evaluate.logs}
    digests = {name: other.digest for name, other in others.items()}
    prepare_store(store)
    adopted = adopted_run(store)
    experiment_id = adopted.experiment_id if adopted else ensure_experiment(store, f"recil-{experiment.name}")
    truth_hash = None if truth is None else content_hash(truth_of(truth).settings.model_dump())
    plan = plan_of(experiment, train.digest, test.digest, truth_hash, test.propensity is not None, digests)
    sweep = content_hash([experiment.resolved(), names, [unit.key for unit in plan.table]])
    world = truth_hash if plan.users is None else plan.users
    setting = Setting(
        experiment=experiment,
        folder=work / experiment.name,
        store=store,
        experiment_id=experiment_id,
        train=train.digest,
        test=test.digest,
        users=plan.users,
        behaviour=None if plan.behaviour is None else plan.behaviour.policy_key,
        truth=truth,
        tags={"recil.sweep": sweep, "recil.version": code_version(), "recil.world": world or "none"}
        | git_tags(experiment.folder),
        source=str(source),
        others=digests,
    )
    for part in (train, test, *others.values()):
        try:
            keep_log(part, setting.data(part.digest))
        except OSError as error:
            raise InputError(str(work), f"cannot be written ({error})", "run where you may write") from error
    return setting, plan


def _other_log(experiment: Experiment, name: str, like: SessionLog) -> SessionLog:
    """One of the other logs to judge on, in the catalogue and columns of the experiment's own."""
    table = experiment.evaluate.logs[name]
    path = experiment.path(table.path)
    other = align(read_log(path, table.format, table.reward), like)
    if other.propensity is None:
        raise InputError(f"evaluate.logs.{name}", f"{path} has no propensities", "name a log that has them")
    return other


def _walk(walk: _Walk) -> list[Found]:
    """Learns wave by wave, then judges everything. Returns what was found, in the plan's order."""
    setting, plan = walk.setting, walk.plan
    waves = [list(wave) for wave in plan.waves(setting.experiment)]
    todo = [[unit for unit in wave if not is_made(setting, unit)] for wave in waves]
    finished = [unit for unit in plan.table if _is_published(setting, unit)]
    unjudged = [unit for unit in plan.table if unit not in finished]
    fit = not users_are_made(setting)
    walk.total = fit + sum(map(len, todo)) + len(unjudged)
    for number, wave in enumerate(todo):
        tasks: list[tuple[Setting, Unit | None]] = [(setting, None)] if fit and number == 0 else []
        tasks += [(setting, unit) for unit in wave if unit.start not in walk.broken]
        walk.broken |= {unit.policy_key for unit in wave if unit.start in walk.broken}
        _learn(walk, tasks)
    ready = [unit for unit in unjudged if unit.policy_key not in walk.broken]
    for task, judged in run_units(judge, [(setting, unit) for unit in ready], walk.jobs):
        if isinstance(judged, Failure):
            walk.failures[task[1].label] = judged
        walk.tell(f"judged {task[1].label}")
    return _judged(setting, plan)


def _judged(setting: Setting, plan: Plan) -> list[Found]:
    return [_found(setting, unit) for unit in plan.table if (setting.result(unit) / "judged.json").exists()]


def _learn(walk: _Walk, tasks: list[tuple[Setting, Unit | None]]) -> None:
    for (_, unit), outcome in run_units(learn, tasks, walk.jobs):
        label = "users" if unit is None else unit.label
        if isinstance(outcome, Failure):
            if unit is None or walk.plan.behaviour == unit:
                raise _stopped(label, outcome)  # everything rests on these
            walk.failures[label] = outcome
            walk.broken.add(unit.policy_key)
        walk.tell(f"made {label}")


def _stopped(label: str, failure: Failure) -> Exception:
    if failure.bad_input:
        return InputError(label, failure.message)
    return RuntimeError(f"{label}: {failure.message}\n{failure.trace}")


def _is_published(setting: Setting, unit: Unit) -> bool:
    """Whether the unit is judged and its run complete in this store; the run is then counted to this sweep."""
    if not (setting.result(unit) / "judged.json").exists():
        return False
    runs = find_runs(setting.store, setting.experiment_id, {"recil.key": unit.key})
    if not runs:
        return False
    if runs[0].tags.get("recil.sweep") != setting.tags["recil.sweep"]:
        with RunWriter(
            setting.store, setting.experiment_id, unit.label, setting.spool, setting.tags, key=unit.key
        ):  # tags it anew
            pass
    return True


def _found(setting: Setting, unit: Unit) -> Found:
    folder = setting.result(unit)
    return Found(unit, json.loads((folder / "judged.json").read_text(encoding="utf-8")), read_arrays(folder))


def _card(setting: Setting) -> SimulatorCard | None:
    return None if setting.users is None else card_beside(setting.users_folder())


def _evidence(walk: _Walk, found: Sequence[Found]) -> Evidence:
    setting, card = walk.setting, _card(walk.setting)
    believed = card is None or card.verdict != "refuse"
    rows, gains = gather(setting.experiment, found, believed)
    result = Result(
        name=setting.experiment.name,
        rows=rows,
        gains=gains,
        confidence=setting.experiment.evaluate.confidence,
        world=None if card is None else (card.verdict, card.reasons),
        failures=walk.failures,
        link=runs_link(setting.store, setting.experiment_id),
        on_logs={name: rows_on(setting.experiment, found, name) for name in setting.others},
    )
    return Evidence(setting, tuple(found), card, result)


def _summarise(walk: _Walk, result: Result) -> None:
    """The comparison into the summary run, unless it is there and nothing was done."""
    setting = walk.setting
    there = {"recil.key": summary_key(setting)}
    if adopted_run(setting.store) is None and not walk.total and find_runs(setting.store, setting.experiment_id, there):
        return
    with begin_summary(setting) as writer:
        writer.params(setting.experiment.resolved())
        writer.text(setting.experiment.text, "experiment.toml")
        writer.json(setting.experiment.resolved(), "resolved.json")
        figures = {"values": values_figure(result), "differences": gains_figure(result)}
        tables = {"comparison": result.table(), "differences": result.gains_table()}
        tables |= {f"on_{name}": result.log_table(name) for name in result.on_logs}
        note = f"# {result.name}\n\n```\n{result}\n```\n"
        write_summary(writer, tables, figures, _metrics(result), note)
        if setting.users is not None:
            publish_card(setting, writer)
            writer.tags({} if result.world is None else {"sim.verdict": result.world[0]})


def _metrics(result: Result) -> Mapping[str, Mapping[str, float]]:
    """What the charts of the summary run show for each method."""
    metrics: dict[str, dict[str, float]] = {}
    for row in result.rows:
        found = {name: getattr(row, name) for name in ("true", "simulated", "ope")}
        metrics[row.method] = {
            f"{name}{part}": interval[place]
            for name, interval in found.items()
            if interval is not None
            for place, part in enumerate(("", "_low", "_high"))
        }
    return metrics
