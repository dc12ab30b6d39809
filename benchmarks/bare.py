"""Interest evolution with a uniform recommender as a bare torch loop: the same mathematics, no RecSim NG, no runtime.

Draws have the same addresses as in the world, so that the two can be checked to compute the same.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor
from torch._higher_order_ops.while_loop import while_loop

from recil.random import Streams, uniform_at
from recil.sim.compiled import loop_options
from recil.sim.worlds.interest_evolution import InterestEvolutionSettings, TopicCorpus


class State(NamedTuple):
    """All that the world's variables hold of a step."""

    interest: Tensor
    items: Tensor
    features: Tensor
    quality: Tensor
    length: Tensor
    choice: Tensor
    reward: Tensor
    total: Tensor
    cumulative: Tensor


def bare_step(settings: InterestEvolutionSettings, users: int) -> tuple[Callable[[], State], Callable[..., State]]:
    """(start, step): the first state, and the function (number, state) -> state of a step."""
    corpus, streams, sessions = TopicCorpus(settings), Streams(0), torch.arange(users)
    features, quality, length = corpus.features, corpus.quality, corpus.length
    size, items = settings.slate_size, settings.items
    keys = {name: streams.keys(name, sessions) for name in ("offer.items", "response.choice", "user.interest")}
    everybody, positions = torch.arange(users), torch.arange(size)
    zero = torch.zeros(users, 1)

    def slates(number: int | Tensor) -> Tensor:
        taken: list[Tensor] = []
        chosen = []
        for place, uniform in enumerate(uniform_at(keys["offer.items"], number, size, torch.float64).unbind(-1)):
            item = (uniform * (items - place)).long()
            for other in taken:
                item = item + (item >= other)
            chosen.append(item)
            ascending = []
            for other in taken:
                ascending.append(torch.minimum(other, item))
                item = torch.maximum(other, item)
            taken = [*ascending, item]
        return torch.stack(chosen, -1)

    def respond(number: int | Tensor, interest: Tensor, cumulative: Tensor) -> State:
        shown = slates(number)
        at, good, long = features[shown], quality[shown], length[shown]
        logits = 2.0 - torch.linalg.vector_norm(interest[:, None] - at, dim=-1)
        logits = torch.cat([logits, zero], -1)
        weight = (logits - logits.amax(-1, keepdim=True)).exp()
        edges = [weight[:, 0]]
        for place in range(1, size + 1):
            edges.append(edges[-1] + weight[:, place])
        aim = uniform_at(keys["response.choice"], number)[:, 0] * edges[-1]
        choice = torch.zeros(users, dtype=torch.int64)
        for edge in edges[:-1]:
            choice = choice + (edge < aim)
        consumed = 1 / (1 + torch.exp(good)) * long
        reward = torch.where(choice[:, None] == positions, consumed, 0.0)
        total = reward.sum(-1)
        return State(interest, shown, at, good, long, choice, reward, total, cumulative + total)

    def start() -> State:
        first = torch.special.ndtri(uniform_at(keys["user.interest"], 0, settings.topics))
        return respond(0, first, torch.zeros(users))

    def step(number: int | Tensor, before: State) -> State:
        place = before.choice.clamp(max=size - 1)
        good, at = before.quality[everybody, place], before.features[everybody, place]
        pace = torch.where(before.choice < size, settings.step_size * good, 0.0)
        moved = torch.addcmul(before.interest, pace[:, None], at - before.interest)
        interest = 4 * settings.limit * (1 / (1 + torch.exp(-moved / settings.limit)) - 0.5)
        return respond(number, interest, before.cumulative)

    return start, step


def eager(settings: InterestEvolutionSettings, users: int) -> Callable[[int], State]:
    """The loop in Python."""
    start, step = bare_step(settings, users)

    def run(horizon: int) -> State:
        state = start()
        for number in range(1, horizon):
            state = step(number, state)
        return state

    return run


def compiled(settings: InterestEvolutionSettings, users: int) -> Callable[[int], State]:
    """The loop compiled as a whole, its wrapper in C++."""
    start, step = bare_step(settings, users)

    def loop(number: Tensor, last: Tensor, *state: Tensor) -> tuple[Tensor, ...]:
        def goes_on(number: Tensor, *state: Tensor) -> Tensor:
            return number < last

        def body(number: Tensor, *state: Tensor) -> tuple[Tensor, ...]:
            return (number + 1, *step(number, State(*state)))

        return while_loop(goes_on, body, (number, *state))[1:]

    fast_start = torch.compile(start, fullgraph=True, dynamic=False)
    fast_loop = torch.compile(loop, fullgraph=True, dynamic=False, options=loop_options(users * 64))

    def run(horizon: int) -> State:
        state = tuple(part.clone() for part in fast_start())
        return State(*fast_loop(torch.tensor(1), torch.tensor(horizon), *state))

    return run
