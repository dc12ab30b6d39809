"""The page of a claim: what it says, how it stands, and the figures behind it. All of it out of MLflow."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from recil.claims.charts import draw, drawable
from recil.claims.claim import Claim, Column, Point, standing_of
from recil.claims.file import FULL, ClaimFile
from recil.claims.found import Found, Mean
from recil.claims.publish import Sweep
from recil.report.html import html_page
from recil.report.markdown import markdown_page
from recil.report.page import Block, Code, Grid, Page, Picture, Points, Section, Text, section
from recil.report.words import DASH, figure, seconds

STANDINGS = {
    "holds": "It holds.",
    "does not hold": "It does not hold, as it was put to the test here.",
    "undecided": "Undecided: with these seeds the intervals do not tell.",
    "not run": "Not run.",
}


def claim_page(sweep: Sweep, found: Found, took: float) -> Page:
    """Claim, verdict, set-up, table, pictures, limits, commands. took: seconds of all parts, one after the other."""
    file, claim = sweep.file, sweep.file.claim
    points = claim.points(file.settings, found)
    pictures = [draw(chart, found) for chart in claim.charts(file.settings, found) if drawable(chart, found)]
    sections = (
        _verdict(points),
        section("Set-up", Text(claim.set_up), _settings(file)),
        section("Results", *pictures, _table(claim, found), Text(_seeds(found), quiet=True)),
        section("What it does not show", Points(claim.not_shown)),
        _again(sweep, took),
    )
    return Page(claim.title, claim.says, sections)


def claim_files(page: Page) -> Mapping[str, bytes]:
    """What goes into the claim's folder: README.md, its pictures, and one page that holds everything."""
    pictures = [block for part in page.sections for block in part.blocks if isinstance(block, Picture)]
    names = [f"figure-{number + 1}.png" for number in range(len(pictures))]
    files = {name: picture.png for name, picture in zip(names, pictures, strict=True)}
    return files | {"README.md": markdown_page(page, names).encode()}


def report_pages(page: Page) -> Mapping[str, str]:
    """What goes into MLflow: self-contained."""
    return {"report.html": html_page(page), "report.md": markdown_page(page)}


def _verdict(points: Sequence[Point]) -> Section:
    rows = tuple((point.says, point.standing, point.shown) for point in points)
    return section(
        "Verdict", Text(STANDINGS[standing_of(points)]), Grid(("point", "stands", "shown by"), rows, words=(0, 1, 2))
    )


def _settings(file: ClaimFile) -> Block:
    said: dict[str, Any] = {"size": file.size, "seeds": list(file.seeds)} | dict(file.given)
    rows = tuple((key, _plain(value)) for key, value in said.items())
    return Grid(("setting", "value"), rows, words=(0, 1))


def _plain(value: Any) -> str:
    if isinstance(value, (list, tuple)):
        return ", ".join(str(one) for one in value)
    return DASH if value == "" else str(value)


def _table(claim: Claim, found: Found) -> Grid:
    columns = [column for column in claim.columns if any(column.measure in run.values for run in found.runs)]
    rows = []
    for arm in found.arms:
        cells = [_cell(found, arm, column) for column in columns]
        if any(cell != DASH for cell in cells):
            rows.append((arm, *cells))
    return Grid(("arm", *(column.words for column in columns)), tuple(rows))


def _cell(found: Found, arm: str, column: Column) -> str:
    if not len(found.values(arm, column.measure)):
        return DASH
    return mean_words(found.mean(arm, column.measure), column.digits)


def mean_words(mean: Mean, digits: int) -> str:
    """value ± half of the interval's width"""
    text = figure(mean.value, digits)
    return text if mean.low != mean.low else f"{text} ± {figure((mean.high - mean.low) / 2, digits)}"


def _seeds(found: Found) -> str:
    counts = {len(found.of(arm)) for arm in found.arms} - {1}
    few = f", {min(counts)} where a part is dear" if counts and min(counts) < len(found.seeds) else ""
    return (
        f"Means over {len(found.seeds)} seeds{few}, with {found.confidence:.0%} Student t intervals over them; what has"
        " no interval has no chance in it."
    )


def _again(sweep: Sweep, took: float) -> Section:
    file = sweep.file
    path = f"experiments/{file.claim.name}/{Path(file.path).name}"
    size = "" if file.size == FULL else f" --size {file.size}"
    lines = [f"recil run {path}{size}", f"recil report {path}{size}"]
    said = Text(
        f"Written by the second command from the runs in MLflow (experiment recil-claim-{file.claim.name}). The parts"
        f" took {seconds(took)}, one after the other on one thread each. The numbers do not depend on the number of"
        " processes."
    )
    return section("How to run it again", Code("\n".join(lines), "sh"), said)
