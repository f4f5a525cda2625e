"""Matrix products by the faster of two libraries.

torch multiplies float32 matrices by MKL, which on processors that are not Intel's takes half their width. oneDNN, which
torch uses for convolutions, takes all of it: large products are twice as fast there. Sums differ in their last digits,
so what is chosen follows from the processor and the sizes alone.
"""

from __future__ import annotations

import functools
import platform
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trainer.lazy import torch
from trainer.switches import on

if TYPE_CHECKING:
    from torch import Tensor

LARGE = 500_000
"Multiply-adds from which on the call's own cost is made up for."
SLAB = 1 << 20
"Numbers of a product that are made at a time where it goes into a tensor that is there."
ROWS = 64
"Of which a slab has whole ones."
NARROW = 128
"Up to so many columns a transposed matrix is the faster one to make."


@functools.cache
def has_wide() -> bool:
    """Whether oneDNN is there and the faster one on this processor."""
    there = torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")
    return there and platform.machine() in ("x86_64", "AMD64") and vendor() not in ("", "GenuineIntel")


def vendor() -> str:
    """Who made the processor, as it says itself; empty where nothing says so."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return ""
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("vendor_id")), "")


def is_wide(a: Tensor, b: Tensor) -> bool:
    """Whether a @ b is one of the products that oneDNN is to make."""
    if torch.compiler.is_compiling():
        # A model that is exported is to take any number of rows, everywhere.
        return False
    large = a.shape[0] * a.shape[1] * b.shape[1] >= LARGE
    plain = a.dtype == torch.float32 == b.dtype and a.device.type == "cpu"
    return large and plain and has_wide() and on("onednn")


def mm_for(a: Tensor, b: Tensor) -> Callable[..., Tensor]:
    """The function (a, b, out=) that multiplies matrices like these best."""
    if not is_wide(a, b):
        return torch.mm
    return _wide_turned if a.stride(0) == 1 and b.shape[1] <= NARROW < a.shape[0] else _wide


def addmm_for(a: Tensor, b: Tensor) -> Callable[..., Tensor]:
    """The function (bias, a, b, out=) that multiplies matrices like these, and adds a row, best."""
    return _wide_and_added if is_wide(a, b) else torch.addmm


def affine(a: Tensor, b: Tensor, bias: Tensor | None) -> Tensor:
    """a @ b + bias by oneDNN, which autograd can go back through; for matrices that `is_wide` is true of."""
    return _function()(a, b, bias)


@functools.cache
def _function() -> Any:
    class Affine(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, a: Tensor, b: Tensor, bias: Tensor | None) -> Tensor:
            ctx.save_for_backward(a, b)
            return _linear(a, b.t(), bias)

        @staticmethod
        def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
            (slope,), (a, b) = gradients, ctx.saved_tensors
            asked_a, asked_b, asked_bias = ctx.needs_input_grad
            of_a = mm_for(slope, b.t())(slope, b.t()) if asked_a else None
            of_b = mm_for(a.t(), slope)(a.t(), slope) if asked_b else None
            return of_a, of_b, slope.sum(0) if asked_bias else None

    return Affine.apply


def _linear(a: Tensor, rows: Tensor, bias: Tensor | None) -> Tensor:
    """a @ transpose(rows) + bias"""
    return torch.ops.mkldnn._linear_pointwise(a, rows, bias, "none", [], "")


class Wide:
    """A product by oneDNN, with the arguments of one of torch's functions and, but for rounding, its result."""

    def __init__(self, same_as: str, function: Callable[..., Tensor]):
        self.same_as, self._function = same_as, function

    def __call__(self, *args: Tensor, out: Any = None) -> Tensor:
        if out is None:
            return self._function(*args)
        if out.numel() > SLAB and self.same_as == "mm" and len(out) > ROWS:
            # oneDNN makes a tensor of its own: a large one comes in slabs, which caches hold and which take no memory.
            rows = max(ROWS, SLAB // out.shape[1] // ROWS * ROWS)
            for a, part in zip(args[0].split(rows), out.split(rows), strict=True):
                part.copy_(self._function(a, args[1]))
            return out
        return out.copy_(self._function(*args))


_wide = Wide("mm", lambda a, b: _linear(a, b.t(), None))
_wide_turned = Wide("mm", lambda a, b: _linear(b.t(), a, None).t())
_wide_and_added = Wide("addmm", lambda bias, a, b: _linear(a, b.t(), bias))
