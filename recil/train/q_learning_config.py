"""The settings of Q-learning on encoded histories. Importing this loads no torch."""

from __future__ import annotations

from dataclasses import dataclass

from recil.train.finetune_config import require


@dataclass(frozen=True)
class QLearningConfig:
    """A head that clones and a head that values items, on one encoder.

    encoder        "bag", "gru" or "transformer"
    width          entries of a state and of an item's vector
    item_features  add the vectors of the items' features to their own, in the clone's head
    epochs         passes over the sessions; there is no early stop, for no held-out loss says how good values are
    batch          sessions in one step of the optimiser
    learning_rate  step size of AdamW
    weight_decay   share of each weight (but no bias) taken off per step, times the learning rate
    gradient_norm  largest norm of the gradient in one step
    discount       gamma per step of what follows a slate
    value_weight   weight of the squared error of values beside the clone's negative log-likelihood
    target_every   steps after which the network that values what follows is brought up to date
    support        what follows is valued over items at least this share as probable under the clone's head as the most
                   probable one: of items that the log never shows, values are guesses (0: over all items)
    temperature    of the policy: clone * exp(value / temperature), in mean rewards of an item shown; small is greedy,
                   large is the clone
    """

    encoder: str = "bag"
    width: int = 64
    item_features: bool = True
    epochs: int = 30
    batch: int = 256
    learning_rate: float = 3e-3
    weight_decay: float = 0.1
    gradient_norm: float = 10.0
    discount: float = 0.9
    value_weight: float = 1.0
    target_every: int = 100
    support: float = 0.1
    temperature: float = 1.0

    def __post_init__(self) -> None:
        for name in ("width", "epochs", "batch", "target_every"):
            require(self, name, getattr(self, name) >= 1, "give 1 or more")
        for name in ("learning_rate", "gradient_norm", "temperature"):
            require(self, name, getattr(self, name) > 0, "give a number above 0")
        for name in ("weight_decay", "value_weight"):
            require(self, name, getattr(self, name) >= 0, "give 0 or more")
        for name in ("discount", "support"):
            require(self, name, 0 <= getattr(self, name) <= 1, "give a number from 0 to 1")
