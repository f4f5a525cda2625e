"""A model of a description, the outermost or one inside another, as the layer list of a recipe."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from trainer.errors import FileError
from trainer.keras_files.calls import (
    ALL,
    DAMAGED,
    Entry,
    Made,
    Ref,
    calls_of,
    chain_of,
    ends_of,
    is_input,
    name_of,
    needed,
)
from trainer.keras_files.inputs import Given, Inputs
from trainer.keras_files.layer_reader import LayerReader
from trainer.keras_files.lines import (
    Mapped,
    Names,
    Path,
    again,
    alone,
    freed,
    listed,
    options_of,
    without_names,
)
from trainer.keras_files.values import brief, tidied
from trainer.layers.base import Layer
from trainer.layers.host import HostLayer
from trainer.layers.image_base import ImageLayer
from trainer.layers.recurrent_wrappers import Bidirectional
from trainer.layers.wiring import ONE_INPUT, PART
from trainer.wording import clean

COMPOSITES = ("Sequential", "Functional", "Model")


class Layers(LayerReader):
    """Layers of one description; among those that a layer holds may be models, which are levels of their own."""

    def layer(self, described: Mapping[str, Any], place: str) -> Layer | None:
        """A layer that another one holds; a model among them is a Sequential."""
        if described.get("class_name") not in COMPOSITES:
            return super().layer(described, place)
        inside = Level(self, described, tuple(place.split(PART)))
        if inside.unwired() and not self.problems and not self.unknown:
            return tidied(Layer.parse({"Sequential": {"layers": inside.lines}}))
        if not self.problems and not self.unknown:
            self.refuse(f"{clean(place)} holds a model that is no chain of layers")
        return None


class Level:
    """One model of a description: the outermost one, or one that stands inside another."""

    def __init__(self, reader: Layers, described: Entry, path: Path = (), shape: Sequence[int | None] | None = None):
        self.reader, self.path, self.given = reader, path, Given.of(described, path)
        self.names = Names([ONE_INPUT] if path else [])
        self.several: set[tuple[str, int]] = set()
        "Calls that make several tensors."
        self.layers: dict[str, Layer] = {}
        "The layers by the name that the recipe gives them; models are none of them."
        self.arguments: dict[str, tuple[str, ...]] = {}
        self.called: dict[str, str] = {}
        "A layer's name in the file to the one that the recipe gives it."
        self.inside: dict[str, Level] = {}
        "The models inside, by the recipe's names."
        self.outputs: list[str] = []
        self.output_keys: list[str] = []
        "What the file calls the outputs."
        self._translate(described["class_name"] == "Sequential", shape)

    def unwired(self) -> bool:
        """Whether each layer just reads the one above it."""
        return not any(options_of(line).keys() & {"inputs", "layer"} for line in self.lines) and not self.said_outputs()

    def said_outputs(self) -> bool:
        """Whether a recipe must say the outputs: they are not just what the last line makes."""
        return self.above is None or self.outputs != [self.tensors.get(self.above.maker)]

    def _translate(self, chain: bool, shape: Sequence[int | None] | None) -> None:
        calls, starts, ends = self._sequential() if chain else self._functional()
        if not calls:
            raise FileError(f"{self.given.place or 'the model '}holds no layers")
        calls = needed(calls, ends)
        self._begin(Inputs(self.given, self.reader, self.names, shape).read(starts, calls, ends))
        for made in calls:
            if (made.layer, made.number) not in self.raw:
                self._call(made)
        self._end(ends)
        if not chain or self.path:
            self.output_keys = self.output_keys or [ref.layer for ref in ends]
        if self.unwired():
            self.lines = without_names(self.lines)

    def _sequential(self) -> tuple[list[Made], Mapping[str, Entry | None], list[Ref]]:
        entries = [e for e in self.given.entries if not is_input(e)]
        said = next((e for e in self.given.entries if is_input(e)), None)
        calls = chain_of(entries)
        self.output_keys = [made.layer for made in calls[-1:]]
        return calls, {"": said}, [Ref(made.layer) for made in calls[-1:]]

    def _functional(self) -> tuple[list[Made], Mapping[str, Entry | None], list[Ref]]:
        given = self.given
        calls = calls_of(given.entries, given.place)
        starts = {ref.layer: given.by_name.get(ref.layer) for ref in ends_of(given.config.get("input_layers"))}
        asked = given.config.get("output_layers")
        self.output_keys = sorted(asked) if isinstance(asked, dict) else []
        ends = [self._counted(ref) for ref in ends_of(asked)]
        known = {(made.layer, made.number) for made in calls} | {(name, 0) for name in starts}
        missing = [ref.layer for ref in ends if ref.maker not in known]
        missing += [name for name, entry in starts.items() if entry is None]
        if missing or not ends:
            raise FileError(f"{given.place}there is no layer {listed(missing)} in the model", hint=DAMAGED)
        return calls, starts, ends

    def _counted(self, ref: Ref) -> Ref:
        """An output of the model, where Keras counts the calls of functional models from 1."""
        kind = self.given.by_name.get(ref.layer, {}).get("class_name")
        return ref._replace(call=ref.call - 1) if kind in ("Functional", "Model") and ref.call else ref

    def _begin(self, read: Inputs) -> None:
        """What the calls go on from."""
        self.inputs, self.raw, self.batch_size = read.kept, read.raw, read.batch_size
        self.above = read.above
        "What a line reads that says nothing."
        self.lines = [*read.lines]
        "The layer list, as a recipe writes it."
        self.tensors = dict(read.tensors)
        "What the recipe calls what a call makes, and the inputs."
        self.notes = [*read.notes]

    def _call(self, made: Made) -> None:
        """Write the line of a call."""
        entry, first = self.given.by_name[made.layer], made.layer not in self.arguments
        place = f"{self.given.place}{made.layer}"
        if first:
            self.reader.counted(place)
            name = self.called[made.layer] = self.names.of(made.layer)
            line = self._composite(entry, name) if entry["class_name"] in COMPOSITES else self._layer(entry, name)
        else:
            name = self.names.of(f"{self.called[made.layer]}_{made.number + 1}")
            line = {"layer": {"layer": self.called[made.layer], "name": name}}
        self.tensors[made.layer, made.number] = name
        if line is None:
            self.arguments.setdefault(made.layer, ())
            return
        options = options_of(line)
        layer = self.layers.get(self.called[made.layer])
        self._say(made, layer, options, place)
        inputs = self._reads(made, place)
        if inputs is not None:
            options["inputs"] = inputs
        self.lines.append(line if first else again(options))
        if self._makes_several(made, layer):
            self.several.add((made.layer, made.number))
        self.above = Ref(made.layer, made.number)

    def _layer(self, entry: Entry, name: str) -> dict[str, Any] | None:
        path = (*self.path, name_of(entry))
        layer = self.reader.object(Layer, entry, PART.join(path))
        if layer is None:
            return None
        layer = freed(layer).model_copy(update={"name": name})
        kind = type(layer).__name__
        self.reader.stateful |= bool(getattr(layer, "stateful", False))
        if isinstance(layer, HostLayer):
            hint = "let it read an input of the model directly"
            self.reader.refuse(f"{PART.join(path)}: {kind} works on raw rows, before the model", hint)
        self.layers[name], self.arguments[name_of(entry)] = layer, layer.arguments()
        notes = [f"called {name} here"] if name != name_of(entry) else []
        notes += dict.fromkeys(self.reader.notes.pop(PART.join(path), ()))
        self.reader.rows.append(Mapped(path, name, str(entry["class_name"]), kind, notes))
        options = brief(layer)[layer.recipe_name()]
        return {kind: {"name": options.pop("name"), **options}}

    def _composite(self, entry: Entry, name: str) -> dict[str, Any]:
        path = (*self.path, name_of(entry))
        kind = "Sequential" if entry["class_name"] == "Sequential" else "Model"
        row = Mapped(path, name, str(entry["class_name"]), kind)
        self.reader.rows.append(row)
        inside = self.inside[name] = Level(self.reader, entry, path)
        options: dict[str, Any] = {"name": name}
        if inside.given.config.get("trainable") is False:
            options["trainable"] = False
        options["layers"] = inside.lines
        if kind == "Model" and inside.said_outputs():
            options["outputs"] = inside.outputs
        self.arguments[name_of(entry)] = tuple(i.name for i in inside.inputs)
        if len(inside.outputs) > 1:
            self.several.add((name_of(entry), -1))
        return {kind: options}

    def _makes_several(self, made: Made, layer: Layer | None) -> bool:
        if layer is None:
            return (made.layer, -1) in self.several
        inner = layer.layer if isinstance(layer, Bidirectional) else layer
        both = isinstance(layer, Bidirectional) and layer.merge_mode is None
        return both or bool(getattr(inner, "return_state", False))

    def _say(self, made: Made, layer: Layer | None, options: dict[str, Any], place: str) -> None:
        """Write what a call says beside its tensors."""
        for word, value in made.says.items():
            known = layer.call_options.model_fields if layer is not None and layer.call_options is not None else {}
            if word in known:
                if value != known[word].default:
                    options[word] = value
            elif word == "training" and (value is False or (value is True and not self.reader.old)):
                # Keras 3 hands each layer the mode of fit or predict, whatever its call says; and it writes
                # training=True for every augmentation, which has that as its default.
                if value is False or not isinstance(layer, ImageLayer):
                    ours = "here it trains" if value is False else "here, as in Keras 3, predict does not"
                    self.reader.rows[-1].notes.append(f"called with training={value} in the file; {ours}")
            elif value is False and word in ("use_causal_mask", "return_attention_scores"):
                continue
            elif word == "use_causal_mask" and layer is not None and word in type(layer).model_fields:
                options[word] = value
            else:
                message = f"{clean(place)}: the call says {clean(word)}={clean(str(value)[:40])}"
                self.reader.refuse(f"{message}, which has no place in a recipe", "save the model without it")

    def _reads(self, made: Made, place: str) -> Any:
        """What a line reads, as a recipe writes it; None for the line above."""
        arguments, named = self.arguments[made.layer], dict(made.named)
        if not made.positional and len(named) == 1 and next(iter(named)) not in arguments:
            made = Made(made.layer, made.number, next(iter(named.values())))
            named = {}
        wrong = [n for n in named if n not in arguments]
        if wrong:
            message = f"{clean(place)} is handed a tensor as {clean(wrong[0])}, which has no place in a recipe"
            self.reader.refuse(message, "save the model without it")
            return None
        composite = self.given.by_name[made.layer]["class_name"] in COMPOSITES
        if composite and len(arguments) > 1:
            return {a: self._named(r) for a, r in zip(arguments, made.reads(), strict=False)}
        if named:
            rest = made.positional[: len(arguments)]
            found = {a: [r] for a, r in zip(arguments, rest, strict=False)} | named
            return {a: alone([self._named(r) for r in found[a]]) for a in arguments if a in found}
        if [*map(self._is_above, made.positional)] == [True]:
            return None
        return alone([self._named(r) for r in made.positional])

    def _is_above(self, ref: Ref) -> bool:
        is_whole = ref.tensor == ALL or ref.maker not in self.several
        return self.above is not None and ref.maker == self.above.maker and is_whole

    def _named(self, ref: Ref) -> str:
        name = self.tensors.get(ref.maker, ref.layer)
        return f"{name}{PART}{ref.tensor}" if ref.maker in self.several and ref.tensor != ALL else name

    def _end(self, ends: Sequence[Ref]) -> None:
        """The outputs, each a name of its own that targets can have; what has none goes through an Identity."""
        for ref in ends:
            name = self._named(ref)
            twice = name in self.outputs or ref.maker in self.raw
            if twice or (PART in name and len(ends) > 1 and not self.path):
                own = self.names.of(name.replace(PART, "_"))
                self.lines.append({"Identity": {"name": own, "inputs": name}})
                self.above, name = Ref(f"{own}\n"), own
                self.tensors[self.above.maker] = own
                self.notes.append(f"the output {clean(own)} is a copy, so that it has a name of its own")
            self.outputs.append(name)
