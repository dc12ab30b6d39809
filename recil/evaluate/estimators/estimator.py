"""What an estimator is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from recil.evaluate.arrays import Extra, SessionArrays
from recil.evaluate.sums import SessionSums
from recil.evaluate.terms import Sized, StepTerm, Term, Weighting

Leans = Literal["nothing", "session", "step", "own", "model"]


@dataclass(frozen=True)
class Estimator:
    """A named estimator.

    name      as rows and options call it
    value     SessionSums -> [R+1], the estimate in the sample and in every replicate; nan where it is undefined
    leans_on  whose weights it multiplies rewards by: nobody's, the whole session's, each step's, its own, or none at
              all because a fitted model answers; decides which diagnostics can refuse it
    formula, assumes, source, use: for people; `use` says when to prefer it
    target    False for the logging policy's own value, which says nothing about the target
    needs_model  it uses a reward model fitted on other sessions
    needs     what it looks at beside the weights, rewards and reward model of every pass
    terms     the sums it needs beside those of every pass
    weighting its own weights, where it leans on them
    score     where the estimate is a mean over sessions: the number whose mean it is
    supposes  what must hold beyond support and right propensities, and cannot be read off the log: at most caution
    against   an estimator that is less biased and noisier: where it says otherwise, this one is contradicted; its terms
              and needs are among this one's
    fills     what the log cannot show is taken to earn what the rest earns (self-normalised) or what a model says
    also      other names by which it is known; as single-step estimators many of the table are one and the same
    """

    name: str
    value: Callable[[SessionSums], Tensor]
    leans_on: Leans
    formula: str
    assumes: str
    source: str
    target: bool = True
    needs_model: bool = False
    use: str = ""
    needs: frozenset[Extra] = frozenset()
    terms: tuple[Term | StepTerm, ...] = ()
    weighting: Weighting | None = None
    score: Callable[[SessionArrays], Sized] | None = None
    supposes: str = ""
    against: Estimator | None = None
    fills: bool = False
    also: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if (self.leans_on == "own") != (self.weighting is not None):
            raise ValueError(f"Estimator {self.name}: own weights and only they need a weighting")


def mean_of(term: Term) -> Callable[[SessionSums], Tensor]:
    """The estimate that is the mean of a number per session. [R+1]"""

    def value(sums: SessionSums) -> Tensor:
        return sums.term(term.name).value / sums.sessions

    return value
