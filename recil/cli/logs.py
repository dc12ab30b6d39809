"""recil log import, check, split, generate."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from textwrap import wrap
from typing import Any

import click

from recil.cli.options import PATH, common, emit, seed
from recil.cli.progress import Waiting
from recil.errors import GateError, InputError

WIDTH = 80
_NO_PROPENSITIES = (
    "no propensities: to value a policy on this log, a clone of the policy that logged must supply them (recil clone, "
    "then recil evaluate --behaviour)"
)


@click.group()
def log() -> None:
    """Logs: check them, bring them into recil's own form, split them, generate them."""


def _reading(command: Callable[..., Any]) -> Callable[..., Any]:
    """How a log is read."""
    for option in (
        click.option(
            "--quarantine", type=PATH, metavar="FOLDER", help="Write sessions that break a rule there; go on."
        ),
        click.option("--categorical", multiple=True, metavar="COLUMN", help="A column of numbers that are codes."),
        click.option("--items", type=PATH, metavar="FILE", help="The items table of a log that is a table."),
        click.option(
            "--reward", default="click", show_default=True, metavar="COLUMN", help="The column that is the reward."
        ),
        click.option(
            "--log-format", metavar="NAME", help="table, kuairand, entree, open-bandit, movielens; found out."
        ),
    ):
        command = option(command)
    return command


def read(
    source: Path,
    log_format: str | None,
    reward: str,
    items: Path | None = None,
    categorical: tuple[str, ...] = (),
    quarantine: Path | None = None,
) -> Any:
    """The log at `source`; options that were not given are not passed on, for not every format takes them."""
    from recil.logs.read import read_log

    given = {"items": items, "categorical": categorical, "quarantine": quarantine}
    with Waiting(f"reading {source}"):
        return read_log(source, log_format, reward, **{name: value for name, value in given.items() if value})


@log.command()
@click.argument("source", type=PATH)
@_reading
@common
def check(source: Path, form: str, **options: Any) -> None:
    """Read the log at SOURCE and say what is in it, or everything that is wrong with it; and check its propensities.

    Exit code 1: the checks refuse it. A log without propensities passes: a clone has to supply them.

    \b
    recil log check my_log.csv
    recil log check my_log.csv --items items.csv --reward bought --format json
    """
    import pandas as pd

    from recil.evaluate.log_checks import check_log

    found = read(source, **options)
    summary = found.summary()
    if found.propensity is None:
        rows = pd.DataFrame([("check propensities", _NO_PROPENSITIES)], columns=["what", "value"])
        emit(form, "\n".join([str(summary), "", *wrap(_NO_PROPENSITIES, WIDTH)]), pd.concat([summary.to_frame(), rows]))
        return
    with Waiting("checking propensities"):
        checked = check_log(found)
    rows = pd.DataFrame(checked.lines(), columns=["what", "value"])
    emit(form, f"{summary}\n\n{checked}", pd.concat([summary.to_frame(), rows]))
    if checked.verdict == "refuse":
        raise GateError(f"{source}: refused: {checked.reasons[0]}")


@log.command("import")
@click.argument("source", type=PATH)
@click.argument("folder", type=PATH)
@_reading
@common
def import_(source: Path, folder: Path, form: str, **options: Any) -> None:
    """Read the log at SOURCE and save it in FOLDER, in the form every command reads fastest.

    \b
    recil log import my_log.csv log
    recil log import my_log.csv log --quarantine broken
    """
    found = read(source, **options)
    found.save(folder)
    emit(form, found.summary(), found.summary().to_frame())


@log.command()
@click.argument("source", type=PATH)
@click.argument("train", type=PATH)
@click.argument("test", type=PATH)
@click.option(
    "--by",
    type=click.Choice(["time", "session", "user"]),
    default="time",
    show_default=True,
    help="By session, users stay whole where the log has them.",
)
@click.option("--cluster", metavar="NAME", help="Keep these whole instead: session, user, or a column.")
@click.option("--share", default=0.2, show_default=True, help="What is held out.")
@click.option("--at", type=int, help="Split at this time stamp instead of a share.")
@seed
@_reading
@common
def split(
    source: Path,
    train: Path,
    test: Path,
    by: str,
    cluster: str | None,
    share: float,
    at: int | None,
    seed: int,
    form: str,
    **options: Any,
) -> None:
    """Split the log at SOURCE in two and save the parts in the folders TRAIN and TEST.

    \b
    recil log split my_log.csv train test
    recil log split my_log.csv train test --by session --share 0.3
    """
    if train.resolve() == test.resolve():
        raise InputError("recil log split", f"both parts would go to {train}", "give two folders")
    import pandas as pd

    found = read(source, **options)
    parts = found.split(by=by, test=share, at=at, seed=seed, cluster=cluster)
    for part, folder in zip(parts, (train, test), strict=True):
        part.save(folder)
    rows = [
        {"part": str(folder), "sessions": part.sessions, "steps": part.steps, "impressions": part.impressions}
        for part, folder in zip(parts, (train, test), strict=True)
    ]
    frame = pd.DataFrame(rows)
    said = [f"{words}: {number:,}" for words, number in parts[0].notes.items() if words not in found.notes]
    emit(form, "\n".join([frame.to_string(index=False), *said]), frame)


@log.command()
@click.argument("settings", type=PATH)
@click.argument("folder", type=PATH)
@common
def generate(settings: Path, folder: Path, form: str) -> None:
    """Write the log of a known world (SETTINGS, a TOML file) into FOLDER. The same settings give the same bytes.

    \b
    recil log generate settings.toml made
    """
    from recil.jobs import one_thread
    from recil.sim.generate import Truth, load_settings

    truth = Truth(load_settings(settings))
    with one_thread(), Waiting(f"simulating {truth.settings.sessions:,} sessions"):
        found = truth.log()
    found.save(folder)
    emit(form, found.summary(), found.summary().to_frame())
