"""Networks whose cycles are named. RecSim NG asserts that there is none, and leaves the search to the reader."""

from __future__ import annotations

from collections.abc import Sequence
from graphlib import CycleError, TopologicalSorter

from recsim_ng.core.network import Network
from recsim_ng.core.variable import Variable


def network_of(variables: Sequence[Variable]) -> Network:
    """The network of these variables. ValueError names a cycle of current values, variable by variable."""
    for what in ("initial_value", "value"):
        needs = {
            variable.name: [
                need.variable_name for need in getattr(variable, what).dependencies if need.on_current_value
            ]
            for variable in variables
        }
        try:
            TopologicalSorter(needs).prepare()
        except CycleError as error:
            path = " needs ".join(reversed(error.args[1]))
            remedy = "let one of them depend on the other's previous value"
            raise ValueError(f"network: {what} goes in a circle: {path}; {remedy}") from None
    return Network(variables)
