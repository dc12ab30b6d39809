"""The search behind `recil.ops.slates` in C, compiled at the first large draw; without a compiler torch does the same.

A row needs a few hundred sequential steps, each too small to be worth an operator. Sums are in the order of torch's
cumulative sums, so both ways find the same items and the same log-probabilities, bit for bit.
"""

from __future__ import annotations

import ctypes
import os
import shlex
import shutil
import subprocess
import tempfile
import warnings
from collections.abc import Callable
from functools import cache
from pathlib import Path

import torch
from torch import Tensor

# (weight, mass, uniforms) -> items, shares, faint
Search = Callable[[Tensor, Tensor, Tensor], tuple[Tensor, Tensor, Tensor]]
# Fewer draws than these take less time than the compiler.
WORTH_COMPILING = 1 << 12
# Below this sum of what is left, float32 has lost digits of it: its smallest normal number is 1e-38.
FAINTEST = 1e-28
# Above 0, so that an entry of weight 0 that stands first is not met.
SMALLEST = 1e-300
# Past it, what a thread keeps of its rows would not fit its stack.
WIDEST = 1 << 22
SOURCE = r"""
#include <stdint.h>
/* Rows that are searched side by side: their steps do not wait for one another, and no branch depends on them. */
#define LANES 8
#define EACH for (int l = 0; l < LANES; l++)

/* What is reached after each of n columns; the sum of all comes in `total`. */
static void add_up(int64_t n, double column[][LANES], double sums[][LANES], double total[LANES]) {
    EACH total[l] = 0.0;
    for (int64_t i = 0; i < n; i++) EACH sums[i][l] = total[l] += column[i][l];
}

/* The first place whose sum reaches the aim; n where none does. */
static void search(int64_t n, double sums[][LANES], const double aim[LANES], double place[LANES]) {
    EACH place[l] = 0.0;
    for (int64_t i = 0; i < n; i++) EACH place[l] += sums[i][l] < aim[l] ? 1.0 : 0.0;
}

static void draw_rows(int64_t lanes, int64_t blocks, int64_t size, int64_t positions, float *weight,
                      const double *mass, const double *uniform, int64_t *item, double *share, uint8_t *faint) {
    double left[blocks][LANES], edges[blocks][LANES], within[size][LANES], sums[size][LANES];
    double total[LANES], most[LANES], aim[LANES] = {0.0}, place[LANES];
    int64_t block[LANES] = {0};
    for (int64_t b = 0; b < blocks; b++) EACH left[b][l] = l < lanes ? mass[l * blocks + b] : 1.0;
    for (int64_t i = 0; i < size; i++) EACH within[i][l] = 1.0;
    for (int64_t k = 0; k < positions; k++) {
        add_up(blocks, left, edges, total);
        for (int l = 0; l < lanes; l++) aim[l] = uniform[l * positions + k] * total[l];
        search(blocks, edges, aim, place);
        for (int l = 0; l < lanes; l++) {
            block[l] = place[l] < blocks ? (int64_t)place[l] : blocks - 1;
            if (!(total[l] >= FAINTEST)) faint[l] = 1; /* what is not a number, too */
            aim[l] -= edges[block[l]][l] - left[block[l]][l];
            const float *begin = weight + (l * blocks + block[l]) * size;
            for (int64_t i = 0; i < size; i++) within[i][l] = begin[i];
        }
        add_up(size, within, sums, most);
        EACH aim[l] = aim[l] < most[l] ? aim[l] : most[l];
        EACH aim[l] = aim[l] > SMALLEST ? aim[l] : SMALLEST;
        search(size, sums, aim, place);
        for (int l = 0; l < lanes; l++) {
            const int64_t i = place[l] < size ? (int64_t)place[l] : size - 1, found = block[l] * size + i;
            item[l * positions + k] = found;
            share[l * positions + k] = within[i][l] / total[l];
            within[i][l] = weight[l * blocks * size + found] = 0.0f;
        }
        add_up(size, within, sums, most);
        for (int l = 0; l < lanes; l++) left[block[l]][l] = most[l];
    }
}

void draw(int64_t rows, int64_t blocks, int64_t size, int64_t positions, float *weight, const double *mass,
          const double *uniform, int64_t *item, double *share, uint8_t *faint) {
    #pragma omp parallel for
    for (int64_t r = 0; r < rows; r += LANES)
        draw_rows(rows - r < LANES ? rows - r : LANES, blocks, size, positions, weight + r * blocks * size,
                  mass + r * blocks, uniform + r * positions, item + r * positions, share + r * positions, faint + r);
}
"""


def native_search(uniforms: Tensor, dtype: torch.dtype, width: int) -> Search | None:
    """What does as `recil.ops.slates.search`, all tensors contiguous; None where it cannot, or is not worth compiling.

    uniforms: all that are to be met, float64 [B, K]; dtype, width: those of the weights [B, width].
    """
    suited = uniforms.device.type == "cpu" and dtype == torch.float32 and width <= WIDEST
    kernel = _kernel() if suited and uniforms.numel() >= WORTH_COMPILING else None
    if kernel is None:
        return None

    def search(weight: Tensor, mass: Tensor, uniforms: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        items = torch.empty(uniforms.shape, dtype=torch.int64)
        shares, faint = torch.empty(uniforms.shape, dtype=torch.float64), torch.zeros(len(uniforms), dtype=torch.bool)
        rows, blocks = mass.shape
        tensors = (weight, mass, uniforms, items, shares, faint)
        sizes = (rows, blocks, weight.shape[1] // blocks, uniforms.shape[1])
        kernel(*sizes, *(tensor.data_ptr() for tensor in tensors))
        return items, shares, faint

    return search


@cache
def _kernel() -> Callable[..., None] | None:
    compiler = shlex.split(os.environ.get("CC", "")) or list(filter(shutil.which, ("cc", "gcc", "clang")))[:1]
    reason = "there is no C compiler"
    # A compiler may lack OpenMP. Where it has it, torch's own threads are used, for their library is loaded already.
    for options in (["-march=native", "-fopenmp"], ["-fopenmp"], []) if compiler else ():
        try:
            return _compile([*compiler, *options])
        except (OSError, subprocess.CalledProcessError) as error:
            reason = str(getattr(error, "stderr", "") or error).strip()
    warnings.warn(f"slates are drawn by torch operators, more slowly: {reason}", RuntimeWarning, stacklevel=2)
    return None


def _compile(compiler: list[str]) -> Callable[..., None]:
    with tempfile.TemporaryDirectory() as folder:
        source, library = Path(folder, "slates.c"), Path(folder, "slates.so")
        source.write_text(SOURCE, encoding="utf-8")
        # No fused multiply-add and no reordering: the numbers are to be those of torch.
        flags = ["-O3", "-ffp-contract=off", f"-DFAINTEST={FAINTEST}", f"-DSMALLEST={SMALLEST}", "-shared", "-fPIC"]
        words = [*compiler, *flags, str(source), "-o", str(library)]
        subprocess.run(words, check=True, capture_output=True, text=True)
        draw = ctypes.CDLL(str(library)).draw
    draw.argtypes = [ctypes.c_int64] * 4 + [ctypes.c_void_p] * 6
    draw.restype = None
    return draw
