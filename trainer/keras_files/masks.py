"""Masks in descriptions of Keras 3, which lists the operations that make them as if they were layers of the model.

Here a mask travels by itself, from the Embedding or the Masking that starts it. So these operations are taken out of a
description, as long as they are nothing but that.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from trainer.errors import FileError, Problem
from trainer.keras_files.calls import Entry, Ref, ends_of, is_input, name_of, refs_in
from trainer.wording import clean

MASK = "mask"
STARTS = "NotEqual"
PASSING = {
    "LogicalOr",
    "LogicalAnd",
    "Any",
    "All",
    "ExpandDims",
    "Squeeze",
    "ZerosLike",
    "OnesLike",
    "Concatenate",
    "BroadcastTo",
    "Cast",
    "Reshape",
}
"Operations through which Keras takes a mask on its way."


def without_masks(model: Entry) -> dict[str, Any]:
    """A description without the operations that make masks, in models inside it too.

    Raises:
        FileError: a layer is handed a mask of another making.
    """
    config = model.get("config")
    if not isinstance(config, Mapping) or not isinstance(config.get("layers"), list):
        return dict(model)
    layers = [_inside(entry) for entry in config["layers"]]
    made = dict(config) | {"layers": layers}
    if "output_layers" in config and any(_masked(entry) for entry in layers):
        made["layers"] = _Level(layers, ends_of(config["output_layers"])).kept()
    return {**model, "config": made}


def _inside(entry: Any) -> Any:
    """A layer's entry, with what it holds."""
    if not isinstance(entry, Mapping) or not isinstance(entry.get("config"), Mapping):
        return entry
    if "layers" in entry["config"]:
        return without_masks(entry)
    held = {k: without_masks(v) for k, v in entry["config"].items() if isinstance(v, Mapping) and "config" in v}
    return {**entry, "config": {**entry["config"], **held}} if held else entry


def _nodes(entry: Any) -> list[Mapping[str, Any]]:
    nodes = entry.get("inbound_nodes") if isinstance(entry, Mapping) else None
    return [node for node in nodes if isinstance(node, Mapping)] if isinstance(nodes, list) else []


def _masked(entry: Any) -> bool:
    """Whether a layer is handed a mask."""
    return any(list(refs_in((node.get("kwargs") or {}).get(MASK))) for node in _nodes(entry))


def _is_operation(entry: Entry) -> bool:
    """Whether an entry is an operation on tensors; layers say whether they train."""
    module, config = str(entry.get("module") or ""), entry.get("config")
    said = isinstance(config, Mapping) and "trainable" not in config
    return ".ops." in module or (not module and said and not is_input(entry))


class _Level:
    """A functional model whose layers are handed masks."""

    def __init__(self, entries: Sequence[Any], outputs: Sequence[Ref]):
        self.entries, self.outputs = entries, outputs
        self.by_name: dict[str, Entry] = {name_of(e): e for e in entries if isinstance(e, Mapping)}
        self.starts = self._starts()

    def kept(self) -> list[Any]:
        """The entries without masks, and without what only made masks.

        Raises:
            FileError: a layer is handed a mask of another making.
        """
        problems = [
            Problem(
                f"{clean(name)} is handed a mask that does not come from an Embedding or a Masking",
                hint="let Masking, or an Embedding with mask_zero, start the mask",
                code="mask",
            )
            for name, entry in self.by_name.items()
            if not _is_operation(entry) and not all(map(self._is_own, self._masks(entry)))
        ]
        if problems:
            raise FileError(*problems)
        bare = [_without(entry) if _masked(entry) else entry for entry in self.entries]
        needed = self._needed({name_of(e): e for e in bare})
        return [e for e in bare if name_of(e) in needed or not _is_operation(e)]

    def _starts(self) -> set[tuple[Ref, str]]:
        """(tensor, value) of everything that starts a mask of ours."""
        found = set()
        for entry in self.by_name.values():
            config = entry.get("config") or {}
            padding = 0 if config.get("mask_zero") else config.get("mask_value") if _kind(entry) == "Masking" else None
            if padding is not None:
                found |= {(ref, f"{float(padding)}") for node in _nodes(entry) for ref in refs_in(node.get("args"))}
        return found

    def _masks(self, entry: Entry) -> list[Ref]:
        return [ref for node in _nodes(entry) for ref in refs_in((node.get("kwargs") or {}).get(MASK))]

    def _is_own(self, mask: Ref) -> bool:
        """Whether a mask comes from what starts masks here, and from nothing else."""
        todo, seen = [mask], {mask}
        while todo:
            ref = todo.pop()
            entry = self.by_name.get(ref.layer)
            if entry is None or not _is_operation(entry):
                return False
            kind, read = (
                _kind(entry),
                [r for node in _nodes(entry) for r in refs_in([node.get("args"), node.get("kwargs")])],
            )
            if kind == STARTS:
                if not any((r, value) in self.starts for r in read for value in _values(entry)):
                    return False
            elif kind in ("ZerosLike", "OnesLike"):
                continue
            elif kind not in PASSING:
                return False
            else:
                todo += [r for r in read if r not in seen]
                seen.update(read)
        return True

    def _needed(self, entries: Mapping[str, Entry]) -> set[str]:
        needed, todo = set(), [ref.layer for ref in self.outputs]
        while todo:
            name = todo.pop()
            if name not in needed and name in entries:
                needed.add(name)
                todo += [r.layer for n in _nodes(entries[name]) for r in refs_in([n.get("args"), n.get("kwargs")])]
        return needed


def _kind(entry: Entry) -> str:
    return str(entry.get("class_name"))


def _values(entry: Entry) -> list[str]:
    """The numbers that an operation compares with."""
    return [f"{float(v)}" for n in _nodes(entry) for v in n.get("args") or () if isinstance(v, (int, float))]


def _without(entry: Entry) -> dict[str, Any]:
    """A layer's entry whose calls are handed no masks."""
    nodes = [{**n, "kwargs": {k: v for k, v in (n.get("kwargs") or {}).items() if k != MASK}} for n in _nodes(entry)]
    return {**entry, "inbound_nodes": nodes}
