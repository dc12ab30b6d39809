"""MIPS: weights of what an item is rather than of the item. Saito & Joachims 2022."""

from __future__ import annotations

from torch import Tensor

from recil.evaluate.arrays import Extra, SessionArrays
from recil.evaluate.estimators.estimator import Estimator, mean_of
from recil.evaluate.estimators.per_step import PDIS
from recil.evaluate.terms import Sized, Term, Weighting, collected
from recil.ops.importance import cumulative_log_weight


def _log_weight(arrays: SessionArrays) -> Tensor:
    return cumulative_log_weight(arrays.extra[Extra.CATEGORY_LOG_RATIO], arrays.happened)


def category_score(arrays: SessionArrays) -> Sized:
    """sum_t w_t r_t, where w_t is the product of the ratios p(e | x, pi) / p(e | x, beta) of the items' categories."""
    return collected(_log_weight(arrays), arrays.reward)


_MIPS = Term("MIPS", category_score)
MIPS = Estimator(
    "mips",
    mean_of(_MIPS),
    "own",
    "E[Σ γ^t Π_{k≤t} p(e_k | x_k, π) / p(e_k | x_k, β) r_t]",
    "as ips, of categories; an item acts through its category only",
    "Saito & Joachims 2022",
    use="large catalogues whose items come in categories",
    needs=frozenset({Extra.CATEGORY_LOG_RATIO}),
    terms=(_MIPS,),
    weighting=Weighting("categories", _log_weight),
    score=category_score,
    against=PDIS,
    supposes="an item acts through its category only",
)
