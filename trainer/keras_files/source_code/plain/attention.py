"""Attention as Keras has it."""

from __future__ import annotations

import torch
from torch import Tensor, nn


def seen_by(
    query: Tensor, value: Tensor, masks: tuple[Tensor | None, ...], causal: bool = False, window: int | None = None
) -> Tensor | None:
    """(batch, queries, values): whether a query may look at a value; None when it always may.

    `masks` are those of query, value and key.
    """
    parts = [mask.unsqueeze(-2 if place else -1) for place, mask in enumerate(masks) if mask is not None]
    steps = torch.arange(max(query.shape[1], value.shape[1]), device=query.device)
    distance = steps[: query.shape[1], None] - steps[: value.shape[1]]
    if causal:
        parts.append((distance >= 0)[None])
    if window is not None:
        parts.append((distance.abs() < window)[None])
    seen = None
    for part in parts:
        seen = part if seen is None else seen & part
    return seen


class MultiHeadAttention(nn.Module):
    """softmax(Q K^T / sqrt(size)) V in several heads, and a projection of all of them.

    Groups of query heads may share a key and a value; `gate` opens or closes each head's features.
    """

    def __init__(
        self,
        features: tuple[int, int, int],
        heads: int,
        size: int,
        value_size: int,
        outputs: int,
        shared_heads: int | None = None,
        bias: bool = True,
        gate: bool = False,
        causal: bool = False,
        window: int | None = None,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        query, value, key = features
        shared = shared_heads or heads
        self.heads, self.shared, self.size = heads, shared, size
        self.causal, self.window, self.dropout = causal, window, dropout
        self.query = nn.Linear(query, heads * size, bias)
        self.key = nn.Linear(key, shared * size, bias)
        self.value = nn.Linear(value, shared * value_size, bias)
        self.gate = nn.Linear(query, heads * value_size, bias) if gate else None
        self.output = nn.Linear(heads * value_size, outputs, bias)

    def forward(
        self, query: Tensor, value: Tensor, key: Tensor | None = None, masks: tuple[Tensor | None, ...] = ()
    ) -> Tensor:
        q = self.query(query).unflatten(-1, (self.heads, -1)).transpose(1, 2)
        k = self.key(value if key is None else key).unflatten(-1, (self.shared, -1)).transpose(1, 2)
        v = self.value(value).unflatten(-1, (self.shared, -1)).transpose(1, 2)
        if self.shared < self.heads:
            k, v = (t.repeat_interleave(self.heads // self.shared, 1) for t in (k, v))
        scores = q * self.size**-0.5 @ k.mT
        seen = seen_by(query, value, masks, self.causal, self.window)
        if seen is not None:
            scores = scores.masked_fill(~seen.unsqueeze(1), -1e9)
        weights = torch.softmax(scores, -1)
        if self.dropout:
            weights = weights if seen is None else weights.masked_fill(~seen.unsqueeze(1), 0)
            weights = nn.functional.dropout(weights, self.dropout, self.training)
        made = (weights @ v).transpose(1, 2).flatten(-2)
        return self.output(made if self.gate is None else made * torch.sigmoid(self.gate(query)))


class Attention(nn.Module):
    """softmax(scores of query and key) @ value; masked values are not looked at, masked queries give zeros.

    Scores: `dot`, query key^T; `concat`, weight * sum(tanh(query + key)); `additive`, sum(scale * tanh(query + key)).
    """

    def __init__(
        self, mode: str = "dot", scale: tuple[int, ...] | None = None, causal: bool = False, dropout: float = 0.0
    ) -> None:
        super().__init__()
        self.mode, self.causal, self.dropout = mode, causal, dropout
        self.scale = None if scale is None else nn.Parameter(torch.ones(scale))
        self.concat_score_weight = nn.Parameter(torch.ones(())) if mode == "concat" else None

    def scores(self, query: Tensor, key: Tensor) -> Tensor:
        """(batch, queries, keys)"""
        scale = 1.0 if self.scale is None else self.scale
        if self.mode == "dot":
            return query @ key.mT * scale
        sums = query.unsqueeze(-2) + key.unsqueeze(-3)
        if self.concat_score_weight is not None:
            return self.concat_score_weight * torch.tanh(scale * sums).sum(-1)
        return (scale * torch.tanh(sums)).sum(-1)

    def forward(
        self, query: Tensor, value: Tensor, key: Tensor | None = None, masks: tuple[Tensor | None, ...] = ()
    ) -> Tensor:
        scores = self.scores(query, value if key is None else key)
        query_mask, value_mask = masks[:2] if masks else (None, None)
        seen = seen_by(query, value, (None, value_mask), self.causal)
        if seen is not None:
            scores = torch.where(seen, scores, scores - 1e9)
        weights = nn.functional.dropout(torch.softmax(scores, -1), self.dropout, self.training)
        made = weights @ value
        return made if query_mask is None else made.masked_fill(~query_mask.unsqueeze(-1), 0)
