"""What a recipe writes for layers: names that it allows, lines, and the table of what became of each."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from trainer.layers.base import Layer
from trainer.layers.host import HostLayer
from trainer.layers.lines import is_kind, written_names
from trainer.naming import snake_case
from trainer.wording import clean

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")

PLACED = "placed"
"""Key of an entry whose class was replaced: the one by which the file keeps its weights."""

Path = tuple[str, ...]
"Names of layers as the file has them, from the outermost model on."


@dataclass
class Mapped:
    """A layer of the file and what became of it: a row of the table that an import prints."""

    path: Path
    name: str
    "What the recipe calls it."
    kind: str
    "Its class in the file."
    here: str
    "Its class here."
    notes: list[str] = field(default_factory=list)


@dataclass
class Input:
    """An input of a model."""

    name: str
    shape: tuple[int | None, ...]
    "With the batch; of the raw rows where steps stand before the model."
    dtype: str = "float32"
    reads: str = ""
    "The input of the file that it comes from."
    steps: list[HostLayer] = field(default_factory=list)
    "What is done to raw rows before the model."


class Names:
    """Names of layers as recipes allow them, each given once."""

    def __init__(self, taken: Sequence[str] = ()):
        self.taken = set(taken)

    def of(self, name: str) -> str:
        """The name itself, or the nearest that can be one and is free."""
        base = name if _NAME.fullmatch(name) else re.sub(r"[^A-Za-z0-9._-]+", "_", name).lstrip("._-")[:60] or "layer"
        made, number = base, 1
        while made in self.taken:
            made, number = f"{base[:56]}_{number}", number + 1
        self.taken.add(made)
        return made


def listed(places: Sequence[str], most: int = 12) -> str:
    """Names in a row, with an end to long lists."""
    shown = [clean(p) for p in dict.fromkeys(places)]
    return ", ".join(shown[:most]) + (f" and {len(shown) - most} more" if len(shown) > most else "")


def freed(layer: Layer) -> Layer:
    """A frozen layer without saying once more of what it holds that it is frozen."""
    if layer.trainable:
        return layer
    held = {n: v for n in type(layer).model_fields if isinstance(v := getattr(layer, n), Layer)}
    return layer.model_copy(update={n: freed(v).model_copy(update={"trainable": True}) for n, v in held.items()})


def options_of(line: Any) -> dict[str, Any]:
    """The options of a line."""
    options = next(iter(line.values())) if isinstance(line, dict) and len(line) == 1 else line
    return options if isinstance(options, dict) else {}


def alone(names: list[str]) -> Any:
    """The name itself, where there is one."""
    return names[0] if len(names) == 1 else names


def again(options: dict[str, Any]) -> dict[str, Any]:
    """A layer called again, under its name where that is no kind of layer."""
    name = options["layer"]
    if is_kind(name) or name[:1].isupper():
        return options
    return {name: {k: v for k, v in options.items() if k != "layer"}}


def without_names(lines: list[Any]) -> list[Any]:
    """A chain without the names that its layers would be given anyway."""
    bare = [_bare(line) for line in lines]
    kept, counts = list(bare), {}
    for index, line in enumerate(lines):
        base, name = snake_case(next(iter(line))), options_of(line).get("name")
        number = counts.get(base, 0)
        if name in (None, f"{base}_{number}" if number else base):
            counts[base] = number + 1
        else:
            kept[index] = line
    names = zip(written_names(kept), lines, strict=True)
    return kept if all(name == options_of(line).get("name", name) for name, line in names) else lines


def _bare(line: dict[str, Any]) -> Any:
    ((kind, options),) = line.items()
    rest = {k: v for k, v in options.items() if k != "name"}
    return {kind: rest} if rest else kind
