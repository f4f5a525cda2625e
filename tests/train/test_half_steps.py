"""Compiled steps in bfloat16: the products by themselves, and whole trainings beside those of torch's operations."""

from __future__ import annotations

import ctypes
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.train.test_compiled import CASES, CLASSES, needs_compiler, run, run_by
from tests.train.test_direct import hold_alike, record, weights
from trainer.errors import RecipeError
from trainer.native import compiler
from trainer.native.kept import processor
from trainer.switches import VARIABLE

PRODUCT = """{}
#include "kernels.h"
#include "halves.h"
void paired(unsigned *to, const half *a, long m, long k, long am, long ak, long me, long all) {{
    pairs_share(to, a, m, k, am, ak, me, all);
}}
void share(half *o, long m, long n, long k, const half *bias, const half *a, long am, long ak, const half *b, long bk,
           long bn, unsigned *room, long me, long all) {{
    half_product_share(o, m, n, k, bias, a, am, ak, b, bk, bn, room + me * 64 * ((k + 31) / 32 * 16), me, all);
}}
long down(long m, long k) {{ return PAIRS_DOWN(m, k); }}
long across(long m, long k) {{ return PAIRS_ACROSS(m, k); }}
"""
PROCESSORS = {
    "this processor": "#define SHARED",
    "without tiles": "#define SHARED\n#define WITHOUT_TILES",
    "any processor": "#define SHARED\n#define WITHOUT_TILES\n#undef __AVX512BF16__",
}
SHAPES = [
    *((128, 70, 33), (7, 200, 600), (1, 5, 1100), (45, 1, 40), (64, 64, 64), (13, 129, 513), (3, 17, 1), (6, 10, 2)),
    *((16, 16, 32), (37, 100, 130), (200, 49, 784)),
]


def strided(x: torch.Tensor, layout: str) -> torch.Tensor:
    """The same matrix with its rows or its columns in order."""
    return x if layout == "rows" else x.t().contiguous().t()


def drawn(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(sum(shape))).bfloat16()


@needs_compiler
@pytest.mark.parametrize("threads", [1, 2, 3, 5])
@pytest.mark.parametrize("layouts", ["rows rows", "rows columns", "columns rows", "columns columns"])
@pytest.mark.parametrize("processor", PROCESSORS)
def test_a_product_of_shares_is_the_product_once_rounded(threads: int, layouts: str, processor: str) -> None:
    library = compiler.library(PRODUCT.format(PROCESSORS[processor]))
    for number, (m, n, k) in enumerate(SHAPES):
        a, b, bias = strided(drawn(m, k), layouts.split()[0]), strided(drawn(k, n), layouts.split()[1]), drawn(n)
        made, pairs = torch.full((m, n), torch.nan).bfloat16(), torch.zeros((k + 1) // 2, m, dtype=torch.int32)
        room, given = torch.zeros(threads * 64 * ((k + 31) // 32 * 16), dtype=torch.int32), bias if number % 2 else None
        call = partial(called, library, threads)
        am, ak, left = a.stride(0), 2 * a.stride(1), a
        if a.stride(1) != 1 or k % 2:
            call("paired", pairs, a, m, k, *a.stride())
            am, ak = (getattr(library, name)(ctypes.c_long(m), ctypes.c_long(k)) for name in ("down", "across"))
            left = pairs
        call("share", made, m, n, k, given, left, am, ak, b, *(b.stride() if n > 1 else (b.stride(0), 1)), room)
        exact = a.double() @ b.double() + (bias.double() if number % 2 else 0)
        sizes = a.double().abs() @ b.double().abs()
        # Half of the last digit that is kept, and what adding up in float32 rounds.
        assert ((made.double() - exact).abs() <= 2.0**-8 * exact.abs() + 1e-6 * sizes).all()


def called(library: ctypes.CDLL, threads: int, name: str, *given: Any) -> None:
    """Every thread's share of a function, one after the other."""
    held = [ctypes.c_void_p(x.data_ptr()) if isinstance(x, torch.Tensor) else x for x in given]
    for me in range(threads):
        numbers = [ctypes.c_long(x) if isinstance(x, int) else x for x in (*held, me, threads)]
        getattr(library, name)(*numbers)


@needs_compiler
def test_tiles_are_there_unless_they_are_switched_off(monkeypatch: pytest.MonkeyPatch) -> None:
    text = '#define SHARED\n#include "kernels.h"\n#include "halves.h"\nint tiles(void) { return has_tiles; }\n'
    assert compiler.library(text).tiles() <= ("amx_bf16" in processor())
    monkeypatch.setenv(VARIABLE, "tiles")
    assert compiler.library(text).tiles() == 0


@needs_compiler
def test_numbers_are_rounded_as_torch_rounds_them() -> None:
    """Every pattern of 16 bits with what decides: ends in nothing, in a tie, just below it and just above it."""
    ends = torch.tensor([0, 0x8000, 0x7FFF, 0x8001, 0xFFFF], dtype=torch.int32)
    bits = torch.arange(-(2**15), 2**15, dtype=torch.int32).unsqueeze(1) * 2**16 + ends
    x = bits.view(torch.float32).flatten()
    made, back = torch.empty(len(x), dtype=torch.bfloat16), torch.empty(len(x))
    text = """
#include "kernels.h"
#include "halves.h"
void there(half *o, const float *x, long n) { for (long i = 0; i < n; i++) o[i] = narrow(x[i]); }
void back(float *o, const half *x, long n) { for (long i = 0; i < n; i++) o[i] = wide(x[i]); }
void vectors(half *o, const float *x, long n) { for (long i = 0; i < n; i += 16) put_16(o + i, *(v16 *)(x + i)); }
"""
    library = compiler.library(text)
    for name in ("there", "vectors"):
        getattr(library, name)(*(ctypes.c_void_p(t.data_ptr()) for t in (made, x)), ctypes.c_long(len(x)))
        np.testing.assert_array_equal(made.float().numpy(), x.bfloat16().float().numpy())
    library.back(*(ctypes.c_void_p(t.data_ptr()) for t in (back, made)), ctypes.c_long(len(x)))
    np.testing.assert_array_equal(back.numpy(), made.float().numpy())


HALVES = [
    *("classes", "numbers", "a wide layer", "dropout", "two of one input", "frozen", "momentum", "loss mae"),
    *(name for name in CASES if name.startswith("activation")),
]


def in_half(case: str, jit: str) -> dict[str, str]:
    return CASES[case] | {"JIT": f"{jit}, precision: bfloat16"}


@needs_compiler
@pytest.mark.parametrize("case", HALVES)
def test_training_is_that_of_operations(tmp_path: Path, case: str) -> None:
    ours, torchs = (run(tmp_path, in_half(case, jit)) for jit in ("true", "false"))
    assert [record(outcome)["steps_by"] for outcome in (ours, torchs)] == ["compiled code", "operations in a row"]
    hold_alike(torchs, ours)


@needs_compiler
@pytest.mark.parametrize("case", ["classes", "numbers", "dropout"])
def test_threads_that_share_the_steps_give_the_same(tmp_path: Path, case: str) -> None:
    parts = in_half(case, "true")
    alone, two, three = run(tmp_path, parts), run_by(2, tmp_path, parts), run_by(3, tmp_path, parts)
    hold_alike(alone, two)
    for a, b in zip(weights(two), weights(three), strict=True):
        # Threads take whole sums.
        np.testing.assert_array_equal(a, b)


def test_weights_kept_in_half_precision_are_not_for_c(tmp_path: Path) -> None:
    layers = "{Dense: {units: 12, dtype: bfloat16}}, {Dense: {units: 10, activation: softmax, dtype: bfloat16}}"
    with pytest.raises(RecipeError, match="there is no C for weights of type"):
        run(tmp_path, CLASSES | {"LAYERS": layers})
