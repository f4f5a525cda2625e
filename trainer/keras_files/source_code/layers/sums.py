"""Dense, EinsumDense and the embeddings."""

from __future__ import annotations

from trainer.keras_files.source_code.layers.functions import through
from trainer.keras_files.source_code.piece import Piece, Spot, given_only, nothing, says
from trainer.keras_files.source_code.text import call, literal
from trainer.layers.dense import Dense
from trainer.layers.einsum_dense import EinsumDense
from trainer.layers.embedding import Embedding, ReversibleEmbedding
from trainer.layers.masking import Masking


@says(Dense)
def dense(spot: Spot) -> Piece:
    w, layer = spot.w, spot.layer
    made = call("nn.Linear", literal(w.kernel.shape[0]), literal(layer.units), bias=None if layer.use_bias else "False")
    return Piece(through(layer), made, given_only(weight=w.kernel.T, bias=w.bias))


@says(EinsumDense)
def einsum_dense(spot: Spot) -> Piece:
    w, layer = spot.w, spot.layer
    sizes = literal(tuple(w.kernel.shape))
    made = call("EinsumDense", literal(layer.equation), sizes, None if w.bias is None else literal(tuple(w.bias.shape)))
    return Piece(through(layer), made, given_only(kernel=w.kernel, bias=w.bias))


def _zeros_hidden(spot: Spot):
    if not spot.layer.mask_zero:
        return nothing
    return lambda given: [None if given.options.get("reverse") else f"{given.x} != 0"]


@says(Embedding)
def embedding(spot: Spot) -> Piece:
    layer = spot.layer
    return Piece(
        lambda given: f"{given.module}({given.x}.long())",
        call("nn.Embedding", literal(layer.input_dim), literal(layer.output_dim)),
        given_only(weight=spot.w.embeddings),
        mask=_zeros_hidden(spot),
    )


@says(ReversibleEmbedding)
def reversible_embedding(spot: Spot) -> Piece:
    layer, w = spot.layer, spot.w
    cap = None if layer.logit_soft_cap is None else literal(layer.logit_soft_cap)
    tied = None if layer.tie_weights else "False"
    made = call("ReversibleEmbedding", literal(layer.input_dim), literal(layer.output_dim), tied=tied, cap=cap)
    reverse = None if layer.tie_weights else w.reverse_embeddings
    return Piece(
        lambda given: f"{given.module}.{'scores' if given.options.get('reverse') else 'forward'}({given.x})",
        made,
        given_only(weight=w.embeddings, reverse=reverse),
        mask=_zeros_hidden(spot),
    )


@says(Masking)
def masking(spot: Spot) -> Piece:
    value = literal(spot.layer.mask_value)
    return Piece(
        lambda given: f"{given.x}.masked_fill(({given.x} == {value}).all(-1, keepdim=True), 0.0)",
        mask=lambda given: [f"({given.x} != {value}).any(-1)"],
    )
