"""recil report: the page on what an experiment has found."""

from __future__ import annotations

import functools
import shlex
from pathlib import Path

import click

from recil.cli.claims import check_no_size, names_claims, report_claims, size_option
from recil.cli.experiments import demo_file, with_overrides
from recil.cli.options import PATH, manners, tracking_uri


@click.command()
@click.argument("file", type=PATH, required=False)
@click.option("--out", type=PATH, metavar="FOLDER", help="Write the report there; into the work folder when left out.")
@size_option
@click.option("--work", type=PATH, default=Path(".recil"), show_default=True, help="The work folder of the run.")
@click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE", help="As the experiment was run.")
@tracking_uri
@manners
def report(
    file: Path | None,
    out: Path | None,
    size: str | None,
    work: Path,
    overrides: tuple[str, ...],
    tracking_uri: str | None,
) -> None:
    """Write report.html and report.md on what the experiment in FILE has found, and print where they are.

    FILE is the demo's when left out. Nothing is run: what is finished is reported, and what is missing is named. The
    files also go to the experiment's summary run. `recil run` writes the same report when it is done.

    Of a claim it is README.md with its pictures, out of what MLflow holds, beside FILE unless --out names a folder; of
    a folder of claims, the pages of all and one over them.

    \b
    recil report experiment.toml
    recil report experiment.toml --out pages
    recil report experiments
    """
    if file is not None and names_claims(file):
        for path in report_claims(file, size, tracking_uri, work, out, overrides):
            click.echo(str(path))
        return
    check_no_size(size)
    from recil.config import load_experiment

    experiment = load_experiment(file or demo_file(), overrides)
    from recil.experiment.publish import publish_report
    from recil.experiment.walk import find_evidence, keep_report
    from recil.report import report_files
    from recil.track.store import resolve_store

    command = "recil demo" if file is None else f"recil run {shlex.quote(str(file))}"
    evidence = find_evidence(experiment, resolve_store(tracking_uri), work)
    files = keep_report(evidence, functools.partial(report_files, command=with_overrides(command, overrides)), out)
    publish_report(evidence.setting, files)
    for name in files:
        click.echo(str((out or evidence.folder) / name))
