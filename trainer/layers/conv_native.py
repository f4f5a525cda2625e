"""A Conv1D or Conv2D and the MaxPooling after it as compiled code that never writes what the convolution makes."""

from __future__ import annotations

import math
from collections.abc import Sequence
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
MOST_PLACES = 256
"Places of a window, which are kept as bytes."
_SIZES = (
    *("batch", "height", "width", "channels", "rows", "columns", "filters", "high", "wide"),
    *("out_height", "out_width", "top", "left", "tall", "broad"),
)
_TENSORS = (
    *("x", "kernel", "bias", "outputs", "places", "slopes", "turned"),
    *("x_slopes", "room", "sums", "kernel_slopes", "bias_slopes"),
)


def can_be_native(kernel: Tensor, bias: Tensor | None, window: Sequence[int]) -> bool:
    """Whether a convolution by this kernel, and the largest of windows of that size, are for compiled code."""
    held = [t for t in (kernel, bias) if t is not None]
    plain = all(t.dtype == torch.float32 and t.device.type == "cpu" and t.is_contiguous() for t in held)
    near = kernel.numel() <= MOST_WEIGHTS and 1 < math.prod(window) <= MOST_PLACES
    return plain and near and kernel.shape[-1] % LANES == 0


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

        Shape: x (batch, [height,] width, channels); kernel ([rows,] columns, channels, filters)
        """
        batch, height, width, channels = x.unsqueeze(1).shape if x.dim() == 3 else x.shape
        rows, columns, _, filters = kernel.unsqueeze(0).shape if x.dim() == 3 else kernel.shape
        (high, wide), (out_height, out_width) = flat(tuple(window)), flat(tuple(out))
        tall, broad = out_height * high + rows - 1, out_width * wide + columns - 1
        sizes = (batch, height, width, channels, rows, columns, filters, high, wide, out_height, out_width)
        sizes = (*sizes, *flat(tuple(before), 0), tall, broad)
        call = Call(HEADER, dict(zip(_SIZES, sizes, strict=True)), _TENSORS)
        outputs, slopes = torch.empty(len(x), *out, filters), [torch.empty_like(kernel), torch.empty(filters)]
        super().__init__(call, x, outputs, list(zip((kernel, bias), slopes, strict=True)))
        self._kernel = kernel
        self._turned = torch.empty_like(kernel.movedim(-1, 0), memory_format=torch.contiguous_format)
        call.hold(
            x=x,
            kernel=kernel.detach(),
            bias=None if bias is None else bias.detach(),
            outputs=outputs,
            places=torch.empty(outputs.shape, dtype=torch.uint8),
            turned=self._turned,
            room=torch.empty(call.threads, 2, tall * broad * channels),
            sums=torch.empty(call.threads, kernel.numel() + filters),
            kernel_slopes=slopes[0],
            bias_slopes=slopes[1],
        )

    def there(self) -> None:
        self.call.run("pooled_forward")

    def back(self) -> None:
        self._turned.copy_(self._kernel.movedim(-1, 0))
        self.call.run("pooled_backward")
