"""The settings of DAgger. Importing this loads no torch."""

from __future__ import annotations

from dataclasses import dataclass

from recil.train.finetune_config import require


@dataclass(frozen=True)
class DaggerConfig:
    """Act, have the expert say what it would have done, learn from all that was said so far, act again.

    rounds         how often to act and to learn
    sessions       simulated sessions per round, each a new one
    decay          the expert makes a slate of round i with probability decay^(i - 1): always in the first round, which
                   is cloning; 0 leaves the later rounds to the learner, 1 is cloning throughout
    epochs         passes over all labelled sessions per round, at most; a round starts from the weights of the last
    batch          sessions in one step of the optimiser
    learning_rate  step size of AdamW; halved after each epoch that does not lower the held-out loss
    weight_decay   share of each weight (but no bias) taken off per step, times the learning rate
    patience       epochs without a better held-out likelihood before a round stops
    held_out       share of the sessions, chosen by a hash of their id, that only decide when to stop
    """

    rounds: int = 5
    sessions: int = 500
    decay: float = 0.5
    epochs: int = 30
    batch: int = 256
    learning_rate: float = 1e-2
    weight_decay: float = 0.1
    patience: int = 2
    held_out: float = 0.1

    def __post_init__(self) -> None:
        for name in ("rounds", "epochs", "batch", "patience"):
            require(self, name, getattr(self, name) >= 1, "give 1 or more")
        require(self, "sessions", self.sessions >= 2, "give 2 or more: one decides when to stop")
        require(self, "decay", 0 <= self.decay <= 1, "give a number from 0 to 1")
        require(self, "learning_rate", self.learning_rate > 0, "give a number above 0")
        require(self, "weight_decay", self.weight_decay >= 0, "give 0 or more")
        require(self, "held_out", 0 < self.held_out < 1, "give a share between 0 and 1")

    def beta(self, number: int) -> float:
        """The expert's share in round `number`, counted from 0."""
        return self.decay**number
