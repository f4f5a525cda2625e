"""CategoryEncoding and PadSequences: rows of ids, also of unequal length, as tensors."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Literal

from trainer.errors import DataError
from trainer.layers.base import Layer, Weights
from trainer.layers.host import Dense
from trainer.layers.plan import Plan
from trainer.lazy import torch
from trainer.options import Int, PositiveInt
from trainer.shapes import Shape, text

if TYPE_CHECKING:
    from torch import Tensor


class CategoryEncoding(Layer):
    """Ids as vectors of num_tokens entries: 1 at the id (one_hot), at every id of the row (multi_hot), or their count.

    https://keras.io/api/layers/preprocessing_layers/categorical/category_encoding/

    Shape: (batch,) or (batch, 1) -> (batch, num_tokens) for one_hot; (batch, ids) -> (batch, num_tokens) otherwise
    """

    num_tokens: PositiveInt
    "Number of different ids, which go from 0 to one less."
    output_mode: Literal["multi_hot", "one_hot", "count"] = "multi_hot"
    "one_hot: a vector for each id; multi_hot: one for each row, with 1 at each id in it; count: how often each occurs."
    sparse: Dense = False
    "Keras's switch for sparse tensors."

    preprocessing = True
    reads_integers = True
    reads_ragged = True
    not_keras = ("sparse",)

    def build(self, plan: Plan, shape: Shape) -> Shape:
        if self.output_mode == "one_hot":
            if shape == (None, None):
                raise ValueError(
                    "one_hot can't read rows of unequal length; use output_mode: multi_hot, or PadSequences before it"
                )
            return (*(shape[:-1] if len(shape) > 1 and shape[-1] == 1 else shape), self.num_tokens)
        if len(shape) != 2:
            raise ValueError(
                f"expected rows of ids, (batch, ids), found {text(shape)}"
                + ("; a single id a row takes output_mode: one_hot" if len(shape) == 1 else "")
            )
        return shape[0], self.num_tokens

    def forward(self, w: Weights, x: Tensor) -> Tensor:
        """
        Raises:
            DataError: an id below 0, beyond num_tokens, or no whole number.
        """
        each = max(1, x[:1].numel())
        self._check(x, lambda position: position // each)
        ids = x.long()
        if self.output_mode == "one_hot":
            ids = ids if ids.dim() > 1 and ids.shape[-1] == 1 else ids.unsqueeze(-1)
        out = torch.zeros(*ids.shape[:-1], self.num_tokens, device=x.device)
        if self.output_mode == "count":
            return out.scatter_add_(-1, ids, torch.ones((), device=x.device).expand(ids.shape))
        return out.scatter_(-1, ids, 1.0)

    def forward_ragged(self, w: Weights, values: Tensor, offsets: Tensor) -> Tensor:
        """The encoded rows of a batch whose row i has the ids values[offsets[i]:offsets[i + 1]].

        Raises:
            DataError: an id below 0 or beyond num_tokens.
        """
        rows = len(offsets) - 1
        self.check_ragged(values, offsets)
        ids = values.long()
        starts = torch.arange(rows, device=values.device) * self.num_tokens
        places = ids + starts.repeat_interleave(offsets.diff())
        out = torch.zeros(rows * self.num_tokens, device=values.device)
        if self.output_mode == "count":
            out.scatter_add_(0, places, torch.ones((), device=values.device).expand(places.shape))
        else:
            out.scatter_(0, places, 1.0)
        return out.view(rows, self.num_tokens)

    def check_ragged(self, values: Tensor, offsets: Tensor) -> None:
        """Let the ids of rows of unequal length be ones that this can encode.

        Raises:
            DataError: an id below 0 or beyond num_tokens.
        """
        self._check(values, lambda position: int(torch.searchsorted(offsets, position, right=True)) - 1)

    def _check(self, x: Tensor, row: Callable[[int], int]) -> None:
        """`row` says in which row the n-th number stands."""
        # What follows a model to export it can't look at values.
        if torch.compiler.is_compiling() or not x.numel():
            return
        ids = x if x.dtype is torch.int32 else x.long()
        low, high = torch.aminmax(ids)
        if low >= 0 and high < self.num_tokens and (not x.is_floating_point() or bool((ids == x).all())):
            return
        place = int(((ids < 0) | (ids >= self.num_tokens) | (ids != x)).flatten().nonzero()[0])
        found = x.flatten()[place].item()
        hint = "ids are whole numbers and count from 0"
        raise DataError(
            f"expected ids from 0 to {self.num_tokens - 1} (CategoryEncoding.num_tokens is {self.num_tokens}), "
            f"found {found:g} in row {row(place)} of the batch",
            hint=f"num_tokens: {int(found) + 1} or more would take it" if found >= self.num_tokens else hint,
            code="vocabulary",
        )


class PadSequences(Layer, keras=""):
    """Rows of unequal length brought to one length: longer ones are cut, shorter ones filled up.

    As keras.utils.pad_sequences (https://keras.io/api/data_loading/timeseries/), which is a function there.

    Shape: (batch, steps, ...) -> (batch, maxlen, ...)
    """

    maxlen: PositiveInt
    "Length of every row."
    padding: Literal["pre", "post"] = "pre"
    "Whether shorter rows are filled up before or after their entries."
    truncating: Literal["pre", "post"] = "pre"
    "Whether longer rows lose their first or their last entries."
    value: Int = 0
    "What fills the gaps."

    preprocessing = True
    reads_integers = True
    reads_ragged = True

    def build(self, plan: Plan, shape: Shape) -> Shape:
        if len(shape) < 2:
            raise ValueError(f"expected rows with a length, (batch, steps, ...), found {text(shape)}")
        return shape[0], self.maxlen, *shape[2:]

    def forward(self, w: Weights, x: Tensor) -> Tensor:
        x = x[:, -self.maxlen :] if self.truncating == "pre" else x[:, : self.maxlen]
        short = self.maxlen - x.shape[1]
        if not short:
            return x
        gap = x.new_full((x.shape[0], short, *x.shape[2:]), self.value)
        return torch.cat([gap, x] if self.padding == "pre" else [x, gap], 1)

    def forward_ragged(self, w: Weights, values: Tensor, offsets: Tensor) -> Tensor:
        """The padded rows (batch, maxlen) of a batch whose row i is values[offsets[i]:offsets[i + 1]]."""
        if abs(self.value) >= 1 << 31:
            values = values.long()
        kept = offsets.diff().clamp(max=self.maxlen)
        first = offsets[1:] - kept if self.truncating == "pre" else offsets[:-1]
        rows = torch.arange(len(kept), device=values.device) * self.maxlen
        begin = rows + self.maxlen - kept if self.padding == "pre" else rows
        # The n-th kept entry overall comes from first + n - (entries of the rows before) and goes to begin + the same.
        before = kept.cumsum(0) - kept
        along = torch.arange(int(kept.sum()), device=values.device)
        out = values.new_full((len(kept) * self.maxlen,), self.value)
        source = along + (first - before).repeat_interleave(kept)
        out[along + (begin - before).repeat_interleave(kept)] = values[source]
        return out.view(len(kept), self.maxlen)
