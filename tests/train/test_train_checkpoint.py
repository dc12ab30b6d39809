"""A checkpoint holds everything: k epochs and a resumption equal a run straight through, bit for bit."""

from itertools import chain

import numpy as np
import pytest
import torch
from logs_for_policies import log_with_all_columns
from torch import nn

from recil.errors import InputError
from recil.random import Streams
from recil.train import loop
from recil.train.checkpoint import load_checkpoint, save_checkpoint
from recil.train.clone import CloneConfig, clone
from recil.train.loop import batches

LOG = log_with_all_columns(80)
SMALL = {"width": 8, "batch": 16, "patience": 50}


def same_bits(one: nn.Module, other: nn.Module) -> bool:
    return all(torch.equal(value, other.state_dict()[name]) for name, value in one.state_dict().items())


@pytest.mark.parametrize("encoder", ["bag", "gru"])
def test_epochs_and_a_resumption_equal_a_run_straight_through(tmp_path, encoder):
    straight = clone(LOG, CloneConfig(encoder, epochs=6, **SMALL), seed=3)
    clone(LOG, CloneConfig(encoder, epochs=2, **SMALL), seed=3, checkpoint=tmp_path / "run")
    seen = []
    resumed = clone(
        LOG,
        CloneConfig(encoder, epochs=6, **SMALL),
        seed=3,
        checkpoint=tmp_path / "run",
        on_metrics=lambda step, _: seen.append(step),
    )
    assert same_bits(straight, resumed)
    assert len(seen) == 4, "the first two epochs are not run again"


@pytest.mark.parametrize("annealed", [False, True])
def test_an_interruption_within_an_epoch_loses_nothing(tmp_path, monkeypatch, annealed):
    """With a checkpoint after every batch, stopping at any of them and going on ends with the same bits."""
    monkeypatch.setattr(loop, "SECONDS_BETWEEN_CHECKPOINTS", -1.0)
    config = CloneConfig(epochs=3, annealed=annealed, **SMALL)
    straight_metrics, metrics = [], []
    straight = clone(LOG, config, on_metrics=lambda *found: straight_metrics.append(found))
    take_step, steps = loop.take_step, []

    def stopped_often(*arguments):
        if len(steps) in (1, 3, 7):
            steps.append(None)
            raise KeyboardInterrupt
        steps.append(None)
        return take_step(*arguments)

    monkeypatch.setattr(loop, "take_step", stopped_often)
    for _ in range(3):
        with pytest.raises(KeyboardInterrupt):
            clone(LOG, config, checkpoint=tmp_path / "run", on_metrics=lambda *found: metrics.append(found))
    resumed = clone(LOG, config, checkpoint=tmp_path / "run", on_metrics=lambda *found: metrics.append(found))
    assert same_bits(straight, resumed)
    assert metrics == straight_metrics
    assert [file.name for file in tmp_path.iterdir()] == ["run"]


def test_a_finished_run_is_not_trained_further(tmp_path):
    config = CloneConfig(epochs=2, **SMALL)
    once = clone(LOG, config, checkpoint=tmp_path / "run")
    seen = []
    again = clone(LOG, config, checkpoint=tmp_path / "run", on_metrics=lambda *found: seen.append(found))
    assert seen == []
    assert same_bits(once, again)


@pytest.mark.parametrize(
    "other",
    [
        (LOG, CloneConfig(epochs=2, **SMALL | {"width": 9}), 0),
        (LOG, CloneConfig(epochs=2, **SMALL), 1),
        (log_with_all_columns(81), CloneConfig(epochs=2, **SMALL), 0),
    ],
)
def test_a_checkpoint_of_other_settings_is_refused(tmp_path, other):
    clone(LOG, CloneConfig(epochs=1, **SMALL), checkpoint=tmp_path / "run")
    with pytest.raises(InputError, match="other settings or on another log"):
        clone(*other, checkpoint=tmp_path / "run")


def test_more_epochs_than_step_sizes_were_annealed_over_are_refused(tmp_path):
    clone(LOG, CloneConfig(epochs=1, annealed=True, **SMALL), checkpoint=tmp_path / "run")
    with pytest.raises(InputError, match="other settings or on another log"):
        clone(LOG, CloneConfig(epochs=2, annealed=True, **SMALL), checkpoint=tmp_path / "run")


@pytest.mark.parametrize("share", [0.0, 0.5, 0.99])
def test_a_truncated_checkpoint_is_refused(tmp_path, share):
    clone(LOG, CloneConfig(epochs=1, **SMALL), checkpoint=tmp_path / "run")
    content = (tmp_path / "run").read_bytes()
    (tmp_path / "run").write_bytes(content[: int(share * len(content))])
    with pytest.raises(InputError, match=r"checkpoint .*run: cannot be read"):
        clone(LOG, CloneConfig(epochs=1, **SMALL), checkpoint=tmp_path / "run")


def test_what_is_saved_comes_back(tmp_path):
    def trained(steps: int) -> tuple[nn.Linear, torch.optim.Optimizer]:
        model = nn.Linear(3, 2)
        with torch.no_grad():
            model.weight.fill_(0.5)
            model.bias.zero_()
        optimiser = torch.optim.Adam(model.parameters(), lr=0.1)
        for _ in range(steps):
            optimiser.zero_grad()
            model(torch.ones(4, 3)).pow(2).sum().backward()
            optimiser.step()
        return model, optimiser

    model, optimiser = trained(3)
    extra = {"best": torch.arange(3.0)}
    save_checkpoint(tmp_path / "run", {"m": model}, {"o": optimiser}, {"epoch": 3, "settings": "x"}, extra)
    fresh, fresh_optimiser = trained(0)
    assert load_checkpoint(tmp_path / "absent", {"m": fresh}, {"o": fresh_optimiser}) is None
    progress, tensors = load_checkpoint(tmp_path / "run", {"m": fresh}, {"o": fresh_optimiser}, "x")
    assert progress == {"epoch": 3, "settings": "x"}
    assert torch.equal(tensors["best"], extra["best"])
    assert same_bits(model, fresh)
    for index, state in optimiser.state_dict()["state"].items():
        for name, value in state.items():
            assert torch.equal(value, fresh_optimiser.state_dict()["state"][index][name])


def test_a_failed_write_leaves_the_old_checkpoint_and_nothing_half_written(tmp_path, monkeypatch):
    model = nn.Linear(2, 2)
    save_checkpoint(tmp_path / "run", {"m": model}, {}, {"epoch": 1})
    monkeypatch.setattr("pathlib.Path.replace", lambda *_: (_ for _ in ()).throw(OSError("gone")))
    with pytest.raises(OSError, match="gone"):
        save_checkpoint(tmp_path / "run", {"m": model}, {}, {"epoch": 2})
    monkeypatch.undo()
    assert [file.name for file in tmp_path.iterdir()] == ["run"]
    assert load_checkpoint(tmp_path / "run", {"m": model}, {})[0]["epoch"] == 1


def test_batches_hold_every_session_once_in_an_order_of_the_epochs_own():
    sessions, lengths = np.arange(100) + 7, np.random.default_rng(0).integers(1, 50, 100)
    first, again, second = (
        [batch.tolist() for batch in batches(sessions, lengths, 8, Streams(1), epoch)] for epoch in (0, 0, 1)
    )
    assert first == again != second
    assert sorted(chain(*first)) == sorted(chain(*second)) == sessions.tolist()
    assert {len(batch) for batch in first} == {8, 4}


def test_batches_hold_sessions_of_similar_length():
    lengths = np.random.default_rng(0).integers(1, 50, 4096)
    padded = sum(lengths[batch].max() * len(batch) for batch in batches(np.arange(4096), lengths, 32, Streams(1), 0))
    assert padded < 1.2 * lengths.sum()
