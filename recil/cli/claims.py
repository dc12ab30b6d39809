"""recil run and recil report for claims: a file that names one, or a folder of such files."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from recil.cli.options import emit, ending_politely, say
from recil.cli.progress import ProgressBar
from recil.errors import InputError

if TYPE_CHECKING:
    from recil.claims.file import ClaimFile
    from recil.claims.result import ClaimResult
    from recil.jobs import Failure

size_option = click.option("--size", metavar="NAME", help="Of a claim: full (when left out), quick, or another it has.")


def names_claims(path: Path) -> bool:
    """Whether a path is a claim's file, or a folder (of claims)."""
    if path.is_dir():
        return True
    # Read as text first: what checks a claim takes a second to import.
    try:
        if "claim" not in path.read_text(encoding="utf-8"):
            return False
    except (OSError, UnicodeDecodeError):
        return False
    from recil.claims.file import is_claim

    return is_claim(path)


def check_no_size(size: str | None) -> None:
    """Only claims come in sizes. Raises InputError."""
    if size is not None:
        raise InputError("--size", "this file is no claim's, and has one size", "leave --size out")


def run_claims(
    path: Path, form: str, size: str | None, store_uri: str | None, work: Path, jobs: int, overrides: tuple[str, ...]
) -> dict[str, Failure]:
    """Runs a claim or a folder of them and prints what came of it. Returns what failed."""
    from recil.claims.result import result_of, summarise
    from recil.claims.walk import run_claim
    from recil.track.store import resolve_store

    store = resolve_store(store_uri)
    failures: dict[str, Failure] = {}
    results: list[ClaimResult] = []
    for file in _files(path, size, overrides):
        with ending_politely(), ProgressBar() as progress:
            ran = run_claim(file, store, work, jobs, progress)
        failures |= {f"{file.claim.name}, {label}": failure for label, failure in ran.failures.items()}
        if ran.failures:
            say(f"{file.claim.name}: {len(ran.failures)} parts failed; no verdict")
            continue
        result = result_of(ran.sweep)
        summarise(result)
        results.append(result)
        say(f"MLflow: {result.link}")
    _emit(form, results, whole=path.is_dir())
    return failures


def report_claims(
    path: Path, size: str | None, store_uri: str | None, work: Path, out: Path | None, overrides: tuple[str, ...]
) -> list[Path]:
    """Writes the pages of a claim or of a folder of them out of MLflow. Returns what was written."""
    from recil.claims.file import FULL
    from recil.claims.index import index_page
    from recil.claims.publish import sweep_of
    from recil.claims.result import newest_result, write_pages
    from recil.track.store import resolve_store

    store = resolve_store(store_uri)
    written: list[Path] = []
    results: list[ClaimResult] = []
    missing: list[ClaimFile] = []
    # Pages of the full size belong beside their files; those of smaller ones would overwrite them.
    base = out or (None if size in (None, FULL) else work / "claims")
    for file in _files(path, size, overrides):
        try:
            result = newest_result(sweep_of(file, store, work.resolve() / "spool"))
        except InputError as error:
            if not path.is_dir():
                raise
            say(str(error))
            missing.append(file)
            continue
        results.append(result)
        name = file.path.parent.name
        folder = file.path.parent if base is None else base / name if path.is_dir() or out is None else base
        try:
            written += write_pages(result, folder)
        except OSError as error:
            raise InputError(str(folder), f"cannot be written ({error})", "name another folder") from error
    if path.is_dir():
        index = (base or path) / "README.md"
        index.write_text(index_page(results, missing), encoding="utf-8")
        written.append(index)
    return written


def _files(path: Path, size: str | None, overrides: tuple[str, ...]) -> Iterator[ClaimFile]:
    """All are checked before the first is run."""
    from recil.claims.file import FULL, load_claim
    from recil.claims.index import claim_files_in

    paths = claim_files_in(path) if path.is_dir() else (path,)
    yield from [load_claim(each, size or FULL, overrides) for each in paths]


def _emit(form: str, results: Sequence[ClaimResult], whole: bool) -> None:
    from recil.track.summary import Table

    if whole:
        heads = ("claim", "standing", "points", "holding", "seconds")
        rows = tuple(
            (
                one.name,
                one.standing,
                len(one.points),
                sum(p.standing == "holds" for p in one.points),
                round(one.took, 1),
            )
            for one in results
        )
        emit(form, "\n\n".join(map(str, results)), Table(heads, rows))
    else:
        for result in results:
            emit(form, result, result.table())
