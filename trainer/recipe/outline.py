"""What is known of a recipe before training."""

from __future__ import annotations

from dataclasses import dataclass

from trainer.layers.graph import Graph
from trainer.layers.wiring import Wiring
from trainer.recipe.dataset import Feature
from trainer.shapes import Shape


@dataclass(frozen=True)
class Known:
    """An input or a target: what it reads, and its shape and classes as far as they can be told."""

    feature: Feature
    shape: Shape | None = None
    classes: tuple[str, ...] | None = None


@dataclass(frozen=True)
class Outline:
    """What is known of a recipe before training."""

    inputs: dict[str, Known]
    "In the order in which the model takes them."
    targets: dict[str, Known]
    "In the order of the outputs that are held against them."
    wiring: Wiring
    graph: Graph | None
    "With shapes, where they can be told."
