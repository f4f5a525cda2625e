"""Rows of zeros with ones at some places, kept as lists of the places.

Multi-hot rows of 10,000 words hold some hundred ones. Their product with a kernel is a sum of so many of its rows, and
its gradient is such a sum too, over the lists of each place: the same values for a tenth of the memory traffic.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

from trainer.lazy import np, torch

if TYPE_CHECKING:
    import numpy
    from torch import Tensor

CHUNK_NUMBERS = 1 << 20
"Places that are looked at at once where lists are freed of what they say twice."


class Bags:
    """Row i is 1 at places[offsets[i]:offsets[i + 1]], each of which stands there once, and 0 elsewhere."""

    def __init__(self, places: Tensor, offsets: Tensor, width: int):
        self.places, self.offsets, self.width = places, offsets, width

    @classmethod
    def of(cls, values: numpy.ndarray, offsets: numpy.ndarray, width: int) -> Bags:
        """From lists of ids from 0 to `width` - 1, which may name one several times."""
        rows, step = len(offsets) - 1, max(1, CHUNK_NUMBERS // width)
        # numpy's one thread: torch's would hold memory of their own for as long as the run.
        there = np.zeros((min(step, rows), width), "bool")
        places, ends = [np.zeros(0, "int32")], np.zeros(rows + 1, "int32")
        for start in range(0, rows, step):
            begins = offsets[start : min(start + step, rows) + 1]
            count = len(begins) - 1
            row = np.repeat(np.arange(count), np.diff(begins))
            there[row, values[begins[0] : begins[-1]]] = True
            found = np.flatnonzero(there)
            ends[start + 1 : start + len(begins)] = np.diff(np.searchsorted(found, np.arange(count + 1) * width))
            places.append((found % width).astype("int32"))
            there.reshape(-1)[found] = False
        np.cumsum(ends, out=ends)
        return cls(torch.from_numpy(np.concatenate(places)), torch.from_numpy(ends), width)

    @property
    def shape(self) -> tuple[int, int]:
        """(rows, width)."""
        return len(self.offsets) - 1, self.width

    def rows(self, index: numpy.ndarray | slice) -> Bags:
        """The rows of `index`, in its order."""
        offsets = self.offsets.numpy()
        starts, lengths = offsets[:-1][index], np.diff(offsets)[index]
        ends = np.concatenate([np.zeros(1, "int32"), np.cumsum(lengths, dtype="int32")])
        if isinstance(index, slice):
            first = starts[0] if len(starts) else 0
            return Bags(self.places[first : first + ends[-1]], torch.from_numpy(ends), self.width)
        where = np.arange(ends[-1], dtype="int32") + np.repeat(starts - ends[:-1], lengths)
        return Bags(torch.from_numpy(self.places.numpy().take(where)), torch.from_numpy(ends), self.width)

    def clone(self) -> Bags:
        """One that can be given other rows."""
        return Bags(self.places, self.offsets, self.width)

    def copy_(self, other: Bags) -> None:
        """Become other rows."""
        self.places, self.offsets = other.places, other.offsets

    def dense(self) -> Tensor:
        """The rows with their zeros written out."""
        out = torch.zeros(self.shape)
        row = torch.arange(len(out)).repeat_interleave(self.offsets.diff())
        out[row, self.places.long()] = 1.0
        return out

    def product(self, kernel: Tensor) -> Tensor:
        """rows @ kernel, for a kernel (width, units)."""
        return _sums(kernel, self.places, self.offsets)

    def transposed_product(self, slope: Tensor) -> Tensor:
        """transpose(rows) @ slope, for a slope (rows, units)."""
        places = self.places.numpy()
        # Numbers of 16 bits are sorted by counting, five times faster.
        order = np.argsort(places.astype("uint16") if self.width <= 1 << 16 else places, kind="stable")
        row = np.repeat(np.arange(len(slope), dtype="int32"), np.diff(self.offsets.numpy()))[order]
        ends = np.zeros(self.width + 1, "int32")
        np.cumsum(np.bincount(places, minlength=self.width), out=ends[1:])
        return _sums(slope, torch.from_numpy(row), torch.from_numpy(ends))

    def times(self, kernel: Tensor) -> Tensor:
        """`product`, which autograd can go back through."""
        return _function()(kernel, self.clone())


def _sums(rows: Tensor, places: Tensor, offsets: Tensor) -> Tensor:
    """Sum of rows[places[offsets[i]:offsets[i + 1]]] for each i."""
    return torch.embedding_bag(rows, places, offsets, False, 0, False, None, True)[0]


@functools.cache
def _function() -> Any:
    class Product(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, kernel: Tensor, bags: Bags) -> Tensor:
            ctx.bags = bags
            return bags.product(kernel)

        @staticmethod
        def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
            return ctx.bags.transposed_product(gradients[0].contiguous()), None

    return Product.apply
