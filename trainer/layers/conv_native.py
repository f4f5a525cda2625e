"""A Conv1D or Conv2D and the MaxPooling after it as compiled code that never writes what the convolution makes."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from trainer.layers.spatial import flat
from trainer.lazy import torch
from trainer.native.calls import BothWays, Call

if TYPE_CHECKING:
    from torch import Tensor

HEADER = "pooled.h"
MOST_WEIGHTS = 1 << 17
"Numbers of a kernel up to which their sums stay near the processor's cores."
LANES = 16
"Filters come in whole vectors."
TILE = 32
"Channels, filters and places that tiles of the processor take together, where it has some."
PARTS = ("back", "made", "band", "spread", "paired", "sides", "crossed")
"What a thread has beside a picture, as `pooled.h` says."
MOST_PLACES = 256
"Places of a window, which are kept as bytes."
_SIZES = (
    *("batch", "height", "width", "channels", "rows", "columns", "filters", "high", "wide"),
    *("out_height", "out_width", "top", "left", "tall", "broad", "is_half", "tiled", "each", *PARTS),
)
_TENSORS = (
    *("x", "kernel", "bias", "pairs", "outputs", "places", "slopes", "turned"),
    *("x_slopes", "room", "sums", "kernel_slopes", "bias_slopes"),
)


def can_be_native(kernel: Tensor, bias: Tensor | None, window: Sequence[int]) -> bool:
    """Whether a convolution by this kernel, and the largest of windows of that size, are for compiled code."""
    held, known = [t for t in (kernel, bias) if t is not None], (torch.float32, torch.bfloat16)
    plain = all(t.dtype in known and t.device.type == "cpu" and t.is_contiguous() for t in held)
    near = kernel.numel() <= MOST_WEIGHTS and 1 < math.prod(window) <= MOST_PLACES
    return plain and near and kernel.shape[-1] % LANES == 0


def _whole(count: int, by: int) -> int:
    return -(-count // by) * by


def _in_tiles(tall: int, broad: int, channels: int, rows: int, columns: int, filters: int) -> list[int]:
    """Numbers of float32 that the last four of the PARTS take."""
    places, before = tall * broad, (rows - 1) * broad + columns - 1
    summed = _whole((tall - rows + 1) * broad, TILE)
    return [
        (before + places + TILE) * filters // 2,
        summed // 2 * filters,
        channels * (_whole(places, TILE) + 2 * TILE) // 2,
        filters // 2 * rows * columns * channels,
    ]


class PooledConvolution(BothWays):
    """Both layers for batches of one shape, without the activation: what is kept between the way there and back.

    Raises:
        Uncompiled: there is no compiler, or no way to torch's threads.
    """

    def __init__(
        self,
        x: Tensor,
        kernel: Tensor,
        bias: Tensor | None,
        window: Sequence[int],
        before: Sequence[int],
        out: Sequence[int],
    ):
        """`window` is that of the pooling, `before` are zeros before each axis, `out` is what comes out along it.

        Shape: x (batch, [height,] width, channels); kernel ([rows,] columns, channels, filters); float32 or bfloat16
        """
        assert x.dtype == kernel.dtype
        batch, height, width, channels = x.unsqueeze(1).shape if x.dim() == 3 else x.shape
        rows, columns, _, filters = kernel.unsqueeze(0).shape if x.dim() == 3 else kernel.shape
        (high, wide), (out_height, out_width) = flat(tuple(window)), flat(tuple(out))
        tall, broad = out_height * high + rows - 1, out_width * wide + columns - 1
        sizes = (batch, height, width, channels, rows, columns, filters, high, wide, out_height, out_width)
        is_half, run = x.dtype == torch.bfloat16, columns * channels
        sizes = (*sizes, *flat(tuple(before), 0), tall, broad, is_half)
        tiled = is_half and channels % TILE == 0 == filters % TILE and tall * broad >= TILE // 2
        needed = [tall * broad * channels] * 2
        if is_half:
            needed += [math.prod(out) * filters, TILE * high * wide * out_width]
        if tiled:
            needed += _in_tiles(tall, broad, channels, rows, columns, filters)
        *begins, each = itertools.accumulate(_whole(n, LANES) for n in needed)
        sizes = (*sizes, tiled, each, *begins, *[0] * (len(PARTS) - len(begins)))
        call = Call(HEADER, dict(zip(_SIZES, sizes, strict=True)), _TENSORS)
        outputs = torch.empty(len(x), *out, filters, dtype=x.dtype)
        slopes = [torch.empty(kernel.shape), torch.empty(filters)]
        super().__init__("pooled", call, x, outputs, list(zip((kernel, bias), slopes, strict=True)))
        self._kernel, self._bias = kernel.detach(), None if bias is None else bias.detach()
        self._turned = torch.empty(filters, *kernel.shape[:-1])
        self._floats = [None if t is None else t.float() for t in (self._kernel, self._bias)]
        self._pairs = torch.empty(rows, run // 2, filters, 2, dtype=x.dtype) if is_half and run % 2 == 0 else None
        call.hold(
            x=x,
            kernel=self._floats[0],
            bias=self._floats[1],
            pairs=self._pairs,
            outputs=outputs,
            places=torch.empty(outputs.shape, dtype=torch.uint8),
            turned=self._turned,
            room=torch.empty(call.threads, each),
            sums=torch.empty(call.threads, kernel.numel() + filters),
            kernel_slopes=slopes[0],
            bias_slopes=slopes[1],
        )

    def before_there(self) -> Iterator[tuple[Tensor, Tensor]]:
        for floats, weight in zip(self._floats, (self._kernel, self._bias), strict=True):
            if floats is not None and weight is not None and floats is not weight:
                yield floats, weight
        if self._pairs is not None:
            yield self._pairs, self._kernel.view(len(self._pairs), -1, 2, self._kernel.shape[-1]).mT

    def before_back(self) -> Iterator[tuple[Tensor, Tensor]]:
        yield self._turned, self._kernel.movedim(-1, 0)
