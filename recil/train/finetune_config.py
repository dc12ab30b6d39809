"""The settings of finetuning and of training from scratch. Importing this loads no torch."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from recil.errors import InputError


@dataclass(frozen=True)
class GradientConfig:
    """What finetuning and training from scratch have in common: the gradient, the critic, acting in a world.

    learning_rate           step size of Adam for the policy
    critic_learning_rate    step size of Adam for the critic
    critic_width            hidden units of the critic's one layer
    critic_warmup           critic steps before the first policy step, so that the first advantages are not noise
    cap                     largest ratio pi / beta of a logged item; e^3, as in production (Chen et al. 2019)
    top_k                   K of the factor K (1 - pi)^(K - 1); 1 leaves it out, which is right where slates are scored
                            position by position without replacement, as the softmax policy does
    discount                gamma per step of the rewards after a slate; 0 credits an item with its own reward only
    trace                   lambda of the return after a slate: 1 is what the session brought, 0 what the critic expects
                            of the state it led to, which knows whether the user left and has far less noise
    credit                  "item": an item's own reward and what follows its slate; "slate": the rewards of all the
                            slate instead of its own. Under "item" clicks at other positions are left out: exact where
                            clicks do not compete, nearly so where they are rare
    entropy_floor           share of the reference's mean entropy (the clone's; uniform without a clone) below which
                            steps raise the entropy and nothing else
    gradient_norm           largest norm of the policy's gradient in one step
    batch                   sessions per policy step
    sessions                in a world: sessions simulated in all, the critic's warm-up included
    sessions_per_iteration  in a world: sessions rolled out with one policy
    passes                  in a world: passes over the sessions of an iteration
    iteration_kl            in a world: an iteration ends early once KL(policy that acted || current) exceeds this many
                            nats per item
    """

    learning_rate: float = 3e-3
    critic_learning_rate: float = 1e-2
    critic_width: int = 32
    critic_warmup: int = 100
    cap: float = math.e**3
    top_k: int = 1
    discount: float = 0.9
    trace: float = 0.0
    credit: str = "item"
    entropy_floor: float = 0.05
    gradient_norm: float = 10.0
    batch: int = 250
    sessions: int = 20_000
    sessions_per_iteration: int = 500
    passes: int = 3
    iteration_kl: float = 0.05

    def __post_init__(self) -> None:
        for name in ("learning_rate", "critic_learning_rate", "cap", "gradient_norm", "iteration_kl"):
            require(self, name, getattr(self, name) > 0, "give a number above 0")
        for name in ("critic_width", "top_k", "batch", "sessions", "sessions_per_iteration", "passes"):
            require(self, name, getattr(self, name) >= 1, "give 1 or more")
        for name in ("discount", "trace", "entropy_floor"):
            require(self, name, 0 <= getattr(self, name) <= 1, "give a number from 0 to 1")
        require(self, "critic_warmup", self.critic_warmup >= 0, "give 0 or more steps")
        require(self, "credit", self.credit in ("item", "slate"), 'choose "item" or "slate"')


@dataclass(frozen=True)
class FinetuneConfig(GradientConfig):
    """A clone made better by its own clicks: from the log alone, in a world, or both.

    kl        cost of KL(pi || clone), in nats per state, as a share of the mean reward of an item shown: the same
              number means the same at any click rate
    epochs    from a log: passes over its sessions, at most
    held_out  from a log: share of the sessions that choose the stopping point and are never learned from: whole users,
              or single sessions where the log names no users
    cluster   from a log: what is held out whole instead, and what errors and thresholds count: "user", "session", or a
              column
    margin    from a log: a policy may replace the clone when its held-out gain exceeds this many standard errors; of
              those that may, the one whose gain less one standard error is highest is kept (less the margin's if
              that is smaller)
    patience  from a log: epochs without a better choice after which training stops
    overlap   from a log: training stops once the effective share of the held-out items shown falls below this
    negatives from a log: 0, or so many items that stand for the catalogue in each step, as in `CloneConfig`; the
              sessions that choose are then as many of those held out as can be scored in full within a minute or so
    """

    kl: float = 0.3
    epochs: int = 30
    held_out: float = 0.25
    margin: float = 1.64
    patience: int = 8
    overlap: float = 0.1
    negatives: int = 0
    cluster: str | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("kl", "margin"):
            require(self, name, getattr(self, name) >= 0, "give 0 or more")
        for name in ("epochs", "patience"):
            require(self, name, getattr(self, name) >= 1, "give 1 or more")
        require(self, "held_out", 0 < self.held_out < 1, "give a share between 0 and 1")
        require(self, "overlap", 0 <= self.overlap < 1, "give a share from 0 to below 1")
        require(self, "negatives", self.negatives >= 0, "give 0 for the whole catalogue, or some such as 2048")


@dataclass(frozen=True)
class ReinforceConfig(GradientConfig):
    """The same gradient from a policy that has seen nothing: no clone to start from and none to stay near."""


def require(config: Any, name: str, holds: bool, remedy: str) -> None:
    """InputError naming the field and its value unless `holds` (NaN never does)."""
    if not holds:
        raise InputError(f"{type(config).__name__} {name}", f"{getattr(config, name)!r} cannot be used", remedy)
