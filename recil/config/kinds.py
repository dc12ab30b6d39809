"""The kinds of method an experiment file can name, and the settings each takes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import StringConstraints

Label = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]*$", max_length=60)]
Source = Literal["log", "world", "both"]


@dataclass(frozen=True)
class Kind:
    """One kind of method.

    settings  gives the frozen dataclass whose fields the method's table may set; None where there are none. A function,
              because learners load torch and reading an experiment file should not
    own       fields beside those: name -> (type, default); `...` where it must be given
    seeded    training draws on the seed, so the method runs once per seed
    acts      training acts in the world of fitted users, whatever the method's `source` says
    """

    settings: Callable[[], type] | None = None
    own: tuple[tuple[str, Any, Any], ...] = ()
    seeded: bool = False
    acts: bool = False


def _knn() -> type:
    from recil.policies.neighbours import NeighboursConfig

    return NeighboursConfig


def _clone() -> type:
    from recil.train.clone import CloneConfig

    return CloneConfig


def _finetune() -> type:
    from recil.train.finetune_config import FinetuneConfig

    return FinetuneConfig


def _reinforce() -> type:
    from recil.train.finetune_config import ReinforceConfig

    return ReinforceConfig


def _q_learning() -> type:
    from recil.train.q_learning_config import QLearningConfig

    return QLearningConfig


def _dagger() -> type:
    from recil.train.dagger_config import DaggerConfig

    return DaggerConfig


def _adversarial() -> type:
    from recil.train.adversarial_config import AdversarialConfig

    return AdversarialConfig


KINDS: dict[str, Kind] = {
    "uniform": Kind(),
    "popular": Kind(own=(("temperature", float, 0.5), ("smoothing", float, 1.0))),
    "knn": Kind(_knn),
    "markov": Kind(own=(("feedback", tuple[str, ...], ()),)),
    "logged": Kind(),
    "clone": Kind(_clone, seeded=True),
    "finetune": Kind(_finetune, (("start", Label, ...), ("source", Source, "log")), seeded=True),
    "reinforce": Kind(_reinforce, (("like", Label | None, None),), seeded=True, acts=True),
    "q_learning": Kind(_q_learning, seeded=True),
    "dagger": Kind(_dagger, (("start", Label, ...),), seeded=True, acts=True),
    "adversarial": Kind(_adversarial, (("like", Label | None, None),), seeded=True, acts=True),
}
