"""The block `expect`: what figures of a run must be."""

from __future__ import annotations

from pydantic import model_validator

from trainer.block import Block
from trainer.options import Float, NonNegativeFloat


class Bounds(Block):
    """What a figure must be."""

    min: Float | None = None
    "At least this."
    max: Float | None = None
    "At most this."
    value: Float | None = None
    "This, within abs or rel."
    abs: NonNegativeFloat | None = None
    "Allowed distance from value."
    rel: NonNegativeFloat | None = None
    "Allowed distance from value as a share of it."

    @model_validator(mode="after")
    def _says_something(self) -> Bounds:
        if not self._bounded():
            raise ValueError("expected min, max or value")
        if self.min is not None and self.max is not None and self.min > self.max:
            raise ValueError(f"nothing is at least {self.min:g} and at most {self.max:g}")
        if self.value is None and (self.abs is not None or self.rel is not None):
            raise ValueError("abs and rel go with value")
        return self

    def _bounded(self) -> bool:
        return not (self.min is None and self.max is None and self.value is None)

    def holds(self, figure: float) -> bool:
        """Whether the figure is within the bounds; NaN never is."""
        if self.value is not None:
            room = max(self.abs or 0.0, abs(self.value) * (self.rel or 0.0))
            if not abs(figure - self.value) <= room:
                return False
        return (self.min is None or figure >= self.min) and (self.max is None or figure <= self.max)

    def words(self) -> str:
        """`at least 0.98`, as a sentence says it."""
        parts = []
        if self.value is not None:
            room = f" ± {self.abs:g}" if self.abs else f" ± {100 * self.rel:g} %" if self.rel else ""
            parts.append(f"{self.value:g}{room}")
        parts += [f"at least {self.min:g}"] if self.min is not None else []
        parts += [f"at most {self.max:g}"] if self.max is not None else []
        return " and ".join(parts)


class Expectation(Bounds):
    """What a figure must be, for every seed, and in the mean over several seeds."""

    mean: Bounds | None = None
    "What the mean over seeds must be (`trainer reproduce --seeds N`)."

    def _bounded(self) -> bool:
        return self.mean is not None or super()._bounded()
