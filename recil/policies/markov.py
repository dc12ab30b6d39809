"""A first-order Markov recommender: the next item by the last one and how the user answered it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from recil.errors import InputError
from recil.logs.history import History
from recil.logs.session_log import SessionLog
from recil.policies.folder import checked_tensor
from recil.policies.inputs import Feature
from recil.policies.scored import ScoredPolicy
from recil.policies.sparse import SparseRows
from recil.random import stable_hash

_STRENGTHS = tuple(2.0**power for power in range(-2, 12))
_LARGEST_NUMBER_OF_CONTEXTS = 100_000_000


@dataclass(frozen=True, eq=False)
class Transitions:
    """Counts of what followed what, backed off from (item, answer) to the item to popularity.

    answers     the feedback columns that make up the answer, all categorical
    strength    (of the item's distribution below (item, answer)'s, of popularity below the item's), in observations
    by_answer   [A * codes, A], counts by last item and answer
    by_item     [A, A], counts by last item
    popularity  float32 [A], share of each item among what followed, smoothed
    first       float32 [A], share of each item among what sessions started with, smoothed
    """

    answers: tuple[Feature, ...]
    strength: tuple[float, float]
    by_answer: SparseRows
    by_item: SparseRows
    popularity: Tensor
    first: Tensor
    kind = "transitions"

    @property
    def catalogue(self) -> int:
        return len(self.popularity)

    def log_weights(self, history: History) -> Tensor:
        device = history.items.device
        popularity, first = self.popularity.to(device), self.first.to(device)
        item, answer = self._last(history)
        one = torch.ones((history.batch, 1), dtype=popularity.dtype, device=device)
        context = item.clamp(min=0) * codes(self.answers) + answer
        by_item = self.by_item.to(device).weighted_sum(item.clamp(min=0)[:, None], one)
        by_answer = self.by_answer.to(device).weighted_sum(context[:, None], one)
        likely = backed_off(by_answer, backed_off(by_item, popularity, self.strength[1]), self.strength[0])
        return torch.where((item >= 0)[:, None], likely, first).log()

    def _last(self, history: History) -> tuple[Tensor, Tensor]:
        """The item that the last step leaves behind (-1 before the first), and the code of its answer, [B] each."""
        if not history.steps:
            return torch.full_like(history.length, -1), torch.zeros_like(history.length)
        step = (history.length - 1).clamp(min=0)[:, None, None].expand(-1, 1, history.slate_size)
        items, reward = history.items.gather(1, step)[:, 0], history.reward.gather(1, step)[:, 0]
        place = _left_behind(items, reward)
        item = torch.where(history.length > 0, items.gather(1, place)[:, 0], -1)
        answer = torch.zeros_like(item)
        for feature in self.answers:
            column = history.feedback.get(feature.name)
            value = torch.full_like(item, -1) if column is None else column.gather(1, step)[:, 0].gather(1, place)[:, 0]
            answer = answer * (_categories(feature) + 1) + value + 1
        return item, answer

    def parts(self) -> tuple[dict[str, Any], dict[str, Tensor]]:
        config = {
            "catalogue": self.catalogue,
            "answers": [asdict(feature) for feature in self.answers],
            "strength": list(self.strength),
        }
        tensors = {"popularity": self.popularity, "first": self.first}
        return config, tensors | self.by_answer.parts("by_answer") | self.by_item.parts("by_item")

    @staticmethod
    def from_parts(config: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> Transitions:
        catalogue = config["catalogue"]
        return Transitions(
            tuple(Feature(**feature) for feature in config["answers"]),
            (float(config["strength"][0]), float(config["strength"][1])),
            SparseRows.from_parts(tensors, "by_answer", catalogue),
            SparseRows.from_parts(tensors, "by_item", catalogue),
            checked_tensor(tensors, "popularity", (catalogue,)),
            checked_tensor(tensors, "first", (catalogue,)),
        )


def backed_off(count: Tensor, prior: Tensor, strength: float) -> Tensor:
    """(count + strength · prior) / (sum of counts + strength), the Dirichlet mean. count: [B, A]; prior: [A] or [B, A].

    Source: MacKay & Peto (1995), "A hierarchical Dirichlet language model".
    """
    return (count + strength * prior) / (count.sum(-1, keepdim=True) + strength)


def _left_behind(items: Tensor, reward: Tensor) -> Tensor:
    """Position of the first rewarded item of a slate, or else of its first item. items, reward: [n, K]; [n, 1]."""
    shown = items >= 0
    return (shown.to(torch.int8) + 2 * (shown & (reward > 0)).to(torch.int8)).argmax(1, keepdim=True)


def codes(answers: Sequence[Feature]) -> int:
    """The number of different answers, a missing one included for each column."""
    return int(np.prod([_categories(feature) + 1 for feature in answers], dtype=np.int64))


def _categories(feature: Feature) -> int:
    if feature.categories is None:
        raise InputError(f"column {feature.name}", "is numeric", "give categorical feedback columns")
    return feature.categories


def markov(log: SessionLog, feedback: Sequence[str] = (), strength: tuple[float, float] | None = None) -> ScoredPolicy:
    """The recommender that looks at the last item and at these feedback columns of it, smoothed.

    What a slate leaves behind is its first rewarded item, or else its first. `strength` says how many observations the
    broader distribution is worth (the item's below (item, answer)'s, popularity's below the item's); None chooses both
    by the likelihood of a tenth of the sessions under counts of the others.
    """
    answers = _answers(log, feedback)
    source, answer, target, session = _pairs(log, answers)
    if strength is None:
        strength = _choose_strength(log, answers, (source, answer, target, session))
    elif min(strength) <= 0:
        raise InputError("markov.strength", f"{strength} is not above 0", "give two numbers above 0")
    return ScoredPolicy(_counted(log, answers, strength, (source, answer, target)), log.item_ids)


def _answers(log: SessionLog, feedback: Sequence[str]) -> tuple[Feature, ...]:
    for name in feedback:
        if name not in log.feedback:
            raise InputError(
                f"feedback column {name}", "is not in the log", f"it has {', '.join(log.feedback) or 'none'}"
            )
    answers = tuple(Feature.of(name, log.feedback[name]) for name in feedback)
    if log.catalogue * codes(answers) > _LARGEST_NUMBER_OF_CONTEXTS:
        raise InputError(
            "markov", f"{log.catalogue} items by {codes(answers)} answers are too many", "use fewer columns"
        )
    return answers


def _pairs(log: SessionLog, answers: tuple[Feature, ...]) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Item left behind (-1 at a session's start), code of its answer, item shown next, session: int64 [n] each."""
    place = _left_behind(torch.from_numpy(log.items), torch.from_numpy(log.reward)).numpy()
    source = np.take_along_axis(log.items, place, 1)[:, 0].astype(np.int64)
    answer = np.zeros_like(source)
    for feature in answers:
        column = log.feedback[feature.name].values
        answer = answer * (_categories(feature) + 1) + np.take_along_axis(column, place, 1)[:, 0] + 1
    source, answer = np.roll(source, 1), np.roll(answer, 1)
    source[log.offsets[:-1]] = -1
    session = np.repeat(np.arange(log.sessions), log.lengths)
    row, position = np.nonzero(log.items >= 0)
    return source[row], answer[row], log.items[row, position].astype(np.int64), session[row]


def _counted(
    log: SessionLog,
    answers: tuple[Feature, ...],
    strength: tuple[float, float],
    pairs: tuple[np.ndarray, np.ndarray, np.ndarray],
) -> Transitions:
    source, answer, target = pairs
    follows = source >= 0
    popularity = np.bincount(target[follows], minlength=log.catalogue) + 1.0
    popularity /= popularity.sum()
    first = np.bincount(target[~follows], minlength=log.catalogue)
    first = (first + strength[1] * popularity) / (first.sum() + strength[1])
    context = source[follows] * codes(answers) + answer[follows]
    return Transitions(
        answers,
        strength,
        SparseRows.count(context, target[follows], log.catalogue * codes(answers), log.catalogue),
        SparseRows.count(source[follows], target[follows], log.catalogue, log.catalogue),
        torch.from_numpy(popularity.astype(np.float32)),
        torch.from_numpy(first.astype(np.float32)),
    )


def _choose_strength(
    log: SessionLog,
    answers: tuple[Feature, ...],
    pairs: tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray],
) -> tuple[float, float]:
    source, answer, target, session = pairs
    tenth = np.array([stable_hash("markov", name) % 10 == 0 for name in log.session_ids])[session]
    judged = tenth & (source >= 0)
    if not judged.any() or tenth.all():
        return 8.0, 64.0
    fitted = _counted(log, answers, (1.0, 1.0), (source[~tenth], answer[~tenth], target[~tenth]))
    item, shown = torch.from_numpy(source[judged]), torch.from_numpy(target[judged])
    context = item * codes(answers) + torch.from_numpy(answer[judged])
    narrow, narrow_sum = fitted.by_answer.entries(context, shown)
    broad, broad_sum = fitted.by_item.entries(item, shown)
    prior = fitted.popularity.double()[shown]

    def likelihood(strength: tuple[float, float]) -> float:
        by_item = (broad + strength[1] * prior) / (broad_sum + strength[1])
        return float(((narrow + strength[0] * by_item) / (narrow_sum + strength[0])).log().sum())

    return max(((own, item) for own in _STRENGTHS for item in _STRENGTHS), key=likelihood)
