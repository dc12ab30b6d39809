"""The proportional choice model: scores are masses, not log-odds."""

from __future__ import annotations

from recsim_ng.core.value import Value, ValueSpec
from torch import Tensor
from torch.distributions import Categorical

from recil.sim.choice.alternatives import index_spec, log_of, or_no_choice, with_no_choice
from recil.sim.entity import Entity


class Proportional(Entity):
    """One choice or none: an item with probability proportional to its score minus a minimum.

    minimum: a number; a score at or below it has no mass, and is never chosen. no_choice_mass: a number or [B], as it
    stands: RecSim's MultinomialProportionalChoiceModel takes the minimum from it too, so its mass m is `m - minimum`
    here. The value is a position, int64 [B], with K for no choice. Raises ValueError on a negative no-choice mass.
    """

    minimum: Tensor
    no_choice_mass: Tensor

    def __init__(self, minimum: Tensor | float = 0.0, no_choice_mass: Tensor | float = 0.0) -> None:
        super().__init__()
        self.constant("minimum", minimum)
        if bool((self.constant("no_choice_mass", no_choice_mass) < 0).any()):
            raise ValueError(
                f"Proportional: a no-choice mass of {float(self.no_choice_mass.min()):g}; wanted 0 or more"
            )

    def choice(self, scores: Tensor) -> Value:
        """scores: [B, K]; where no alternative has mass, the choice is no choice."""
        masses = with_no_choice(scores - self.minimum, self.no_choice_mass)
        return Value(choice=Categorical(logits=or_no_choice(log_of(masses)), validate_args=False))

    def specs(self, slate_size: int | None = None) -> ValueSpec:
        """A fresh spec of `choice`, for one session. slate_size: K, where it is known."""
        return index_spec(slate_size)
