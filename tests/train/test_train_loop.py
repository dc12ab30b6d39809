"""The loop's own rules: when the step size falls, what decays, when it stops."""

import numpy as np
import pytest
import torch
from torch import nn

from recil.errors import InputError
from recil.random import Streams
from recil.train.loop import Objective, Schedule, fit


class Model(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.moved = nn.Parameter(torch.zeros(1))
        self.matrix = nn.Parameter(torch.ones(3, 2))
        self.biases = nn.Parameter(torch.ones(3, 1))


def objective(model: Model, held_out, slope: float = 1.0) -> Objective:
    """A loss with the constant gradient `slope` for `moved` alone: AdamW then moves it by its step size."""
    positions = np.arange(4)

    def loss(sessions, step):
        mean = slope * model.moved.sum() + 0.0 * (model.matrix.sum() + model.biases.sum())
        return mean * len(sessions), len(sessions)

    names = np.array([f"s{n}" for n in positions])
    return Objective("toy", model, loss, held_out, positions, names, np.ones(4), items=1.0)


def test_the_step_size_is_halved_after_each_epoch_that_does_not_help():
    model, places = Model(), []
    losses = iter([5.0, 4.0, 4.0, 4.5, 3.0, 9.0])

    def held_out():
        places.append(model.moved.item())
        return next(losses)

    fit(objective(model, held_out), Schedule(6, 4, 0.1, 0.0, 9), Streams(0))
    steps = -np.diff([0.0, *places])
    assert steps == pytest.approx([0.1, 0.1, 0.1, 0.05, 0.025, 0.025], rel=1e-4)


def test_matrices_decay_and_biases_do_not():
    model = Model()
    fit(objective(model, lambda: -model.matrix.detach().sum().item()), Schedule(1, 4, 0.1, 0.5, 1), Streams(0))
    assert model.matrix.detach().flatten().tolist() == pytest.approx([0.95] * 6)
    assert model.biases.detach().flatten().tolist() == [1.0] * 3


def test_it_stops_after_its_patience_with_the_best_weights():
    model, places = Model(), []
    losses = iter([3.0, 2.0, 2.5, 2.4, 1.0])

    def held_out():
        places.append(model.moved.item())
        return next(losses)

    fitted = fit(objective(model, held_out), Schedule(9, 4, 0.1, 0.0, 2), Streams(0))
    assert (fitted.best_epoch, fitted.best_loss, fitted.epochs) == (1, 2.0, 4)
    assert model.moved.item() == places[1]


def test_annealed_steps_fall_along_half_a_cosine_and_the_last_weights_are_kept():
    """Four steps of two epochs, at 0, 1/4, 1/2 and 3/4 of the half turn; held-out losses that only rise."""
    model, places = Model(), []
    losses = iter([1.0, 2.0])

    def held_out():
        places.append(model.moved.item())
        return next(losses)

    fitted = fit(objective(model, held_out), Schedule(2, 2, 0.1, 0.0, 1, annealed=True), Streams(0))
    first, second = 0.1 * (1 + (1 + 0.5**0.5) / 2), 0.1 * (1 / 2 + (1 - 0.5**0.5) / 2)
    assert places == pytest.approx([-first, -first - second], rel=1e-4)
    assert model.moved.item() == places[1]
    assert (fitted.best_epoch, fitted.best_loss, fitted.epochs) == (1, 2.0, 2)


def test_long_gradients_are_shortened():
    """Adam does not see a gradient's length in its first step, but the average of two shows it."""
    places = []
    for largest in (10.0, 1e9):
        model = Model()
        slopes = iter([1.0, 1e6])

        def loss(sessions, step, model=model, slopes=slopes):
            return next(slopes) * model.moved.sum(), len(sessions)

        given = Objective("toy", model, loss, lambda: 0.0, np.arange(2), np.arange(2), np.ones(2), items=1.0)
        fit(given, Schedule(1, 1, 0.1, 0.0, 1, largest), Streams(0))
        places.append(model.moved.item())
    assert places[0] != pytest.approx(places[1], rel=1e-3)


def test_a_loss_that_is_not_a_number_names_all_sessions_where_none_stands_out():
    model = Model()
    with pytest.raises(InputError, match="toy step 0: the loss is nan on a batch of 4 sessions, by 4 of them: s"):
        fit(objective(model, lambda: 0.0, slope=float("nan")), Schedule(1, 4, 0.1, 0.0, 1), Streams(0))
