"""What commands share: options, and how an answer is printed."""

from __future__ import annotations

import json
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    import pandas as pd

    from recil.track.summary import Table


@dataclass
class State:
    """What `main` and what talks must know of the options of the command that runs."""

    debug: bool = False
    quiet: bool = False


# A file or a folder; shells complete it, as they would not for a plain pathlib.Path.
PATH = click.Path(path_type=Path)


def state() -> State:
    """That of the command that runs; the usual one outside of any."""
    context = click.get_current_context(silent=True)
    found = None if context is None else context.find_object(State)
    return found or State()


def _remember(context: click.Context, option: click.Parameter, value: bool) -> None:
    if context.obj is not None:
        setattr(context.obj, str(option.name), value)


def manners(command: Callable[..., Any]) -> Callable[..., Any]:
    """--quiet and --debug, which every command takes."""
    for name, meaning in (("--debug", "Show tracebacks."), ("--quiet", "Only the answer, and what is wrong.")):
        command = click.option(name, is_flag=True, expose_value=False, callback=_remember, help=meaning)(command)
    return command


def say(text: str) -> None:
    """A remark on standard error, unless --quiet was given."""
    if not state().quiet:
        click.echo(text, err=True)


form = click.option(
    "--format",
    "form",
    type=click.Choice(["table", "json", "csv"]),
    default="table",
    show_default=True,
    help="How the answer is printed on standard output.",
)


def common(command: Callable[..., Any]) -> Callable[..., Any]:
    """--format, --quiet and --debug, which every command with an answer takes."""
    return form(manners(command))


tracking_uri = click.option(
    "--tracking-uri", metavar="URI", help="MLflow store; else MLFLOW_TRACKING_URI, else ./mlflow.db."
)


def track_as(command: Callable[..., Any]) -> Callable[..., Any]:
    """--track and --tracking-uri, for commands that keep their answer in MLflow when asked to."""
    command = click.option("--track", metavar="NAME", help="Keep the answer in MLflow, in recil-NAME.")(command)
    return tracking_uri(command)


@contextmanager
def ending_politely() -> Iterator[None]:
    """Within, SIGTERM, as batch systems send it, is an interrupt: what is open is closed."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, _interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt


def seed(command: Callable[..., Any]) -> Callable[..., Any]:
    return click.option("--seed", default=0, show_default=True, help="All draws follow from it.")(command)


def emit(form: str, text: object, table: Table | pd.DataFrame) -> None:
    """Prints an answer: as people read it, or its table as JSON or CSV."""
    if form == "table":
        click.echo(str(text))
        return
    found = as_table(table)
    if form == "csv":
        click.echo(found.csv(), nl=False)
    else:
        click.echo(json.dumps([dict(zip(found.columns, row, strict=True)) for row in found.rows], indent=2))


def as_table(table: Table | pd.DataFrame) -> Table:
    """A table of plain values; nan, which JSON does not know, becomes None."""
    from recil.track.summary import Table

    if isinstance(table, Table):
        return table
    rows = table.astype(object).where(table.notna(), None).values.tolist()
    return Table(tuple(map(str, table.columns)), tuple(tuple(row) for row in rows))
