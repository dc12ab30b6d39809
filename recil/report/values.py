"""What the policies are worth: tables, forest plots, and what is measured against what is true."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from recil.experiment.evidence import Evidence
from recil.experiment.figures import gains_figure, values_figure
from recil.experiment.result import MEASURES, Gain, Interval, Row
from recil.report.drawing import GREY, legend_below, name, panels, png, strokes
from recil.report.page import Block, Grid, Picture, Points, Section, Text, section
from recil.report.words import DASH, interval, signed

HEADS = {"true": "true", "simulated": "simulated", "ope": "on the held-out log"}
SERIES = {"simulated": ("simulated", "s"), "ope": ("on the held-out log", "o")}


def values_section(evidence: Evidence) -> Section:
    """The comparison on the held-out log and in the worlds there are, then on other logs."""
    result = evidence.result
    caption = (
        f"Reward per session with {result.confidence:.0%} intervals. What was trained with several seeds has them over"
        " seeds (Student's t), all else over simulated sessions; on the log they are bootstraps of its sessions."
    )
    blocks: list[Block] = [_table(result.rows), *_remarks(evidence), Picture(png(values_figure(result)), caption, 80)]
    for log, rows in result.on_logs.items():
        words = f"On the whole of the log {log}; what is called logged is the policy that wrote it:"
        blocks += [Text(words), _table(rows, "on that log")]
    return section("What the policies are worth", blocks)


def _table(rows: Sequence[Row], on_log: str = HEADS["ope"]) -> Grid:
    measures = [measure for measure in MEASURES if any(getattr(row, measure) is not None for row in rows)] or ["ope"]
    heads = HEADS | {"ope": on_log}
    head = ("method", "seeds", *(heads[measure] for measure in measures), "estimator", "verdict")
    cells = []
    for row in rows:
        shown = (_value(row, measure) for measure in measures)
        cells.append((row.method, _seeds(row), *shown, row.estimator or DASH, row.verdict))
    return Grid(head, tuple(cells), words=(0, len(head) - 2, len(head) - 1))


def _value(row: Row, measure: str) -> str:
    if measure == "simulated" and row.warrant == "refuse":
        return "refuse"
    text = interval(getattr(row, measure))
    return f"{text}*" if measure == "simulated" and row.own_world and text != DASH else text


def _seeds(row: Row) -> str:
    done, wanted = row.seeds
    return f"{done} of {wanted}" if done < wanted else str(done)


def _remarks(evidence: Evidence) -> Iterator[Block]:
    result = evidence.result
    if any(row.own_world and row.simulated for row in result.rows):
        yield Text("* learned in these simulated users, which flatters it.", quiet=True)
    reasons = tuple(f"{row.method}: {row.verdict}: {'; '.join(row.reasons)}" for row in result.rows if row.reasons)
    if reasons:
        yield Points(reasons, "Why values on the log are refused, or to be taken with caution")
    cloners = [row for row in result.rows if row.nll is not None]
    if cloners:
        head = ("as cloners of the logged recommender, nats", "per item shown", "after the first slate")
        rows = (
            (row.method, f"{row.nll:.4f}", DASH if row.next_nll is None else f"{row.next_nll:.4f}") for row in cloners
        )
        yield Grid(head, tuple(rows))


def differences_section(evidence: Evidence) -> Section:
    """Paired: policies meet the same users, or are judged by the same resampled sessions."""
    result = evidence.result
    if not result.gains:
        return section("Differences", Text("There is no pair of methods both of which were measured by one measure."))
    rows = tuple(
        (gain.first, gain.second, MEASURES[gain.measure], signed((gain.value, gain.low, gain.high)), _called(gain))
        for gain in result.gains
    )
    caption = (
        "Differences in reward per session. Colours as above where 0 is outside the interval; grey is a tie. Both"
        " policies of a pair meet the same simulated users, and the same resampled sessions of the log."
    )
    head = ("first", "second", "by", "first minus second", "")
    picture = Picture(png(gains_figure(result)), caption, 90)
    return section("Differences, paired", Grid(head, rows, words=(0, 1, 2, 4)), picture)


def _called(gain: Gain) -> str:
    return ("first is better" if gain.value > 0 else "second is better") if gain.clear else "tie"


def against_section(evidence: Evidence) -> Section | None:
    """Measured against true, or on the log against simulated; None where there are no two such values."""
    rows = evidence.result.rows
    base = "true" if any(row.true for row in rows) else "simulated"
    others = [measure for measure in SERIES if measure != base]
    pairs = {
        measure: [(row.method, getattr(row, base), getattr(row, measure)) for row in rows
                  if getattr(row, base) is not None and getattr(row, measure) is not None]
        for measure in others
    }  # fmt: skip
    pairs = {measure: found for measure, found in pairs.items() if found}
    if not pairs:
        return None
    titles = {"true": "Held against the truth", "simulated": "On the log against simulated"}
    points = tuple(_agreement(measure, base, found, len(rows)) for measure, found in pairs.items())
    caption = f"Every method, {HEADS[base]} across and measured up, with both intervals. On the line both agree."
    return section(
        titles[base], Picture(_scatter(evidence, base, pairs), caption, 100 if len(pairs) > 1 else 62), Points(points)
    )


def _agreement(measure: str, base: str, found: Sequence[tuple[str, Interval, Interval]], methods: int) -> str:
    """How many intervals overlap those of the truth; which do not, by name."""
    apart = [method for method, truth, seen in found if seen[2] < truth[1] or seen[1] > truth[2]]
    words = f"{SERIES[measure][0][0].upper()}{SERIES[measure][0][1:]}: the intervals of {len(found) - len(apart)} of"
    words += f" {len(found)} methods meet those of the {HEADS[base]} value"
    words += f"; not those of {', '.join(apart)}" if apart else ""
    missing = methods - len(found)
    return words + (f". {missing} of {methods} methods are refused or were not measured." if missing else ".")


def _scatter(evidence: Evidence, base: str, pairs: dict[str, list[tuple[str, Interval, Interval]]]) -> bytes:
    figure, grid = panels(1, len(pairs), 4.2)
    figure.set_size_inches(9.6 if len(pairs) > 1 else 6.0, 4.2)
    ends = [
        end for found in pairs.values() for _, *both in found for each in both for end in each if not math.isnan(end)
    ]
    least, most = min(ends), max(ends)
    margin, styles = 0.05 * (most - least) or 0.05, strokes(evidence)
    for axes, (measure, found) in zip(grid.ravel(), pairs.items(), strict=True):
        label, marker = SERIES[measure]
        axes.plot([least - margin, most + margin], [least - margin, most + margin], color=GREY, linewidth=0.8)
        for method, truth, seen in found:
            axes.errorbar(
                truth[0], seen[0], xerr=_arms(truth), yerr=_arms(seen), fmt=marker, color=styles[method]["color"],
                markersize=4.5, linewidth=1, label=method,
            )  # fmt: skip
        axes.set_xlim(least - margin, most + margin)
        axes.set_ylim(least - margin, most + margin)
        name(axes, f"{label} against {HEADS[base]}", f"{HEADS[base]} value", label)
    legend_below(figure, list(grid.ravel()))
    return png(figure)


def _arms(found: Interval) -> list[list[float]] | None:
    value, low, high = found
    return None if math.isnan(low) else [[max(value - low, 0.0)], [max(high - value, 0.0)]]
