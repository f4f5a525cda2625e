"""Sequential and functional models of files before Keras 3, and all that stands in them, in the form of Keras 3."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from trainer.keras_files import replaced, words
from trainer.keras_files.nodes import CALL, wired
from trainer.keras_files.reading import Reading, called, entry, plain
from trainer.layers.base import policy

Entry = dict[str, Any]
Shape = Sequence[int | None]

INPUT_TYPES = ("float32", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "float16", "float64")


class Models:
    """Brings entries into today's form; what can't be goes to `reading`."""

    def __init__(self, reading: Reading, widths: dict[str, int], names: list[str] | None = None):
        """`widths`: features that a layer reads, where its weights say it; `names`: those of the model's layers."""
        self.reading, self.widths = reading, widths
        self.names = names or []
        self.highways: set[str] = set()
        self._unnamed = 0

    def whole(self, thing: Entry, shape: Shape | None) -> Entry:
        """The model of a file; `shape` is that of a row, for models that don't say it."""
        if thing.get("class_name") == "Sequential":
            return self.sequential(thing, self.names, None if shape is None else [None, *shape], outermost=True)
        return self.functional(thing)

    def today(self, thing: Any) -> Entry:
        """A layer or a model in a model."""
        if not isinstance(thing, dict) or "class_name" not in thing:
            self.reading.wrong("", f"expected a layer, found {str(thing)[:60]}")
            return entry("keras.layers", "Identity", {})
        kind = thing["class_name"]
        if kind == "Sequential":
            return self.sequential(thing)
        if kind in ("Model", "Functional"):
            return self.functional(thing)
        if not isinstance(thing.get("config"), dict):
            self.reading.unknown(str(kind), called(thing))
            return entry("keras.layers", str(kind), {"name": called(thing)})
        if kind == "InputLayer":
            return self.input_layer(thing)
        if kind == "Merge":
            return self.today(replaced.merge(thing, self.reading))
        if kind == "MaxoutDense":
            return self.today(replaced.maxout(thing))
        if kind == "Highway":
            return self._highway(thing)
        return words.layer_today(thing, self.reading, self.today)

    def _highway(self, thing: Entry) -> Entry:
        name = called(thing)
        said = self.said_shape(thing)
        units = self.widths.get(name) or (said[-1] if said else None)
        if units is None:
            self.reading.wrong(name, "Highway has as many units as its input, and nothing says how many these are")
            return entry("keras.layers", "Identity", {"name": name})
        self.highways.add(name)
        return self.today(replaced.highway(thing, units))

    def input_layer(self, thing: Entry) -> Entry:
        """Keras's InputLayer."""
        config = plain(thing["config"])
        shape, name = self.said_shape({**thing, "config": config}), called(thing)
        if shape is None and isinstance(config.get("first"), dict):
            shape = self.said_shape(config["first"])
        if config.get("sparse"):
            self.reading.wrong(name, "the input takes sparse tensors", "save the model with sparse=False")
        if config.get("ragged"):
            self.reading.note("ragged inputs are read as rows of one length", name)
        if shape is None:
            self.reading.wrong(name, "nothing says the input's shape", "say the shape of a row, such as --shape 28,28")
        return made_input(name, shape or [None], config.get("dtype") or config.get("input_dtype"))

    def sequential(
        self, thing: Entry, names: Sequence[str] = (), given: Shape | None = None, outermost: bool = False
    ) -> Entry:
        """A chain; its config is a list up to Keras 2.2.2."""
        config = thing.get("config")
        layers = config if isinstance(config, list) else (config or {}).get("layers")
        options: dict[str, Any] = {} if isinstance(config, list) else dict(config or {})
        name = options.get("name") or thing.get("name") or self._called("sequential")
        if not isinstance(layers, list) or not layers:
            self.reading.wrong(str(name), "expected a Sequential with layers, found none")
            return entry("keras", "Sequential", {"name": name, "layers": []})
        layers = _named(layers, names)
        if layers[0].get("class_name") == "Merge" and (layers[0].get("config") or {}).get("layers"):
            return self.functional(replaced.branches(name, layers, self.reading))
        built = options.get("build_input_shape") if outermost else None
        start = self._start(str(name), layers, plain(built), given, outermost)
        inner = [self.today(x) for x in layers if x.get("class_name") != "InputLayer"]
        made = {"name": name, "trainable": options.get("trainable", True), "dtype": policy("float32")}
        made["layers"] = [*([start] if start else []), *(_without_call(x) for x in inner)]
        if start:
            made["build_input_shape"] = start["config"]["batch_shape"]
        return entry("keras", "Sequential", made)

    def _start(self, name: str, layers: list[Entry], built: Any, given: Shape | None, outermost: bool) -> Entry | None:
        """The InputLayer of a chain; None for an inner one whose shape follows from where it stands."""
        first = layers[0]
        shape = self.said_shape(first)
        if shape is None and isinstance(built, list) and built and not isinstance(built[0], list):
            shape = built
        if shape is None or (given is not None and _open(shape)):
            shape = given if shape is None else self._filled(name, shape, given)
        if shape is None:
            if outermost:
                hint = "say the shape of a row, such as --shape 28,28: the model was saved before it had seen any data"
                self.reading.wrong(name, "nothing says the shape of the model's input", hint)
            return None
        if first.get("class_name") == "InputLayer":
            config = first.get("config") or {}
            return self.input_layer({**first, "config": {**config, "batch_input_shape": list(shape)}})
        return made_input(f"{called(first)}_input", shape, said_type(first))

    def _filled(self, name: str, shape: Shape, given: Shape | None) -> Shape:
        """The shape with sizes from the user's where it leaves them open."""
        if given is None or len(given) != len(shape):
            return shape
        if any(m is not None and n is not None and m != n for m, n in zip(shape[1:], given[1:], strict=True)):
            self.reading.wrong(name, f"the file says the input's shape {list(shape[1:])}, found {list(given[1:])}")
        return [m if m is not None else n for m, n in zip(shape, given, strict=True)]

    def said_shape(self, thing: Entry) -> list[int | None] | None:
        """The shape of the input, batch first, that a layer or the first layer of a model says."""
        config = thing.get("config")
        kind = thing.get("class_name")
        if kind in ("Sequential", "Model", "Functional"):
            layers = config if isinstance(config, list) else (config or {}).get("layers") or [{}]
            own = {} if isinstance(config, list) else config or {}
            whole = [x for x in layers if isinstance(x, dict)] or [{}]
            first_says = kind == "Sequential" or len(_inputs(own)) == 1
            return _shape(own) or (self.said_shape(whole[0]) if first_says else None)
        if not isinstance(config, dict):
            return None
        inner = config.get("layer")
        if _shape(config) is None and kind == "Bidirectional" and isinstance(inner, dict):
            return self.said_shape(inner)
        return _shape(config) or _old_shape(str(kind), config)

    def functional(self, thing: Entry) -> Entry:
        """A graph of layers."""
        config, name = thing.get("config"), called(thing)
        if not isinstance(config, dict) or not isinstance(config.get("layers"), list):
            self.reading.wrong(name, "the model's layers are not in the file: it is code (a subclass of Model)")
            return entry("keras.src.models.functional", "Functional", {"name": name, "layers": []})
        layers = [{**x, "name": called(x)} for x in config["layers"] if isinstance(x, dict)]
        found = {x["name"]: self.today(_with_name(x)) for x in layers}
        said = (config.get("input_layers"), config.get("output_layers"))
        wiring = wired(layers, found, said, self.reading)
        calls, starts, ends = wiring or ({}, [], [])
        made = [{**_without_call(found[n]), "name": n, "inbound_nodes": calls.get(n, [])} for n in found]
        trainable = config.get("trainable", True)
        whole = {"name": config.get("name") or name, "trainable": trainable, "layers": made}
        whole |= {"input_layers": starts, "output_layers": ends}
        return {
            **entry("keras.src.models.functional", "Functional", whole),
            "registered_name": "Functional",
        }

    def _called(self, base: str) -> str:
        self._unnamed += 1
        return f"{base}_{self._unnamed}"


def made_input(name: str, shape: Shape, dtype: Any) -> Entry:
    """Keras 3's InputLayer."""
    config = {
        "batch_shape": list(shape),
        "dtype": dtype if dtype in INPUT_TYPES or dtype == "string" else "float32",
        "sparse": False,
        "ragged": False,
        "name": name,
        "optional": False,
    }
    return entry("keras.layers", "InputLayer", config)


def said_type(thing: Entry) -> Any:
    """The number type of the input that a chain's first layer says."""
    config = thing.get("config")
    if not isinstance(config, dict):
        layers = config or [{}]
        return said_type(layers[0])
    if thing.get("class_name") == "Sequential":
        return said_type((config.get("layers") or [{}])[0])
    said = config.get("input_dtype") or config.get("dtype")
    return said if isinstance(said, str) else None


def _shape(config: dict[str, Any]) -> list[int | None] | None:
    """A whole shape that the options say."""
    for word in ("batch_input_shape", "batch_shape"):
        found = plain(config.get(word))
        if isinstance(found, list) and found:
            return found
    row = plain(config.get("input_shape"))
    return [None, *row] if isinstance(row, list) else None


def _old_shape(kind: str, config: dict[str, Any]) -> list[int | None] | None:
    """A shape in the words of Keras 1: features, and the length of a sequence."""
    length, width = config.get("input_length"), config.get("input_dim")
    if kind == "Embedding":
        return [None, *(length if isinstance(length, list) else [length])]
    if not isinstance(width, int):
        return None
    sequence = kind in ("LSTM", "GRU", "SimpleRNN", "TimeDistributedDense") or kind.endswith("1D")
    return [None, length, width] if sequence else [None, width]


def _inputs(config: dict[str, Any]) -> list[Any]:
    found = config.get("input_layers")
    return [found] if isinstance(found, list) and found and isinstance(found[0], str) else list(found or [])


def _open(shape: Shape) -> bool:
    return any(n is None for n in shape[1:])


def _named(layers: list[Any], names: Sequence[str]) -> list[Entry]:
    """The layers with their names; models in an old chain have none, and the weights' groups say them."""
    found = [x if isinstance(x, dict) else {} for x in layers]
    shown = [x for x in found if x.get("class_name") != "InputLayer"]
    if len(names) == len(shown):
        by_id = {id(x): name for x, name in zip(shown, names, strict=True)}
        return [{**x, "name": by_id.get(id(x), called(x))} if isinstance(x.get("config"), list) else x for x in found]
    return found


def _with_name(thing: Entry) -> Entry:
    """The entry with its name among the options, where a graph's entry has it beside them."""
    config = thing.get("config")
    if isinstance(config, dict) and "name" not in config:
        return {**thing, "config": {**config, "name": thing["name"]}}
    return thing


def _without_call(thing: Entry) -> Entry:
    return {k: v for k, v in thing.items() if k != CALL}
