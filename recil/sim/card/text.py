"""The card for a terminal."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from recil.sim.card.result import SimulatorCard

WIDTH = 80


def card_text(card: SimulatorCard) -> str:
    """At most 80 columns."""
    lines = [*_models(card), *_groups(card), *_leaving(card), *_simulated(card), f"verdict: {card.verdict}"]
    lines += [textwrap.fill(reason, WIDTH, initial_indent="  - ", subsequent_indent="    ") for reason in card.reasons]
    return "\n".join(lines)


def short(name: str, width: int) -> str:
    return name if len(name) <= width else name[: width - 1] + "…"


def _models(card: SimulatorCard) -> Iterator[str]:
    yield f"{'model':<16}{'log loss':>10}{'AUC':>8}{'cal. error':>12}{'predicted':>11}{'users gain':>20}"
    for row in card.rows:
        gain = "" if row.model == "users" else f"{row.versus:+.5f} ± {1.96 * row.error:.5f}"
        figures = f"{row.log_loss:>10.5f}{row.auc:>8.3f}{row.calibration_error:>12.5f}{row.mean:>11.5f}{gain:>20}"
        yield f"{short(row.model, 15):<16}{figures}"
    observed = f"observed rate {card.observed_rate:.5f} over {card.impressions:,} items in {card.rests_on}"
    yield from textwrap.wrap(observed, WIDTH)
    if card.gap is not None:
        value, error = card.gap
        yield f"what is learnable beyond the users: {value:+.5f} ± {1.96 * error:.5f} nats per item (the reference)"


def _groups(card: SimulatorCard) -> Iterator[str]:
    tables = [table for table in card.tables if len(table.groups) > 1]
    tables += card.leaving.tables if card.leaving else ()
    if tables:
        yield f"{'rates by':<27}{'cal. error':>11}{'p':>7}  {'most off at':<13}{'predicted':>10}{'seen':>9}"
    for table in tables:
        worst = max(table.groups, key=lambda group: abs(group.miss) / group.error if group.error else 0.0)
        chance = "<.001" if table.p_value < 0.001 else f"{table.p_value:.3f}"
        figures = f"{short(worst.label, 12):<13}{worst.predicted:>10.5f}{worst.observed:>9.5f}"
        yield f"{short(table.name, 26):<27}{table.calibration_error:>11.5f}{chance:>7}  {figures}"


def _leaving(card: SimulatorCard) -> Iterator[str]:
    if card.leave_log_loss is None:
        yield "leaving: unknown, the users were fitted to a log that does not tell of it"
        return
    users, constant = card.leave_log_loss
    yield f"leaving, log loss per step: users {users:.4f}, constant rate {constant:.4f}"
    if card.leaving and card.leaving.survival:
        last = card.leaving.survival[-1]
        yield (
            f"still there after step {last.step}: predicted {last.predicted:.3f}, seen {last.observed:.3f} ±"
            f" {1.96 * last.error:.3f}"
        )


def _simulated(card: SimulatorCard) -> Iterator[str]:
    found = card.simulated
    if found is None:
        return
    yield f"{'free running (not judged)' if not card.thresholds.judge_free_running else 'free running':<32}" + (
        f"{'logged':>10}{'simulated':>11}{'difference':>20}"
    )
    for row in found.rows:
        gap = f"{row.simulated - row.logged:+.4f} ± {1.96 * row.error:.4f}"
        yield f"{row.name:<32}{row.logged:>10.4f}{row.simulated:>11.4f}{gap:>20}"
    for what, area, error in (
        ("clicks drawn anew", found.click_area, found.click_error),
        ("free-running sessions", found.session_area, found.session_error),
    ):
        known = f"AUC {area:.3f} ± {1.96 * error:.3f}" if area == area else "too few to say"
        yield f"told from logged: {what:<25}{known}"
