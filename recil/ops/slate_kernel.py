"""The draws of `recil.ops.slates` in C, compiled at a process's first; without a compiler torch does the same.

A row's weights are made, summed and searched while they are in a core's own cache, and a search needs a few hundred
sequential steps, each too small to be worth an operator. Weights are those of torch up to rounding.
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

# (logits, bias, size of a block, uniforms) -> items, shares, faint
Draw = Callable[[Tensor, Tensor, int, Tensor], tuple[Tensor, Tensor, Tensor]]
# Below this sum of what is left, float32 has lost digits of it: its smallest normal number is 1e-38.
FAINTEST = 1e-28
# Above 0, so that an entry of weight 0 that stands first is not met.
SMALLEST = 1e-300
# Past it, what a thread keeps of its rows would not fit its stack.
WIDEST = 1 << 22
# Where fewer are drawn at once, nobody waits for the compiler's lack.
WORTH_A_NOTICE = 1 << 12
# Up to so many logits one thread is done before a second has begun.
FEW = 1 << 14
SOURCE = r"""
#include <math.h>
#include <stdint.h>
/* Rows that are searched side by side: their steps do not wait for one another, and no branch depends on them. */
#define LANES 8
#define EACH for (int l = 0; l < LANES; l++)

typedef float floats __attribute__((vector_size(4 * LANES), aligned(4), may_alias));
typedef int32_t words __attribute__((vector_size(4 * LANES), aligned(4), may_alias));

/* exp(x) for x <= 0, to 3e-7 of it: 2^n exp(rest), |rest| < 0.35 (Cody and Waite 1980); 0 where float32 ends. */
static inline floats exponential(floats x) {
    const floats shifted = x * 1.44269504f + 12582912.0f, n = shifted - 12582912.0f;
    const floats rest = x - n * 0.693145752f - n * 1.42860677e-6f;
    floats sum = rest * (1.0f / 720) + 1.0f / 120;
    sum = sum * rest + 1.0f / 24;
    sum = sum * rest + 1.0f / 6;
    sum = sum * rest + 0.5f;
    sum = sum * rest + 1.0f;
    sum = sum * rest + 1.0f;
    const floats power = (floats)(((words)shifted << 23) + 0x3f800000);
    return (floats)((words)(sum * power) & ~(words)(x < -87.0f)); /* what is not a number stays so */
}

/* Logits and their bias become weights, 1 for the largest; mass: the sums of their blocks. */
static void weigh(int64_t blocks, int64_t size, float *row, const float *bias, int64_t stride, double *mass) {
    floats *at = (floats *)row, *end = (floats *)(row + blocks * size);
    const floats *add = (const floats *)bias;
    floats top = *at + *add;
    for (; at < end; at++, add++) {
        *at += *add;
        const words more = (words)(*at > top);
        top = (floats)((more & (words)*at) | (~more & (words)top));
    }
    float most = top[0];
    EACH most = top[l] > most ? top[l] : most;
    at = (floats *)row;
    for (int64_t b = 0; b < blocks; b++) {
        floats sums = {0};
        for (int64_t i = 0; i < size; i += LANES, at++) sums += *at = exponential(*at - most);
        double all = 0.0;
        EACH all += sums[l];
        mass[b * stride] = all;
    }
}

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
                      const float *bias, const double *uniform, int64_t *item, double *share, uint8_t *faint) {
    double left[blocks][LANES], edges[blocks][LANES], within[size][LANES], sums[size][LANES];
    double total[LANES], most[LANES], aim[LANES] = {0.0}, place[LANES];
    int64_t block[LANES] = {0};
    for (int64_t b = 0; b < blocks; b++) EACH left[b][l] = 1.0;
    for (int l = 0; l < lanes; l++) weigh(blocks, size, weight + l * blocks * size, bias, LANES, &left[0][l]);
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

void draw(int64_t rows, int64_t blocks, int64_t size, int64_t positions, float *weight, const float *bias,
          const double *uniform, int64_t *item, double *share, uint8_t *faint) {
    #pragma omp parallel for if (rows * blocks * size > FEW)
    for (int64_t r = 0; r < rows; r += LANES)
        draw_rows(rows - r < LANES ? rows - r : LANES, blocks, size, positions, weight + r * blocks * size, bias,
                  uniform + r * positions, item + r * positions, share + r * positions, faint + r);
}
"""


def native_draw(device: torch.device, dtype: torch.dtype, width: int, draws: int) -> Draw | None:
    """What does as `recil.ops.slates.draw_rows`, all tensors contiguous; None where it cannot.

    dtype, width: those of the logits [B, width]. How many draws are wanted decides only whether the lack of a compiler
    is worth a notice: a session's draw is to be the same in a batch of one and in a batch of thousands.
    """
    if device.type != "cpu" or dtype != torch.float32 or width > WIDEST:
        return None
    kernel = _kernel()
    if isinstance(kernel, str):
        if draws >= WORTH_A_NOTICE:
            _notice(kernel)
        return None

    def draw(logits: Tensor, bias: Tensor, size: int, uniforms: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        items = torch.empty(uniforms.shape, dtype=torch.int64)
        shares, faint = torch.empty(uniforms.shape, dtype=torch.float64), torch.zeros(len(uniforms), dtype=torch.bool)
        sizes = (len(logits), logits.shape[1] // size, size, uniforms.shape[1])
        kernel(*sizes, *(tensor.data_ptr() for tensor in (logits, bias, uniforms, items, shares, faint)))
        return items, shares, faint

    return draw


@cache
def _notice(reason: str) -> None:
    warnings.warn(f"slates are drawn by torch operators, more slowly: {reason}", RuntimeWarning, stacklevel=4)


@cache
def _kernel() -> Callable[..., None] | str:
    """The compiled code, or the reason why there is none."""
    found = (shutil.which(name, path=_path()) for name in ("cc", "gcc", "clang"))
    compiler = shlex.split(os.environ.get("CC", "")) or [name for name in found if name][:1]
    reason = "there is no C compiler"
    # A compiler may lack OpenMP. Where it has it, torch's own threads are used, for their library is loaded already.
    for options in (["-march=native", "-fopenmp"], ["-fopenmp"], []) if compiler else ():
        try:
            return _compile([*compiler, *options])
        except (OSError, subprocess.CalledProcessError) as error:
            reason = str(getattr(error, "stderr", "") or error).strip()
    return reason


def _path() -> str:
    """Where programs are looked for, and where systems keep them: a job that goes on under cron is to find the same."""
    return os.pathsep.join(filter(None, (os.environ.get("PATH"), os.defpath)))


def _compile(compiler: list[str]) -> Callable[..., None]:
    with tempfile.TemporaryDirectory() as folder:
        source, library = Path(folder, "slates.c"), Path(folder, "slates.so")
        source.write_text(SOURCE, encoding="utf-8")
        names = {"FAINTEST": FAINTEST, "SMALLEST": SMALLEST, "FEW": FEW}
        flags = ["-O3", "-shared", "-fPIC", *(f"-D{name}={number}" for name, number in names.items())]
        words = [*compiler, *flags, str(source), "-o", str(library)]
        subprocess.run(words, check=True, capture_output=True, text=True, env=os.environ | {"PATH": _path()})
        draw = ctypes.CDLL(str(library)).draw
    draw.argtypes = [ctypes.c_int64] * 4 + [ctypes.c_void_p] * 6
    draw.restype = None
    return draw
