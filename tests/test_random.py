"""Draws are a function of their address and of nothing else, and they look uniform."""

from __future__ import annotations

import math
import subprocess
import sys

import numpy as np
import torch
from scipy import stats

from recil.random import Streams, stable_hash, stable_hashes

SESSIONS = torch.arange(4000)
MASK = (1 << 64) - 1


def mix(x: int) -> int:
    """The splitmix64 finaliser on plain unsigned integers."""
    x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & MASK
    return x ^ (x >> 31)


def test_bits_are_those_of_splitmix64_on_unsigned_integers() -> None:
    golden = 0x9E3779B97F4A7C15
    for session, step, element in ((0, 0, 0), (7, 3, 1), (123_456_789, 40, 2)):
        key = mix((stable_hash(5, "clicks") + session * golden) & MASK)
        key = mix((key + (step + 1) * golden) & MASK)
        bits = mix((key + (element + 1) * golden) & MASK)
        found = Streams(5).uniform("clicks", torch.tensor([session]), step, 3, torch.float64)[0, element]
        assert float(found) == ((bits >> 12) + 0.5) * 2.0**-52


def test_a_draw_does_not_depend_on_its_batch_or_order() -> None:
    together = Streams(1).uniform("a", SESSIONS, 2, 3)
    order = torch.randperm(len(SESSIONS), generator=torch.Generator().manual_seed(0))
    assert torch.equal(Streams(1).uniform("a", SESSIONS[order], 2, 3), together[order])
    assert torch.equal(Streams(1).uniform("a", SESSIONS[[17]], 2, 3), together[[17]])
    steps = torch.full_like(SESSIONS, 2)
    assert torch.equal(Streams(1).uniform("a", SESSIONS, steps, 3), together)
    assert torch.equal(Streams(1).uniform("a", SESSIONS, 2, 5)[:, :3], together)


def test_every_part_of_the_address_counts() -> None:
    base = Streams(1).uniform("a", SESSIONS, 2)
    others = [
        Streams(2).uniform("a", SESSIONS, 2),
        Streams(1).uniform("b", SESSIONS, 2),
        Streams(1).uniform("a", SESSIONS + 1, 2),
        Streams(1).uniform("a", SESSIONS, 3),
        Streams(1).child("x").uniform("a", SESSIONS, 2),
        Streams(1).uniform("a", SESSIONS, 2, 2)[:, 1:],
    ]
    # 4,000 pairs of independent draws: a correlation beyond 6 standard errors has a chance of 2e-9 each.
    for other in others:
        assert abs(float(np.corrcoef(base[:, 0], other[:, 0])[0, 1])) < 6 / math.sqrt(len(SESSIONS))
        assert not torch.equal(base, other)


def test_draws_are_uniform_and_never_0_or_1() -> None:
    for dtype in (torch.float32, torch.float64):
        draws = Streams(3).uniform("u", torch.arange(50_000), 1, 4, dtype)
        assert float(draws.min()) > 0 and float(draws.max()) < 1
        for column in draws.unbind(1):  # 8 tests, false alarm 1e-6 each
            assert stats.kstest(column.numpy(), "uniform").pvalue > 1e-6


def test_generators_have_an_address_too() -> None:
    one = torch.rand(3, generator=Streams(1).generator("weights", 4))
    assert torch.equal(one, torch.rand(3, generator=Streams(1).generator("weights", 4)))
    assert not torch.equal(one, torch.rand(3, generator=Streams(1).generator("weights", 5)))
    assert Streams(1).numpy("order", 1).integers(1 << 30) == Streams(1).numpy("order", 1).integers(1 << 30)
    assert Streams(1).numpy("order", 1).integers(1 << 30) != Streams(2).numpy("order", 1).integers(1 << 30)


def test_another_process_draws_the_same() -> None:
    code = "import torch; from recil.random import Streams; print(Streams(9).uniform('p', torch.arange(3), 1).tolist())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == str(Streams(9).uniform("p", torch.arange(3), 1).tolist())


def test_hashes_of_many_names_are_those_of_each():
    names = ["a", 3, "ü", ""]
    assert stable_hashes(names, "held out", 2).tolist() == [stable_hash("held out", 2, name) for name in names]
    assert stable_hashes(names).tolist() == [stable_hash(name) for name in names]
    assert stable_hashes([]).tolist() == []
