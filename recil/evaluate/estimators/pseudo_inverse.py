"""PI for any logging policy whose slates do not depend on the context: q_πᵀ Γ† 1_s. Swaminathan et al. 2017.

1_s in {0, 1}^{K·A} marks which item stands at which position, Γ = E_β[1_s 1_sᵀ] holds how often two items stand at two
positions together: a second moment, of full rank but for what follows from K items standing in K places. The outer
product of the means, of rank 1, is what Γ would be if one slate only were ever shown.
"""

from __future__ import annotations

import torch
from torch import Tensor

from recil.errors import InputError
from recil.evaluate.arrays import Extra, SessionArrays
from recil.evaluate.estimators.estimator import Estimator, mean_of
from recil.evaluate.estimators.per_step import PDIS
from recil.evaluate.estimators.slates import PI
from recil.evaluate.sequential import before
from recil.evaluate.terms import Sized, Term, collected


def second_moment(slates: Tensor, probability: Tensor, catalogue: int) -> Tensor:
    """Γ of listed slates (int64 [n, K]) with their probabilities (float64 [n]): [K * A, K * A]."""
    marked = torch.nn.functional.one_hot(slates, catalogue).double().flatten(1)
    return marked.T @ (marked * probability[:, None])


def uniform_second_moment(catalogue: int, slate_size: int) -> Tensor:
    """Γ of slates drawn uniformly without replacement, [K * A, K * A]."""
    if not 1 <= slate_size <= catalogue:
        raise InputError("slate size", f"{slate_size} of {catalogue} items", "give 1 to the number of items")
    same = torch.eye(catalogue, dtype=torch.float64) / catalogue
    other = (1.0 - torch.eye(catalogue, dtype=torch.float64)) / (catalogue * max(catalogue - 1, 1))
    place = torch.eye(slate_size, dtype=torch.float64)
    return torch.kron(place, same) + torch.kron(1.0 - place, other)


def pseudo_inverse(moment: Tensor) -> Estimator:
    """The estimator for logging with this Γ (float64 [K * A, K * A]); slates must be full.

    q_π is replaced by slates that the target drew itself, which changes no expectation: more of them, less noise.
    """
    if moment.ndim != 2 or moment.shape[0] != moment.shape[1] or not torch.allclose(moment, moment.T):
        raise InputError("second moment", f"shape {tuple(moment.shape)}", "give a symmetric [K * A, K * A]")
    inverse = torch.linalg.pinv(moment.double(), hermitian=True, rtol=1e-9)

    def score(arrays: SessionArrays) -> Sized:
        """sum_t w_{t-1} 1_s'ᵀ Γ† 1_s r_t, the mean over the target's own slates s'."""
        items, own = arrays.extra[Extra.ITEMS], arrays.extra[Extra.OWN_ITEMS]
        weight = slate_weight(inverse, items[:, :, None], own)
        return collected(before(arrays.log_weight), weight.mean(2) * arrays.reward)

    term = Term("PI, any logging", score)
    return Estimator(
        "pseudo_inverse",
        mean_of(term),
        "own",
        "E[Σ_t γ^t w_{t-1} q_πᵀ Γ† 1_s r_t]",
        "support of items at positions; a slate's reward adds up over positions; Γ is the same in every context",
        PI.source,
        use="a reward of the whole slate, logged by a policy without context and without repetition",
        needs=PI.needs | {Extra.ITEMS, Extra.OWN_ITEMS},
        terms=(term,),
        weighting=PI.weighting,
        score=score,
        against=PDIS,
        supposes="a slate's reward adds up over positions",
    )


def slate_weight(inverse: Tensor, logged: Tensor, own: Tensor) -> Tensor:
    """1_ownᵀ Γ† 1_logged for slates int64 [..., K], which broadcast: [...]."""
    size = logged.shape[-1]
    catalogue = inverse.shape[0] // size
    place = torch.arange(size) * catalogue
    return inverse[(own + place)[..., :, None], (logged + place)[..., None, :]].sum((-2, -1))
