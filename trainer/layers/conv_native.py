"""A Conv1D or Conv2D and the MaxPooling after it as compiled code that never writes what the convolution makes."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from trainer.layers.spatial import flat
from trainer.lazy import torch
from trainer.native.calls import Call

if TYPE_CHECKING:
    from torch import Tensor

    from trainer.program import Program, Pull

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


class PooledConvolution:
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
        self._x, self._weights = x, (kernel, bias)
        self.outputs = torch.empty(len(x), *out, kernel.shape[-1])
        batch, height, width, channels = x.unsqueeze(1).shape if x.dim() == 3 else x.shape
        rows, columns, _, filters = kernel.unsqueeze(0).shape if x.dim() == 3 else kernel.shape
        (high, wide), (out_height, out_width) = flat(tuple(window)), flat(tuple(out))
        tall, broad = out_height * high + rows - 1, out_width * wide + columns - 1
        sizes = (batch, height, width, channels, rows, columns, filters, high, wide, out_height, out_width)
        sizes = (*sizes, *flat(tuple(before), 0), tall, broad)
        self._call = Call(HEADER, dict(zip(_SIZES, sizes, strict=True)), _TENSORS)
        self._turned = torch.empty_like(kernel.movedim(-1, 0), memory_format=torch.contiguous_format)
        self._slopes = [torch.empty_like(kernel), torch.empty(filters)]
        self._call.hold(
            x=x,
            kernel=kernel.detach(),
            bias=None if bias is None else bias.detach(),
            outputs=self.outputs,
            places=torch.empty(self.outputs.shape, dtype=torch.uint8),
            turned=self._turned,
            room=torch.empty(self._call.threads, 2, tall * broad * channels),
            sums=torch.empty(self._call.threads, kernel.numel() + filters),
            kernel_slopes=self._slopes[0],
            bias_slopes=self._slopes[1],
        )

    def operations(self, p: Program) -> tuple[Tensor, Pull]:
        """The way there, and what adds the way back."""
        p.do(self._call.run, "pooled_forward")

        def pull(slope: Tensor, wanted: bool) -> Tensor | None:
            made = torch.empty_like(self._x) if wanted else None
            self._call.hold(slopes=p.laid(slope), x_slopes=made)
            takes = [None if weight is None else p.receiver(weight) for weight in self._weights]
            p.do(self._back, takes)
            return made

        return self.outputs, pull

    def _back(self, takes: Sequence[Callable[[Tensor], Any] | None]) -> None:
        self._turned.copy_(self._weights[0].movedim(-1, 0))
        self._call.run("pooled_backward")
        for take, slope in zip(takes, self._slopes, strict=True):
            if take is not None:
                take(slope)
