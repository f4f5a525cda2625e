"""Preprocessing as Keras has it."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Normalization(nn.Module):
    """(x - mean) / max(sqrt(variance), 1e-7), or the way back from it."""

    mean: Tensor
    variance: Tensor

    def __init__(self, shape: tuple[int, ...], invert: bool = False) -> None:
        super().__init__()
        self.invert = invert
        self.register_buffer("mean", torch.zeros(shape))
        self.register_buffer("variance", torch.ones(shape))

    def forward(self, x: Tensor) -> Tensor:
        deviation = self.variance.sqrt().clamp(min=1e-7)
        return x * deviation + self.mean if self.invert else (x - self.mean) / deviation


def one_hot(ids: Tensor, count: int) -> Tensor:
    """A vector for each id: 1 at its place, 0 elsewhere."""
    ids = ids.squeeze(-1) if ids.dim() > 1 and ids.shape[-1] == 1 else ids
    return F.one_hot(ids.long(), count).float()


def multi_hot(ids: Tensor, count: int) -> Tensor:
    """A vector for each row of ids: 1 at the places of all of them."""
    return torch.zeros(len(ids), count, device=ids.device).scatter_(1, ids.long(), 1.0)


def counted(ids: Tensor, count: int) -> Tensor:
    """A vector for each row of ids: how often each occurs."""
    made = torch.zeros(len(ids), count, device=ids.device)
    return made.scatter_add_(1, ids.long(), torch.ones_like(ids, dtype=made.dtype))


def padded(x: Tensor, steps: int, before: bool = True, keep_last: bool = True, value: int = 0) -> Tensor:
    """Rows (batch, time, ...) of `steps` steps: longer ones cut, shorter ones filled up."""
    x = x[:, -steps:] if keep_last else x[:, :steps]
    gap = x.new_full((len(x), steps - x.shape[1], *x.shape[2:]), value)
    return torch.cat([gap, x] if before else [x, gap], 1)


def resized(x: Tensor, height: int, width: int, mode: str = "bilinear", antialias: bool = False) -> Tensor:
    """Pictures (batch, height, width, channels) scaled to a size."""
    smooth = mode != "nearest"
    kind, corners = (mode, False) if smooth else ("nearest-exact", None)
    made = F.interpolate(x.movedim(-1, 1), (height, width), mode=kind, align_corners=corners, antialias=antialias)
    return made.movedim(1, -1)


def middle(x: Tensor, height: int, width: int) -> Tensor:
    """The largest window in the middle of pictures that has the proportions of a size, scaled to it."""
    tall, wide = x.shape[1:3]
    if (tall, wide) == (height, width):
        return x
    rows = max(min(tall, int(wide * height / width)), 1)
    columns = max(min(wide, int(tall * width / height)), 1)
    top, left = (tall - rows) // 2, (wide - columns) // 2
    return resized(x[:, top : top + rows, left : left + columns], height, width)


def center_crop(x: Tensor, height: int, width: int) -> Tensor:
    """The middle of pictures; those that are too small are scaled up, then cut to the size."""
    top, left = x.shape[1] - height, x.shape[2] - width
    if top < 0 or left < 0:
        return middle(x, height, width)
    return x[:, top // 2 : top // 2 + height, left // 2 : left // 2 + width]
