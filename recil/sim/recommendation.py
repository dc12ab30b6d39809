"""The recommendation story: corpus, user, recommender and metrics, wired into variables.

Swapping a user model or a recommender is swapping what is handed to `recommendation_story`. Each step runs

    corpus -> available -> offer -> slate -> response -> outcome -> metrics

with the states of corpus, user and recommender following from the step before. RecSim NG's recs_story, with two
differences: what follows from a draw (slate features from drawn items, an outcome from a drawn response) is a variable
of its own, so that every draw can be observed; and metrics count the response of their own step, not of the one before.
"""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from recsim_ng.core.value import Value, ValueSpec
from recsim_ng.core.variable import Variable, value
from torch import Tensor

from recil.sim.fields import Field


class Corpus(Protocol):
    """What can be recommended. moves: False where it stays as it was; its next state is then never asked for."""

    @property
    def moves(self) -> bool: ...

    def initial_state(self) -> Value: ...

    def next_state(self, before: Value, slate: Value, response: Value, outcome: Value) -> Value: ...

    def available(self, state: Value) -> Value:
        """Features of the items that can be shown, [A, ...] each."""
        ...

    def specs(self) -> ValueSpec:
        """Specs under the prefixes `state` and `available`."""
        ...


class User(Protocol):
    """Whoever looks at slates; all values lead with the batch of users [B]."""

    def initial_state(self) -> Value: ...

    def next_state(self, before: Value, slate: Value, response: Value, outcome: Value) -> Value: ...

    def observation(self, state: Value) -> Value:
        """What the recommender may see of the state before it makes an offer."""
        ...

    def response(self, state: Value, slate: Value) -> Value:
        """What the user does: distributions."""
        ...

    def outcome(self, state: Value, slate: Value, response: Value) -> Value:
        """What follows from it; holds `reward`, [B, K], one number per item shown."""
        ...

    def specs(self) -> ValueSpec:
        """Specs under the prefixes `state`, `observation`, `response` and `outcome`."""
        ...


class Recommender(Protocol):
    """Who makes the slates."""

    def initial_state(self) -> Value: ...

    def next_state(self, before: Value, slate: Value, response: Value, outcome: Value) -> Value: ...

    def offer(self, state: Value, observation: Value, available: Value) -> Value:
        """Holds `items`, int64 [B, K] or a distribution over such; -1: nothing."""
        ...

    def specs(self) -> ValueSpec:
        """Specs under the prefixes `state` and `offer`."""
        ...


@runtime_checkable
class SlateMaker(Recommender, Protocol):
    """A recommender that offers something other than items, and makes the slates of it itself."""

    def slate(self, observation: Value, available: Value, offer: Value) -> Value:
        """Holds `items`, int64 [B, K], and what users see of them; nothing is random. Specs: `slate`, too."""
        ...


class Metrics(Protocol):
    """What is counted along the way, from the step's own response on."""

    def first(self, user: Value, slate: Value, response: Value, outcome: Value) -> Value: ...

    def next(self, before: Value, user: Value, slate: Value, response: Value, outcome: Value) -> Value: ...

    def specs(self) -> ValueSpec: ...


def shown(available: Value, items: Tensor) -> Value:
    """The features of the items on slates, [B, K, ...], of what is available, [A, ...]. items: int64 [B, K]."""
    return available.map(lambda field: field[items])


def recommendation_story(
    corpus: Corpus, user: User, recommender: Recommender, metrics: Metrics | None = None
) -> list[Variable]:
    """The variables corpus, available, user, observation, recommender, offer, slate, response, outcome and metrics."""
    made, of_users, of_offers = corpus.specs(), user.specs(), recommender.specs()
    state = Variable("corpus", made.get("state"))
    available = Variable("available", made.get("available"))
    person = Variable("user", of_users.get("state"))
    observation = Variable("observation", of_users.get("observation"))
    memory = Variable("recommender", of_offers.get("state"))
    offer = Variable("offer", of_offers.get("offer"))
    on_slates = ValueSpec(
        **{name: Field() for part in (made.get("available"), of_offers.get("offer")) for name in part.as_dict}
    )
    own = recommender if isinstance(recommender, SlateMaker) else None
    slate = Variable("slate", on_slates if own is None else of_offers.get("slate"))
    response = Variable("response", of_users.get("response"))
    outcome = Variable("outcome", of_users.get("outcome"))

    happened = (slate.previous, response.previous, outcome.previous)
    state.initial_value = value(corpus.initial_state)
    if corpus.moves:
        state.value = value(corpus.next_state, (state.previous, *happened))
    available.value = value(corpus.available, (state,))
    person.initial_value = value(user.initial_state)
    person.value = value(user.next_state, (person.previous, *happened))
    observation.value = value(user.observation, (person,))
    memory.initial_value = value(recommender.initial_state)
    memory.value = value(recommender.next_state, (memory.previous, *happened))
    offer.value = value(recommender.offer, (memory, observation, available))
    slate.value = (
        value(_slate, (available, offer)) if own is None else value(own.slate, (observation, available, offer))
    )
    response.value = value(user.response, (person, slate))
    outcome.value = value(user.outcome, (person, slate, response))
    variables = [state, available, person, observation, memory, offer, slate, response, outcome]
    if metrics is not None:
        counted = Variable("metrics", metrics.specs())
        counted.initial_value = value(metrics.first, (person, slate, response, outcome))
        counted.value = value(metrics.next, (counted.previous, person, slate, response, outcome))
        variables.append(counted)
    return variables


def _slate(available: Value, offer: Value) -> Value:
    # Where nothing is offered (-1) the features are those of some item; `items` says that it is not there.
    return shown(available, offer.get("items")).union(offer)
