"""MultiHeadAttention and GroupQueryAttention."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Self

from pydantic import model_validator

from trainer.errors import RecipeError
from trainer.layers.activation_layers import masked_softmax
from trainer.layers.attention import QUERY_VALUE_KEY, Masks
from trainer.layers.attention_heads import Heads
from trainer.layers.base import Weights
from trainer.layers.merging import all_shapes, several
from trainer.layers.plan import Plan
from trainer.layers.regularization import dropped
from trainer.lazy import torch
from trainer.options import PositiveInt, complaint, ints, raise_all
from trainer.shapes import Shape, text

if TYPE_CHECKING:
    from torch import Tensor

Ints = Annotated[tuple[int, ...], ints()]
AttentionAxes = Annotated[tuple[int, ...], ints(least=-16)]


class MultiHeadAttention(Heads):
    """Attention in several heads: softmax(Q K^T / sqrt(key_dim)) V for each, and a projection of all of them.

    Q, K and V are projections of query, key and value. Inputs are [query, value] or [query, value, key]; the same
    tensor twice is self-attention. Vaswani et al., 2017 (https://arxiv.org/abs/1706.03762);
    https://keras.io/api/layers/attention_layers/multi_head_attention/

    Shape: (batch, queries, features), (batch, values, size), (batch, values, size) -> (batch, queries, features)
    """

    num_heads: PositiveInt
    "Number of heads."
    key_dim: PositiveInt
    "Features of query and key in each head."
    value_dim: PositiveInt | None = None
    "Features of the value in each head; as many as the key's when null."
    output_shape: Ints | None = None
    "Sizes of the output in place of the query's features; those when null."
    attention_axes: AttentionAxes | None = None
    "Axes over which a query looks at values; all between the batch and the features when null."

    def build(self, plan: Plan, shape: Any) -> Shape:
        shapes = several(shape, QUERY_VALUE_KEY, most=3)
        query = shapes[0]
        if min(len(s) for s in shapes) < 3 or len({len(s) for s in shapes}) > 1:
            raise ValueError(f"expected inputs of shape (batch, time, ..., features), found {all_shapes(shapes)}")
        axes = self._axes(len(query))
        if axes != (1,) and (self.use_causal_mask or self.sliding_window is not None):
            raise ValueError("use_causal_mask and sliding_window need attention over axis 1; set attention_axes: 1")
        for a in range(1, len(query) - 1):
            if a not in axes and query[a] != shapes[1][a]:
                raise ValueError(f"expected as many entries of axis {a}, found {all_shapes(shapes)}")
        key, value = (self.num_heads, self.key_dim), (self.num_heads, self.value_dim or self.key_dim)
        self.heads(plan, shapes, [key, key, value, value])
        sizes = self.output_shape or query[-1:]
        if None in sizes:
            raise ValueError(f"the last axis of the query must be known, found {text(query)}")
        made = tuple(n for n in sizes if n is not None)
        last = self.projection(len(query) - 1, 2, made, "attention_output")
        # Keras counts a penalty on this output once: it is this layer's.
        last = last.model_copy(update={"activity_regularizer": None})
        plan.child("attention_output", last, (*query[:-1], *value))
        return (*query[:-1], *made)

    def _axes(self, rank: int) -> tuple[int, ...]:
        """The axes of attention, counted from 0.

        Raises:
            ValueError: an axis is not between the batch and the features.
        """
        if self.attention_axes is None:
            return tuple(range(1, rank - 1))
        axes = tuple(a if a >= 0 else rank + a for a in self.attention_axes)
        if len(set(axes)) < len(axes) or any(not 0 < a < rank - 1 for a in axes):
            raise ValueError(
                f"expected attention_axes from 1 to {rank - 2}, each once, found {list(self.attention_axes)}"
            )
        return axes

    def forward(self, w: Weights, x: list[Tensor], mask: Masks | None = None) -> Tensor:
        """
        Raises:
            RecipeError: a mask where attention goes over other axes than the first.
        """
        axes = self._axes(x[0].dim())
        if axes != (1,) and mask and any(m is not None for m in mask):
            raise RecipeError(
                "MultiHeadAttention: a mask of time steps needs attention over axis 1, found "
                f"attention_axes {list(axes)}",
                hint="set attention_axes: 1, or turn the mask off (mask_zero: false)",
            )
        seen = self.seen(x, mask)
        query, value, key = w.query(x[0]), w.value(x[1]), w.key(x[-1])
        if self.dropout == 0 and query.dim() == 4:
            return self.gated(w, x[0], self.fused(query, key, value, seen, self.only_causal(mask)))
        return self.gated(w, x[0], self.spelled(w, query, key, value, seen, axes))

    def spelled(
        self, w: Weights, query: Tensor, key: Tensor, value: Tensor, seen: Tensor | None, axes: tuple[int, ...]
    ) -> Tensor:
        """Attention over any axes, with dropout on its weights; a query that sees nothing gets zeros."""
        rank = query.dim()
        others = [a for a in range(rank - 1) if a not in axes]
        order = [*others, *axes, rank - 1]
        q, k, v = (t.permute(order).flatten(len(others), -2) for t in (query, key, value))
        scores = (q * self.key_dim**-0.5) @ k.mT
        if seen is not None:
            seen = seen.reshape(seen.shape[0], *(1,) * (scores.dim() - 3), *seen.shape[1:])
        weights = masked_softmax(scores, [scores.dim() - 1], seen)
        if w.training and self.dropout > 0:
            weights = dropped(weights, self.dropout, w.generator(self.seed))
        out = (weights @ v).unflatten(len(others), [query.shape[a] for a in axes])
        return out.permute([order.index(a) for a in range(rank)])


class GroupQueryAttention(Heads):
    """Attention in several heads, groups of which share one key and value (Ainslie et al., 2023).

    Inputs are [query, value] or [query, value, key]; the same tensor twice is self-attention.
    https://arxiv.org/abs/2305.13245, https://keras.io/api/layers/attention_layers/group_query_attention/

    Shape: (batch, queries, features), (batch, values, features), (batch, values, size) -> (batch, queries, features)
    """

    head_dim: PositiveInt
    "Features of query, key and value in each head."
    num_query_heads: PositiveInt
    "Number of heads."
    num_key_value_heads: PositiveInt
    "Number of keys and values, which divides that of the heads."

    @model_validator(mode="after")
    def _groups_are_equal(self) -> Self:
        if self.num_query_heads % self.num_key_value_heads:
            words = f"num_key_value_heads must divide the {self.num_query_heads} query heads"
            found = complaint(f"{words}, found {self.num_key_value_heads}")
            raise_all([(found, ("num_key_value_heads",))])
        return self

    def build(self, plan: Plan, shape: Any) -> Shape:
        shapes = several(shape, QUERY_VALUE_KEY, most=3)
        query, value = shapes[:2]
        if any(len(s) != 3 for s in shapes):
            raise ValueError(f"expected inputs of shape (batch, time, features), found {all_shapes(shapes)}")
        features = query[-1]
        if features is None or features != value[-1]:
            raise ValueError(f"expected as many features in query and value, found {text(query)} and {text(value)}")
        one, shared = (self.num_query_heads, self.head_dim), (self.num_key_value_heads, self.head_dim)
        self.heads(plan, shapes, [one, shared, one, shared])
        last = self.projection(2, 2, (features,), "attention_output")
        plan.child("attention_output", last, (*query[:-1], *one))
        return query

    def forward(self, w: Weights, x: list[Tensor], mask: Masks | None = None) -> Tensor:
        times = self.num_query_heads // self.num_key_value_heads
        query = w.query(x[0])
        value, key = (t if times == 1 else t.repeat_interleave(times, 2) for t in (w.value(x[1]), w.key(x[-1])))
        seen = self.seen(x, mask)
        if self.dropout == 0:
            return self.gated(w, x[0], self.fused(query, key, value, seen, self.only_causal(mask)))
        scores = torch.einsum("bquh,bkuh->buqk", query * self.head_dim**-0.5, key)
        weights = masked_softmax(scores, [3], None if seen is None else seen.unsqueeze(1))
        if w.training:
            weights = dropped(weights, self.dropout, w.generator(self.seed))
        return self.gated(w, x[0], torch.einsum("buqk,bkuh->bquh", weights, value))
