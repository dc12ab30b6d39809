"""recil run, recil demo."""

from __future__ import annotations

import functools
import shlex
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click

from recil.cli.claims import check_no_size, names_claims, size_option
from recil.cli.options import PATH, common, emit, ending_politely, say, state, tracking_uri
from recil.cli.progress import ProgressBar
from recil.errors import InputError

if TYPE_CHECKING:
    from recil.jobs import Failure

_MOST_JOBS = 4


def _running(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options of what runs an experiment."""
    for option in (
        click.option(
            "--work", type=PATH, default=Path(".recil"), show_default=True, help="Folder for work in progress."
        ),
        click.option(
            "--backend",
            type=click.Choice(["local", "ray"]),
            default="local",
            show_default=True,
            help="Where units run: processes here, or a Ray cluster that shares the work folder.",
        ),
        click.option("--jobs", type=int, help="Processes side by side; the cores, at most 4, when left out."),
        click.option(
            "--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Set a key of the file, repeatedly."
        ),
    ):
        command = option(command)
    return tracking_uri(command)


@click.command()
@click.argument("file", type=PATH)
@size_option
@_running
@common
def run(file: Path, form: str, size: str | None, **options: Any) -> None:
    """Run the experiment in FILE (TOML) and print the comparison; of a claim, or a folder of claims, the verdict.

    Everything is checked before any work. Finished parts are skipped when the command is given again, broken ones go on
    where they stopped, and the numbers do not depend on --jobs.

    \b
    recil run experiment.toml --jobs 2
    recil run experiment.toml --set seeds=[0] --set methods.clone.epochs=5
    recil run experiments/off_policy/experiment.toml --size quick
    """
    if names_claims(file):
        _run_claims(file, form, size, **options)
        return
    check_no_size(size)
    run_file(file, form, f"recil run {shlex.quote(str(file))}", **options)


@click.command()
@_running
@common
def demo(form: str, **options: Any) -> None:
    """Run the whole line on the log that comes with recil: users, policies, their values, MLflow.

    \b
    recil demo
    recil demo --set seeds=[0] --format json
    """
    run_file(demo_file(), form, "recil demo", **options)


def run_file(
    file: Path,
    form: str,
    command: str,
    tracking_uri: str | None,
    work: Path,
    jobs: int | None,
    overrides: tuple[str, ...],
    backend: str = "local",
) -> None:
    """Runs an experiment file and prints what it found. Fails when a part of it failed. command: as it was given."""
    from recil.config import load_experiment

    experiment = load_experiment(file, overrides)
    from recil.experiment import run_experiment
    from recil.jobs import working_on
    from recil.report import report_files
    from recil.track.links import charts_link
    from recil.track.store import resolve_store

    jobs = _jobs(jobs, backend)
    store = resolve_store(tracking_uri)
    if backend != "local" and store.path is not None:
        say(
            f"runs are kept in the file {store.path}: machines that do not share it need the --tracking-uri of a server"
        )
    report = functools.partial(report_files, command=with_overrides(command, overrides))
    with ending_politely(), ProgressBar() as progress, working_on(backend):
        result = run_experiment(experiment, store, work, jobs, progress, report)
    emit(form, result, result.table())
    say(f"report: {result.report}")
    say(f"MLflow: {result.link}")
    say(f"charts: {charts_link(result.link)}")
    if store.path is not None:
        say("served by: recil ui" + (f" --tracking-uri {tracking_uri}" if tracking_uri else ""))
    if result.failures:
        _say_failed(result.failures)


def _run_claims(
    file: Path,
    form: str,
    size: str | None,
    tracking_uri: str | None,
    work: Path,
    jobs: int | None,
    overrides: tuple[str, ...],
    backend: str,
) -> None:
    from recil.cli.claims import run_claims
    from recil.jobs import working_on

    with working_on(backend):
        failures = run_claims(file, form, size, tracking_uri, work, _jobs(jobs, backend), overrides)
    if failures:
        _say_failed(failures)


def _jobs(jobs: int | None, backend: str) -> int:
    """As many processes as were asked for, else one for each core up to a few."""
    from recil.jobs import usable_cores

    if backend != "local" and jobs is not None:
        raise InputError("--jobs", f"it is {backend} that decides how many units run at once", "leave --jobs out")
    return min(usable_cores(), _MOST_JOBS) if jobs is None else jobs


def _say_failed(failures: Mapping[str, Failure]) -> NoReturn:
    """The first of the parts that came to nothing, and how many more there are."""
    if state().debug:
        click.echo("\n".join(failure.trace for failure in failures.values()), err=True)
    first, failure = next(iter(failures.items()))
    more = f" (and {len(failures) - 1} more)" if len(failures) > 1 else ""
    raise InputError(first, failure.message + more, "the finished parts are kept; run again to go on")


def with_overrides(command: str, overrides: tuple[str, ...]) -> str:
    """The command as it would be typed again."""
    return " ".join([command, *(f"--set {shlex.quote(override)}" for override in overrides)])


def demo_file() -> Path:
    """The demo's experiment file: of a source checkout, else of an installation."""
    import recil

    places = [
        Path(recil.__file__).parents[1] / "data" / "demo" / "experiment.toml",
        Path(sys.prefix) / "share" / "recil" / "demo" / "experiment.toml",
    ]
    for place in places:
        if place.exists():
            return place
    raise InputError("recil demo", "the demo's files are not here", "run it in a checkout of the source (make demo)")
