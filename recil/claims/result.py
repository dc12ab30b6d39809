"""What a claim came to, as it is printed, kept as a table and written into its summary run."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from recil.claims.claim import Point, Standing, standing_of
from recil.claims.found import Found
from recil.claims.page import claim_files, claim_page, report_pages
from recil.claims.publish import Sweep, found_of, newest, seconds_of
from recil.jobs import Failure
from recil.report.page import Page
from recil.track.find import find_runs
from recil.track.links import runs_link
from recil.track.run import RunWriter
from recil.track.summary import Table, write_summary
from recil.track.view import share_view

_WIDTH = 80


@dataclass(frozen=True)
class ClaimResult:
    """A claim in one size. took: seconds of its parts, one after the other; failures: label -> what stopped it."""

    sweep: Sweep
    found: Found
    points: tuple[Point, ...]
    took: float
    failures: Mapping[str, Failure] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return self.sweep.file.claim.name

    @property
    def standing(self) -> Standing:
        return standing_of(self.points)

    @property
    def holding(self) -> int:
        """Points that hold."""
        return sum(point.standing == "holds" for point in self.points)

    @property
    def link(self) -> str:
        return runs_link(self.sweep.store, self.sweep.experiment_id)

    @property
    def page(self) -> Page:
        return claim_page(self.sweep, self.found, self.took)

    def table(self) -> Table:
        """A row for each arm and measure: mean over seeds and interval, None where there is no interval."""
        rows = []
        for arm in self.found.arms:
            for measure in dict.fromkeys(name for run in self.found.of(arm) for name in run.values):
                mean = self.found.mean(arm, measure)
                low, high = (None, None) if mean.low != mean.low else (mean.low, mean.high)
                rows.append((arm, measure, mean.value, low, high, len(self.found.values(arm, measure))))
        return Table(("arm", "measure", "value", "low", "high", "seeds"), tuple(rows))

    def __str__(self) -> str:
        claim = self.sweep.file.claim
        lines = [f"{claim.name}: {self.standing}", *_wrapped(claim.says, "  ", "  ")]
        for point in self.points:
            lines += [*_wrapped(f"{point.standing}: {point.says}", "- ", "  "), *_wrapped(point.shown, "    ", "    ")]
        return "\n".join(lines)


def _wrapped(text: str, first: str, later: str) -> Sequence[str]:
    return textwrap.wrap(text, _WIDTH, initial_indent=first, subsequent_indent=later)


def result_of(sweep: Sweep, failures: Mapping[str, Failure] | None = None) -> ClaimResult:
    """Out of MLflow. Raises InputError where nothing is finished."""
    found = found_of(sweep)
    points = sweep.file.claim.points(sweep.file.settings, found)
    return ClaimResult(sweep, found, points, seconds_of(sweep), failures or {})


def newest_result(sweep: Sweep) -> ClaimResult:
    """Of the latest runs of the same settings and seeds, though the code has changed since."""
    return result_of(replace(sweep, key=newest(sweep)))


def summarise(result: ClaimResult) -> None:
    """Writes the claim's summary run, unless it is there."""
    sweep = result.sweep
    key = f"summary-{sweep.key}"
    if find_runs(sweep.store, sweep.experiment_id, {"recil.key": key}):
        return
    share_view(sweep.store, sweep.experiment_id, sweep.key)
    tags = dict(sweep.tags) | {"recil.method": "summary", "recil.stage": "summary", "recil.standing": result.standing}
    with RunWriter(sweep.store, sweep.experiment_id, "summary", sweep.spool, tags, key=key) as writer:
        writer.params({"settings": sweep.file.given, "seeds": list(sweep.file.seeds), "size": sweep.file.size})
        writer.text(sweep.file.text, "experiment.toml")
        points = Table(("point", "stands", "shown"), tuple((p.says, p.standing, p.shown) for p in result.points))
        write_summary(writer, {"arms": result.table(), "points": points}, {}, {}, f"```\n{result}\n```\n")
        for name, text in report_pages(result.page).items():
            writer.text(text, name)


def write_pages(result: ClaimResult, folder: Path) -> list[Path]:
    """README.md and its pictures into a folder. Returns what was written."""
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for name, content in claim_files(result.page).items():
        (folder / name).write_bytes(content)
        written.append(folder / name)
    return written
