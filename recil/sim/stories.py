"""Stories: how users, slates and time are wired together. One half is shared by fitting and simulating.

`responses` makes the users' half of a network around any variable that shows slates. With logged slates it is the story
that fitting scores; with a recommender it is the story that simulation draws.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from recsim_ng.core.network import Network
from recsim_ng.core.value import Value, ValueSpec
from recsim_ng.core.variable import Variable, value
from torch import Tensor

from recil.logs.history import History
from recil.policies.protocol import Policy
from recil.random import Streams
from recil.sim.behaviour import Behaviour, Catalogue, Mood, Traits
from recil.sim.feedback import as_logged
from recil.sim.fields import Field, RandomField
from recil.sim.network import network_of
from recil.sim.replay import replay_sessions

CLICKS = "response.clicks"
LEAVES = "departure.leaves"
ANSWERS = "answers"


def _static(name: str, make: Callable[[], Value], fields: tuple[str, ...]) -> Variable:
    variable = Variable(name, ValueSpec(**{field: Field() for field in fields}))
    variable.initial_value = value(make)
    return variable


def _context(model: Behaviour, slate: Value) -> Mapping[str, Tensor]:
    return {spec.name: slate.get(f"context.{spec.name}") for spec in model.layout.contexts}


def _clock() -> Variable:
    clock = Variable("clock", ValueSpec(step=Field()))
    clock.initial_value = value(lambda: Value(step=0))
    clock.value = value(lambda before: Value(step=before.get("step") + 1), (clock.previous,))
    return clock


def _feelings(model: Behaviour, catalogue: Variable, traits: Variable, slate: Variable) -> list[Variable]:
    """Mood before a slate, the clicks it draws (random), and the mood after, which is the next step's mood before."""
    mood = Variable("mood", ValueSpec(**{name: Field() for name in Mood._fields}))
    response = Variable("response", ValueSpec(clicks=RandomField()))
    aftermath = Variable("aftermath", ValueSpec(**{name: Field() for name in Mood._fields}))

    def begin(who: Value) -> Value:
        return Value(**model.mood_at_start(Traits(**who.as_dict))._asdict())

    def click(items: Value, who: Value, now: Value, shown: Value) -> Value:
        state = Catalogue(**items.as_dict), Traits(**who.as_dict), Mood(**now.as_dict)
        return Value(clicks=model.clicks(*state, shown.get("items"), _context(model, shown)))

    def feel(items: Value, who: Value, now: Value, shown: Value, did: Value) -> Value:
        state = Catalogue(**items.as_dict), Traits(**who.as_dict), Mood(**now.as_dict)
        return Value(**model.advance(*state, shown.get("items"), did.get("clicks"))._asdict())

    mood.initial_value = value(begin, (traits,))
    mood.value = value(lambda after: after, (aftermath.previous,))
    response.value = value(click, (catalogue, traits, mood, slate))
    aftermath.value = value(feel, (catalogue, traits, mood, slate, response))
    return [mood, response, aftermath]


def _answers(
    model: Behaviour, catalogue: Variable, traits: Variable, mood: Variable, slate: Variable, response: Variable
) -> Variable:
    """Feedback on the items of a slate beside the clicks (random), a field for each kind."""

    def answer(items: Value, who: Value, now: Value, shown: Value, did: Value) -> Value:
        state = Catalogue(**items.as_dict), Traits(**who.as_dict), Mood(**now.as_dict)
        return Value(**model.feedback(*state, shown.get("items"), _context(model, shown), did.get("clicks")))

    names = (feature.name for feature in model.layout.feedback)
    variable = Variable(ANSWERS, ValueSpec(**{name: RandomField() for name in names}))
    variable.value = value(answer, (catalogue, traits, mood, slate, response))
    return variable


def responses(
    model: Behaviour,
    slate: Variable,
    item_columns: Mapping[str, Tensor],
    kind: Tensor,
    user_columns: Mapping[str, Tensor],
) -> list[Variable]:
    """The users' half of a story: catalogue, traits, clock, mood, response (random), aftermath, departure (random).

    Where users give feedback beside clicks, it is the variable `answers` (random).
    slate: a variable with the fields items [B, K] and context.*; kind: int64 [B], the users' types.
    """
    catalogue = _static("catalogue", lambda: Value(**model.catalogue(item_columns)._asdict()), Catalogue._fields)
    traits = _static("traits", lambda: Value(**model.traits(kind, user_columns)._asdict()), Traits._fields)
    clock = _clock()
    mood, response, aftermath = _feelings(model, catalogue, traits, slate)

    def leave(who: Value, after: Value, shown: Value, did: Value, time: Value) -> Value:
        person, feeling = Traits(**who.as_dict), Mood(**after.as_dict)
        return Value(leaves=model.leaving(person, feeling, shown.get("items"), did.get("clicks"), time.get("step")))

    departure = Variable("departure", ValueSpec(leaves=RandomField()))
    departure.value = value(leave, (traits, aftermath, slate, response, clock))
    users = [catalogue, traits, clock, mood, slate, response, aftermath, departure]
    if model.layout.feedback:
        users.append(_answers(model, catalogue, traits, mood, slate, response))
    return users


def _slate_spec(model: Behaviour, **fields: Field) -> ValueSpec:
    return ValueSpec(items=Field(), **fields, **{f"context.{spec.name}": Field() for spec in model.layout.contexts})


def logged_story(model: Behaviour, sessions: History, item_columns: Mapping[str, Tensor], kind: Tensor) -> Network:
    """Users respond to logged slates: what fitting and validation score. kind: int64 [B]."""
    slate = replay_sessions("slate", sessions, context=(spec.name for spec in model.layout.contexts))
    return network_of(responses(model, slate, item_columns, kind, sessions.user))


def feedback_of(model: Behaviour, answers: Value | None) -> dict[str, Tensor]:
    """Simulated answers as columns of a log, name -> [B, K]."""
    kinds = model.layout.feedback
    return {} if answers is None else {kind.name: as_logged(kind, answers.get(kind.name)) for kind in kinds}


def recommended_story(
    model: Behaviour,
    policy: Policy,
    start: History,
    item_columns: Mapping[str, Tensor],
    kind: Tensor,
    streams: Streams,
) -> Network:
    """Users respond to a policy: what simulation draws.

    start: empty histories of the sessions, with user columns and contexts [B, H]. Users who have left are shown
    nothing. The `history` variable holds the sessions before the current slate.
    """
    history = Variable("history", ValueSpec(sessions=Field()))
    presence = Variable("presence", ValueSpec(present=Field()))
    slate = Variable("slate", _slate_spec(model, propensity=Field()))

    def show(past: Value, here: Value) -> Value:
        sessions: History = past.get("sessions")
        offered = policy.sample(sessions, start.slate_size, streams)
        present = here.get("present")[:, None]
        step = sessions.steps
        contexts = {f"context.{spec.name}": sessions.context[spec.name][:, step] for spec in model.layout.contexts}
        return Value(
            items=torch.where(present, offered.items, -1),
            propensity=torch.where(present, offered.log_prob.exp(), 1.0),
            **contexts,
        )

    slate.value = value(show, (history, presence))
    users = responses(model, slate, item_columns, kind, start.user)
    by_name = {variable.name: variable for variable in users}

    def remember(past: Value, shown: Value, did: Value, answered: Value | None = None) -> Value:
        feedback = feedback_of(model, answered)
        sessions = past.get("sessions")
        return Value(sessions=sessions.append(shown.get("items"), did.get("clicks"), shown.get("propensity"), feedback))

    before = (history, slate, by_name["response"], *([by_name[ANSWERS]] if ANSWERS in by_name else []))
    history.initial_value = value(lambda: Value(sessions=start))
    history.value = value(remember, tuple(variable.previous for variable in before))
    presence.initial_value = value(lambda: Value(present=torch.ones_like(kind, dtype=torch.bool)))
    presence.value = value(
        lambda here, gone: Value(present=here.get("present") & (gone.get("leaves") == 0)),
        (presence.previous, by_name["departure"].previous),
    )
    return network_of([*users, history, presence])
