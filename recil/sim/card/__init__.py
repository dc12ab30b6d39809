"""The card: whether fitted users can be believed, judged on sessions that the fit never saw."""

from recil.sim.card.groups import Group, GroupTable
from recil.sim.card.leaving import Leaving, SurvivalRow
from recil.sim.card.result import SimulatorCard
from recil.sim.card.rows import CardRow
from recil.sim.card.simulated import Simulated, StatisticRow
from recil.sim.card.storage import card_beside, read_card
from recil.sim.card.thresholds import CardThresholds
from recil.sim.card.validate import validate

__all__ = [
    "CardRow",
    "CardThresholds",
    "Group",
    "GroupTable",
    "Leaving",
    "Simulated",
    "SimulatorCard",
    "StatisticRow",
    "SurvivalRow",
    "card_beside",
    "read_card",
    "validate",
]
