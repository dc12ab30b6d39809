"""Choice models: from the appeal of the items on a slate to a distribution over clicks, or over the item chosen.

One distribution gives the probability of a click to fitting, to validating and to simulating. Appeal is on the log-odds
scale; an item that is not there (not shown, or with a score of −∞) is never clicked. The entities are what a story is
built of: each makes, from scores [B, K], a `Value` whose field `choice` holds the distribution.
"""

from recil.sim.choice.cascade import CascadeClicks
from recil.sim.choice.clicks import IndependentClicks, SlateChoice
from recil.sim.choice.iterated import IteratedChoice
from recil.sim.choice.logit import IteratedMultinomialLogit, MultinomialLogit
from recil.sim.choice.positions import Cascade, IndependentByPosition
from recil.sim.choice.proportional import Proportional
from recil.sim.choice.selection import chosen

__all__ = [
    "Cascade",
    "CascadeClicks",
    "IndependentByPosition",
    "IndependentClicks",
    "IteratedChoice",
    "IteratedMultinomialLogit",
    "MultinomialLogit",
    "Proportional",
    "SlateChoice",
    "chosen",
]
