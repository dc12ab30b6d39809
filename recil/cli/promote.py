"""recil promote: a policy becomes the champion where a paired comparison says so."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import click

from recil.cli.options import PATH, common, emit, seed, tracking_uri
from recil.cli.progress import Waiting
from recil.errors import GateError, InputError


@click.command()
@click.argument("source", metavar="RUN|MODEL|POLICY")
@click.option("--name", required=True, help="The registered model, made when there is none.")
@click.option("--to", "alias", default="champion", show_default=True, help="The alias to move.")
@click.option("--log", type=PATH, metavar="LOG", help="Judge on this log: other sessions than either learned from.")
@click.option("--log-format", metavar="NAME", help="Format of the log; found out when left out.")
@click.option("--reward", default="click", show_default=True, metavar="COLUMN")
@click.option(
    "--behaviour",
    type=PATH,
    multiple=True,
    metavar="POLICY",
    help="A clone of the logging policy, from other sessions; several (five or more) widen the intervals.",
)
@click.option("--users", type=PATH, metavar="FOLDER", help="Judge with users fitted earlier, by their card.")
@click.option("--truth", type=PATH, metavar="SETTINGS", help="Judge in the known world of a generated log.")
@click.option("--horizon", default=12, show_default=True, help="Most steps of a session with fitted users.")
@click.option("--sessions", default=10_000, show_default=True, help="Simulated sessions.")
@click.option("--replicates", default=1000, show_default=True, help="Bootstrap samples behind an interval.")
@click.option("--confidence", default=0.95, show_default=True)
@click.option(
    "--require",
    type=click.Choice(["trust", "caution"]),
    default="caution",
    show_default=True,
    help="The worst verdict on the candidate that will do.",
)
@seed
@tracking_uri
@common
def promote(
    source: str,
    name: str,
    alias: str,
    log: Path | None,
    log_format: str | None,
    reward: str,
    behaviour: tuple[Path, ...],
    users: Path | None,
    truth: Path | None,
    horizon: int,
    require: Literal["trust", "caution"],
    tracking_uri: str | None,
    form: str,
    **options: Any,
) -> None:
    """Move the alias of a registered model to a policy, if it is clearly better than the one that has it.

    The policy is a run's, a model's (models:/...), or one saved in a folder. Exit code 1, and the reason, where the
    alias stays.

    \b
    recil promote better --name shop --log held_out.parquet
    recil serve models:/shop@champion
    """
    from recil.track.registry import Gate
    from recil.track.registry import promote as promoted
    from recil.track.store import prepare_store, resolve_store

    if sum(given is not None for given in (log, users, truth)) != 1:
        raise InputError("recil promote", "it needs one log or one world", "give --log, --users or --truth")
    if log is None:
        judge = _in_world(options["seed"], truth, users, horizon)
    else:
        judge, options["behaviour"] = _on_log(log, log_format, reward, behaviour)
    prepare_store(store := resolve_store(tracking_uri))
    with Waiting(f"comparing {source} with the {alias}"):
        found = promoted(store, source, name, judge, alias, Gate(require, tuple(options.items())))

    emit(form, found, _frame(found))
    if not found.holds:
        raise GateError(f"models:/{name}@{alias} was not moved: {found.reasons[0]}")


def _in_world(seed: int, truth: Path | None, users: Path | None, horizon: int) -> Any:
    from recil.cli.policies import _world

    return _world(seed, truth, users, None, horizon)[0]


def _on_log(log: Path, log_format: str | None, reward: str, behaviour: tuple[Path, ...]) -> tuple[Any, Any]:
    from recil.logs.read import read_log
    from recil.policies.storage import load

    return read_log(log, log_format, reward), [load(one) for one in behaviour] or None


def _frame(found: Any) -> Any:
    import pandas as pd

    row = {"name": found.name, "alias": found.alias, "version": found.version, "moved": found.moved}
    return pd.DataFrame([row | {"reasons": "; ".join(found.reasons)}])
