"""The softmax policy: an encoder of the session and a vector for every item of the catalogue."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from recil.errors import InputError
from recil.logs.history import History
from recil.logs.session_log import SessionLog
from recil.ops.one_pass import slate_log_prob, weighted_log_prob
from recil.ops.slates import greedy_slates, plackett_luce_log_prob
from recil.ops.softmax import sample_inner_products
from recil.policies.encoders import Drop, Encoder, EncoderConfig
from recil.policies.folder import Parts, write_folder
from recil.policies.inputs import Feature, ItemTable, blank, features_of, initialise
from recil.policies.protocol import Slates
from recil.random import Streams


@dataclass(frozen=True)
class SoftmaxConfig:
    """What a softmax policy is built from.

    catalogue      A, the number of items
    encoder        how the session so far becomes a state
    item_features  columns of the items table whose vectors are added to the items' own
    temperature    what the logits are divided by: above 0, smaller is greedier
    tied           an item has one vector, as input of the encoder and as output: fewer weights, better where the log
                   shows most items a few times only
    """

    catalogue: int
    encoder: EncoderConfig = field(default_factory=EncoderConfig)
    item_features: tuple[Feature, ...] = ()
    temperature: float = 1.0
    tied: bool = False

    def __post_init__(self) -> None:
        if self.catalogue < 1:
            raise InputError("softmax policy", "the catalogue is empty", "give at least one item")
        if not self.temperature > 0:
            raise InputError("temperature", f"{self.temperature} is not above 0", "give a positive temperature")


class SoftmaxPolicy(nn.Module):
    """Slates drawn without replacement from a softmax of (state · item vector + item bias) / temperature.

    item_ids: the id behind each catalogue index, or None where the catalogue has no names.
    """

    kind = "softmax"
    output: ItemTable

    def __init__(
        self,
        config: SoftmaxConfig,
        item_ids: Sequence[Any] | np.ndarray | None = None,
        item_columns: Mapping[str, Tensor] | None = None,
        seed: int = 0,
    ) -> None:
        """item_columns: name -> values [A] or [A, M] of each of the config's item features."""
        super().__init__()
        self.config = config
        self.item_ids = None if item_ids is None else np.asarray(item_ids)
        columns = [(item_columns or {})[feature.name] for feature in config.item_features]
        table = (config.catalogue, config.encoder.width, config.item_features, columns)
        self.encoder = Encoder(config.encoder, ItemTable(*table))
        if config.tied:
            # Not as a module of its own: its weights are the encoder's, and stand in the state once.
            object.__setattr__(self, "output", self.encoder.items)
        else:
            self.output = ItemTable(*table)
        self.bias = blank(nn.Embedding, config.catalogue, 1)
        initialise(self, Streams(seed).generator("weights"))
        nn.init.zeros_(self.bias.weight)
        with torch.no_grad():
            # An untrained policy hardly prefers one item to another: what it prefers, it is to have learned.
            for weight in self.output.parameters():
                weight.mul_(0.1)

    @staticmethod
    def for_log(
        log: SessionLog,
        encoder: EncoderConfig | None = None,
        item_features: bool = True,
        seed: int = 0,
        tied: bool = False,
    ) -> SoftmaxPolicy:
        """An untrained policy over this log's catalogue that looks at all its columns."""
        features = features_of(log.item_features) if item_features else ()
        rows = np.arange(log.catalogue)
        return SoftmaxPolicy(
            SoftmaxConfig(log.catalogue, (encoder or EncoderConfig()).looking_at(log), features, tied=tied),
            log.item_ids,
            {feature.name: log.item_features[feature.name].tensor(rows) for feature in features},
            seed,
        )

    @property
    def catalogue(self) -> int:
        return self.config.catalogue

    @property
    def temperature(self) -> float:
        return self.config.temperature

    def at_temperature(self, temperature: float) -> SoftmaxPolicy:
        """The same policy, weights shared, with its logits divided by another temperature."""
        other = copy.copy(self)
        other.config = replace(self.config, temperature=temperature)
        return other

    def encode(self, history: History) -> Tensor:
        """The state before each step and before the coming slate, [B, T + 1, D]."""
        return self.encoder.encode(history)

    def before_steps(self, history: History, drop: Drop | None = None) -> Tensor:
        """The state before each step, [B, T, D]: what a last step leads to is not worked out. drop: see Encoder."""
        states = self.encoder.encode(history.prefix(max(history.steps - 1, 0)), drop)
        return states[:, : history.steps]

    def logits(self, states: Tensor) -> Tensor:
        """states: [..., D] -> [..., A]"""
        weight, bias = self.head()
        return nn.functional.linear(states, weight, bias)

    def head(self, items: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Item vectors [A, D] and biases [A], divided by the temperature; of these items alone where some are given."""
        if items is None:
            vectors, bias = self.output(), self.bias.weight[:, 0]
        else:
            vectors, bias = self.output.at(items), self.bias.weight[items, 0]
        # A division by 1 would copy a table that may be most of the memory.
        return (vectors, bias) if self.temperature == 1 else (vectors / self.temperature, bias / self.temperature)

    def next_logits(self, history: History) -> Tensor:
        """Logits of the coming slate's first item, [B, A]."""
        return self.logits(self.encoder.last(history))

    def sample(self, history: History, k: int, streams: Streams) -> Slates:
        """The coming slate of k items for every session."""
        uniforms = streams.uniform("slate", history.session, history.length, k, dtype=torch.float64)
        return Slates(*sample_inner_products(self.encoder.last(history), uniforms, *self.head()))

    def greedy(self, history: History, k: int) -> Tensor:
        """The k most probable items, best first, int64 [B, k]."""
        return greedy_slates(self.next_logits(history), k)

    def log_prob(self, history: History, slate: Tensor) -> Tensor:
        """Log-probability of each item of `slate` (int64 [B, K], -1 pad) given those before it. [B, K], 0 at pads."""
        return plackett_luce_log_prob(self.next_logits(history), slate)

    def log_prob_of_sessions(self, sessions: History) -> Tensor:
        """[B, T, K]: log-probability of each logged slate given the steps before it, 0 at pads."""
        happened = sessions.happened & sessions.shown.any(-1)
        states = self.before_steps(sessions)[happened]
        scores = slate_log_prob(states, sessions.items[happened], *self.head())
        return scores.new_zeros(sessions.items.shape).index_put((happened,), scores)

    def weighted_log_prob(
        self, sessions: History, coefficient: Tensor, reduced: bool = False, drop: Drop | None = None
    ) -> Tensor:
        """Sum of coefficient * log_prob_of_sessions, with its gradient from the same pass over the logits.

        coefficient: [B, T, K], 0 at pads, without gradient. reduced: see `recil.ops.one_pass.weighted_log_prob`.
        drop: see Encoder.
        """
        happened = sessions.happened & sessions.shown.any(-1)
        states = self.before_steps(sessions, drop)[happened]
        parts = sessions.items[happened], coefficient[happened]
        return weighted_log_prob(states, *parts, *self.head(), reduced)[0]

    def save(self, path: str | Path) -> None:
        """Write the policy to a folder; `recil.load` reads it back."""
        write_folder(path, self.parts())

    def parts(self) -> Parts:
        return Parts(self.kind, asdict(self.config), dict(self.state_dict()), self.item_ids)

    @staticmethod
    def from_parts(parts: Parts) -> SoftmaxPolicy:
        config = _config_of(parts.config)
        columns = {
            feature.name: parts.tensors[f"encoder.items.column_{index}"]
            for index, feature in enumerate(config.item_features)
        }
        policy = SoftmaxPolicy(config, parts.item_ids, columns)
        policy.load_state_dict(parts.tensors)
        return policy.eval()


def _config_of(settings: Mapping[str, Any]) -> SoftmaxConfig:
    def features(source: Sequence[Mapping[str, Any]]) -> tuple[Feature, ...]:
        return tuple(Feature(**feature) for feature in source)

    encoder = dict(settings["encoder"])
    encoder |= {name: features(encoder[name]) for name in ("feedback", "context", "user")}
    return SoftmaxConfig(
        settings["catalogue"],
        EncoderConfig(**encoder),
        features(settings["item_features"]),
        settings["temperature"],
        settings.get("tied", False),
    )
