"""The card as a page that needs nothing else, in Markdown and in HTML."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from recil.sim.card.figures import COLOURS, overview
from recil.sim.card.groups import GroupTable

if TYPE_CHECKING:
    from recil.sim.card.result import SimulatorCard

# All at once: one after another, the signs of replacements would be replaced.
_SIGNS = {ord(sign): f"&#{ord(sign)};" for sign in "&\\`*_{}[]<>|#~$"}
TITLE = "Simulated users on held-out sessions"
ANEW = (
    "Clicks drawn anew: each step's clicks are drawn after what was logged before it. A classifier that is told to tell"
    " them from the logged ones, by where and when they fall, does no better than a coin (0.5) with users who are the"
    " truth."
)
FREE = (
    "Free running: whole sessions, in which moods follow simulated clicks, on the logged slates and as long as logged."
    " Where the slates reacted to logged clicks, even the truth differs: such slates suit what was really clicked."
)


@dataclass(frozen=True)
class Section:
    """A heading, then paragraphs, then a table whose first row is its head."""

    heading: str
    paragraphs: Sequence[str]
    table: Sequence[Sequence[str]]


def markdown_page(card: SimulatorCard) -> str:
    """The figure is inside as data."""
    lines = [f"# {TITLE}: {card.verdict}", "", _summary(card), ""]
    lines += [f"- {_marked(reason)}" for reason in card.reasons]
    lines += ["", f"![Figures of the card]({_picture(card)})"]
    for section in _sections(card):
        lines += ["", f"## {_marked(section.heading)}", ""]
        for paragraph in section.paragraphs:
            lines += [_marked(paragraph), ""]
        head, *rows = section.table
        lines += [_row(head), _row(["---"] + ["---:"] * (len(head) - 1), str), *map(_row, rows)]
    return "\n".join(lines) + "\n"


def html_page(card: SimulatorCard) -> str:
    """All text that comes from data is escaped; nothing is loaded from elsewhere."""
    said = html.escape
    parts = [
        f"<!doctype html>\n<html lang='en'><head><meta charset='utf-8'><title>{TITLE}</title>",
        "<meta name='viewport' content='width=device-width, initial-scale=1'>",
        f"<style>{STYLE}</style></head><body>",
        f"<h1>{TITLE}: <span style='color:{COLOURS[card.verdict]}'>{said(card.verdict)}</span></h1>",
        f"<p>{said(_summary(card))}</p>",
        *(["<ul>", *(f"<li>{said(reason)}</li>" for reason in card.reasons), "</ul>"] if card.reasons else []),
        f"<img alt='Figures of the card' src='{_picture(card)}'>",
    ]
    for section in _sections(card):
        parts.append(f"<h2>{said(section.heading)}</h2>")
        parts += [f"<p>{said(paragraph)}</p>" for paragraph in section.paragraphs]
        head, *rows = section.table
        parts.append(f"<table><tr>{''.join(f'<th>{said(cell)}</th>' for cell in head)}</tr>")
        parts += [f"<tr>{''.join(f'<td>{said(cell)}</td>' for cell in row)}</tr>" for row in rows]
        parts.append("</table>")
    return "\n".join([*parts, "</body></html>"]) + "\n"


STYLE = (
    "body{font:15px/1.45 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#222}"
    "h2{font-size:1.05rem;margin:1.8rem 0 .4rem}img{max-width:100%}table{border-collapse:collapse}"
    "td,th{padding:.15rem .7rem;border-bottom:1px solid #ddd;text-align:right;font-variant-numeric:tabular-nums}"
    "td:first-child,th:first-child{text-align:left}"
)


def _summary(card: SimulatorCard) -> str:
    limits = card.thresholds
    return (
        f"Observed click rate {card.observed_rate:.5f} over {card.impressions:,} items in {card.rests_on}."
        f" Users who are the truth fail the tests of rates on {limits.level:.2%} of logs; what is off by less than"
        f" {limits.negligible:.0%} of its rate is not held against them."
    )


def _sections(card: SimulatorCard) -> Iterator[Section]:
    yield _models(card)
    for table in card.tables:
        yield _groups(f"Click rate by {table.name}", table)
    if card.leaving is not None:
        yield from _leaving(card)
    if card.simulated is not None:
        yield _simulated(card)


def _models(card: SimulatorCard) -> Section:
    head = ("model", "log loss", "AUC", "calibration error", "predicted", "users gain ± 95%")
    rows = []
    for row in card.rows:
        gain = "" if row.model == "users" else f"{row.versus:+.5f} ± {1.96 * row.error:.5f}"
        figures = (f"{row.log_loss:.5f}", f"{row.auc:.3f}", f"{row.calibration_error:.5f}", f"{row.mean:.5f}")
        rows.append((row.model, *figures, gain))
    words = [f"Log loss in nats per item shown; gains are paired, with {card.cluster}s as the units."]
    if card.gap is not None:
        value, error = card.gap
        words.append(
            f"What is learnable beyond the users: the reference saves {value:+.5f} ± {1.96 * error:.5f} nats per item."
        )
    return Section("Predictions, one step ahead", words, (head, *rows))


def _groups(heading: str, table: GroupTable) -> Section:
    head = ("group", table.unit, "predicted", "observed", "difference ± 95%")
    rows = [
        (
            group.label,
            f"{group.count:,}",
            f"{group.predicted:.5f}",
            f"{group.observed:.5f}",
            f"{group.miss:+.5f} ± {1.96 * group.error:.5f}",
        )
        for group in table.groups
    ]
    words = (
        f"Calibration error {table.calibration_error:.5f}; all groups together: chi-squared {table.statistic:.1f} in"
        f" {table.degrees} degrees, p = {table.p_value:.2g}."
    )
    return Section(heading, [words], (head, *rows))


def _leaving(card: SimulatorCard) -> Iterator[Section]:
    found = card.leaving
    assert found is not None
    for table in found.tables:
        yield _groups(f"Rate of leaving by {table.name.removesuffix(', leaving')}", table)
    words = (
        f"Log loss per step: users {found.log_loss:.5f}, constant rate {found.constant:.5f}; gain {found.gain:+.5f} ±"
        f" {1.96 * found.error:.5f}. Sessions that were cut short count as going on."
    )
    head = ("after step", "at risk", "predicted", "observed ± 95%")
    rows = [
        (str(row.step), f"{row.at_risk:,}", f"{row.predicted:.4f}", f"{row.observed:.4f} ± {1.96 * row.error:.4f}")
        for row in found.survival
    ]
    yield Section("Sessions still going on", [words], (head, *rows))


def _simulated(card: SimulatorCard) -> Section:
    found = card.simulated
    assert found is not None
    head = ("free running", "logged", "simulated", "difference ± 95%")
    rows = [
        (
            row.name,
            f"{row.logged:.4f}",
            f"{row.simulated:.4f}",
            f"{row.simulated - row.logged:+.4f} ± {1.96 * row.error:.4f}",
        )
        for row in found.rows
    ]
    judged = "They are judged." if card.thresholds.judge_free_running else "They are shown and not judged."
    words = [
        f"{ANEW} Area under its curve: {_area(found.click_area, found.click_error)}.",
        f"{FREE} {judged} Area under a classifier's curve: {_area(found.session_area, found.session_error)}.",
    ]
    return Section("Simulated against logged", words, (head, *rows))


def _area(area: float, error: float) -> str:
    return f"{area:.3f} ± {1.96 * error:.3f}" if area == area else "unknown, too little to learn from"


def _picture(card: SimulatorCard) -> str:
    file = io.BytesIO()
    overview(card).savefig(file, format="png", dpi=110, metadata={"Software": None})
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode("ascii")


def _marked(text: str) -> str:
    """Text from data as Markdown that shows it as it is."""
    return text.translate(_SIGNS).replace("\n", " ")


def _row(cells: Sequence[str], said: Callable[[str], str] = _marked) -> str:
    return "| " + " | ".join(map(said, cells)) + " |"
