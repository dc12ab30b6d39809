"""The card itself."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, get_args

import pandas as pd

from recil.errors import InputError
from recil.logs.clusters import SESSION
from recil.policies.environment import WarrantVerdict
from recil.sim.card.groups import GroupTable
from recil.sim.card.leaving import Leaving
from recil.sim.card.rows import CardRow
from recil.sim.card.simulated import Simulated
from recil.sim.card.thresholds import CardThresholds

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class SimulatorCard:
    """What fitted users are worth.

    verdict         trust, caution or refuse; reasons: why, in words
    rows            log loss of the users and of all that they are held against, the reference last where there is one
    observed_rate   clicks per item shown
    leave_log_loss  of ends of sessions, nats per step: the users', a constant rate's; None for users who never leave
    tables          predicted and observed click rates in groups of several kinds
    leaving         when users leave; None for users who never do
    simulated       simulated against logged clicks
    thresholds      the lines that were drawn
    users           the digest of the users that are judged; the card is no other users'
    cluster         what errors and tests count as one: user, session, or a column; units: how many there are (None: as
                    many as sessions)
    """

    verdict: str
    reasons: tuple[str, ...]
    rows: tuple[CardRow, ...]
    observed_rate: float
    leave_log_loss: tuple[float, float] | None
    sessions: int
    impressions: int
    tables: tuple[GroupTable, ...] = ()
    leaving: Leaving | None = None
    simulated: Simulated | None = None
    thresholds: CardThresholds = field(default_factory=CardThresholds)
    users: str = ""
    cluster: str = SESSION
    units: int | None = None

    def __post_init__(self) -> None:
        if self.verdict not in get_args(WarrantVerdict):
            raise InputError("card", f"verdict {self.verdict!r}", f"give one of {', '.join(get_args(WarrantVerdict))}")
        if self.verdict != "trust" and not self.reasons:
            raise InputError("card", f"{self.verdict} without a reason", "say why")
        if not self.rows or self.rows[0].model != "users":
            raise InputError("card", "its first row is not the users'", "give one")
        if self.units is None:
            object.__setattr__(self, "units", self.sessions)

    def row(self, model: str) -> CardRow:
        return next(row for row in self.rows if row.model == model)

    def group(self, name: str) -> GroupTable:
        """The table of rates in groups by `name`, of clicking or of leaving."""
        everything = (*self.tables, *(self.leaving.tables if self.leaving else ()))
        return next(table for table in everything if table.name == name)

    @property
    def rests_on(self) -> str:
        """The sessions, and whose they are, in words."""
        sessions = f"{self.sessions:,} sessions"
        return sessions if self.cluster == SESSION else f"{sessions} of {self.units:,} {self.cluster}s"

    @property
    def gap(self) -> tuple[float, float] | None:
        """Log loss per item that the reference saves on the users (above 0: there is more to learn), and its error."""
        found = [(-row.versus, row.error) for row in self.rows if row.model == "reference"]
        return found[0] if found else None

    def to_frame(self) -> pd.DataFrame:
        """One row per model."""
        return pd.DataFrame([vars(row) for row in self.rows])

    def groups_frame(self) -> pd.DataFrame:
        """One row per group of every table: table, unit, label, count, predicted, observed, error."""
        everything = (*self.tables, *(self.leaving.tables if self.leaving else ()))
        rows = [
            {"table": table.name, "unit": table.unit, **vars(group)} for table in everything for group in table.groups
        ]
        return pd.DataFrame(rows, columns=["table", "unit", "label", "count", "predicted", "observed", "error"])

    @property
    def table(self) -> str:
        """The card for a terminal, at most 80 columns."""
        from recil.sim.card.text import card_text

        return card_text(self)

    def __str__(self) -> str:
        return self.table

    def plot(self) -> Figure:
        """A matplotlib Figure: gains, calibration, leaving, and simulated against logged."""
        from recil.sim.card.figures import overview

        return overview(self)

    def markdown(self) -> str:
        """The card as a Markdown page, figures inside."""
        from recil.sim.card.page import markdown_page

        return markdown_page(self)

    def html(self) -> str:
        """The card as one HTML page that needs nothing else."""
        from recil.sim.card.page import html_page

        return html_page(self)

    def save(self, folder: str | Path) -> None:
        """Write card.md, card.html and card.json into the folder, each whole or not at all, the JSON last.

        `read_card` reads the JSON. Raises InputError where the folder cannot be written to.
        """
        from recil.sim.card.storage import write_card

        write_card(self, Path(folder))

    def __eq__(self, other: object) -> bool:
        """Equal in every figure; nan equals nan."""
        if not isinstance(other, SimulatorCard):
            return NotImplemented
        return all(_same(value, vars(other)[name]) for name, value in vars(self).items())

    def __hash__(self) -> int:
        return hash((self.verdict, self.reasons, self.sessions, self.impressions))


def _same(one: object, other: object) -> bool:
    if isinstance(one, float) and isinstance(other, float):
        return one == other or (math.isnan(one) and math.isnan(other))
    if isinstance(one, tuple) and isinstance(other, tuple):
        return len(one) == len(other) and all(map(_same, one, other))
    if hasattr(one, "__dataclass_fields__") and type(one) is type(other):
        return all(_same(value, vars(other)[name]) for name, value in vars(one).items())
    return one == other
