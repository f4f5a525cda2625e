"""Whether a loss can learn from a target with a last layer: the standard pairs of problem, layer and loss."""

from __future__ import annotations

from trainer.errors import Path, Problem
from trainer.layers.graph import Graph
from trainer.losses.base import Loss
from trainer.recipe.dataset import Feature
from trainer.shapes import Shape, clash, text


def last_activation(graph: Graph, number: int | None = None) -> str:
    """Keras's name of the function that makes an output of the model; the first one's when no tensor is named."""
    number = next(iter(graph.outputs.values())) if number is None else number
    makers = {call.output: call for call in graph.calls}
    while number in makers:
        call = makers[number]
        activation = getattr(graph.layers[call.layer], "activation", None)
        if activation is not None:
            return activation.recipe_name()
        number, *others = call.inputs
        if graph.plans[call.layer].weights or others:
            break
    return "linear"


def maker_of(graph: Graph, number: int) -> str:
    """Name of the layer that makes a tensor."""
    number = graph.wiring.parts[number][0] if number in graph.wiring.parts else number
    return next(call.layer for call in graph.calls if call.output == number)


class LossCheck:
    """Holds one loss against the layer that makes the output, and against the target."""

    def __init__(
        self,
        loss: Loss,
        graph: Graph,
        output: str,
        target_shape: Shape | None,
        target: Feature,
        classes: tuple[str, ...] | None,
        problems: list[Problem],
        path: Path = ("compile", "loss"),
    ):
        self.loss, self.target_shape, self.target = loss, target_shape, target
        self.classes, self.problems, self.path = classes, problems, path
        self.name = loss.recipe_name()
        number = graph.outputs[output]
        self.out: Shape = graph.shapes[number]
        self.last = maker_of(graph, number)
        self.activation = last_activation(graph, number)

    def _wrong(self, message: str, hint: str) -> None:
        self.problems.append(Problem(message, self.path, hint, "loss"))

    def run(self) -> None:
        """Append what is wrong to `problems`."""
        out = self.out
        if self.loss.reduction in (None, "none"):
            self._wrong("training needs one number a batch, but reduction: none leaves one a row", "remove reduction")
        logits = getattr(self.loss, "from_logits", False)
        fits = self.loss.fits
        if fits and not logits and self.activation not in fits:
            hint = f"set {self.last}'s activation to {fits[0]}"
            if self.activation == "linear":
                hint += f", or write {{{type(self.loss).__name__}: {{from_logits: true}}}}"
            self._wrong(f"{self.name} needs probabilities, but {self.last} ends in {self.activation}", hint)
        elif (logits or self.loss.takes_scores) and self.activation in ("sigmoid", "softmax"):
            hint = f"remove {'from_logits, or ' if logits else ''}{self.last}'s activation"
            found = f"but {self.last} ends in {self.activation}"
            self._wrong(f"{self.name}{' with from_logits' if logits else ''} needs raw scores, {found}", hint)
        units = out[-1]
        if units == 1 and self.loss.targets in ("one_hot", "integer"):
            hint = "use binary_crossentropy with one sigmoid unit, or one softmax unit per class"
            self._wrong(f"{self.name} chooses among classes, but {self.last} has 1 unit", hint)
        elif self.target_shape is not None:
            self._target(out, units)

    def _target(self, out: Shape, units: int | None) -> None:
        shape = self.target_shape
        assert shape is not None
        kind = self.loss.targets
        if kind == "groups":
            if len(shape) > 1 and shape[1:] not in ((1,), (None,)):
                self._wrong(f"{self.name} needs one class number a row, but the target has {text(shape)}", "")
        elif kind == "integer":
            if len(shape) == len(out) and shape[-1] not in (1, None):
                self._wrong(
                    f"{self.name} needs class numbers, but the target has {shape[-1]} columns",
                    "use categorical_crossentropy for one-hot targets, or remove the target's one_hot encoding",
                )
            elif len(shape) not in (len(out) - 1, len(out)):
                self._shapes(shape, out)
            elif self.classes and units and units < len(self.classes) and not self.target.preprocess:
                self._wrong(
                    f"the target has {len(self.classes)} classes, but {self.last} has {units} units",
                    f"set {self.last}'s units to {len(self.classes)}",
                )
        elif kind == "one_hot" and len(shape) < len(out):
            step = "{CategoryEncoding: {num_tokens: N, output_mode: one_hot}}"
            hint = f"use sparse_categorical_crossentropy, or add {step} to the target's preprocess"
            self._wrong(f"{self.name} needs one-hot targets, but the target is one number a row", hint)
        elif clash(shape, out) and not (len(shape) + 1 == len(out) and units == 1 and not clash(shape, out[:-1])):
            self._shapes(shape, out)

    def _shapes(self, shape: Shape, out: Shape) -> None:
        remedy = f"make {self.last} give one value for each value of the target"
        if len(out) > 2 > len(shape):
            remedy = "put Flatten, a global pooling layer or a recurrent layer before the last layers"
        self._wrong(f"the target has shape {text(shape)}, but {self.last} gives {text(out)}", remedy)
