"""Attention layers."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from trainer.keras_files.source_code.piece import Given, NoSource, Piece, Spot, given_only, says
from trainer.keras_files.source_code.text import call, literal
from trainer.layers.attention import AdditiveAttention, Attention, Scoring
from trainer.layers.attention_heads import Heads
from trainer.layers.multi_head_attention import GroupQueryAttention


def _masks(given: Given) -> str | None:
    if all(mask is None for mask in given.masks):
        return None
    return f"masks=({', '.join(map(str, given.masks))})"


def _query_mask(given: Given) -> list[str | None]:
    return [given.mask]


@says(Attention, AdditiveAttention)
def attention(spot: Spot) -> Piece:
    layer, w = spot.layer, spot.w
    if len(spot.shape) > 3:
        raise NoSource("inputs of more than three axes are not written here yet")
    mode = "additive" if isinstance(layer, AdditiveAttention) else layer.score_mode
    weights = given_only(scale=w.scale, concat_score_weight=getattr(w, "concat_score_weight", None))
    options = {
        "mode": None if mode == "dot" else literal(mode),
        "scale": None if w.scale is None else literal(tuple(w.scale.shape)),
        "causal": "True" if layer.use_causal_mask else None,
        "dropout": literal(layer.dropout) if layer.dropout else None,
    }
    assert isinstance(layer, Scoring)
    return Piece(lambda given: given.module_of(_masks(given)), call("Attention", **options), weights, mask=_query_mask)


def _linear(inner: Any, split: int) -> dict[str, Tensor]:
    """A projection as a linear layer's weights: `split` axes of the kernel are inputs."""
    weight = inner.kernel.flatten(split).flatten(0, split - 1).T
    return given_only(weight=weight, bias=None if inner.bias is None else inner.bias.reshape(-1))


@says(Heads)
def heads(spot: Spot) -> Piece:
    layer, w = spot.layer, spot.w
    if len(spot.shape) != 3 or len(spot.made) != 3:
        raise NoSource("attention in several heads over more than one axis is not written here yet")
    grouped = isinstance(layer, GroupQueryAttention)
    count, size = (layer.num_query_heads, layer.head_dim) if grouped else (layer.num_heads, layer.key_dim)
    shapes = [s[-1] or 0 for s in (*spot.shapes, spot.shapes[1])[:3]]
    options = {
        "shared_heads": literal(layer.num_key_value_heads) if grouped else None,
        "bias": None if layer.use_bias else "False",
        "gate": "True" if layer.use_gate else None,
        "causal": "True" if layer.use_causal_mask else None,
        "window": None if layer.sliding_window is None else literal(layer.sliding_window),
        "dropout": literal(layer.dropout) if layer.dropout else None,
    }
    value_size = literal(size if grouped else layer.value_dim or size)
    sizes = literal(tuple(shapes)), literal(count), literal(size), value_size, literal(spot.made[-1])
    weights = {f"output.{k}": v for k, v in _linear(w.attention_output, 2).items()}
    for name in ("query", "key", "value", *(("gate",) if layer.use_gate else ())):
        weights |= {f"{name}.{k}": v for k, v in _linear(getattr(w, name), 1).items()}
    made = call("MultiHeadAttention", *sizes, **options)
    return Piece(lambda given: given.module_of(_masks(given)), made, weights, mask=_query_mask)
