"""What a layer is in plain PyTorch: how its module is made and called, what its weights are there, where masks go."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import torch

from trainer.layers.base import Layer
from trainer.naming import load_room
from trainer.shapes import Shape


class NoSource(ValueError):
    """Why a layer can't be written as plain PyTorch."""


@dataclass(frozen=True)
class Given:
    """What a call has at hand: names of variables in the source."""

    module: str
    "The layer's module, such as `self.dense`."
    xs: tuple[str, ...]
    masks: tuple[str | None, ...]
    "The masks of these tensors; all None for a layer that hears none."
    options: Mapping[str, Any] = field(default_factory=dict)
    "What this call says beside its inputs."

    @property
    def x(self) -> str:
        return self.xs[0]

    @property
    def mask(self) -> str | None:
        return self.masks[0]

    def module_of(self, *more: str | None) -> str:
        """The module called on all tensors and on what follows."""
        return f"{self.module}({', '.join([*self.xs, *(m for m in more if m is not None)])})"


Say = Callable[[Given], str]
Masks = Callable[[Given], Sequence[str | None]]


@dataclass(frozen=True)
class Piece:
    """A layer in plain PyTorch."""

    call: Say
    "The expression of what the layer makes."
    module: str = ""
    "The expression of its module; empty when it needs none."
    weights: Mapping[str, torch.Tensor] = field(default_factory=dict)
    "Parameters by their names below the module; those that training must not move want no gradient."
    buffers: Mapping[str, torch.Tensor] = field(default_factory=dict)
    mask: Masks | None = None
    "The mask that goes on with each tensor made; by default the input's where the layer supports masks."
    returned: tuple[bool, ...] = ()
    "For a model inside: whether the call returns a mask for each tensor, behind them."
    before: tuple[str, ...] = ()
    "Classes that the module needs."
    notes: tuple[str, ...] = ()
    "What is otherwise than in the recipe, or left out."

    def masks(self, layer: Layer, given: Given, count: int) -> list[str | None]:
        """The expression of each made tensor's mask."""
        if self.mask is not None:
            return list(self.mask(given))
        return [given.mask if layer.supports_masking else None] + [None] * (count - 1)


def nothing(given: Given) -> list[str | None]:
    """No mask goes on."""
    return [None] * 9


@dataclass(frozen=True)
class Spot:
    """A layer where it stands: built, with what it reads and makes."""

    w: Any
    "The cell: its weights, the layer, its path and what it holds."
    shapes: tuple[Shape, ...]
    "Of what it reads; None where it is called on several sizes."
    made: Any
    "Shape of what it makes, or a list of them."
    masks: tuple[bool, ...] = ()
    "Whether a mask comes with each tensor that it reads, in some call."

    @property
    def layer(self) -> Any:
        return self.w.layer

    @property
    def shape(self) -> Shape:
        """Of the first tensor that it reads."""
        return self.shapes[0]

    @property
    def masked(self) -> bool:
        return any(self.masks)


Template = Callable[[Spot], Piece]
_TEMPLATES: dict[type[Layer], Template] = {}
AnyTemplate = TypeVar("AnyTemplate", bound=Template)


def says(*classes: type[Layer]) -> Callable[[AnyTemplate], AnyTemplate]:
    """Enter a function in the table as what layers of these classes are."""

    def enter(template: AnyTemplate) -> AnyTemplate:
        _TEMPLATES.update(dict.fromkeys(classes, template))
        return template

    return enter


def template_of(layer: Layer) -> Template | None:
    """The function for a layer; a plugin's class has none, whatever it derives from, since it may compute anything."""
    if not type(layer).__module__.startswith("trainer.layers."):
        return None
    load_room("trainer.keras_files.source_code.layers")
    return next((_TEMPLATES[c] for c in type(layer).__mro__ if c in _TEMPLATES), None)


def piece_of(spot: Spot) -> Piece:
    """A layer's piece.

    Raises:
        NoSource: it has none; the message says why.
    """
    template = template_of(spot.layer)
    if template is None:
        raise NoSource("there is no plain PyTorch for it here yet")
    return template(spot)


def under(place: str, weights: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Weights by their names in a module that holds the one they belong to as `place`."""
    return {f"{place}.{name}": value for name, value in weights.items()}


def given_only(**weights: torch.Tensor | None) -> dict[str, torch.Tensor]:
    """Those weights that the layer has."""
    return {name: value for name, value in weights.items() if value is not None}
