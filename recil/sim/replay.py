"""What was logged as a variable of a story: at step t it holds row t of its data."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from recsim_ng.core.value import Value, ValueSpec
from recsim_ng.core.variable import Variable
from recsim_ng.lib.data import SlicedValue, data_variable
from torch import Tensor

from recil.logs.history import History
from recil.sim.fields import Field


def replay(name: str, columns: Mapping[str, Tensor], spec: ValueSpec | None = None) -> Variable:
    """A variable whose fields are the columns' rows, step by step. columns: name -> [B, T, ...].

    spec: of the fields; plain Fields when None. A step beyond the data raises IndexError, which names the variable.
    """
    lengths = {field: values.shape[1] for field, values in columns.items()}
    if len(set(lengths.values())) != 1:
        raise ValueError(f"replay '{name}': columns of different lengths, {lengths}; wanted one number of steps")
    steps = next(iter(lengths.values()))

    def row(values: Tensor, index: int | Tensor) -> Tensor:
        if isinstance(index, Tensor):  # in compiled steps
            return values.index_select(1, index.reshape(1)).squeeze(1)
        if index >= steps:
            raise IndexError(f"variable '{name}' has data for {steps} steps, step {index} was asked for")
        return values[:, index]

    spec = spec if spec is not None else ValueSpec(**{field: Field() for field in columns})
    return data_variable(name, spec, SlicedValue(Value(**columns), row))


def replay_sessions(
    name: str,
    sessions: History,
    *,
    context: Iterable[str] = (),
    feedback: Iterable[str] = (),
    reward: bool = False,
    propensity: bool = False,
) -> Variable:
    """Logged sessions as a variable: `items`, and as asked for `reward`, `propensity`, `context.*`, `feedback.*`.

    Raises ValueError for a column that the sessions do not have.
    """
    columns = {"items": sessions.items}
    if reward:
        columns["reward"] = sessions.reward
    if propensity:
        if sessions.propensity is None:
            raise ValueError(f"replay '{name}': the sessions have no propensity")
        columns["propensity"] = sessions.propensity
    for part, names in (("context", context), ("feedback", feedback)):
        held: Mapping[str, Tensor] = getattr(sessions, part)
        for column in names:
            if column not in held:
                raise ValueError(f"replay '{name}': no {part} column '{column}'; there are {sorted(held)}")
            columns[f"{part}.{column}"] = held[column][:, : sessions.steps]
    return replay(name, columns)
