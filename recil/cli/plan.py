"""recil plan: how many sessions, or how much exploration, an answer would take."""

from __future__ import annotations

from pathlib import Path

import click

from recil.cli.options import PATH, common, emit, seed
from recil.cli.progress import Waiting


@click.command()
@click.argument("log", type=PATH)
@click.argument("policy", type=PATH)
@click.option(
    "--explore",
    type=float,
    multiple=True,
    metavar="SHARE",
    help="A share of sessions that POLICY serves; several may be given. Seven from 0 to .5 without.",
)
@click.option(
    "--sessions",
    type=int,
    multiple=True,
    metavar="N",
    help="A size of the log; several may be given. From the log's own to 100 times as many without.",
)
@click.option("--estimator", metavar="NAME", help="pdwis, dr, snips, pdis or ips; the one to quote today without.")
@click.option("--cluster", metavar="COLUMN", help="What is independent: user, session or a column.")
@click.option("--reward-range", nargs=2, type=float, metavar="A B", help="Least and largest reward of a slate.")
@click.option("--behaviour", type=PATH, metavar="POLICY", help="A clone of the logging policy, from other sessions.")
@click.option("--gamma", default=1.0, show_default=True, help="Discount per step.")
@click.option("--confidence", default=0.95, show_default=True)
@click.option("--replicates", default=1000, show_default=True, help="Bootstrap samples behind today's interval.")
@click.option("--reward", default="click", show_default=True, metavar="COLUMN")
@click.option("--log-format", metavar="NAME", help="Format of the log; found out when left out.")
@seed
@common
def plan(
    log: Path,
    policy: Path,
    explore: tuple[float, ...],
    sessions: tuple[int, ...],
    estimator: str | None,
    cluster: str | None,
    reward_range: tuple[float, float] | None,
    behaviour: Path | None,
    gamma: float,
    confidence: float,
    replicates: int,
    reward: str,
    log_format: str | None,
    seed: int,
    form: str,
) -> None:
    """How wide the interval of the saved POLICY's value would be with more sessions like those of LOG, or with
    exploration, and what a verdict of trust would take.

    With exploration POLICY serves a share of the sessions, drawn by chance.

    \b
    recil plan test.parquet better
    recil plan test.parquet better --explore .02 --explore .05 --sessions 50000
    """
    from recil.evaluate.plan import EXPLORE
    from recil.evaluate.plan import plan as planned
    from recil.logs.read import read_log
    from recil.policies.storage import load

    with Waiting(f"planning from {log}"):
        found = planned(
            load(policy),
            read_log(log, log_format, reward),
            behaviour=None if behaviour is None else load(behaviour),
            estimator=estimator,
            gamma=gamma,
            replicates=replicates,
            confidence=confidence,
            seed=seed,
            cluster=cluster,
            reward_range=reward_range or None,
            sessions=sessions or None,
            explore=explore or EXPLORE,
        )
    emit(form, found, found.to_frame())
