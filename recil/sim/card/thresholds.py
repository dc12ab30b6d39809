"""Where a card draws its lines."""

from __future__ import annotations

from dataclasses import dataclass, fields

from recil.errors import InputError


@dataclass(frozen=True)
class CardThresholds:
    """When a card doubts users, and when it refuses them.

    The independent units of every error are the users of the held-out log, or its sessions where it names no users.
    """

    better_by: float = 2.0
    """Standard errors by which users must beat the constant rate (else: refuse) and the item rates (else: caution) in
    log loss."""
    level: float = 0.005
    """Chance that any of the tests of rates doubts users who are the truth; each of n tests has a share of 1/n."""
    negligible: float = 0.05
    """Share of a rate by which it may be missed for certain (by more than two standard errors beyond it) without
    casting doubt: what is off by less than this is never held against the users, however large the log."""
    rate_off_refuse: float = 0.25
    """Share of the observed click rate by which the predicted one may be off, beyond chance, before the card refuses;
    below, it is caution."""
    group_off_refuse: float = 0.5
    """Share of its rate (or of the overall one, whichever is larger) by which a group's may be missed for certain
    before the card refuses; below, it is caution."""
    area_caution: float = 0.55
    """Area under the curve, less two standard errors, from which a classifier that tells logged from simulated casts
    doubt. One half is a toss of a coin."""
    area_refuse: float = 0.65
    """The same, from which the card refuses."""
    least_units: int = 30
    """Users on whom a card must rest; errors and tests over fewer are too small and too weak, and it is caution."""
    judge_free_running: bool = False
    """Whether free-running sessions count. Set it where slates were drawn without regard to clicks, as by a random
    policy: where a recommender reacted to what was clicked, its slates suit the logged clicks better than any simulated
    ones, and the truth itself would be doubted."""

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if field.name != "judge_free_running" and not value >= 0:
                raise InputError(f"thresholds.{field.name}", f"{value}", "give 0 or more")
        if not 0 < self.level < 1:
            raise InputError("thresholds.level", f"{self.level}", "give a probability between 0 and 1")
