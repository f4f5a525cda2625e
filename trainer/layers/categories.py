"""Numbers of categories as one-hot, multi-hot and counted vectors; a number below 0 is left out."""

from __future__ import annotations

from typing import TYPE_CHECKING

from trainer.lazy import torch
from trainer.shapes import Shape, text

if TYPE_CHECKING:
    from torch import Tensor


def encoded_shape(shape: Shape, mode: str, depth: int | None, most_axes: int = 2) -> Shape:
    """The shape of numbers of that shape in this output mode.

    Raises:
        ValueError: the mode needs rows of numbers, or not so many axes.
    """
    if mode == "int":
        return shape
    if mode == "one_hot":
        if len(shape) > 1 and shape[-1] is None:
            raise ValueError("one_hot can't read rows of unequal length; use output_mode: multi_hot")
        return (*(shape[:-1] if len(shape) > 1 and shape[-1] == 1 else shape), depth)
    if not 2 <= len(shape) <= most_axes:
        found = f"expected rows of values, (batch, values), found {text(shape)}"
        raise ValueError(found + ("; a single value a row takes output_mode: one_hot" if len(shape) == 1 else ""))
    return (shape[0], *shape[2:], depth)


def encode(ids: Tensor, mode: str, depth: int) -> Tensor:
    """Numbers encoded; multi_hot and count (tf_idf too) put the values of axis 1 together."""
    ids = ids.long()
    if mode == "int":
        return ids
    if mode == "one_hot":
        ids = ids if ids.dim() > 1 and ids.shape[-1] == 1 else ids.unsqueeze(-1)
    else:
        ids = ids.movedim(1, -1)
    # Left-out numbers fall into one more column, which is cut off.
    ids = torch.where(ids < 0, depth, ids)
    out = torch.zeros(*ids.shape[:-1], depth + 1, device=ids.device)
    if mode in ("one_hot", "multi_hot"):
        out.scatter_(-1, ids, 1.0)
    else:
        out.scatter_add_(-1, ids, torch.ones((), device=ids.device).expand(ids.shape))
    return out[..., :depth].contiguous()


def encode_ragged(values: Tensor, offsets: Tensor, mode: str, depth: int) -> Tensor:
    """Rows of unequal length encoded: row i is values[offsets[i]:offsets[i + 1]]."""
    rows = len(offsets) - 1
    places = torch.arange(rows, device=values.device).repeat_interleave(offsets.diff()) * depth + values
    places = places[values >= 0]
    out = torch.zeros(rows * depth, device=values.device)
    if mode == "multi_hot":
        out.scatter_(0, places, 1.0)
    else:
        out.scatter_add_(0, places, torch.ones((), device=values.device).expand(places.shape))
    return out.view(rows, depth)
