"""Predicted and observed rates group by group, and one test for all of a table's misses together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.sparse import csr_matrix
from scipy.stats import chi2

# So many events (clicks, ends, or their absence) are predicted in a group; with fewer, normal errors are no guide.
EVENTS = 25


@dataclass(frozen=True)
class Group:
    """count: of items or steps; predicted, observed: rates; error: standard error of their difference over units."""

    label: str
    count: int
    predicted: float
    observed: float
    error: float

    @property
    def miss(self) -> float:
        """Predicted less observed."""
        return self.predicted - self.observed


@dataclass(frozen=True)
class GroupTable:
    """Rates in groups of one kind.

    name        what the groups are made by
    unit        what is counted: "items" shown, or "steps" after which users may leave
    statistic   of all misses together, chi-squared in `degrees` under the truth: units' sums of misses, weighed by
                their own scatter; p_value: the chance of one so large
    """

    name: str
    unit: str
    groups: tuple[Group, ...]
    statistic: float
    degrees: int
    p_value: float

    @property
    def count(self) -> int:
        return sum(group.count for group in self.groups)

    @property
    def rate(self) -> float:
        """The observed rate over all groups."""
        return sum(group.count * group.observed for group in self.groups) / self.count

    @property
    def calibration_error(self) -> float:
        """Mean distance of predicted and observed rate, weighed by count."""
        return sum(group.count * abs(group.miss) for group in self.groups) / self.count

    def certain_share(self, group: Group) -> float:
        """By how much of its rate a group is missed for certain: two standard errors less than it seems to be.

        Of the overall rate where that is larger: a rare group of little weight is not to be judged by its own.
        """
        return (abs(group.miss) - 2 * group.error) / max(group.observed, self.rate, np.finfo(float).tiny)

    @property
    def worst(self) -> Group:
        """The group missed by most for certain."""
        return max(self.groups, key=self.certain_share)


def group_table(
    name: str,
    unit: str,
    labels: Sequence[str],
    code: np.ndarray,
    predicted: np.ndarray,
    observed: np.ndarray,
    independent: np.ndarray,
    slate: np.ndarray,
) -> GroupTable:
    """Rates of the groups `code` (int64 [M], an index into labels; -1: in none).

    independent, slate: int64 [M], the unit and the slate of each row; a slate is in one unit.
    """
    inside = code >= 0
    code, predicted, observed, independent, slate = (
        values[inside] for values in (code, predicted, observed, independent, slate)
    )
    size = len(labels)
    excess, counts = (_sums(values, independent, code, size) for values in (predicted - observed, np.ones(len(code))))
    total = np.bincount(code, minlength=size)
    miss = np.bincount(code, predicted - observed, size) / total
    # In the standard error the miss is taken out of the scatter; in the test, where it is none under the truth, not.
    apart = excess.data - miss[excess.indices] * counts.data
    floor = _least_scatter(predicted, slate, code, size)
    errors = np.sqrt(np.maximum(np.bincount(excess.indices, apart**2, size), floor)) / total
    means = (np.bincount(code, values, size) / total for values in (predicted, observed))
    cells = zip(labels, total, *means, errors, strict=True)
    groups = tuple(Group(label, int(n), float(p), float(o), float(e)) for label, n, p, o, e in cells)
    return GroupTable(name, unit, groups, *joint_test(miss * total, (excess.T @ excess).toarray(), floor))


def _sums(values: np.ndarray, row: np.ndarray, code: np.ndarray, size: int) -> csr_matrix:
    """[rows, G]: sums of values by row and group; cells that hold no value are left out."""
    cells = csr_matrix((values, (row, code)), shape=(int(row.max()) + 1, size))
    cells.sum_duplicates()
    return cells


def _least_scatter(predicted: np.ndarray, slate: np.ndarray, code: np.ndarray, size: int) -> np.ndarray:
    """[G]: the variance of each group's events if the predictions were the truth and a slate had at most one.

    What was seen shows too little scatter where few events were seen, and just then they are fewest.
    """
    cells = _sums(predicted, slate, code, size)
    return np.bincount(cells.indices, np.maximum(cells.data * (1 - cells.data), 0), size)


def joint_test(total: np.ndarray, scatter: np.ndarray, floor: np.ndarray) -> tuple[float, int, float]:
    """(statistic, degrees, p-value) of totals [G] whose expectations are all 0.

    The score test with the scatter of the units themselves (White 1982), [G, G], its diagonal lifted to `floor`.
    """
    scatter = scatter + np.diag(np.maximum(floor - np.diag(scatter), 0))
    scale = np.sqrt(np.diag(scatter))
    kept = scale > 0
    if not kept.any():
        return 0.0, 0, 1.0
    correlation = scatter[np.ix_(kept, kept)] / np.outer(scale[kept], scale[kept])
    values, vectors = np.linalg.eigh(correlation)
    there = values > 1e-9 * values[-1]
    statistic = float((((vectors.T @ (total[kept] / scale[kept]))[there]) ** 2 / values[there]).sum())
    degrees = int(there.sum())
    return statistic, degrees, float(chi2.sf(statistic, degrees))


def merged(code: np.ndarray, labels: Sequence[str], predicted: np.ndarray) -> tuple[np.ndarray, list[str]]:
    """Neighbouring groups joined until each is predicted `EVENTS` events or more; the last ones join those before them.

    By what was predicted, and not by what was seen: groups chosen by their outcomes would not be fair to the truth.
    predicted: float64 [M], probabilities. Events are what is rarer, of clicks (or ends) and their absence.
    """
    inside, size = code >= 0, len(labels)
    yes, count = np.bincount(code[inside], predicted[inside], size), np.bincount(code[inside], minlength=size)
    parts: list[list[int]] = []
    open_part: list[int] = []
    for group in np.nonzero(count)[0]:
        open_part.append(int(group))
        if min(yes[open_part].sum(), (count - yes)[open_part].sum()) >= EVENTS:
            parts.append(open_part)
            open_part = []
    if open_part:
        parts = [*parts[:-1], parts[-1] + open_part] if parts else [open_part]
    to = np.full(size + 1, -1)
    for number, part in enumerate(parts):
        to[part] = number
    names = [labels[part[0]] if len(part) == 1 else f"{labels[part[0]]}–{labels[part[-1]]}" for part in parts]
    return to[code], names
