"""recil evaluate, simulate, compare: what saved policies are worth."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from recil.cli.options import PATH, as_table, common, emit, say, seed, track_as
from recil.cli.progress import Waiting
from recil.errors import GateError, InputError

if TYPE_CHECKING:
    import pandas as pd

    from recil.policies.environment import Environment
    from recil.sim.world import World


def _on_log(command: Callable[..., Any]) -> Callable[..., Any]:
    """Options of what reads a log to value policies."""
    for option in (
        click.option("--replicates", default=1000, show_default=True, help="Bootstrap samples behind an interval."),
        click.option("--confidence", default=0.95, show_default=True),
        click.option("--gamma", default=1.0, show_default=True, help="Discount per step."),
        click.option("--state", metavar="COLUMN", help="The context column that is the state, for mis."),
        click.option("--category", metavar="COLUMN", help="The items' column that is their category, for mips."),
        click.option(
            "--behaviour",
            type=PATH,
            multiple=True,
            metavar="POLICY",
            help="A clone of the logging policy, from other sessions; several (five or more) widen the intervals.",
        ),
        click.option("--reward", default="click", show_default=True, metavar="COLUMN"),
        click.option("--log-format", metavar="NAME", help="Format of the log; found out when left out."),
    ):
        command = option(command)
    return command


def _in_world(command: Callable[..., Any]) -> Callable[..., Any]:
    """Options of what simulates."""
    for option in (
        click.option("--sessions", default=10_000, show_default=True, help="Simulated sessions."),
        click.option("--horizon", default=12, show_default=True, help="Most steps of a session with fitted users."),
        click.option("--users", type=PATH, metavar="FOLDER", help="Users fitted earlier, with the card beside them."),
        click.option(
            "--fit",
            type=PATH,
            metavar="LOG",
            help="Fit users to four fifths of this log's sessions, judge by the rest.",
        ),
        click.option("--truth", type=PATH, metavar="SETTINGS", help="The known world of a generated log."),
    ):
        command = option(command)
    return command


@click.command()
@click.argument("policy", type=PATH)
@click.argument("log", type=PATH)
@click.option("--estimators", metavar="A,B", help="By name, as docs/evaluation.md lists them; the usual six without.")
@click.option("--by", metavar="COLUMN", help="By segment: a user_* or context_* column, or policy.")
@click.option(
    "--require",
    type=click.Choice(["trust", "caution"]),
    help="Exit with 1 when the best verdict is worse than this.",
)
@_on_log
@seed
@track_as
@common
def evaluate(
    policy: Path,
    log: Path,
    estimators: str | None,
    by: str | None,
    require: str | None,
    log_format: str | None,
    reward: str,
    behaviour: tuple[Path, ...],
    seed: int,
    track: str | None,
    tracking_uri: str | None,
    form: str,
    **options: Any,
) -> None:
    """What the saved POLICY is worth, estimated from a LOG that another policy wrote.

    The log must hold other sessions than those the policy learned from.

    \b
    recil evaluate better test.parquet
    recil evaluate better test.parquet --behaviour clone --require caution
    recil evaluate better test.parquet --by user_country
    """
    from recil.cli.estimates import estimated
    from recil.evaluate.verdict import VERDICTS
    from recil.logs.read import read_log
    from recil.policies.storage import load

    with Waiting(f"estimating from {log}"):
        found, verdict, metrics = estimated(
            load(policy),
            read_log(log, log_format, reward),
            by,
            estimators,
            behaviour=[load(one) for one in behaviour] or None,
            seed=seed,
            **options,
        )
    emit(form, found, found.to_frame())
    params = {"policy": policy, "log": log} | ({} if by is None else {"by": by})
    _keep(track, tracking_uri, "evaluate", params, metrics, found.to_frame(), str(found))
    if require and VERDICTS.index(verdict) > VERDICTS.index(require):  # type: ignore[arg-type]
        raise GateError(f"{policy}: the verdict is {verdict}, {require} was required")


@click.command()
@click.argument("policy", type=PATH)
@_in_world
@click.option("--out", type=PATH, metavar="FOLDER", help="Save the sessions as a log there.")
@seed
@track_as
@common
def simulate(
    policy: Path,
    sessions: int,
    out: Path | None,
    seed: int,
    track: str | None,
    tracking_uri: str | None,
    form: str,
    **place: Any,
) -> None:
    """What the saved POLICY brings in a known world (--truth), or with fitted users (--users, --fit).

    \b
    recil simulate better --users users --horizon 20
    recil simulate better --truth settings.toml --sessions 5000 --out simulated
    """
    from recil.evaluate.simulate import simulate as simulated
    from recil.evaluate.simulate import simulated_value
    from recil.policies.storage import load

    with Waiting(f"simulating {sessions:,} sessions"):
        world, item_ids = _world(seed, **place)
        loaded = load(policy)
        value = simulated_value(loaded, world, sessions, seed)
        if out is not None:
            simulated(loaded, world, sessions, seed, item_ids).save(out)
    frame = value.to_frame()
    emit(form, value, frame)
    metrics = {"sim/return": value.value, "sim/return_low": value.low, "sim/return_high": value.high}
    params, tags = {"policy": policy, "seed": seed, **place}, {"sim.verdict": value.verdict}
    _keep(track, tracking_uri, "simulate", params, metrics, frame, str(value), tags)


@click.command()
@click.argument("policies", nargs=-1, required=True, metavar="[NAME=]POLICY...")
@click.option("--log", type=PATH, metavar="LOG", help="Compare on this log.")
@click.option("--estimator", help="By name, as docs/evaluation.md lists them; the least refused without.")
@_on_log
@_in_world
@seed
@track_as
@common
def compare(
    policies: tuple[str, ...],
    log: Path | None,
    log_format: str | None,
    reward: str,
    behaviour: tuple[Path, ...],
    seed: int,
    track: str | None,
    tracking_uri: str | None,
    form: str,
    **options: Any,
) -> None:
    """Hold saved POLICIES against each other, paired: on one log (--log), or in one world (--truth, --users, --fit).

    \b
    recil compare clone better --log test.parquet
    recil compare old=shop/2024 new=shop/2025 --users users
    """
    from recil.evaluate.compare import compare as compared
    from recil.logs.read import read_log
    from recil.policies.storage import load

    place = {name: options.pop(name) for name in ("truth", "users", "fit", "horizon")}
    if (log is None) == all(place[name] is None for name in ("truth", "users", "fit")):
        raise InputError("recil compare", "it needs one log or one world", "give --log, --truth, --users or --fit")
    named = _named(policies)
    with Waiting(f"comparing {len(named)} policies"):
        source: Any = _world(seed, **place)[0] if log is None else read_log(log, log_format, reward)
        found = compared(
            {name: load(path) for name, path in named.items()},
            source,
            behaviour=[load(one) for one in behaviour] or None,
            seed=seed,
            **options,
        )
    emit(form, found, found.to_frame())
    metrics = {f"compare/{row.policy}": row.value for row in found.rows if row.value == row.value}
    params = {"policies": list(policies), "log": log, "seed": seed, **place}
    _keep(track, tracking_uri, "compare", params, metrics, found.to_frame(), str(found))


def _named(policies: tuple[str, ...]) -> dict[str, Path]:
    """`name=folder` or a folder, which is then named by itself; two of one name are refused."""
    named: dict[str, Path] = {}
    for given in policies:
        name, equals, folder = given.partition("=")
        path = Path(folder if equals else given)
        label = name if equals else path.name if path.name != "policy" else path.resolve().parent.name
        if label in named:
            raise InputError(
                "recil compare", f"two policies are named {label!r}", "name them: first=FOLDER second=FOLDER"
            )
        named[label] = path
    return named


def _world(
    seed: int, truth: Path | None, users: Path | None, fit: Path | None, horizon: int
) -> tuple[Environment, Any]:
    """The world asked for, and its items' names."""
    if sum(given is not None for given in (truth, users, fit)) != 1:
        raise InputError("world", "not one was named", "give --truth SETTINGS, --users FOLDER or --fit LOG")
    if truth is not None:
        from recil.sim.generate import Truth, load_settings

        world = Truth(load_settings(truth)).world
        return world, world.item_ids
    fitted = _fitted_earlier(users, horizon) if users is not None else _fitted_now(Path(str(fit)), horizon, seed)
    return fitted, fitted.item_ids


def _fitted_earlier(folder: Path, horizon: int) -> World:
    """The users saved in this folder, with what lies there with them: their card, and an ensemble."""
    from recil.sim.card import card_beside
    from recil.sim.ensemble import UserEnsemble
    from recil.sim.storage import load_users
    from recil.sim.world import World

    users, ensemble = load_users(folder), folder / "ensemble"
    members = UserEnsemble.load(ensemble).members if ensemble.is_dir() else ()
    return World(users, horizon, card=card_beside(folder), members=members)


def _fitted_now(log: Path, horizon: int, seed: int) -> World:
    """Users fitted to most sessions of a log, with their card on the others: nothing is simulated without one."""
    from recil.logs.read import read_log
    from recil.sim.card import validate
    from recil.sim.fit import fit_users
    from recil.sim.world import World

    train, held_out = read_log(log).split(by="session", test=0.2, seed=seed)
    users = fit_users(train, seed=seed)
    return World(users, horizon, card=validate(users, held_out))


def _keep(
    name: str | None,
    tracking_uri: str | None,
    stage: str,
    params: Mapping[str, Any],
    metrics: Mapping[str, float],
    frame: pd.DataFrame,
    text: str,
    tags: Mapping[str, str] | None = None,
) -> None:
    """The answer as an MLflow run, where --track asks for it."""
    if name is None:
        return
    from recil.track.links import run_link
    from recil.track.run import RunWriter
    from recil.track.store import ensure_experiment, prepare_store, resolve_store
    from recil.track.summary import write_summary

    store = resolve_store(tracking_uri)
    prepare_store(store)
    experiment_id = ensure_experiment(store, f"recil-{name}")
    with RunWriter(
        store, experiment_id, stage, Path(".recil") / "spool", {"recil.stage": stage, **(tags or {})}
    ) as writer:
        writer.params(params)
        writer.metrics(metrics)
        writer.text(text + "\n", f"{stage}.txt")
        write_summary(writer, {stage: as_table(frame)}, {}, {})
    if writer.run_id is not None:
        say(f"MLflow: {run_link(store, experiment_id, writer.run_id)}")
