"""What can be set about the reference response model."""

from __future__ import annotations

from dataclasses import dataclass

from recil.errors import InputError


@dataclass(frozen=True)
class ReferenceConfig:
    """How the reference is built and fitted."""

    width: int = 32
    """Entries of an item's vector and of the state of a session."""
    epochs: int = 30
    """Most passes over the sessions; held-out loss stops earlier."""
    batch: int = 128
    """Sessions per gradient step."""
    learning_rate: float = 0.01
    """Of Adam; it falls to a tenth along a cosine."""
    patience: int = 3
    """Epochs without a better held-out loss before the fit stops."""
    held_out: float = 0.1
    """Share of the sessions that decide when to stop."""
    cluster: str | None = None
    """What is held out whole: "user", "session", or a column. None: users where the log names them."""
    weight_decay: float = 0.1
    """Share of each matrix of the network taken off per step, times the learning rate."""
    vector_scale: float = 0.3
    """Prior standard deviation of an entry of an item's own vector."""
    effect_scale: float = 0.1
    """Prior standard deviation of what a column's value or a position adds to an entry."""
    context_scale: float = 1.0
    """Prior standard deviation of what a context's column adds to the log-odds of all items."""
    appeal_scale: float = 0.7
    """Prior standard deviation of an item's own appeal, in log-odds."""

    def __post_init__(self) -> None:
        for name in ("width", "epochs", "batch", "patience"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise InputError(f"reference.{name}", f"{value!r} is no whole number of 1 or more", "give one")
        for name in ("learning_rate", "vector_scale", "effect_scale", "context_scale", "appeal_scale"):
            if not 0 < getattr(self, name) < float("inf"):
                raise InputError(f"reference.{name}", f"{getattr(self, name)} is not above 0", "give a positive number")
        if not 0 <= self.weight_decay < float("inf"):
            raise InputError("reference.weight_decay", f"{self.weight_decay} is below 0", "give 0 or more")
        if not 0 < self.held_out < 1:
            raise InputError(
                "reference.held_out", f"{self.held_out} is not between 0 and 1", "give a share such as 0.1"
            )
