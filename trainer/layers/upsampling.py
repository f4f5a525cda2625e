"""UpSampling: more entries along the spatial axes, repeated or interpolated."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Literal

from pydantic import field_validator

from trainer.layers.base import Layer, Weights
from trainer.layers.plan import Plan
from trainer.layers.spatial import (
    EitherFormat,
    Sizes,
    flat,
    for_each_axis,
    from_planes,
    joined,
    one_for_all,
    split_axes,
    to_planes,
)
from trainer.lazy import F, torch
from trainer.options import PositiveInt
from trainer.program import native
from trainer.shapes import Shape

if TYPE_CHECKING:
    from torch import Tensor

    from trainer.program import Program, Pull


def grown(shape: Shape, size: tuple[int, ...], data_format: str) -> Shape:
    """The shape with each spatial axis `size` times as long."""
    spatial, channels = split_axes(shape, len(size), data_format)
    made = tuple(None if n is None else n * times for n, times in zip(spatial, size, strict=True))
    return joined(shape[0], made, channels, data_format)


def repeated(x: Tensor, size: tuple[int, ...], data_format: str, mode: str = "nearest-exact") -> Tensor:
    """Each entry `size` times along each spatial axis, or the straight lines between them (mode `bilinear`)."""
    planes = to_planes(x, len(size), data_format)
    target = [n * times for n, times in zip(planes.shape[2:], flat(size), strict=True)]
    # torch's `nearest` rounds down what float32 may have put just below an integer; `nearest-exact` looks at middles.
    corners = False if mode == "bilinear" else None
    return from_planes(F.interpolate(planes, target, mode=mode, align_corners=corners), len(size), data_format)


def repeated_by_hand(
    p: Program, x: Tensor, size: tuple[int, ...], data_format: str, mode: str = "nearest-exact"
) -> tuple[Tensor, Pull]:
    """`repeated` as operations of a program."""
    planes = to_planes(x, len(size), data_format)
    volume, smooth = planes.dim() == 5, mode == "bilinear"
    name = "upsample_bilinear2d" if smooth else f"_upsample_nearest_exact{'3d' if volume else '2d'}"
    target = [n * times for n, times in zip(planes.shape[2:], flat(size), strict=True)]
    corners = (False,) if smooth else ()
    made = native(name)(planes, target, *corners)
    p.do(native(name, "out"), planes, target, *corners, out=made)

    def pull(slope: Tensor, wanted: bool) -> Tensor | None:
        if not wanted:
            return None
        found, slope = torch.empty_like(planes), to_planes(slope, len(size), data_format)
        back = native(f"{name}_backward", "grad_input")
        p.do(back, slope, target, list(planes.shape), *corners, grad_input=found)
        return from_planes(found, len(size), data_format)

    return from_planes(made, len(size), data_format), pull


def keys(distance: Tensor) -> Tensor:
    """The cubic kernel with a = -1/2 (Keys 1981), which reaches 2 entries to each side."""
    near = ((1.5 * distance - 2.5) * distance) * distance + 1
    far = ((-0.5 * distance + 2.5) * distance - 4) * distance + 2
    return torch.where(distance < 1, near, torch.where(distance < 2, far, 0.0))


def lanczos(distance: Tensor, reach: int) -> Tensor:
    """sinc(d) * sinc(d / reach), which reaches that many entries to each side."""
    window = torch.sinc(distance) * torch.sinc(distance / reach)
    return torch.where(distance < reach, window, 0.0)


def taps(n: int, times: int, interpolation: str, like: Tensor) -> Tensor:
    """The matrix (n * times, n) that interpolates n entries; a row sums to 1 over the entries that exist.

    Output i stands at (i + 1/2) / times - 1/2. The distance is put together from an integer and a fraction, so that
    float32 keeps its digits however long the axis is.
    """
    dtype = torch.promote_types(like.dtype, torch.float32)
    made = torch.arange(n * times, device=like.device, dtype=dtype)
    whole = made // times - torch.arange(n, device=like.device, dtype=dtype).unsqueeze(1)
    distance = (whole + (made % times + 0.5) / times - 0.5).abs()
    weights = keys(distance) if interpolation == "bicubic" else lanczos(distance, int(interpolation[-1]))
    return (weights / weights.sum(0)).T.to(like.dtype)


def along(x: Tensor, axis: int, matrix: Tensor) -> Tensor:
    """`matrix` times `x` along one axis; the memory keeps the order of the axes."""
    if axis == x.dim() - 1:
        return x @ matrix.T
    rows = x.reshape(-1, x.shape[axis], math.prod(x.shape[axis + 1 :]))
    made = torch.bmm(matrix.expand(rows.shape[0], -1, -1), rows)
    return made.reshape(*x.shape[:axis], -1, *x.shape[axis + 1 :])


class UpSampling1D(Layer):
    """Each step `size` times.

    https://keras.io/api/layers/reshaping_layers/up_sampling1d/

    Shape: (batch, steps, channels) -> (batch, steps * size, channels)
    """

    size: PositiveInt = 2
    "How often each step is repeated."

    def build(self, plan: Plan, shape: Shape) -> Shape:
        return grown(shape, (self.size,), "channels_last")

    def forward(self, w: Weights, x: Tensor) -> Tensor:
        return repeated(x, (self.size,), "channels_last")

    def by_hand(self, p: Program, w: Weights, x: Tensor) -> tuple[Tensor, Pull]:
        return repeated_by_hand(p, x, (self.size,), "channels_last")


class UpSampling(EitherFormat, abstract=True):
    """Spatial axes longer by whole factors, one for each."""

    @field_validator("size", mode="before", check_fields=False)
    @classmethod
    def _for_each_axis(cls, value: Any) -> Any:
        return for_each_axis(value, cls.rank)


class UpSampling2D(UpSampling):
    """Each picture larger by whole factors.

    `bicubic`, `lanczos3` and `lanczos5` are what Keras computes on TensorFlow, JAX and NumPy: its torch backend refuses
    the lanczos kernels and takes another cubic (a = -3/4, edges repeated).

    https://keras.io/api/layers/reshaping_layers/up_sampling2d/

    Shape: (batch, height, width, channels) -> (batch, height * size[0], width * size[1], channels)
    """

    size: Sizes = one_for_all(2)
    "Factors of height and width."
    interpolation: Literal["nearest", "bilinear", "bicubic", "lanczos3", "lanczos5"] = "nearest"
    "nearest: pixels are repeated; the others put a smooth curve through them, wider from bilinear to lanczos5."

    rank = 2
    keras_order = "size data_format"

    def build(self, plan: Plan, shape: Shape) -> Shape:
        return grown(shape, self.size, self.data_format)

    def forward(self, w: Weights, x: Tensor) -> Tensor:
        if self.interpolation == "nearest":
            return repeated(x, self.size, self.data_format)
        if self.interpolation == "bilinear":
            return repeated(x, self.size, self.data_format, "bilinear")
        first = 2 if self.data_format == "channels_first" else 1
        for axis, times in enumerate(self.size, first):
            if times > 1:
                x = along(x, axis, taps(x.shape[axis], times, self.interpolation, x))
        return x

    def by_hand(self, p: Program, w: Weights, x: Tensor) -> tuple[Tensor, Pull] | None:
        if self.interpolation not in ("nearest", "bilinear"):
            return None
        mode = "bilinear" if self.interpolation == "bilinear" else "nearest-exact"
        return repeated_by_hand(p, x, self.size, self.data_format, mode)


class UpSampling3D(UpSampling):
    """Each volume larger by whole factors, its voxels repeated.

    https://keras.io/api/layers/reshaping_layers/up_sampling3d/

    Shape: (batch, depth, height, width, channels) -> (batch, ..., channels), each axis times its size
    """

    size: Sizes = one_for_all(2)
    "Factors of depth, height and width."

    rank = 3

    def build(self, plan: Plan, shape: Shape) -> Shape:
        return grown(shape, self.size, self.data_format)

    def forward(self, w: Weights, x: Tensor) -> Tensor:
        return repeated(x, self.size, self.data_format)

    def by_hand(self, p: Program, w: Weights, x: Tensor) -> tuple[Tensor, Pull]:
        return repeated_by_hand(p, x, self.size, self.data_format)
