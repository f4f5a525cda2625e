"""What comes up while a description is brought into today's words: notes, and what can't be read, all at once."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from trainer.errors import FileError, Problem
from trainer.runs.hdf5 import first_line
from trainer.wording import clean

CODE = {
    "Lambda": "a Python function",
    "LambdaMerge": "a Python function",
    "TFOpLambda": "a TensorFlow function",
    "SlicingOpLambda": "a TensorFlow slice",
    "ClassMethod": "a method of TensorFlow",
    "InstanceMethod": "a method of TensorFlow",
    "InstanceProperty": "a property of TensorFlow",
    "TensorFlowOpLayer": "a TensorFlow operation",
    "AddLoss": "a TensorFlow loss",
    "AddMetric": "a TensorFlow metric",
    "TFSMLayer": "a TensorFlow program",
    "KerasLayer": "a model from TensorFlow Hub",
    "TorchModuleWrapper": "a PyTorch module",
    "JaxLayer": "a JAX program",
    "FlaxLayer": "a Flax program",
}
"Layers that are code, and what they hold."

PLUGIN = "declare layers of these names in a plugin and give it to the command, or save the model without them"
INSTEAD = "code in a file is never run: in Keras, put layers in their place and save the model again"
SHOWN = 12


@dataclass
class Reading:
    """A description under way."""

    old: bool
    "Whether the file is of a release before Keras 3, whose words may mean something else."
    version: tuple[int, ...] = ()
    "Numbers of the release that the file names; empty when it names none."
    tf_keras: bool = False
    "Whether TensorFlow's Keras wrote the file, as far as it says so."
    masks: bool = False
    "Whether a layer of the model begins a mask."
    said: dict[str, list[str]] = field(default_factory=dict)
    "Notes, and the layers that each is about."
    problems: list[Problem] = field(default_factory=list)
    foreign: dict[str, list[str]] = field(default_factory=dict)
    "Classes that are not known, and the layers of each."
    code: dict[str, list[str]] = field(default_factory=dict)
    "Layers that are code, by class."

    def note(self, text: str, layer: str = "") -> None:
        """Something changed in meaning or was dropped; one note for all layers that it is about."""
        layers = self.said.setdefault(text, [])
        if layer and layer not in layers:
            layers.append(layer)

    def wrong(self, layer: str, message: str, hint: str = "") -> None:
        """Something that can't be read, in the layer of that name."""
        self.problems.append(Problem(clean(f"{layer}: {message}" if layer else message), hint=hint, code="layer"))

    def unknown(self, kind: str, layer: str) -> None:
        """A layer of a class that is not known, or is code."""
        (self.code if kind in CODE else self.foreign).setdefault(kind, []).append(layer)

    def notes(self) -> tuple[str, ...]:
        """The notes as sentences."""
        return tuple(clean(f"{text} ({_listed(layers)})" if layers else text) for text, layers in self.said.items())

    def finish(self) -> None:
        """
        Raises:
            FileError: with everything that could not be read.
        """
        problems = list(self.problems)
        if self.foreign:
            found = "; ".join(f"{kind} ({_listed(layers)})" for kind, layers in self.foreign.items())
            problems.insert(0, Problem(clean(f"expected layers of Keras, found {found}"), hint=PLUGIN, code="class"))
        if self.code:
            found = "; ".join(f"{k}, {CODE[k]} ({_listed(layers)})" for k, layers in self.code.items())
            problems.insert(0, Problem(clean(f"expected layers, found code: {found}"), hint=INSTEAD, code="code"))
        if problems:
            raise FileError(*problems)


def _listed(layers: Iterable[str]) -> str:
    names = [str(name) for name in layers]
    return ", ".join(names[:SHOWN]) + (f", … {len(names)} in all" if len(names) > SHOWN else "")


def entry(module: str, kind: str, config: dict[str, Any]) -> dict[str, Any]:
    """An object as Keras 3 writes it."""
    return {"module": module, "class_name": kind, "config": config, "registered_name": None}


@contextmanager
def in_order(what: str) -> Iterator[None]:
    """A description may hold anything anywhere; what trips over it says so, and not with a traceback.

    Raises:
        FileError: an exception of another kind inside the block.
    """
    try:
        yield
    except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError, RecursionError) as error:
        found = (
            f"{what}: expected what Keras writes, found something else ({type(error).__name__}: {first_line(error)})"
        )
        raise FileError(clean(found), hint="the file was changed or damaged after Keras wrote it") from error


def called(thing: dict[str, Any]) -> str:
    """The name of a layer that an entry describes, for messages."""
    config = thing.get("config")
    name = thing.get("name") or (config.get("name") if isinstance(config, dict) else None)
    return str(name or thing.get("class_name") or "a layer")


def plain(value: Any) -> Any:
    """A value without the marks that TensorFlow's JSON has for arrays, tuples and shapes."""
    if isinstance(value, list):
        return [plain(v) for v in value]
    if not isinstance(value, dict):
        return value
    if value.get("type") == "ndarray" and "value" in value:
        return plain(value["value"])
    if value.get("class_name") in ("__tuple__", "TensorShape") and isinstance(value.get("items"), list):
        return plain(value["items"])
    return {k: plain(v) for k, v in value.items()}
