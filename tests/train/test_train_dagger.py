"""DAgger: what it stores, whom it asks, where it beats cloning and where it cannot, and that it resumes."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from statistics_helper import assert_mean
from taste_world import TastePolicy, TasteWorld
from torch import Tensor

from recil.errors import InputError
from recil.evaluate.simulate import simulate
from recil.logs.history import History
from recil.logs.read import read_log
from recil.ops.slates import plackett_luce_log_prob, sample_plackett_luce
from recil.policies.encoders import EncoderConfig
from recil.policies.inputs import Feature
from recil.policies.mixture import Mixture
from recil.policies.protocol import Slates
from recil.policies.softmax import SoftmaxConfig, SoftmaxPolicy
from recil.random import Streams
from recil.train.dagger import dagger
from recil.train.dagger_config import DaggerConfig
from recil.train.dagger_data import EXPERT, acted_log, expert_slates

TASTES = replace(TasteWorld.sparse(0, tastes=3, items=12, liked=3), horizon=5)
QUICK = DaggerConfig(rounds=3, sessions=60, epochs=3, batch=30)


def untrained(world, seed: int = 0, width: int = 8) -> SoftmaxPolicy:
    encoder = EncoderConfig("bag", width, user=(Feature("taste", 3),))
    return SoftmaxPolicy(SoftmaxConfig(world.catalogue, encoder), np.arange(world.catalogue), seed=seed).eval()


def assert_same(one, other) -> None:
    pairs = zip(one.state_dict().values(), other.state_dict().values(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)


def test_with_the_expert_always_acting_the_data_are_those_of_cloning():
    """E14, bit for bit: slates, rewards, propensities, who left; over several rounds; and the labels are the slates."""
    expert = TASTES.demonstrator(1)
    found = dagger(untrained(TASTES), TASTES, expert, replace(QUICK, decay=1.0), seed=4)
    assert acted_log(found.data) == simulate(expert, TASTES, 180, seed=4)
    assert np.array_equal(expert_slates(found.data), found.data.items)


def test_the_first_round_is_cloning_whatever_the_decay():
    expert = TASTES.demonstrator(1)
    found = dagger(untrained(TASTES), TASTES, expert, replace(QUICK, rounds=1, decay=0.0), seed=4)
    assert acted_log(found.data) == simulate(expert, TASTES, 60, seed=4)


def test_the_label_is_the_experts_whoever_acted():
    """Each label is what the expert draws at this address after this history, also where the learner's was shown."""
    expert = TASTES.demonstrator(1)
    found = dagger(untrained(TASTES), TASTES, expert, replace(QUICK, decay=0.3), seed=4)
    data, labels = found.data.batch(), torch.from_numpy(expert_slates(found.data)).long()
    again = torch.stack([expert.sample(data.prefix(step), 3, Streams(4)).items for step in range(data.steps)], 1)[
        data.happened
    ]
    assert torch.equal(again, labels)
    differ = (found.data.items != expert_slates(found.data)).any(1)
    first = np.arange(found.data.steps) < found.data.offsets[60]
    assert not differ[first].any()
    assert differ[~first].mean() > 0.3


def test_every_round_meets_new_users_and_reports_its_share():
    rows = []
    found = dagger(
        untrained(TASTES),
        TASTES,
        TASTES.demonstrator(1),
        QUICK,
        4,
        on_metrics=lambda step, row: rows.append((step, row)),
    )
    assert found.data.session_ids.tolist() == list(range(180))
    acted = [row for _, row in rows if "dagger/beta" in row]
    assert [row["dagger/beta"] for row in acted] == [1.0, 0.5, 0.25]
    assert acted[0]["dagger/agreement"] == 1.0 > acted[2]["dagger/agreement"]
    steps = [step for step, _ in rows]
    # Three epochs a round, on batches of 30 of nine tenths of 60, 120 and 180 sessions: each round learns from all.
    assert steps[-1] == 3 * (2 + 4 + 6)
    assert steps == sorted(steps) and {"dagger/nll", "dagger/held_out_nll"} <= set(rows[-1][1])


def test_the_data_are_a_log_that_can_be_saved(tmp_path):
    world = Path(items=4, horizon=5)
    start = SoftmaxPolicy(SoftmaxConfig(world.catalogue), np.array(["a", "b", "c", "d", "back"])).eval()
    data = dagger(start, world, Guide(4), QUICK, 4).data
    again = read_log(data.save(tmp_path / "log"))
    assert again == data
    assert np.array_equal(expert_slates(again), expert_slates(data))
    assert EXPERT not in acted_log(again).feedback
    with pytest.raises(InputError, match="no column expert_item"):
        expert_slates(acted_log(again))


class Stopped(Exception):
    """Stands for whatever ends a process."""


@pytest.mark.parametrize("stop", [1, 6, 11])
def test_interrupted_and_resumed_is_straight_through(tmp_path, stop):
    start, expert, path = untrained(TASTES), TASTES.demonstrator(1), tmp_path / "run"
    straight: list = []
    whole = dagger(start, TASTES, expert, QUICK, 3, on_metrics=lambda *row: straight.append(row))
    seen: list = []

    def stop_there(*row):
        seen.append(row)
        if len(seen) == stop:
            raise Stopped

    with pytest.raises(Stopped):
        dagger(start, TASTES, expert, QUICK, 3, on_metrics=stop_there, checkpoint=path)
    after: list = []
    resumed = dagger(start, TASTES, expert, QUICK, 3, on_metrics=lambda *row: after.append(row), checkpoint=path)
    assert_same(resumed.policy, whole.policy)
    assert resumed.data == whole.data
    assert straight[-len(after) :] == after
    assert len(after) < len(straight) or stop == 1
    with pytest.raises(InputError, match="other settings"):
        dagger(start, TASTES, expert, replace(QUICK, decay=0.7), 3, checkpoint=path)


def test_more_rounds_go_on_from_fewer(tmp_path):
    start, expert, path = untrained(TASTES), TASTES.demonstrator(1), tmp_path / "run"
    dagger(start, TASTES, expert, replace(QUICK, rounds=1), 3, checkpoint=path)
    more = dagger(start, TASTES, expert, QUICK, 3, checkpoint=path)
    whole = dagger(start, TASTES, expert, QUICK, 3)
    assert_same(more.policy, whole.policy)
    assert more.data == whole.data


@dataclass(frozen=True)
class Path:
    """Users want item after item, round and round, and click on nothing else; the first one they want is random.

    After a wrong item the user is lost. If `way_back`, the last item of the catalogue leads back to the one before;
    otherwise the user clicks no more, whatever is shown. Everybody stays to the end.
    """

    items: int = 6
    horizon: int = 20
    way_back: bool = True
    slate_size = 1

    @property
    def catalogue(self) -> int:
        return self.items + 1

    def rollout(self, policy, sessions: Tensor, streams: Streams) -> History:
        wanted = (streams.uniform("first", sessions)[:, 0] * self.items).long()
        lost = torch.zeros_like(wanted, dtype=torch.bool)
        history = History.start(sessions, 1, user={"user_first": wanted})
        for _ in range(self.horizon):
            slate = policy.sample(history, 1, streams)
            item = slate.items[:, 0]
            right = ~lost & (item == wanted)
            history = history.append(slate.items, right[:, None].float(), slate.log_prob.exp().float())
            back = lost & (item == self.items) if self.way_back else torch.zeros_like(lost)
            wanted = torch.where(right, (wanted + 1) % self.items, torch.where(back, 0, wanted))
            lost = ~right & ~back
        return replace(history, terminated=torch.zeros_like(lost))


@dataclass(frozen=True)
class Guide:
    """Shows what is wanted, and the way back (the last item) to who is lost: what the path's expert does."""

    items: int

    @property
    def catalogue(self) -> int:
        return self.items + 1

    def next_logits(self, history: History) -> Tensor:
        wanted, lost = history.user["user_first"], torch.zeros(history.batch, dtype=torch.bool)
        for step in range(history.steps):
            item, right = history.items[:, step, 0], history.reward[:, step, 0] > 0
            back = lost & (item == self.items)
            wanted = torch.where(right, (wanted + 1) % self.items, torch.where(back, 0, wanted))
            lost = ~right & ~back
        return 50.0 * torch.nn.functional.one_hot(torch.where(lost, self.items, wanted), self.catalogue)

    def sample(self, history: History, k: int, streams: Streams) -> Slates:
        uniforms = streams.uniform("slate", history.session, history.length, k, dtype=torch.float64)
        return Slates(*sample_plackett_luce(self.next_logits(history), uniforms))

    def log_prob(self, history: History, slate: Tensor) -> Tensor:
        return plackett_luce_log_prob(self.next_logits(history), slate)


def taught(world: Path, decay: float, seed: int, sessions: int):
    """Clicks per session [2000] after as many labels as `sessions` sessions hold: cloning (decay 1) or DAgger (0).

    Weights shrink so much that the learner errs now and then, however many labels it has: what is at stake is where.
    """
    encoder = EncoderConfig("bag", 16, user=(Feature("user_first", world.items),))
    start = SoftmaxPolicy(SoftmaxConfig(world.catalogue, encoder), seed=seed).eval()
    config = DaggerConfig(rounds=4, sessions=sessions // 4, decay=decay, epochs=8, batch=20, weight_decay=4.0)
    found = dagger(start, world, Guide(world.items), config, seed)
    with torch.no_grad():
        rolled = world.rollout(found.policy, torch.arange(2000), Streams(99))
    return rolled.reward.sum((1, 2)).double()


@pytest.mark.parametrize("way_back", [True, False])
@pytest.mark.parametrize("seed", [0, pytest.param(1, marks=pytest.mark.slow)])
def test_it_beats_cloning_where_errors_can_be_recovered_and_loses_where_they_cannot(way_back, seed):
    """E2, at an equal budget of labels; 5 standard errors over 2,000 paired sessions: a false alarm in a million."""
    world = Path(way_back=way_back)
    gain = taught(world, 0.0, seed, 100) - taught(world, 1.0, seed, 100)
    error = gain.std() / len(gain) ** 0.5
    assert gain.mean() * (1 if way_back else -1) > 5 * error


def test_a_mixture_is_its_parts_in_these_shares_slate_by_slate():
    logits = torch.from_numpy(np.random.default_rng(0).normal(size=(2, 1, 4)) * 2)
    parts = [TastePolicy(each) for each in logits]
    mixture = Mixture(*parts, 0.3)
    every = torch.tensor([[a, b] for a in range(4) for b in range(4) if a != b])
    history = History.start(torch.arange(len(every)), 2, user={"taste": torch.zeros(len(every), dtype=torch.int64)})
    chances = [policy.log_prob(history, every).sum(1).exp() for policy in (*parts, mixture)]
    torch.testing.assert_close(chances[2], 0.3 * chances[0] + 0.7 * chances[1])
    padded = mixture.log_prob(history, torch.cat([torch.full((len(every), 1), -1), every], 1))
    torch.testing.assert_close(padded.sum(1).exp(), chances[2])
    assert (padded[:, 0] == 0).all()
    many = History.start(torch.arange(40_000), 2, user={"taste": torch.zeros(40_000, dtype=torch.int64)})
    drawn = mixture.sample(many, 2, Streams(1))
    for slate, chance in zip(every, chances[2].tolist(), strict=True):
        assert_mean((drawn.items == slate).all(1).double(), chance)
    torch.testing.assert_close(drawn.log_prob, mixture.log_prob(many, drawn.items))


def test_a_larger_share_only_adds_to_the_experts_slates():
    one, other = TASTES.demonstrator(1), TASTES.demonstrator(2)
    history = History.start(torch.arange(500), 3)
    few, many = (Mixture(one, other, share).first_acts(history, Streams(3)) for share in (0.2, 0.6))
    assert (many | ~few).all() and 50 < int(few.sum()) < 150 < int(many.sum()) < 350


def test_certain_policies_can_be_mixed():
    first, second = (TastePolicy(torch.tensor([row])) for row in ([1e4, 0.0, -1e4], [-1e4, 0.0, 1e4]))
    history = History.start(torch.zeros(2, dtype=torch.int64), 1, user={"taste": torch.zeros(2, dtype=torch.int64)})
    scores = Mixture(first, second, 0.25).log_prob(history, torch.tensor([[0, 1], [2, 0]]))
    torch.testing.assert_close(scores.exp(), torch.tensor([[0.25, 1.0], [0.75, 0.0]]))


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"decay": 1.5}, "decay"),
        ({"sessions": 1}, "sessions"),
        ({"rounds": 0}, "rounds"),
        ({"held_out": 1.0}, "held_out"),
        ({"learning_rate": float("nan")}, "learning_rate"),
    ],
)
def test_a_bad_config_is_refused_by_name(change, named):
    with pytest.raises(InputError, match=f"DaggerConfig {named}"):
        DaggerConfig(**change)


def test_bad_input_is_one_message_that_names_place_and_remedy():
    expert = TastePolicy(torch.zeros(3, 13))
    with pytest.raises(InputError, match="the world has 12 items, the policy has 12 items, the expert has 13 items"):
        dagger(untrained(TASTES), TASTES, expert)
    with pytest.raises(InputError, match="mixture share"):
        Mixture(expert, expert, 1.1)
    with pytest.raises(InputError, match="13 and 12 items"):
        Mixture(expert, TASTES.best(), 0.5)
