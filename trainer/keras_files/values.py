"""Keras's objects as a recipe writes them, by a closed table: the classes that this program or a plugin declares.

A class is looked up by its name alone; the module that a file names with it is never imported.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, get_args

from pydantic import ValidationError

from trainer.activations.base import Activation
from trainer.block import Block, problems_of
from trainer.declare import REQUIRED, Declared, plain
from trainer.errors import FileError, Problem, path_text
from trainer.layers.base import Layer
from trainer.layers.recurrent_wrappers import Bidirectional
from trainer.lazy import np
from trainer.naming import snake_case
from trainer.wording import clean

CLASSES = {
    "GroupedQueryAttention": "GroupQueryAttention",
    "Functional": "Model",
}
"What Keras writes for some classes that recipes call otherwise."
CODE = {
    "Lambda": "holds Python code, which is never run",
    "TFOpLambda": "stands for an operation of TensorFlow in the code of the model",
    "SlicingOpLambda": "stands for a slice in the code of the model",
    "TensorFlowOpLayer": "stands for an operation of TensorFlow in the code of the model",
    "ClassMethod": "stands for an operation of TensorFlow in the code of the model",
    "InstanceMethod": "stands for an operation of TensorFlow in the code of the model",
    "InstanceProperty": "stands for a property of a tensor in the code of the model",
    "TFSMLayer": "runs a SavedModel of TensorFlow",
    "TorchModuleWrapper": "holds a pickled module of PyTorch, which is never opened",
    "JaxLayer": "holds code of JAX",
    "FlaxLayer": "holds code of Flax",
    "KerasLayer": "is a module of TensorFlow Hub",
}
"Classes that are code, and why they can't be read."
PLUGIN = "declare a class {} in a Python file of yours (`trainer explain plugins` shows how), and add --plugin FILE"
OF_KERAS = ("", "keras", "Keras", "trainer")
"Packages of registered names that mean Keras's classes, or ours."
EQUAL_SIDES = ("kernel_size", "strides", "pool_size", "dilation_rate", "size")
"Options that take one number for all axes."
NOTHING = ("quantization_config", "seed", "data_format", "rms_scaling", "shared_object_id", "input_spec")
"Words in Keras's configs that say nothing where a class of ours lacks them, as long as they are null or false."
LORA = ("lora_rank", "lora_alpha")
"""Of a layer that trains two small matrices beside its kernel (Hu et al., 2021, https://arxiv.org/abs/2106.09685)."""


class Unknown(Exception):
    """A class that nothing here declares."""

    def __init__(self, name: str, why: str = ""):
        super().__init__(name)
        self.name, self.why = name, why


def is_object(value: Any) -> bool:
    """Whether a value is a serialized object of Keras."""
    return isinstance(value, dict) and isinstance(value.get("class_name"), str)


def class_of(kind: type[Declared], described: Mapping[str, Any]) -> type[Any]:
    """The declared class that a serialized object means.

    Raises:
        Unknown: there is none.
    """
    name, registered = str(described["class_name"]), described.get("registered_name")
    package = str(registered or "").rpartition(">")[0]
    if name in CODE:
        raise Unknown(name, CODE[name])
    found = kind.known(CLASSES.get(name, name)) or kind.spellings().get(CLASSES.get(name, name))
    if found is None or found.__name__ != CLASSES.get(name, name):
        raise Unknown(name, f"comes from {package}" if package else _from(described))
    if found.__module__.startswith("trainer.") and (package not in OF_KERAS or _from(described)):
        # A class of theirs that is called as one of Keras's: only a plugin knows what it does.
        raise Unknown(name, f"comes from {package}" if package else _from(described))
    return found


def _from(described: Mapping[str, Any]) -> str:
    """Where a class is said to come from, when it is not Keras."""
    module = described.get("module")
    told = isinstance(module, str) and module.partition(".")[0] not in ("keras", "tf_keras", "builtins", "trainer")
    return f"comes from {module}" if told else ""


class Reader:
    """Serialized objects of one model turned into values of a recipe; what is wrong is collected."""

    def __init__(self) -> None:
        self.unknown: dict[str, list[str]] = {}
        "Class to the places where it stands."
        self.reasons: dict[str, str] = {}
        self.problems: list[Problem] = []
        self.notes: dict[str, list[str]] = {}
        "Place to what was left out there."

    def note(self, place: str, said: str) -> None:
        """Something that the user should know of a layer."""
        self.notes.setdefault(place, []).append(said)

    def missing(self, error: Unknown, place: str) -> None:
        """Keep a class that nothing declares."""
        self.unknown.setdefault(error.name, []).append(place)
        if error.why:
            self.reasons[error.name] = error.why

    def object(self, kind: type[Declared], value: Any, place: str) -> Any:
        """The declared object of a serialized one, of a name or of a number; None when something is wrong with it."""
        before = self._wrong()
        try:
            if not is_object(value):
                return kind.parse(short(value))
            if value["class_name"] == "function" or "config" not in value:
                return kind.parse(value["config"] if isinstance(value.get("config"), str) else value["class_name"])
            cls = class_of(kind, value)
            return self.made(cls, value["config"], place)
        except Unknown as error:
            self.missing(error, place)
        except ValidationError as error:
            # What holds something that is wrong lacks it, which is no second mistake.
            if self._wrong() == before:
                self.wrong(error, place)
        return None

    def _wrong(self) -> int:
        return len(self.problems) + sum(map(len, self.unknown.values()))

    def made(self, cls: type[Any], config: Any, place: str, **more: Any) -> Any:
        """An object of a class from Keras's config of it.

        Raises:
            ValidationError: the config is none of that class.
        """
        return without_copy(cls.read({**self.options(cls, config if isinstance(config, dict) else {}, place), **more}))

    def options(self, cls: type[Block], config: Mapping[str, Any], place: str) -> dict[str, Any]:
        """The options of a class that Keras's config says."""
        made: dict[str, Any] = {}
        for name, value in config.items():
            if name == "name" and value is None:
                # So the schedules of tf.keras say that they have none.
                continue
            if name not in cls.model_fields or (issubclass(cls, Declared) and name in cls.not_keras):
                self._left_out(cls, name, value, place)
                continue
            annotation = cls.model_fields[name].annotation
            kind = kind_of(annotation)
            if isinstance(annotation, type) and issubclass(annotation, Block) and kind is None and is_object(value):
                made[name] = self.made(annotation, value.get("config"), place)
            else:
                made[name] = self.option(kind, value, place) if kind is not None else self.plain(name, value)
        return made

    def option(self, kind: type[Declared], value: Any, place: str) -> Any:
        """A value of an option that holds declared objects: one, several, or none."""
        if value is None:
            return None
        if isinstance(value, list):
            return [self.option(kind, inner, place) for inner in value]
        if isinstance(value, dict) and not is_object(value):
            return {name: self.option(kind, inner, place) for name, inner in value.items()}
        if kind is Layer and is_object(value):
            return self.layer(value, place)
        return self.object(kind, value, place)

    def layer(self, described: Mapping[str, Any], place: str) -> Layer | None:
        """A layer that another one holds."""
        return tidied(self.object(Layer, described, place))

    def plain(self, name: str, value: Any) -> Any:
        """A value of any other option.

        Raises:
            FileError: it names a file.
        """
        if name == "vocabulary" and isinstance(value, str):
            message = f"a vocabulary stands in the file {clean(value[:200])}, which the model names"
            raise FileError(
                message, hint="files that a model names are never opened: save it with the vocabulary in it"
            )
        if name == "dtype":
            return dtype_of(value)
        return short(value)

    def wrong(self, error: ValidationError, place: str) -> None:
        """Keep what is wrong in a config."""
        for problem in problems_of(error):
            where = path_text(problem.path)
            message = f"{clean(place)}: {where}: {problem.message}" if where else f"{clean(place)}: {problem.message}"
            self.problems.append(Problem(clean(message), hint=clean(problem.hint), code="config"))

    def _left_out(self, cls: type[Block], name: str, value: Any, place: str) -> None:
        if value in (None, False, "", []) or name in ("name", "trainable", "dtype") or name in NOTHING[1:3]:
            return
        if name in LORA:
            self.note(place, "what LoRA learned is part of the weights here, as Keras saves them")
            return
        message = f"{clean(place)}: {cls.__name__} has no option {clean(name)}, found {clean(short_text(value))}"
        self.problems.append(Problem(message, code="config"))


def tidied(layer: Layer | None) -> Layer | None:
    """A layer that another one holds without a name that says no more than its class."""
    if layer is None or layer.name is None:
        return layer
    base = re.escape(snake_case(type(layer).__name__))
    plain_name = re.fullmatch(rf"(?:forward_|backward_)?{base}(?:_\d+)?", layer.name)
    return layer.model_copy(update={"name": None}) if plain_name else layer


def without_copy(layer: Any) -> Any:
    """A Bidirectional without what it says of its layers itself, and without a backward layer that is a copy."""
    if not isinstance(layer, Bidirectional):
        return layer
    places = [place for place in ("layer", "backward_layer") if getattr(getattr(layer, place), "return_sequences", 0)]
    bare = {p: getattr(layer, p).model_copy(update={"zero_output_for_mask": False}) for p in places}
    layer = layer.model_copy(update=bare)
    if layer.backward_layer is None:
        return layer
    forward = layer.layer.model_copy(update={"name": (layer.layer.name or "").removeprefix("forward_") or None})
    alone = layer.model_copy(update={"backward_layer": None, "layer": forward})
    return alone if _same(alone.pair(), layer.pair()) else layer


def _same(one: tuple[Layer, Layer], other: tuple[Layer, Layer]) -> bool:
    return all(a.model_copy(update={"name": b.name}) == b for a, b in zip(one, other, strict=True))


def short_text(value: Any) -> str:
    """A value of a file as an error shows it."""
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def kind_of(annotation: Any) -> type[Declared] | None:
    """The kind of objects that an option holds; None when it holds none."""
    if isinstance(annotation, type) and issubclass(annotation, Declared):
        return annotation
    return next((kind for kind in map(kind_of, get_args(annotation)) if kind is not None), None)


def dtype_of(value: Any) -> str | None:
    """A number type from its policy; None for the usual one."""
    if isinstance(value, dict):
        config = value.get("config")
        value = config.get("name") if isinstance(config, dict) else None
    return None if value in (None, "float32") else value


def short(value: Any) -> Any:
    """A value with numbers of float32 at their shortest: 0.0010000000474974513 is 0.001 there."""
    if isinstance(value, float) and len(repr(value)) > 12 and abs(value) < 1e38 and float(np.float32(value)) == value:
        return float(str(np.float32(value)))
    if isinstance(value, list):
        return [short(v) for v in value]
    if isinstance(value, dict):
        return {k: short(v) for k, v in value.items()}
    return value


def brief(value: Any) -> Any:
    """A value as a recipe writes it, without what stands at its default."""
    if isinstance(value, Activation):
        return value.spec()
    if isinstance(value, Declared):
        full = value.spec()
        if not isinstance(full, dict) or len(full) != 1 or not isinstance(full.get(value.recipe_name()), dict):
            return full
        options = said(value)
        return {value.recipe_name(): options} if options else value.recipe_name()
    if isinstance(value, Block):
        return said(value)
    if isinstance(value, Mapping):
        return {k: brief(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [brief(v) for v in value]
    return plain(value)


def said(value: Block) -> dict[str, Any]:
    """The options of a block that are not at their default."""
    found = {}
    for name, field in type(value).model_fields.items():
        default = field.get_default(call_default_factory=True)
        now, one = getattr(value, name), _one_for_all(value, name)
        is_default = (now == default and type(now) is type(default)) or (one is not None and one == default)
        # Behind a Rescaling a recipe must say the range, also the usual one.
        if default is REQUIRED or not is_default or (name == "value_range" and name in value.model_fields_set):
            found[value.written(name)] = one or brief(now)
    # What a pool steps by is its own size, unless something else is said.
    if "pool_size" in found and found.get("strides") == found["pool_size"]:
        del found["strides"]
    return found


def _one_for_all(value: Block, name: str) -> int | None:
    """The one number that stands for equal ones on all axes (`kernel_size: 3`)."""
    now = getattr(value, name)
    if name not in EQUAL_SIDES or not isinstance(now, tuple) or len({*now}) != 1 or not isinstance(now[0], int):
        return None
    options = {n: getattr(value, n) for n in type(value).model_fields}
    return now[0] if getattr(type(value).read({**options, name: now[0]}), name) == now else None
