"""The table of estimators: each one's name, formula, what it assumes, when to use it, and where it comes from."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING

from recil.errors import InputError
from recil.evaluate.estimators.embeddings import MIPS
from recil.evaluate.estimators.estimator import Estimator
from recil.evaluate.estimators.magic import MAGIC
from recil.evaluate.estimators.marginal import MIS, MIS_DR
from recil.evaluate.estimators.model_alone import DM, FQE, FQE_DR
from recil.evaluate.estimators.per_step import DR, MRDR, PDIS, PDWIS, WDR
from recil.evaluate.estimators.shrunken import capped_ips, optimistic_dr, subgaussian, switch_dr
from recil.evaluate.estimators.slates import CASCADE_DR, IIPS, PI, RIPS
from recil.evaluate.estimators.whole import IPS, LOGGED, OPTIMAL_BASELINE, REPLAY, SNIPS

if TYPE_CHECKING:
    import pandas as pd

# What `evaluate` answers with when nothing else is asked for.
ESTIMATORS: Mapping[str, Estimator] = MappingProxyType(
    {estimator.name: estimator for estimator in (LOGGED, IPS, SNIPS, PDIS, PDWIS, DR)}
)
KNOBS: Mapping[str, Callable[[float], Estimator]] = MappingProxyType(
    {"cips": capped_ips, "subgaussian": subgaussian, "switch_dr": switch_dr, "dros": optimistic_dr}
)
_FURTHER = (
    *(OPTIMAL_BASELINE, REPLAY, DM, WDR, MRDR, FQE, FQE_DR, MAGIC, MIS, MIS_DR),
    *(RIPS, IIPS, PI, CASCADE_DR, MIPS),
    *(make() for make in (capped_ips, subgaussian, switch_dr, optimistic_dr)),
)
TABLE: Mapping[str, Estimator] = MappingProxyType(
    {**ESTIMATORS, **{estimator.name: estimator for estimator in _FURTHER}}
)
_ALSO = {other: estimator for estimator in TABLE.values() for other in estimator.also}
_WITH_KNOB = re.compile(r"(\w+)\(([-+.\deinf]+)\)")


def find(name: str | Estimator) -> Estimator:
    """The estimator of this name, "cips(5)" being "cips" with its knob at 5. InputError for an unknown name."""
    if isinstance(name, Estimator):
        return name
    if found := TABLE.get(name) or _ALSO.get(name):
        return found
    if (parts := _WITH_KNOB.fullmatch(name)) and parts[1] in KNOBS:
        try:
            return KNOBS[parts[1]](float(parts[2]))
        except ValueError:
            pass
    raise InputError("estimators", f"{name!r} is not known", f"choose among {', '.join([*TABLE, *_ALSO])}")


def find_all(names: Sequence[str | Estimator] | None) -> tuple[Estimator, ...]:
    """The usual ones when None. InputError for none at all, for an unknown name and for one that is given twice."""
    if names is None:
        return tuple(ESTIMATORS.values())
    if not names or isinstance(names, str):
        raise InputError("estimators", f"{names!r} names none", f"choose among {', '.join([*TABLE, *_ALSO])}")
    found = tuple(find(name) for name in names)
    twice = {estimator.name for estimator in found if sum(other.name == estimator.name for other in found) > 1}
    if twice:
        raise InputError("estimators", f"{', '.join(sorted(twice))} given twice", "name each once; some have two names")
    return found


def estimators_frame() -> pd.DataFrame:
    """The table as one: name, also, formula, assumes, use, source."""
    import pandas as pd

    columns = ("name", "formula", "assumes", "use", "source")
    return pd.DataFrame(
        [
            {column: getattr(estimator, column) for column in columns} | {"also": ", ".join(estimator.also)}
            for estimator in TABLE.values()
        ]
    )
