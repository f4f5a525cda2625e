"""The inputs of a model of a description: their shapes, the steps before the model, and their lines in a recipe."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from trainer.errors import FileError
from trainer.keras_files.calls import DAMAGED, Entry, Made, Ref, mapping_of, name_of, sizes_of
from trainer.keras_files.layer_reader import LayerReader
from trainer.keras_files.lines import Input, Mapped, Names, Path
from trainer.keras_files.vocabularies import host_class, with_vocabulary
from trainer.layers.base import Layer
from trainer.layers.host import HostLayer
from trainer.layers.input_layer import INTEGERS
from trainer.layers.wiring import ONE_INPUT, PART
from trainer.wording import clean

MOST_LEVELS = 16
"Models inside models."


@dataclass(frozen=True)
class Given:
    """A model as the description has it: the outermost one, or one that stands inside another."""

    path: Path
    place: str
    "What begins the names of layers in messages."
    config: Mapping[str, Any]
    entries: Sequence[Entry]
    by_name: Mapping[str, Entry]

    @classmethod
    def of(cls, described: Entry, path: Path) -> Given:
        """
        Raises:
            FileError: it stands too deep, is no model at all, or two of its layers have one name.
        """
        if len(path) > MOST_LEVELS:
            raise FileError(f"{clean(PART.join(path))}: expected at most {MOST_LEVELS} models inside each other")
        place = "".join(f"{part}{PART}" for part in path)
        config = mapping_of(described.get("config"), place)
        entries = [mapping_of(e, place) for e in config.get("layers") or ()]
        by_name = {name_of(e): e for e in entries}
        if len(by_name) < len(entries):
            raise FileError(f"{place or 'the model'}: two layers have one name", hint=DAMAGED)
        return cls(path, place, config, entries, by_name)


class Inputs:
    """The inputs of one model, for the row shape that was `asked` for where the file says none."""

    def __init__(self, given: Given, reader: LayerReader, names: Names, asked: Sequence[int | None] | None):
        self.given, self.reader, self.names, self.asked = given, reader, names, asked
        self.kept: list[Input] = []
        "Those that lead to an output."
        self.raw: dict[tuple[str, int], Input] = {}
        "Tensors that are no tensors of the model yet: its inputs in the file, and what steps before it make."
        self.tensors: dict[tuple[str, int], str] = {}
        "What the recipe calls the inputs."
        self.lines: list[Any] = []
        "What a layer list begins with for them."
        self.notes: list[str] = []
        self.batch_size: int | None = None
        self.above: Ref | None = None
        "What the first layer reads unless it says otherwise."

    def read(self, starts: Mapping[str, Entry | None], calls: Sequence[Made], ends: Sequence[Ref]) -> Inputs:
        """Read those that the calls and the outputs need, with what stands before the model."""
        for start, entry in starts.items():
            self.raw[start, 0] = self._input(start, entry, alone=len(starts) == 1)
        for made in calls if not self.given.path else ():
            self._before(made)
        read = [ref.maker for made in calls if (made.layer, made.number) not in self.raw for ref in made.reads()]
        read += [ref.maker for ref in ends]
        only_one_inside = bool(self.given.path) and len(starts) == 1
        for maker, found in self.raw.items():
            if maker in read:
                found.name = ONE_INPUT if only_one_inside else self.names.of(found.reads)
                self.kept.append(found)
                self.tensors[maker] = found.name
            elif maker[0] in starts and not any(r.maker == maker for made in calls for r in made.reads()):
                self.notes.append(f"the input {clean(maker[0])} leads to no output and was left out")
        for made in self.kept if not self.given.path else ():
            self._write(made)
        if len(self.kept) == 1 and self.above is None:
            self.above = self._ref(self.kept[0])
        return self

    def _input(self, start: str, entry: Entry | None, *, alone: bool) -> Input:
        config = mapping_of(entry.get("config"), self.given.place) if entry is not None else {}
        name = name_of(entry) if entry is not None else ONE_INPUT
        dtype = config.get("dtype", "float32")
        said = config.get("batch_shape") or self.given.config.get("build_input_shape")
        if self.asked is not None and alone and not self.given.path:
            said = [None, *self.asked]
        return Input(name, self._shape(said, name), dtype if isinstance(dtype, str) else "float32", name)

    def _shape(self, said: Any, name: str) -> tuple[int | None, ...]:
        if self.given.path and said is None:
            return ()
        said = sizes_of(said, name)
        if said[0] is not None and not self.given.path:
            self.batch_size = said[0]
        return (None, *said[1:])

    def _before(self, made: Made) -> None:
        """Keep a call that reads raw rows on the host as a step before the model."""
        entry, place = self.given.by_name[made.layer], f"{self.given.place}{made.layer}"
        kind = host_class(entry)
        if kind is None or len(made.reads()) != 1 or made.reads()[0].maker not in self.raw:
            return
        found = self.raw[made.reads()[0].maker]
        layer = self.reader.object(Layer, with_vocabulary(entry, self.given.entries, self.reader.assets), place)
        if isinstance(layer, HostLayer):
            layer = layer.model_copy(update={"name": None})
            self.reader.rows.append(
                Mapped((made.layer,), found.reads, entry["class_name"], kind, ["stands before the model, on raw rows"])
            )
            steps = [*found.steps, layer]
            self.raw[made.layer, made.number] = Input(found.name, found.shape, found.dtype, found.reads, steps)

    def _write(self, made: Input) -> None:
        """Lines for an input of integers or of single numbers; what all others are is said above the list."""
        if made.steps:
            return
        if made.dtype not in (*INTEGERS, "float32"):
            self.notes.append(f"the input {clean(made.name)} is of {clean(made.dtype)} in the file, of float32 here")
        several, ref = len(self.kept) > 1, self._ref(made)
        if made.dtype in INTEGERS:
            named = {"name": made.name} if several else {}
            self.lines.append({"InputLayer": {**named, "dtype": made.dtype}})
            self.above = ref
        if len(made.shape) < 2:
            # A recipe's rows have features; a model that reads single numbers reads them without that axis.
            name = self.tensors[ref.maker] = self.names.of(f"{made.name}_single")
            reads = {"inputs": made.name} if several else {}
            self.lines.append({"Reshape": {"name": name, "target_shape": [], **reads}})
            self.above = ref

    def _ref(self, made: Input) -> Ref:
        return next(Ref(*maker) for maker, name in self.tensors.items() if name == made.name)
