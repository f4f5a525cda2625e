"""What parts of a recipe say of each other, where it can't both be so."""

from __future__ import annotations

from collections.abc import Iterator

from trainer.errors import Problem
from trainer.recipe.outline import Outline
from trainer.recipe.parts import Parts


def disagreements(parts: Parts, outline: Outline | None) -> list[Problem]:
    """A problem for each of them."""
    found: list[Problem] = []
    if outline is not None:
        found += _batches(parts, outline)
    return found


def _batches(parts: Parts, outline: Outline) -> Iterator[Problem]:
    """Inputs that say another number of rows than `fit`."""
    for said in outline.wiring.said.values():
        rows = (said.layer.whole_shape() or (None,))[0]
        if rows is not None and parts.batch_size is not None and rows != parts.batch_size:
            option = "batch_size" if getattr(said.layer, "batch_shape", None) is None else "batch_shape"
            message = f"expected batches of {parts.batch_size} rows, as fit.batch_size says, found {rows}"
            hint = "leave it out here, or set fit.batch_size"
            yield Problem(message, (*said.path, option), hint, "shape")
