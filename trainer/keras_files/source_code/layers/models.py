"""Models inside a model: classes of their own."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

from trainer.keras_files.source_code.body import Writer
from trainer.keras_files.source_code.parts import names_of_parts
from trainer.keras_files.source_code.piece import Given, Piece, Spot, says
from trainer.keras_files.source_code.text import class_name
from trainer.layers.graph import built
from trainer.layers.models import Composite
from trainer.layers.pipeline import Pipeline
from trainer.layers.wiring import ONE_INPUT, Wiring, wire


@says(Composite)
def model(spot: Spot) -> Piece:
    layer = spot.layer
    return _inside(spot, layer.wiring(), {name: getattr(spot.w, place) for place, name, _ in layer.parts()})


@says(Pipeline)
def pipeline(spot: Spot) -> Piece:
    parts = dict(spot.layer.parts())
    wiring = wire([part.model_copy(update={"inputs": None}) for part in parts.values()], (ONE_INPUT,))
    return _inside(spot, wiring, {part.name or "": getattr(spot.w, place) for place, part in parts.items()})


def name_for(path: str) -> str:
    """A class for the model at a path: paths that can't be told apart as names get a mark."""
    found = class_name(path, {"Model", *names_of_parts()})
    plain = "".join(word[:1].upper() + word[1:] for word in path.split("_"))
    return found if found == plain else f"{found}_{hashlib.sha256(path.encode()).hexdigest()[:6]}"


def _inside(spot: Spot, wiring: Wiring, cells: Mapping[str, Any]) -> Piece:
    plans: dict[str, Any] = {}
    shapes = built(wiring, dict(enumerate(spot.shapes)), plans)
    body = Writer(name_for(spot.w.path), wiring, shapes, cells.__getitem__).written(spot.masks)

    def call(given: Given) -> str:
        # A call without a mask, where others have one: every step counts.
        masks = [
            mask or f"torch.ones({x}.shape[:2], dtype=torch.bool, device={x}.device)"
            for x, mask, masked in zip(given.xs, given.masks, spot.masks, strict=True)
            if masked
        ]
        return given.module_of(*masks)

    return Piece(
        call,
        f"{body.name}()",
        body.weights,
        body.buffers,
        returned=body.returned_masks if any(body.returned_masks) else (),
        mask=lambda given: [None] * len(body.returned_masks),
        before=(*body.before, body.text()),
        notes=tuple(body.notes),
    )
