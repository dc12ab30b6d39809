"""The numbers of a report by definition: regret, coverage, weights, curves, and how they are written."""

from __future__ import annotations

import json

import numpy as np
import pytest
from found_evidence import evidence, row, unit

from recil.evaluate.intervals import student_interval
from recil.report import words
from recil.report.coverage import Exposure, coverage_section, exposures_of
from recil.report.curves import Curve, curve_of, curves_section, read_record
from recil.report.page import Grid, Text
from recil.report.regret import best_of, regret_section, regrets_of, world_of
from recil.report.weights import weights_of, weights_section

ROWS = (row("good", true=(0.9, 0.8, 1.0)), row("fair", true=(0.5, 0.4, 0.6)), row("plain", "uniform"))


def _rewards(method: str, seed: int | None, *seeds: int, world: str = "true"):
    """A unit with rewards [6, 3] for each of these seeds, and the rewards."""
    made = {each: np.random.default_rng([each, len(method)]).random((6, 3)).astype(np.float32) for each in seeds}
    return unit(method, seed, {f"rewards_{world}_{each}": values for each, values in made.items()}), made


def test_regret_is_paired_discounted_and_over_seeds_where_there_are_several() -> None:
    good = [_rewards("good", seed, seed) for seed in (0, 1)]
    plain, chance = _rewards("plain", None, 0, 1)
    found = evidence(ROWS, found=[unit for unit, _ in good] + [plain], gamma=0.5)
    assert world_of(found) == "true" and best_of(found, "true") == "good"
    regrets = regrets_of(found, "true", "good")
    assert set(regrets) == {"plain"}
    discount = 0.5 ** np.arange(3)
    apart = np.stack([((good[seed][1][seed].astype(float) - chance[seed]) * discount).mean(0) for seed in (0, 1)])
    np.testing.assert_allclose(regrets["plain"].step, apart.mean(0))
    total = apart.sum(1)
    assert regrets["plain"].last == pytest.approx(student_interval(total, 0.95))


def test_regret_with_one_seed_is_over_the_users_both_have_met() -> None:
    good, first = _rewards("good", 0, 0)
    fair, second = _rewards("fair", 0, 0)
    found = evidence(ROWS, found=[good, fair], seeds=(0,))
    total = (first[0].astype(float) - second[0]).sum(1)
    assert regrets_of(found, "true", "good")["fair"].last == pytest.approx(student_interval(total, 0.95))


def test_regret_is_not_shown_in_users_that_are_refused() -> None:
    good, _ = _rewards("good", 0, 0, world="simulated")
    rows = [row("good", true=None, simulated=None)]
    told = regret_section(evidence(rows, found=[good], world=("refuse", ()), truth=False))
    assert told.blocks == (
        Text("There is no known world, and the simulated users are refused: regret in them would say nothing."),
    )
    assert "No policy was put into a world" in str(regret_section(evidence(rows, users=None, world=None)).blocks)


def test_coverage_and_gini_are_those_of_the_whole_catalogue() -> None:
    counts = np.array([0, 0, 1, 2, 7])
    found = Exposure(np.array([1, 2, 7]), 5, 1.0)
    assert found.coverage == 3 / 5
    apart = np.abs(counts[:, None] - counts).sum()
    assert found.gini == pytest.approx(apart / (2 * 5**2 * counts.mean()))
    assert Exposure(np.full(8, 3), 8, 1.0).gini == pytest.approx(0)
    assert Exposure(np.array([9]), 10, 1.0).gini == pytest.approx(0.9)
    np.testing.assert_allclose(found.most_shown(np.array([0, 0.2, 0.4, 1.0])), [0, 0.7, 0.9, 1.0])


def test_coverage_counts_items_and_steps_by_seed() -> None:
    arrays = {"shown_simulated_0": np.array([2, 4]), "lengths_simulated_0": np.array([1, 0, 3])}
    arrays |= {"shown_true_0": np.array([1]), "lengths_true_0": np.array([0, 1])}
    found = evidence(ROWS, found=[unit("good", 0, arrays)], catalogue=4)
    ((exposure,),) = exposures_of(found, "simulated").values()
    assert (exposure.coverage, exposure.steps) == (0.5, 1.5)
    told = coverage_section(found)
    (grid,) = [block for block in told.blocks if isinstance(block, Grid)]
    assert grid.rows == (("good", "50%", "0.583", "1.50"),)
    assert "6 places to fill" in str(told.blocks[0]) and "refused" not in str(told.blocks[0])
    refused = evidence(ROWS, found=[unit("good", 0, arrays)], world=("refuse", ("bad",)))
    assert "These users are refused" in str(coverage_section(refused).blocks[0])


def test_without_a_world_coverage_is_that_of_what_policies_rank_highest() -> None:
    found = [unit("good", seed, {}) for seed in (0, 1)] + [unit("plain", None, {})]
    for item, coverage in zip(found, (0.2, 0.4), strict=False):
        item.judged["cloning"] = {"coverage_at_10": coverage}
    told = coverage_section(evidence(ROWS, found=found, users=None, world=None))
    assert "No policy was put into a world" in str(told.blocks[0])
    assert [block.rows for block in told.blocks if isinstance(block, Grid)] == [(("good", "30% (20% to 40%)"),)]


def test_weights_are_told_by_method_and_seed() -> None:
    def made(seed: int, ess: float) -> object:
        counts = np.zeros(49, dtype=np.int64)
        counts[0], counts[25] = 30, 70
        arrays = {"weight_counts": counts, "weight_ess": np.array([80.0, ess]), "weight_mean": np.array([1.0, 0.5])}
        return unit("good", seed, arrays)

    found = evidence(ROWS, found=[made(0, 8.0), made(1, 12.0), unit("plain", None, {})])
    (weights,) = weights_of(found).values()
    assert weights.sessions == 100 and weights.zero.tolist() == [0.3, 0.3]
    (grid,) = [block for block in weights_section(found).blocks if isinstance(block, Grid)]
    assert grid.rows == (("good", "10.0 (8.0 to 12.0)", "10%", "0.50", "30%", "1 of 2"),)


def test_a_record_that_was_resumed_and_cut_short_is_read_once(tmp_path) -> None:
    file = tmp_path / "metrics.jsonl"
    lines = [["clone/nll", 3.0, 10, 1], ["clone/nll", 2.0, 20, 2], ["clone/nll", 1.5, 30, 2], ["x/ess", 0.1, 1, 1]]
    file.write_text("".join(json.dumps(line) + "\n" for line in lines) + '["clone/nll", 9')
    record = read_record(file)
    assert record["clone/nll"] == {1: (3.0, 10), 2: (1.5, 30)}
    assert read_record(tmp_path / "none.jsonl") == {}
    curve = curve_of([record, {"clone/nll": {1: (5.0, 1)}}, {}], "clone/nll")
    assert curve is not None and curve.steps.tolist() == [1, 2] and curve.shared.tolist() == [True, False]
    np.testing.assert_array_equal(curve.values, [[3.0, 1.5], [5.0, np.nan]])
    assert curve_of([record], "clone/other") is None


def test_long_curves_become_means_over_windows() -> None:
    values = np.arange(10.0)[None].repeat(2, 0)
    values[1, 6:] = np.nan
    thin = Curve(np.arange(10), values).thinned(3)
    assert thin.steps.tolist() == [3, 7, 9]
    np.testing.assert_allclose(thin.values, [[1.5, 5.5, 8.5], [1.5, 4.5, np.nan]])
    assert Curve(np.arange(3), values[:, :3]).thinned(3).steps.tolist() == [0, 1, 2]


def test_without_training_there_are_no_curves(tmp_path) -> None:
    told = curves_section(evidence([row("plain", "uniform")], folder=tmp_path))
    assert "is trained, so there are none" in str(told.blocks)


def test_numbers_as_they_are_written() -> None:
    assert [words.figure(value) for value in (0.12345, 0.0, 0.00012, 2.7e15, None, float("nan"))] == [
        "0.1235", "0.0000", "0.00012", "2.7e+15", "–", "–",
    ]  # fmt: skip
    assert words.interval((0.5, float("nan"), float("nan"))) == "0.5000"
    assert [words.share(value) for value in (1.0, 0.9999, 0.5, 0.031, 0.0001, 0.0)] == [
        "100%", ">99%", "50%", "3.1%", "<0.1%", "0%",
    ]  # fmt: skip
    assert [words.seconds(value) for value in (0.44, 12.2, 60, 185, 7440)] == [
        "0.4 s", "12 s", "1 min 0 s", "3 min 5 s", "2 h 4 min",
    ]  # fmt: skip
    assert [words.listed(names) for names in ([], ["a"], ["a", "b"], ["a", "b", "c"])] == [
        "",
        "a",
        "a and b",
        "a, b and c",
    ]
    assert words.spread([1.0, 1.0]) == "1.0000" and words.spread([1.0, 3.0]) == "2.0000 (1.0000 to 3.0000)"
