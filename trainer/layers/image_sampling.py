"""Reading pictures between their pixels: at any coordinates, and past the edges as a fill mode says."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from trainer.lazy import torch

if TYPE_CHECKING:
    from torch import Tensor

Interpolation = Literal["nearest", "bilinear"]
FillMode = Literal["reflect", "wrap", "constant", "nearest"]
FAR = 2.0**30
"Coordinates past it are as good as it, and fit into an integer."


def inside(index: Tensor, size: int, fill_mode: str) -> Tensor:
    """The pixel that stands for each index along an axis of `size` pixels.

    With pixels a b c d: reflect is d c b a | a b c d | d c b a, mirror d c b | a b c d | c b a, wrap
    a b c d | a b c d | a b c d; constant and nearest are a a a | a b c d | d d d.
    """
    if fill_mode == "wrap":
        return index.remainder(size)
    if fill_mode == "reflect":
        back = index.remainder(2 * size)
        return torch.minimum(back, 2 * size - 1 - back)
    if fill_mode == "mirror" and size > 1:
        back = index.remainder(2 * size - 2)
        return torch.minimum(back, 2 * size - 2 - back)
    return index.clamp(0, size - 1)


def sampled(x: Tensor, ys: Tensor, xs: Tensor, interpolation: str, fill_mode: str, fill_value: float) -> Tensor:
    """Pictures (batch, height, width, channels) read at coordinates (batch, rows, columns), in pixels."""
    batch, height, width, channels = x.shape
    start = torch.arange(batch, device=x.device).view(-1, 1, 1) * (height * width)
    pixels = x.reshape(-1, channels)
    made = None
    for row, row_weight in _around(ys, interpolation):
        for column, column_weight in _around(xs, interpolation):
            place = start + inside(row, height, fill_mode) * width + inside(column, width, fill_mode)
            value = pixels.index_select(0, place.flatten()).view(*place.shape, channels)
            if fill_mode == "constant":
                known = (row >= 0) & (row < height) & (column >= 0) & (column < width)
                value = torch.where(known.unsqueeze(-1), value, fill_value)
            if row_weight is not None and column_weight is not None:
                value = value * (row_weight * column_weight).unsqueeze(-1)
            made = value if made is None else made + value
    assert made is not None
    return made


def _around(at: Tensor, interpolation: str) -> list[tuple[Tensor, Tensor | None]]:
    """The pixels along an axis that a coordinate is read from, and how much of each."""
    at = at.clamp(-FAR, FAR)
    if interpolation == "nearest":
        return [(at.round().long(), None)]
    low = at.floor()
    index, share = low.long(), at - low
    return [(index, 1 - share), (index + 1, share)]


def grid(height: int, width: int, like: Tensor) -> tuple[Tensor, Tensor]:
    """(rows, columns) of every pixel, as (1, height, 1) and (1, 1, width)."""
    rows, columns = (torch.arange(n, device=like.device, dtype=like.dtype) for n in (height, width))
    return rows.view(1, -1, 1), columns.view(1, 1, -1)


def affine(x: Tensor, rows: tuple[tuple[Tensor, ...], tuple[Tensor, ...]], how: tuple[str, str, float]) -> Tensor:
    """Pictures whose pixel (x, y) is read at (a0 x + a1 y + a2, b0 x + b1 y + b2); `rows` are the a and the b."""
    ys, xs = grid(x.shape[1], x.shape[2], rows[0][0])
    across, down = ([v.view(-1, 1, 1) for v in row] for row in rows)
    at_x = xs * across[0] + ys * across[1] + across[2]
    at_y = xs * down[0] + ys * down[1] + down[2]
    return sampled(x, at_y, at_x, *how)
