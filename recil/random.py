"""Draws addressed by (seed, purpose, session, step): randomness as a function, not a state.

A draw depends on its address alone, so results do not depend on batch size, worker count or order, and two
policies simulated with one seed meet the same users (common random numbers). The bits come from the splitmix64
finaliser (Steele, Lea & Flood 2014, "Fast splittable pseudorandom number generators") over a counter.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

_GOLDEN = -7046029254386353131  # 0x9E3779B97F4A7C15 as a signed 64-bit integer
_MIX_1 = -4658895280553007687  # 0xBF58476D1CE4E5B9
_MIX_2 = -7723592293110705685  # 0x94D049BB133111EB


def _shift(x: Tensor, bits: int) -> Tensor:
    """Logical right shift of int64: torch's own shift carries the sign."""
    return (x >> bits) & ((1 << (64 - bits)) - 1)


def _mix(x: Tensor) -> Tensor:
    """The splitmix64 finaliser, a bijection of int64 onto itself."""
    x = (x ^ _shift(x, 30)) * _MIX_1
    x = (x ^ _shift(x, 27)) * _MIX_2
    return x ^ _shift(x, 31)


def stable_hash(*parts: object) -> int:
    """A 63-bit integer that depends only on the text of the parts, in every process and on every machine."""
    text = "\x1f".join(str(part) for part in parts)
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little") >> 1


@dataclass(frozen=True)
class Streams:
    """All the randomness of one run. seed: any integer; two seeds share no draw."""

    seed: int

    def uniform(
        self,
        purpose: str,
        session: Tensor,
        step: int | Tensor = 0,
        count: int = 1,
        dtype: torch.dtype = torch.float32,
    ) -> Tensor:
        """Uniform draws in the open interval (0, 1).

        session: int64 [B]; step: an integer or int64 [B]. Returns [B, count] on the device of `session`.
        """
        key = torch.full_like(session, stable_hash(self.seed, purpose))
        key = _mix(key + session * _GOLDEN)
        step = torch.as_tensor(step, dtype=torch.int64, device=session.device)
        key = _mix(key + (step + 1) * _GOLDEN)
        counter = torch.arange(1, count + 1, device=session.device) * _GOLDEN
        bits = _mix(key[:, None] + counter)
        # The half keeps 0 and 1 out; with one digit more the largest value would round up to 1.
        digits = 52 if dtype == torch.float64 else 23
        return (_shift(bits, 64 - digits).to(dtype) + 0.5) * 2.0**-digits

    def generator(self, purpose: str, *address: int, device: str | torch.device = "cpu") -> torch.Generator:
        """A torch generator of its own for this purpose and address (initial weights, shuffles)."""
        return torch.Generator(device=device).manual_seed(stable_hash(self.seed, purpose, *address))

    def numpy(self, purpose: str, *address: int) -> np.random.Generator:
        """A numpy generator of its own for this purpose and address."""
        return np.random.Generator(np.random.Philox(stable_hash(self.seed, purpose, *address)))

    def child(self, *address: object) -> Streams:
        """Streams that share no draw with these, for a part that brings its own purposes."""
        return Streams(stable_hash(self.seed, "child", *address))
