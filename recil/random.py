"""Draws addressed by (seed, purpose, session, step): randomness as a function, not a state.

A draw depends on its address alone, so results do not depend on batch size, worker count or order, and two
policies simulated with one seed meet the same users (common random numbers). The bits come from the splitmix64
finaliser (Steele, Lea & Flood 2014, "Fast splittable pseudorandom number generators") over a counter.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

_GOLDEN = -7046029254386353131  # 0x9E3779B97F4A7C15 as a signed 64-bit integer
_MIX_1 = -4658895280553007687  # 0xBF58476D1CE4E5B9
_MIX_2 = -7723592293110705685  # 0x94D049BB133111EB


def _shift(x: Tensor, bits: int) -> Tensor:
    """Logical right shift of int64: torch's own shift carries the sign."""
    return (x >> bits).bitwise_and_((1 << (64 - bits)) - 1)


def _mix(x: Tensor) -> Tensor:
    """The splitmix64 finaliser, a bijection of int64 onto itself. Works in x's own memory."""
    x = x.bitwise_xor_(_shift(x, 30)).mul_(_MIX_1)
    x = x.bitwise_xor_(_shift(x, 27)).mul_(_MIX_2)
    return x.bitwise_xor_(_shift(x, 31))


def stable_hash(*parts: object) -> int:
    """A 63-bit integer that depends only on the text of the parts, in every process and on every machine."""
    text = "\x1f".join(str(part) for part in parts)
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little") >> 1


def stable_hashes(names: Iterable[object], *before: object) -> np.ndarray:
    """int64 [S]: stable_hash(*before, name) of each name."""
    begun = hashlib.blake2b("".join(f"{part}\x1f" for part in before).encode(), digest_size=8)

    def digest(name: object) -> bytes:
        one = begun.copy()
        one.update(str(name).encode())
        return one.digest()

    return (np.frombuffer(b"".join(map(digest, names)), dtype="<u8") >> np.uint64(1)).astype(np.int64)


def uniform_at(keys: Tensor, step: int | Tensor, count: int = 1, dtype: torch.dtype = torch.float32) -> Tensor:
    """Uniform draws in (0, 1) at a step of the sessions with these keys (`Streams.keys`), [B, count]."""
    if not isinstance(step, int):
        step = step.to(device=keys.device, dtype=torch.int64) + 1
        key = _mix(keys + step * _GOLDEN)
    else:
        key = _mix(keys + _wrapped((step + 1) * _GOLDEN))
    # The numbers 1, 2, ... as -(~0), -(~1), ...: where a draw is reshaped, a compiler would work out products with the
    # constant by itself, beyond 64 bits, unless an operator that it cannot work out stands between.
    counter = torch.arange(count, device=keys.device).bitwise_not_().mul_(-_GOLDEN)
    bits = _mix(key[:, None] + counter)
    # The half keeps 0 and 1 out; with one digit more the largest value would round up to 1.
    digits = 52 if dtype == torch.float64 else 23
    return _shift(bits, 64 - digits).to(dtype).add_(0.5).mul_(2.0**-digits)


def _wrapped(number: int) -> int:
    """The integer modulo 2^64 as a signed 64-bit one, as torch's own multiplication wraps."""
    return (number + 2**63) % 2**64 - 2**63


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
        return uniform_at(self.keys(purpose, session), step, count, dtype)

    def keys(self, purpose: str, session: Tensor) -> Tensor:
        """The part of a draw's address that stays from step to step, int64 [B]; see `uniform_at`."""
        return _mix(session * _GOLDEN + stable_hash(self.seed, purpose))

    def generator(self, purpose: str, *address: int, device: str | torch.device = "cpu") -> torch.Generator:
        """A torch generator of its own for this purpose and address (initial weights, shuffles)."""
        return torch.Generator(device=device).manual_seed(stable_hash(self.seed, purpose, *address))

    def numpy(self, purpose: str, *address: int) -> np.random.Generator:
        """A numpy generator of its own for this purpose and address."""
        return np.random.Generator(np.random.Philox(stable_hash(self.seed, purpose, *address)))

    def child(self, *address: object) -> Streams:
        """Streams that share no draw with these, for a part that brings its own purposes."""
        return Streams(stable_hash(self.seed, "child", *address))
