"""What a policy can be rolled out in: a fitted world, a built world, an exact world."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, NamedTuple, Protocol, get_args

from torch import Tensor

from recil.errors import InputError
from recil.logs.history import History
from recil.policies.protocol import Policy
from recil.random import Streams, stable_hash

WarrantVerdict = Literal["trust", "caution", "refuse"]


@dataclass(frozen=True)
class Warrant:
    """Whether what an environment says of a policy may be believed, and why not; what is trusted needs no reason."""

    verdict: WarrantVerdict
    reasons: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.verdict not in get_args(WarrantVerdict):
            raise InputError(
                "warrant", f"verdict {self.verdict!r}", f"give one of {', '.join(get_args(WarrantVerdict))}"
            )
        if self.verdict != "trust" and not self.reasons:
            raise InputError("warrant", f"{self.verdict} without a reason", "say why")


class Turn(NamedTuple):
    """history: the sessions so far, with the latest slate and `terminated`; present: bool [B], who is still there."""

    history: History
    present: Tensor


class Environment(Protocol):
    """Sessions of at most `horizon` steps with slates of `slate_size` out of `catalogue` items."""

    @property
    def catalogue(self) -> int: ...

    @property
    def slate_size(self) -> int: ...

    @property
    def horizon(self) -> int: ...

    def rollout(self, policy: Policy, sessions: Tensor, streams: Streams) -> History:
        """Sessions under `policy`, with its propensities and `terminated`.

        sessions: int64 [B], the addresses: a session meets the same user with the same moods under every policy and in
        every batch. Nothing is differentiated.
        """
        ...


class TurnByTurn(Environment, Protocol):
    """An environment that can be watched while sessions go on."""

    def turns(self, policy: Policy, sessions: Tensor, streams: Streams) -> Iterator[Turn]:
        """The sessions of `rollout` slate by slate: ends after `horizon` slates, or when everybody has left."""
        ...


def population_of(environment: Environment) -> int:
    """Sessions that meet and must be simulated together; 1 where every session is by itself."""
    return getattr(environment, "population", 1)


def members_of(environment: Environment) -> tuple[Environment, ...]:
    """Worlds that might as well stand in this one's place: of other users fitted to logs like its own."""
    return getattr(environment, "others", ())


def warrant_of(environment: Environment) -> Warrant:
    """Whether to believe it. What stands for nothing but itself, such as a known world, needs no card."""
    return getattr(environment, "warrant", Warrant("trust"))


def identity_of(environment: Environment) -> str | None:
    """A name and a digest of all that values depend on, equal for equal worlds; None where it cannot be told.

    Worlds say it themselves (`identity`); built ones are known by their name and their settings.
    """
    said = getattr(environment, "identity", None)
    if said is not None:
        return said
    name, settings = (getattr(environment, part, None) for part in ("name", "settings"))
    if name is None or settings is None:
        return None
    shape = environment.catalogue, environment.slate_size, environment.horizon
    return f"{name} {stable_hash(name, settings, *shape):016x}"
