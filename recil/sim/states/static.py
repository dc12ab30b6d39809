"""States that are drawn once and stay: a row of a dictionary, or a vector from a Gaussian mixture."""

from __future__ import annotations

from recsim_ng.core.value import Value, ValueSpec
from torch import Tensor
from torch.nn import functional as F

from recil.sim.distributions import Certain
from recil.sim.entity import Entity
from recil.sim.fields import RandomField
from recil.sim.spaces import Integers, Reals
from recil.sim.states.mixture import Mixture, normal_mixture, one_of
from recil.sim.states.parameters import adopt_precision, check_lead


class StaticMixture(Entity):
    """A state from a finite mixture, kept from then on. Field: `state`.

    Its likelihood sums over the parts. Where the part itself must be seen (a document and its provider), let
    `MixtureComponent(model)` be one variable and `state_given` make another from it.
    """

    def mixture(self) -> Mixture:
        """The distribution of the initial state, batch shape [B]."""
        raise NotImplementedError

    def initial_state(self) -> Value:
        return Value(state=self.mixture())

    def state_given(self, component: Value) -> Value:
        """The initial state once the part is known. component: a value of `MixtureComponent`."""
        return Value(state=self.mixture().given(component.get("component")))

    def next_state(self, old: Value, inputs: Value | None = None) -> Value:
        state = old.get("state")
        return Value(state=Certain(state, state.ndim - 1))

    def specs(self) -> ValueSpec:
        return ValueSpec(state=RandomField(Reals(tuple(self.mixture().event_shape))))


class MixtureComponent(Entity):
    """Which part of a static mixture each session's state comes from. Field: `component`, int64 [B]."""

    def __init__(self, model: StaticMixture) -> None:
        super().__init__()
        self.model = model

    def initial_state(self) -> Value:
        return Value(component=self.model.mixture().component)

    def next_state(self, old: Value, inputs: Value | None = None) -> Value:
        return Value(component=Certain(old.get("component")))

    def specs(self) -> ValueSpec:
        return ValueSpec(component=RandomField(Integers(self.model.mixture().logits.shape[-1])))


class StaticTensor(StaticMixture):
    """A row of a dictionary, chosen by logits.

    dictionary: [B or 1, N, *event]; logits: [B or 1, N]. Rows may be equal: their probabilities add up. ValueError for
    other shapes. RecSim NG's StaticTensor.
    """

    def __init__(self, batch: int, dictionary: Tensor, logits: Tensor) -> None:
        super().__init__()
        check_lead("dictionary", dictionary, batch, max(2, dictionary.ndim))
        check_lead("logits", logits, batch, 2)
        _check_count("logits", logits.shape[1], "rows", dictionary.shape[1])
        self.batch = batch
        self.dictionary = self.constant("dictionary", dictionary)
        self.logits = self.constant("logits", logits)
        adopt_precision(self)

    def mixture(self) -> Mixture:
        return one_of(self.logits.expand(self.batch, -1), self.dictionary)


class HierarchicalStaticTensor(StaticMixture):
    """A row of a dictionary: first a cluster by logits, then one of its members, each as likely as the others.

    dictionary: [B or 1, N, *event]; clusters: int64 [B or 1, N], each row's cluster; logits: [B or 1, C]. ValueError
    for other shapes and for a cluster without members. RecSim NG's HierarchicalStaticTensor.
    """

    def __init__(self, batch: int, dictionary: Tensor, clusters: Tensor, logits: Tensor) -> None:
        super().__init__()
        check_lead("dictionary", dictionary, batch, max(2, dictionary.ndim))
        check_lead("clusters", clusters, batch, 2)
        check_lead("logits", logits, batch, 2)
        _check_count("clusters", clusters.shape[1], "rows", dictionary.shape[1])
        self.batch = batch
        self.dictionary = self.constant("dictionary", dictionary)
        self.clusters = self.constant("clusters", clusters)
        self.logits = self.constant("logits", logits)
        sizes = _members(clusters, logits.shape[1]).to(logits.dtype)
        self.share = self.constant("share", -sizes.log().gather(1, clusters))
        adopt_precision(self)

    def mixture(self) -> Mixture:
        cluster = self.logits.expand(self.batch, -1).gather(1, self.clusters.expand(self.batch, -1))
        return one_of(cluster + self.share, self.dictionary)


class GaussianMixture(StaticMixture):
    """A vector from a mixture of normal distributions with independent coordinates.

    logits: [B or 1, N]; means: [B or 1, N, D]; scales: one number, [B or 1, N] (coordinates alike) or [B or 1, N, D].
    ValueError for other shapes and for scales that are not positive. RecSim NG's GMMVector.
    """

    def __init__(self, batch: int, logits: Tensor, means: Tensor, scales: Tensor | float = 1.0) -> None:
        super().__init__()
        check_lead("logits", logits, batch, 2)
        check_lead("means", means, batch, 3)
        _check_count("logits", logits.shape[1], "means", means.shape[1])
        self.batch = batch
        self.logits = self.constant("logits", logits)
        self.means = self.constant("means", means)
        self.scales = self.constant("scales", scales)
        if self.scales.ndim:
            check_lead("scales", self.scales, batch, 3 if self.scales.ndim == 3 else 2)
            _check_count("scales", self.scales.shape[1], "means", means.shape[1])
        if not bool((self.scales > 0).all()):
            raise ValueError(f"scales: {float(self.scales.detach().min()):g} among them; wanted positive numbers")
        adopt_precision(self)

    def mixture(self) -> Mixture:
        scales = self.scales if self.scales.ndim == 3 else self.scales[..., None]
        if scales.ndim == 1:
            scales = scales[None, None]
        return normal_mixture(self.logits.expand(self.batch, -1), self.means, scales.to(self.means.dtype))


def _check_count(name: str, count: int, other: str, wanted: int) -> None:
    if count != wanted:
        raise ValueError(f"{name}: {count} of them for {wanted} {other}")


def _members(clusters: Tensor, count: int) -> Tensor:
    """[B or 1, C]: how many rows each cluster has. ValueError where that is none."""
    if bool(((clusters < 0) | (clusters >= count)).any()):
        raise ValueError(f"clusters: {int(clusters.min())} to {int(clusters.max())}; wanted 0 to {count - 1}")
    sizes = F.one_hot(clusters, count).sum(1)
    empty = (sizes == 0).nonzero()
    if len(empty):
        raise ValueError(f"clusters: none of the rows is in cluster {int(empty[0, 1])} (dictionary {int(empty[0, 0])})")
    return sizes
