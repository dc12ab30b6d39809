"""The claims there are."""

from __future__ import annotations

import hashlib
from importlib import import_module
from pathlib import Path

from recil.claims.claim import Claim
from recil.errors import InputError
from recil.experiment.version import code_version

# In the order of the argument. Each is `CLAIM` of recil.claims.studies.<name>.
CLAIMS = (
    "values",
    "q_learning",
    "policy_gradient",
    "sparse_rewards",
    "sample_efficiency",
    "supervised_imitation",
    "distribution_shift",
    "pretrain_finetune",
    "off_policy",
    "demonstrations_and_rewards",
    "gan_question",
)


def claim_of(name: str, place: str = "claim") -> Claim:
    """A claim by its name. Raises InputError for one that is not there."""
    if name not in CLAIMS:
        raise InputError(place, f"claim = {name!r} is unknown", f"give one of {', '.join(CLAIMS)}")
    claim: Claim = import_module(f"recil.claims.studies.{name}").CLAIM
    return claim


def claim_version(name: str) -> str:
    """Changes with the library's code and with what the claim itself measures; not with other claims, or pages."""
    study = Path(__file__).parent / "studies" / f"{name}.py"
    return f"{code_version()}.{hashlib.sha256(study.read_bytes()).hexdigest()[:8]}"
