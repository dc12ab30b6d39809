"""An optimiser for tables of which a step touches a few rows: what was not touched costs nothing and stays as it is."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

from recil.policies.softmax import SoftmaxPolicy
from recil.policies.touched import Touched, tables_of


class RowRMSprop(torch.optim.Optimizer):
    """RMSprop row by row, from gradients that are sparse tensors over the first dimension.

    Each entry moves by lr * gradient / root of its mean square, a decayed mean over all steps, corrected for its start
    as Adam's. A step that does not touch a row is one where its gradient is 0: it moves nothing, and the decay is made
    up for at the next touch, so the result is that of the same optimiser over whole tables. That is why there is no
    mean of gradients, as Adam has: it would move rows that are not touched. (Adam's moments counted in touches learn
    rare items too slowly: on a log of 2,000 items the loss stays some 0.4 nats higher.) Weight decay takes its share
    off a row when it is touched, and only then: an item that is never seen keeps the vector it began with. A table
    with one column holds biases, which do not decay. Sources: Tieleman & Hinton (2012), "Lecture 6.5: RMSProp"; the
    correction: Kingma & Ba (2015), "Adam".
    """

    def __init__(
        self,
        tables: Iterable[nn.Parameter],
        lr: float,
        weight_decay: float = 0.0,
        beta: float = 0.999,
        eps: float = 1e-8,
    ) -> None:
        super().__init__(tables, {"lr": lr, "weight_decay": weight_decay, "beta": beta, "eps": eps})

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> None:  # type: ignore[override]
        """One step down the gradients that are set."""
        assert closure is None
        for group in self.param_groups:
            for table in group["params"]:
                if table.grad is not None:
                    self._descend(table, table.grad, group)

    def _descend(self, table: Tensor, gradient: Tensor, group: dict[str, Any]) -> None:
        items, slope = gradient._indices()[0], gradient._values()
        state, beta, rate = self.state[table], group["beta"], group["lr"]
        if not state:
            # Zeros that nobody has written to take no memory: rows never touched have no mean square.
            state["square"], state["last"] = torch.zeros_like(table), torch.zeros_like(table[:, :1])
            state["step"] = torch.zeros(())
        state["step"] += 1
        step = float(state["step"])
        square = beta ** (step - state["last"][items]) * state["square"][items]
        square.addcmul_(slope, slope, value=1 - beta)
        state["square"][items], state["last"][items] = square, step
        spread = square.div_(1 - beta**step).sqrt_().add_(group["eps"])
        decay = group["weight_decay"] if table.shape[1] > 1 else 0.0
        table[items] = table[items].mul_(1 - rate * decay).addcdiv_(slope, spread, value=-rate)


class Tables:
    """The item tables of a policy and their optimiser; `touched` is what the last loss was made of."""

    def __init__(self, policy: SoftmaxPolicy, learning_rate: float, weight_decay: float = 0.0) -> None:
        self.tables = tables_of(policy)
        self.optimiser = RowRMSprop(self.tables.values(), learning_rate, weight_decay)
        self.touched: Touched | None = None

    def others(self, model: nn.Module) -> list[nn.Parameter]:
        """The model's weights but for the tables."""
        ours = {id(table) for table in self.tables.values()}
        return [weight for weight in model.parameters() if id(weight) not in ours]

    def leaves(self) -> list[Tensor]:
        """The rows that gather gradients."""
        return [] if self.touched is None else list(self.touched.rows.values())

    def step(self) -> None:
        """Moves the touched rows down their gradients."""
        if self.touched is None:
            return
        for name, rows in self.touched.rows.items():
            if rows.grad is not None:
                place = self.touched.items_of(name)[None]
                shape = self.tables[name].shape
                self.tables[name].grad = torch.sparse_coo_tensor(place, rows.grad, shape, check_invariants=False)
        self.optimiser.step()
        self.optimiser.zero_grad(set_to_none=True)
        self.touched = None
