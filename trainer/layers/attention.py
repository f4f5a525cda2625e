"""Attention and AdditiveAttention, and the masks of scores that all attention layers share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

from trainer.errors import RecipeError
from trainer.initializers.constant import Ones
from trainer.initializers.variance import GlorotUniform
from trainer.layers.base import Layer, Weights
from trainer.layers.merging import all_shapes, several
from trainer.layers.plan import Plan
from trainer.layers.regularization import dropped
from trainer.lazy import F, torch
from trainer.options import Bool, Fraction, Int
from trainer.shapes import Shape

if TYPE_CHECKING:
    from torch import Tensor

Masks = Sequence["Tensor | None"]

QUERY_VALUE_KEY = ", [query, value] or [query, value, key]"


def causal(queries: int, keys: int, x: Tensor) -> Tensor:
    """(1, queries, keys): whether a step may look at another, which is at itself and those before it."""
    return torch.ones(1, queries, keys, dtype=torch.bool, device=x.device).tril()


class Attending(Layer, abstract=True):
    """What a layer that looks from a query at values by their keys has in common with its kin."""

    not_keras = ("use_causal_mask",)
    use_causal_mask: Bool = False
    "Whether a step sees only itself and those before it (in Keras an argument of the call)."

    takes_mask = True
    reads_several = True
    more_inside = True
    keras_order = "... name trainable dtype use_causal_mask"

    def arguments(self) -> tuple[str, ...]:
        return ("query", "value", "key")

    def keras_call(self, tensors: list[Any]) -> tuple[list[Any], dict[str, Any]]:
        return [tensors], {"use_causal_mask": True} if self.use_causal_mask else {}


class Scoring(Attending, abstract=True):
    """Attention without weights for the inputs: softmax(scores of query and key) @ value."""

    dropout: Fraction
    supports_masking = True
    keras_order = "use_scale score_mode dropout seed name trainable dtype use_causal_mask"

    def build(self, plan: Plan, shape: Any) -> Shape:
        shapes = several(shape, QUERY_VALUE_KEY, most=3)
        query, value, key = shapes[0], shapes[1], shapes[-1]
        if min(len(s) for s in shapes) < 3:
            raise ValueError(f"expected inputs of shape (batch, time, features), found {all_shapes(shapes)}")
        for a, b, what in (
            (query[-1], key[-1], "features in query and key"),
            (value[-2], key[-2], "steps in value and key"),
        ):
            if None not in (a, b) and a != b:
                raise ValueError(f"expected as many {what}, found {a} and {b} of {all_shapes(shapes)}")
        self.ask(plan, query[-1])
        return (*query[:-1], value[-1])

    def ask(self, plan: Plan, features: int | None) -> None:
        """Ask for the weights of the scores."""

    def scores(self, w: Weights, query: Tensor, key: Tensor) -> Tensor:
        """(batch, queries, keys)"""
        raise NotImplementedError

    def forward(self, w: Weights, x: list[Tensor], mask: Masks | None = None) -> Tensor:
        """
        Raises:
            RecipeError: a mask for inputs of more than three axes.
        """
        query, value, key = x[0], x[1], x[-1]
        query_mask, value_mask = mask[:2] if mask else (None, None)
        if x[0].dim() > 3 and (query_mask is not None or value_mask is not None):
            raise RecipeError(
                f"{type(self).__name__}: expected inputs (batch, time, features) with a mask, found {x[0].dim()} axes",
                hint="turn the mask off (mask_zero: false)",
            )
        out = self.attended(w, query, value, key, value_mask)
        return out if query_mask is None else out.masked_fill(~query_mask.unsqueeze(-1), 0)

    def attended(self, w: Weights, query: Tensor, value: Tensor, key: Tensor, value_mask: Tensor | None) -> Tensor:
        """The values, weighted by the softmax of their scores."""
        scores = self.scores(w, query, key)
        seen = None if value_mask is None else value_mask.unsqueeze(-2)
        if self.use_causal_mask:
            before = causal(scores.shape[-2], scores.shape[-1], scores)
            seen = before if seen is None else seen & before
        if seen is not None:
            # As in Keras, scores are lowered: where nothing is seen, the largest of them still counts most.
            scores = torch.where(seen, scores, scores - (65504.0 if scores.dtype == torch.float16 else 1e9))
        weights = torch.softmax(scores, -1)
        if w.training and self.dropout > 0:
            weights = dropped(weights, self.dropout, w.generator(getattr(self, "seed", None)))
        return weights @ value

    def starts_mask(self) -> bool:
        return False

    def compute_mask(self, x: Any, mask: Masks | None) -> Any:
        """The query's."""
        return mask[0] if mask else None


class Attention(Scoring):
    """softmax(score(query, key)) @ value, with dot products as scores (Luong et al., 2015).

    `dot`: scale * query key^T; `concat`: concat_score_weight * sum(tanh(scale * (query + key))) over the features.
    Inputs are [query, value] or [query, value, key]; masked values are not looked at, masked queries give zeros.
    https://arxiv.org/abs/1508.04025, https://keras.io/api/layers/attention_layers/attention/

    Shape: (batch, queries, features), (batch, values, size), (batch, values, features) -> (batch, queries, size)
    """

    use_scale: Bool = False
    "Whether the scores have a factor that training finds."
    score_mode: Literal["dot", "concat"] = "dot"
    "How a query and a key are compared."
    dropout: Fraction = 0.0
    "Share of the weights of values that training drops."
    seed: Int | None = None
    "Seed of the dropout alone; by default it follows from the recipe's seed and the layer."

    def ask(self, plan: Plan, features: int | None) -> None:
        plan.weight("scale", (), Ones(), when=self.use_scale)
        plan.weight("concat_score_weight", (), Ones(), when=self.score_mode == "concat")

    def scores(self, w: Weights, query: Tensor, key: Tensor) -> Tensor:
        if self.score_mode == "dot":
            scores = query @ key.mT
            return scores if w.scale is None else scores * w.scale
        sums = query.unsqueeze(-2) + key.unsqueeze(-3)
        return w.concat_score_weight * torch.tanh(sums if w.scale is None else w.scale * sums).sum(-1)

    def attended(self, w: Weights, query: Tensor, value: Tensor, key: Tensor, value_mask: Tensor | None) -> Tensor:
        """torch's kernel, which keeps no scores, where nothing but the future is masked and nothing dropped."""
        drops = w.training and self.dropout > 0
        spelled = torch.compiler.is_compiling()
        if self.score_mode == "concat" or value_mask is not None or drops or spelled:
            return super().attended(w, query, value, key, value_mask)
        if w.scale is not None:
            query = query * w.scale
        return F.scaled_dot_product_attention(query, key, value, is_causal=self.use_causal_mask, scale=1.0)


class AdditiveAttention(Scoring):
    """softmax(sum(scale * tanh(query + key))) @ value, the sum over the features (Bahdanau et al., 2015).

    Inputs are [query, value] or [query, value, key]; masked values are not looked at, masked queries give zeros.
    https://arxiv.org/abs/1409.0473, https://keras.io/api/layers/attention_layers/additive_attention/

    Shape: (batch, queries, features), (batch, values, size), (batch, values, features) -> (batch, queries, size)
    """

    use_scale: Bool = True
    "Whether each feature of the sum has a factor that training finds."
    dropout: Fraction = 0.0
    "Share of the weights of values that training drops."

    def ask(self, plan: Plan, features: int | None) -> None:
        plan.weight("scale", (features,), GlorotUniform(), when=self.use_scale)

    def scores(self, w: Weights, query: Tensor, key: Tensor) -> Tensor:
        sums = torch.tanh(query.unsqueeze(-2) + key.unsqueeze(-3))
        return (sums if w.scale is None else w.scale * sums).sum(-1)
