"""Layers that join several tensors."""

from __future__ import annotations

from functools import reduce

from trainer.keras_files.source_code.piece import Given, NoSource, Piece, Spot, nothing, says
from trainer.keras_files.source_code.text import call, literal
from trainer.layers.joining import Concatenate, Dot
from trainer.layers.merging import Add, Average, Extreme, Maximum, Merging, Multiply, Subtract

SIGNS = {Add: " + ", Average: " + ", Subtract: " - ", Multiply: " * "}


def _one_rank(spot: Spot, given: Given) -> list[str]:
    """The tensors with as many axes each: axes of 1 follow the batch."""
    most = max(len(s) for s in spot.shapes)
    more = [", ".join([":", *["None"] * (most - len(s))]) for s in spot.shapes]
    return [x if len(s) == most else f"{x}[{m}]" for x, s, m in zip(given.xs, spot.shapes, more, strict=True)]


def _any_step(given: Given) -> list[str | None]:
    """A step counts where it does in any input; no mask when one of the inputs has none."""
    masks = [m for m in given.masks if m is not None]
    return [" | ".join(dict.fromkeys(masks)) if len(masks) == len(given.masks) else None]


@says(Merging)
def merging(spot: Spot) -> Piece:
    layer = spot.layer
    kind = next(k for k in (*SIGNS, Extreme) if isinstance(layer, k))
    if spot.masked and isinstance(layer, (Multiply, Extreme)):
        return _masked(spot)

    def joined(given: Given) -> str:
        xs = _one_rank(spot, given)
        if kind is Extreme:
            pick = "torch.maximum" if isinstance(layer, Maximum) else "torch.minimum"
            return reduce(lambda a, b: f"{pick}({a}, {b})", xs)
        total = SIGNS[kind].join(xs)
        return f"({total}) / {len(xs)}" if isinstance(layer, Average) else total

    return Piece(joined, mask=_any_step)


def _masked(spot: Spot) -> Piece:
    """A product, maximum or minimum that leaves masked steps of an input out."""
    most = max(len(s) for s in spot.shapes)
    if any(len(s) != most for s in spot.shapes):
        raise NoSource("masks for inputs with different numbers of axes are not written here yet")
    layer = spot.layer
    name = "masked_product" if isinstance(layer, Multiply) else "masked_extreme"
    pick = None
    if isinstance(layer, Extreme):
        pick = "torch.maximum" if isinstance(layer, Maximum) else "torch.minimum"
    return Piece(
        lambda given: call(name, pick, f"[{', '.join(given.xs)}]", f"[{', '.join(str(m) for m in given.masks)}]"),
        mask=_any_step,
    )


@says(Concatenate)
def concatenate(spot: Spot) -> Piece:
    axis = spot.layer.axis

    def masks(given: Given) -> list[str | None]:
        if all(m is None for m in given.masks):
            return [None]
        if axis in (-1, len(spot.shape) - 1):
            # An input without a mask counts everywhere.
            known = list(dict.fromkeys(given.masks))
            return [
                f"torch.ones_like({given.x}[..., 0], dtype=torch.bool)"
                if None in known
                else " | ".join(map(str, known))
            ]
        whole = [
            f"torch.ones_like({x}[..., 0], dtype=torch.bool)" if m is None else m
            for x, m in zip(given.xs, given.masks, strict=True)
        ]
        return [f"torch.cat([{', '.join(whole)}], {axis if axis > 0 else axis + 1})"]

    return Piece(lambda given: f"torch.cat([{', '.join(given.xs)}], {axis})", mask=masks)


@says(Dot)
def dot(spot: Spot) -> Piece:
    layer = spot.layer
    first, second = layer._places(list(spot.shapes))
    normalize = "True" if layer.normalize else None
    return Piece(
        lambda given: call("dot", *given.xs, literal(first), literal(second), normalize=normalize), mask=nothing
    )
