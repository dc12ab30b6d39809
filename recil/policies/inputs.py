"""How columns of a log become vectors: item tables, feature embeddings, the input of one step."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar, cast

import torch
from torch import Tensor, nn

from recil.errors import InputError
from recil.logs.history import History
from recil.logs.session_log import Column

_Module = TypeVar("_Module", bound=nn.Module)
# To a network larger rewards look like this one: products of what float64 holds overflow float32.
LARGEST_REWARD = 2.0**24


@dataclass(frozen=True)
class Feature:
    """A column that a policy looks at.

    name        the column's name in the log
    categories  number of codes, or None for a numeric column
    mean        what is taken off a numeric column
    scale       what a numeric column is divided by, after its mean was taken off
    """

    name: str
    categories: int | None = None
    mean: float = 0.0
    scale: float = 1.0

    def __post_init__(self) -> None:
        if not self.scale > 0:
            raise InputError(f"feature {self.name}", f"scale is {self.scale}", "give a scale above 0")

    @staticmethod
    def of(name: str, column: Column) -> Feature:
        """The feature that reads this column; numeric columns are standardised over the column."""
        if column.categories is not None:
            return Feature(name, len(column.categories))
        values = column.values[torch.isfinite(torch.from_numpy(column.values)).numpy()].astype("float64")
        spread = float(values.std()) if values.size else 0.0
        return Feature(name, None, float(values.mean()) if values.size else 0.0, spread if spread > 0 else 1.0)


def features_of(columns: Mapping[str, Column]) -> tuple[Feature, ...]:
    """One feature for each column, in order of their names."""
    return tuple(Feature.of(name, columns[name]) for name in sorted(columns))


def blank(module: type[_Module], *sizes: int, **options: object) -> _Module:
    """A module with unset weights: made without a draw from the global generator; `initialise` sets them."""
    return module(*sizes, device="meta", **options).to_empty(device="cpu")


@torch.no_grad()
def initialise(module: nn.Module, generator: torch.Generator) -> None:
    """Set every weight below `module` from this generator: vectors small and normal, matrices scaled by fan-in."""
    for part in module.modules():
        if isinstance(part, nn.Embedding):
            part.weight.normal_(0.0, part.embedding_dim**-0.5, generator=generator)
        elif isinstance(part, nn.Linear | nn.GRU):
            for name, weight in part.named_parameters():
                if name.startswith("bias"):
                    weight.zero_()
                else:
                    weight.normal_(0.0, weight.shape[1] ** -0.5, generator=generator)
    for part in module.modules():
        if isinstance(part, FeatureVectors) and part.feature.categories is None:
            part.vectors.weight.mul_(part.vectors.weight.shape[0] ** -0.5)
        elif isinstance(part, FeatureVectors):
            # What is missing says nothing until something was learned about it.
            part.vectors.weight[0].zero_()


class FeatureVectors(nn.Module):
    """One column as vectors: an embedding of codes (row 0 for missing), or a line through a numeric value."""

    def __init__(self, feature: Feature, width: int) -> None:
        super().__init__()
        self.feature = feature
        self.vectors: nn.Linear | nn.Embedding
        if feature.categories is None:
            self.vectors = blank(nn.Linear, 1, width)
        else:
            self.vectors = blank(nn.Embedding, feature.categories + 1, width)

    def forward(self, values: Tensor | None, shape: tuple[int, ...], like: Tensor) -> Tensor:
        """values: [*shape], or None where the column is unknown. Returns [*shape, width].

        A missing code is -1 and has a vector of its own. A missing number is 0, as a log pads its numeric columns;
        where the whole column is unknown, it counts as its mean.
        """
        feature = self.feature
        if feature.categories is None:
            if values is None:
                return self.vectors(like.new_zeros((*shape, 1)))
            number = values.to(like.dtype).nan_to_num()
            return self.vectors(((number - feature.mean) / feature.scale)[..., None])
        if values is None:
            return self.vectors.weight[0].expand(*shape, -1)
        if values.is_floating_point() or (values.numel() and int(values.max()) >= feature.categories):
            found = "numbers" if values.is_floating_point() else f"code {int(values.max())}"
            raise InputError(
                f"column {feature.name}",
                f"{found} where the policy knows {feature.categories} categories",
                "use a log with the categories that the policy was trained on",
            )
        return self.vectors(values.clamp(min=-1).long() + 1)


class FeatureList(nn.ModuleList):
    """FeatureVectors, one for each feature."""

    def __init__(self, features: Iterable[Feature], width: int) -> None:
        super().__init__(FeatureVectors(feature, width) for feature in features)

    def __iter__(self) -> Iterator[FeatureVectors]:
        return cast(Iterator[FeatureVectors], super().__iter__())


class ItemTable(nn.Module):
    """A vector for every item: its own, plus shared vectors of its features (the mean over a set's members)."""

    def __init__(self, items: int, width: int, features: Sequence[Feature], columns: Sequence[Tensor]) -> None:
        """columns: the values of each feature, [A] or [A, M] (codes, -1 missing, or float)."""
        super().__init__()
        self.own = blank(nn.Embedding, items, width)
        self.features = FeatureList(features, width)
        for index, values in enumerate(columns):
            self.register_buffer(f"column_{index}", values)

    def columns(self) -> dict[str, Tensor]:
        """The values behind its features, name -> [A] or [A, M]."""
        return {part.feature.name: self.get_buffer(f"column_{index}") for index, part in enumerate(self.features)}

    def forward(self) -> Tensor:
        """[A, width]"""
        return self._with_features(self.own.weight, None)

    def at(self, items: Tensor) -> Tensor:
        """The vectors of some items, int64 [n], and of no others. [n, width]"""
        return self._with_features(self.own(items), items)

    def _with_features(self, table: Tensor, items: Tensor | None) -> Tensor:
        for index, part in enumerate(self.features):
            values = self.get_buffer(f"column_{index}")
            values = values if items is None else values[items]
            vectors = part(values, tuple(values.shape), table)
            if values.ndim == 2:
                member = (values >= 0).to(table.dtype)[..., None]
                vectors = (vectors * member).sum(1) / member.sum(1).clamp(min=1)
            table = table + vectors
        return table


class StepInput(nn.Module):
    """What a step tells: the pooled items shown, the rewarded ones apart, and each feedback column.

    The items of a slate are a bag: the mean of their vectors, each scaled by gates for the feedback on it, so that
    the same item answered differently is a different input.
    """

    def __init__(self, feedback: Iterable[Feature], width: int) -> None:
        super().__init__()
        columns = tuple(feedback)
        self.feedback = FeatureList(columns, width)
        self.gates = FeatureList(columns, width)
        self.width = width

    @property
    def parts(self) -> int:
        return 2 + len(self.feedback)

    def forward(self, table: Tensor, history: History) -> Tensor:
        """table: [A, D], the items' vectors. Returns [B, T, parts * D], 0 in steps without an item."""
        shape = tuple(history.items.shape)
        shown = history.shown.to(table.dtype)[..., None]
        share = shown / shown.sum(2, keepdim=True).clamp(min=1)
        vectors = nn.functional.embedding(history.items.clamp(min=0), table)
        for gate in self.gates:
            vectors = vectors * (1 + gate(history.feedback.get(gate.feature.name), shape, table))
        reward = history.reward.clamp(-LARGEST_REWARD, LARGEST_REWARD).to(table.dtype)
        parts = [(vectors * share).sum(2), (vectors * share * reward[..., None]).sum(2)]
        for part in self.feedback:
            answer = part(history.feedback.get(part.feature.name), shape, table)
            parts.append((answer * share).sum(2))
        return torch.cat(parts, -1)
