"""What commands share: options, and how an answer is printed."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    import pandas as pd

    from recil.track.summary import Table


@dataclass
class State:
    """What `main` must know of the options of the command it runs."""

    debug: bool = False


def _debug(context: click.Context, _: click.Parameter, value: bool) -> None:
    if context.obj is not None:
        context.obj.debug = value


debug = click.option("--debug", is_flag=True, expose_value=False, callback=_debug, help="Show tracebacks.")
form = click.option(
    "--format",
    "form",
    type=click.Choice(["table", "json", "csv"]),
    default="table",
    show_default=True,
    help="How the answer is printed on standard output.",
)


def common(command: Callable[..., Any]) -> Callable[..., Any]:
    """--format and --debug, which every command with an answer takes."""
    return form(debug(command))


tracking_uri = click.option(
    "--tracking-uri", metavar="URI", help="MLflow store; else MLFLOW_TRACKING_URI, else ./mlflow.db."
)


def track_as(command: Callable[..., Any]) -> Callable[..., Any]:
    """--track and --tracking-uri, for commands that keep their answer in MLflow when asked to."""
    command = click.option("--track", metavar="NAME", help="Keep the answer in MLflow, in recil-NAME.")(command)
    return tracking_uri(command)


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
