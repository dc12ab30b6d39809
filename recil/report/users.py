"""The simulated users as their card has them: what simulated values are worth."""

from __future__ import annotations

from recil.experiment.evidence import Evidence
from recil.report.drawing import png
from recil.report.page import Block, Grid, Picture, Points, Section, Text, section
from recil.sim.card import SimulatorCard
from recil.sim.card.figures import overview

_WORDS = {
    "trust": "The users pass the tests on sessions they never saw; simulated values may be believed as far as they go.",
    "caution": "The users pass on sessions they never saw, not in everything; simulated values carry the same caution.",
    "refuse": "The users fail on sessions they never saw; no simulated value is shown, and none should be used.",
}


def users_section(evidence: Evidence) -> Section:
    """Verdict, reasons, and the card's pictures, survival and reliability among them."""
    heading = "Simulated users"
    if evidence.setting.users is None:
        return section(heading, Text("None were fitted: the experiment has no table [users]."))
    if evidence.card is None:
        return section(heading, Text("Their card is missing, so simulated values have no warrant."))
    card = evidence.card
    blocks: list[Block] = [Text(f"Verdict: {card.verdict}. {_WORDS[card.verdict]}")]
    blocks += [Points(card.reasons, "Reasons")] if card.reasons else []
    caption = (
        "From the card: gain in log loss over simpler models, reliability, survival of sessions, statistics of"
        " free-running sessions, click rates; points with 95% intervals are observed on held-out sessions."
    )
    blocks += [_models(card), Picture(png(overview(card)), caption)]
    if card.leaving is None or not card.leaving.survival:
        blocks.append(Text("Survival is not shown: the log does not say who left and who was cut short.", quiet=True))
    blocks.append(Text("The whole card is card.html among the artifacts of the summary run.", quiet=True))
    return section(heading, blocks)


def _models(card: SimulatorCard) -> Grid:
    head = ("predictions, one step ahead", "log loss", "AUC", "calibration error", "users gain ± 95%")
    rows = tuple(
        (
            row.model,
            f"{row.log_loss:.5f}",
            f"{row.auc:.3f}",
            f"{row.calibration_error:.5f}",
            "" if row.model == "users" else f"{row.versus:+.5f} ± {1.96 * row.error:.5f}",
        )
        for row in card.rows
    )
    return Grid(head, rows)
