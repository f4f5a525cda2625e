"""The weights of a described model, in the order in which a file lists them: no torch, no shapes, options alone."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from trainer.keras_files.replaced import AND_ACTIVATION
from trainer.naming import snake_case

Entry = dict[str, Any]

MODELS = ("Sequential", "Functional")
HEADS = ("query", "key", "value", "attention_output")
RECURRENT = ("SimpleRNN", "LSTM", "GRU")
CELLS = ("SimpleRNNCell", "LSTMCell", "GRUCell")


@dataclass
class Leaf:
    """A layer with weights of its own."""

    path: str
    "Names from the model's layer down, with slashes: the beginning of its weights' names."
    kind: str
    config: dict[str, Any]
    trained: tuple[str, ...]
    "Names of the weights that may train, in Keras's order."
    fixed: tuple[str, ...]
    "Names of the others."
    moves: bool = True
    "Whether it trains, and what it stands in does too."

    @property
    def names(self) -> tuple[str, ...]:
        return (*self.trained, *self.fixed)


@dataclass
class Tree:
    """A layer or model with others in it, or a leaf."""

    name: str
    kind: str
    trainable: bool
    leaf: Leaf | None
    children: tuple[tuple[str, Tree], ...] = ()
    "Where the archive format keeps each, and what it is."

    def leaves(self) -> Iterator[Leaf]:
        """All leaves, in the model's order."""
        if self.leaf is not None:
            yield self.leaf
        for _, child in self.children:
            yield from child.leaves()


def tree(thing: Entry, above: str = "", frozen: bool = False, name: str | None = None) -> Tree:
    """What a described layer or model holds."""
    kind, config = thing["class_name"], thing["config"]
    name = name or config.get("name") or thing.get("name") or snake_case(kind)
    trainable = config.get("trainable", True) is not False
    path = f"{above}/{name}" if above else str(name)
    children = tuple(_children(kind, config, path, frozen or not trainable))
    leaf = None
    if not children or kind == "SpectralNormalization":
        trained, fixed = weights(kind, config)
        moves = trainable and not frozen
        leaf = Leaf(path, kind, config, trained, fixed, moves) if trained or fixed else None
    return Tree(str(name), kind, trainable, leaf, children)


def _children(kind: str, config: dict[str, Any], path: str, frozen: bool) -> Iterator[tuple[str, Tree]]:
    if kind in MODELS:
        for inner in config["layers"]:
            if inner["class_name"] != "InputLayer":
                yield "layers", tree(inner, path, frozen)
    elif kind == "Bidirectional":
        forward, backward = config["layer"], config.get("backward_layer")
        base = str(forward["config"].get("name") or snake_case(forward["class_name"]))
        yield "forward_layer", tree(forward, path, frozen, f"forward_{base.removeprefix('forward_')}")
        own = None if backward else f"backward_{base.removeprefix('forward_').removeprefix('backward_')}"
        yield "backward_layer", tree(backward or forward, path, frozen, own)
    elif kind in ("TimeDistributed", "SpectralNormalization"):
        inner = config["layer"]
        place = "layer" if not str(inner["config"].get("name")).endswith(AND_ACTIVATION) else ""
        yield place, tree(inner, path, frozen)
    elif kind == "RNN":
        yield "cell", tree(config["cell"], path, frozen)
    elif kind == "StackedRNNCells":
        for cell in config["cells"]:
            yield "cells", tree(cell, path, frozen)


def weights(kind: str, config: dict[str, Any]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """(names of the weights that may train, names of the others) of a layer, in today's order."""
    bias = ("bias",) if config.get("use_bias", True) else ()
    if kind in RECURRENT or kind.startswith("ConvLSTM"):
        group = "conv_lstm_cell" if kind.startswith("ConvLSTM") else f"{snake_case(kind)}_cell"
        return tuple(f"{group}/{name}" for name in ("kernel", "recurrent_kernel", *bias)), ()
    if kind in CELLS:
        return ("kernel", "recurrent_kernel", *bias), ()
    if kind.startswith("SeparableConv"):
        return ("depthwise_kernel", "pointwise_kernel", *bias), ()
    if kind == "Dense" or kind.startswith(("Conv1D", "Conv2D", "Conv3D", "DepthwiseConv")):
        return ("kernel", *bias), ()
    if kind in _SMALL:
        return _SMALL[kind](config)
    return (), ()


def _scaled(config: dict[str, Any]) -> tuple[str, ...]:
    return (*(("gamma",) if config.get("scale", True) else ()), *(("beta",) if config.get("center", True) else ()))


def _attention(config: dict[str, Any]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    scale = ("scale",) if config.get("use_scale", False) else ()
    concat = ("concat_score_weight",) if config.get("score_mode", "dot") == "concat" else ()
    return (*scale, *concat), ()


def _heads(config: dict[str, Any]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    each = ("kernel", "bias") if config.get("use_bias", True) else ("kernel",)
    return tuple(f"{head}/{name}" for head in HEADS for name in each), ()


_SMALL = {
    "SpectralNormalization": lambda c: ((), ("vector_u",)),
    "Embedding": lambda c: (("embeddings",), ()),
    "PReLU": lambda c: (("alpha",), ()),
    "EinsumDense": lambda c: (("kernel", *(("bias",) if c.get("bias_axes") else ())), ()),
    "BatchNormalization": lambda c: (_scaled(c), ("moving_mean", "moving_variance")),
    "LayerNormalization": lambda c: (_scaled(c), ()),
    "GroupNormalization": lambda c: (_scaled(c), ()),
    "Normalization": lambda c: ((), () if c.get("mean") is not None else ("mean", "variance", "count")),
    "Attention": _attention,
    "AdditiveAttention": lambda c: (("scale",) if c.get("use_scale", True) else (), ()),
    "MultiHeadAttention": _heads,
}


@dataclass(frozen=True)
class Slot:
    """A weight in its place."""

    leaf: Leaf
    name: str


def listed(held: Tree) -> list[Slot]:
    """The weights as a file before Keras 3 lists them: all that train, then all the others."""
    trained, fixed = _sides(held)
    return [*trained, *fixed]


def _sides(held: Tree) -> tuple[list[Slot], list[Slot]]:
    trained: list[Slot] = []
    fixed: list[Slot] = []
    if held.leaf is not None:
        trained += [Slot(held.leaf, name) for name in held.leaf.trained]
        fixed += [Slot(held.leaf, name) for name in held.leaf.fixed]
    for _, child in held.children:
        ours, theirs = _sides(child)
        trained += ours
        fixed += theirs
    return (trained, fixed) if held.trainable else ([], [*trained, *fixed])
