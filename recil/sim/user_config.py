"""What can be set about fitted users."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class UserConfig:
    """How users are modelled and fitted."""

    types: int = 6
    """Latent kinds of user; each has its own interests, readiness to click and readiness to leave."""
    dimension: int = 8
    """Size of the interest vector."""
    choice: Literal["auto", "multinomial", "cascade", "independent"] = "auto"
    """How users choose from a slate: one item or none, with all in view; from the top, until the first click; or each
    item by itself. auto: what predicts held-out sessions best, of what could have written the log."""
    window: int = 8
    """Slates remembered item by item, where the log shows items again: seeing one again may please or tire. 0: none."""
    epochs: int = 40
    """Most passes over the sessions; held-out likelihood stops earlier."""
    batch: int = 512
    """Sessions per gradient step."""
    learning_rate: float = 0.01
    """Of Adam; it falls to a tenth along a cosine."""
    patience: int = 4
    """Epochs without a better held-out likelihood before the fit stops."""
    held_out: float = 0.1
    """Share of the sessions that decide when to stop."""
    cluster: str | None = None
    """What is held out and drawn again whole: "user", "session", or a column. None: users where the log names them."""
    vector_scale: float = 0.2
    """Prior standard deviation of an item vector's entries."""
    appeal_scale: float | None = None
    """Prior standard deviation of an item's own appeal, in log-odds. None: what the log's items imply."""
    item_scales: tuple[float, ...] | None = None
    """Prior standard deviations of what columns of items add to appeal, by name. None: what the log's items imply."""
    effect_scale: float = 0.1
    """Prior standard deviation of what a user's column adds, and an item's to its vector, in log-odds."""
    context_scale: float = 1.0
    """Prior standard deviation of what a context's column adds, in log-odds. Wide: contexts differ by what users came
    for, and many sessions share each."""
    repeat_scale: float = 0.25
    """Prior standard deviation of what it adds to have seen, or clicked, an item on all remembered slates, in log-odds.
    Tight: a sparse log lends it what belongs to interests that differ, and policies that repeat themselves suffer."""
    horizon: int = 20
    """Steps with a leaving rate of their own; later steps share the last one's."""

    def __post_init__(self) -> None:
        for name in ("types", "dimension", "epochs", "batch", "patience", "horizon"):
            if getattr(self, name) < 1:
                raise ValueError(f"users.{name} = {getattr(self, name)}: wanted at least 1")
        if self.window < 0:
            raise ValueError(f"users.window = {self.window}: wanted at least 0")
        for name in ("learning_rate", "vector_scale", "effect_scale", "context_scale", "repeat_scale"):
            if not getattr(self, name) > 0:
                raise ValueError(f"users.{name} = {getattr(self, name)}: wanted above 0")
        for name, scales in (("appeal_scale", (self.appeal_scale,)), ("item_scales", self.item_scales or ())):
            if any(scale is not None and not scale > 0 for scale in scales):
                raise ValueError(f"users.{name} = {getattr(self, name)}: wanted above 0")
        if not 0 < self.held_out < 1:
            raise ValueError(f"users.held_out = {self.held_out}: wanted between 0 and 1")
