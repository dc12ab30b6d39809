"""The settings of adversarial imitation. Importing this loads no torch."""

from __future__ import annotations

from dataclasses import dataclass

from recil.train.finetune_config import GradientConfig, require


@dataclass(frozen=True)
class AdversarialConfig(GradientConfig):
    """A policy rewarded for what a discriminator takes for demonstrations; fields of GradientConfig are the policy's.

    kl                           cost in nats of a nat of KL(pi || the policy at the start); 0 lets it go anywhere
    discriminator_steps          steps of the discriminator per iteration, before the policy's
    discriminator_warmup         steps of the discriminator before the first iteration's own, so that the first rewards
                                 are not noise
    discriminator_learning_rate  step size of AdamW for the discriminator
    discriminator_decay          share of each weight (but no bias) of the discriminator taken off per step, times the
                                 learning rate: what keeps it from knowing the demonstrations by heart
    """

    sessions: int = 25_000
    entropy_floor: float = 0.0
    kl: float = 0.0
    discriminator_steps: int = 4
    discriminator_warmup: int = 50
    discriminator_learning_rate: float = 1e-2
    discriminator_decay: float = 0.1

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self, "kl", self.kl >= 0, "give 0 or more")
        require(self, "discriminator_steps", self.discriminator_steps >= 1, "give 1 or more")
        require(self, "discriminator_warmup", self.discriminator_warmup >= 0, "give 0 or more steps")
        require(self, "discriminator_learning_rate", self.discriminator_learning_rate > 0, "give a number above 0")
        require(self, "discriminator_decay", self.discriminator_decay >= 0, "give 0 or more")
