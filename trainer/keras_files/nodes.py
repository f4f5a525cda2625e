"""Who reads what: the calls of layers (`inbound_nodes`) of every generation, as Keras 3 writes them.

Keras 1 has `[[["layer", call, tensor]]]`, Keras 2 `[[["layer", call, tensor, {other arguments}]]]`, Keras 3
`[{"args": [...], "kwargs": {...}}]`. A model inside the model counts its calls from 1 in files before Keras 3 (the
call that made it being 0); in Keras 3 it does so among the model's outputs only.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from trainer.keras_files.reading import Reading

CONSTANT = "_CONSTANT_VALUE"
RECURRENT = ("SimpleRNN", "LSTM", "GRU", "RNN", "ConvLSTM1D", "ConvLSTM2D", "ConvLSTM3D", "Bidirectional")
"Layers whose further inputs are first states."
CALL = "call_options"
"Key of an entry for what its calls say beside their inputs, until the nodes are made."
MODELS = ("Model", "Functional", "Sequential")


@dataclass(frozen=True)
class Ref:
    """A tensor: which of those that a layer's call made."""

    layer: str
    call: int
    tensor: int


@dataclass(frozen=True)
class Node:
    """A call of a layer before Keras 3: the tensors of its first argument, and what else it was given."""

    inputs: Any
    "A list of Refs, or a mapping to them."
    others: dict[str, Any]


def parsed(node: Any, names: Mapping[str, Any]) -> Node:
    """A call as a file before Keras 3 has it; `names` are the layers that there are.

    Raises:
        ValueError: it is none.
    """
    if isinstance(node, dict):
        found = {str(k): _tensor(v, names) for k, v in node.items()}
        return Node({k: ref for k, (ref, _) in found.items()}, next((o for _, o in found.values() if o), {}))
    if not isinstance(node, list) or not node:
        raise ValueError("expected a list of tensors")
    items = [node] if isinstance(node[0], str) else node
    found_items = [_tensor(item, names) for item in items]
    return Node([ref for ref, _ in found_items], next((others for _, others in found_items if others), {}))


def _tensor(item: Any, names: Mapping[str, Any]) -> tuple[Ref, dict[str, Any]]:
    if isinstance(item, list) and item and item[0] == CONSTANT:
        raise ValueError("a constant stands among the inputs, which is code of TensorFlow")
    if not isinstance(item, list) or len(item) not in (3, 4) or not _is_ref(item[:3], names):
        raise ValueError("expected tensors of layers")
    others = item[3] if len(item) == 4 and isinstance(item[3], dict) else {}
    known = {k: _refs(v, names) for k, v in others.items() if v is not None and not _empty(v)}
    return Ref(*item[:3]), known


def _empty(value: Any) -> bool:
    """Whether a mask is one of nothing, such as `[null]`."""
    return isinstance(value, list) and bool(value) and all(v is None for v in value)


def _is_ref(value: Any, names: Mapping[str, Any]) -> bool:
    return (
        isinstance(value, list)
        and len(value) == 3
        and isinstance(value[0], str)
        and value[0] in names
        and all(type(n) is int for n in value[1:])
    )


def _refs(value: Any, names: Mapping[str, Any]) -> Any:
    """The value with Refs in place of the tensors in it."""
    if _is_ref(value, names):
        return Ref(*value)
    if isinstance(value, list):
        return [_refs(v, names) for v in value]
    return {k: _refs(v, names) for k, v in value.items()} if isinstance(value, dict) else value


def refs_in(value: Any) -> Iterator[Ref]:
    """The tensors in a nest of lists and mappings."""
    if isinstance(value, Ref):
        yield value
    elif isinstance(value, (list, dict)):
        for inner in value.values() if isinstance(value, dict) else value:
            yield from refs_in(inner)


def ends(value: Any, names: Mapping[str, Any]) -> Any:
    """Inputs or outputs of a model as Refs: one, a list of them, or a mapping.

    Raises:
        ValueError: they are none of these.
    """
    found = _refs(value, names)
    if isinstance(found, list) and len(found) == 1:
        found = found[0]
    if not list(refs_in(found)) or any(not isinstance(v, Ref) for v in _leaves(found)):
        raise ValueError("expected the model's inputs and outputs as [layer, call, tensor]")
    return found


def _leaves(value: Any) -> Iterator[Any]:
    if isinstance(value, (list, dict)):
        for inner in value.values() if isinstance(value, dict) else value:
            yield from _leaves(inner)
    else:
        yield value


class Numbers:
    """The calls of each layer, counted from 0 whatever the file counts from."""

    def __init__(self, nodes: Mapping[str, list[Node]], said: Any, kinds: Mapping[str, str]):
        """`said`: inputs and outputs of the model; `kinds`: class of each layer in the file."""
        used: dict[str, set[int]] = {}
        for part in (said, [[n.inputs, n.others] for calls in nodes.values() for n in calls]):
            for ref in refs_in(part):
                used.setdefault(ref.layer, set()).add(ref.call)
        self._numbers = {
            name: self._counted(name, sorted(calls), len(nodes[name]), kinds) for name, calls in used.items()
        }

    @staticmethod
    def _counted(name: str, calls: list[int], made: int, kinds: Mapping[str, str]) -> dict[int, int]:
        first = 1 if kinds[name] in MODELS and 0 not in calls and calls[-1] <= made else 0
        if calls[-1] - first < max(1, made) and calls[0] >= 0:
            return {call: call - first for call in calls}
        if len(calls) == made:
            # Some releases keep the numbers that the calls had among those of other models.
            return {call: number for number, call in enumerate(calls)}
        raise ValueError(f"call {calls[-1]} of {name} is read, which has {made}")

    def __call__(self, ref: Ref) -> list[Any]:
        return [ref.layer, self._numbers[ref.layer][ref.call], ref.tensor]


def tensor(history: list[Any]) -> dict[str, Any]:
    """A tensor as Keras 3 writes it; its shape is not known here."""
    config = {"shape": [None], "dtype": "float32", "keras_history": history}
    return {"class_name": "__keras_tensor__", "config": config}


def today(node: Node, kind: str, call: dict[str, Any], numbers: Numbers) -> dict[str, Any]:
    """A call in Keras 3's form; `kind` is the layer's class of today, `call` what all of its calls say."""
    inputs, others = _tensors(node.inputs, numbers), _tensors(node.others, numbers)
    if isinstance(inputs, dict):
        return {"args": [inputs], "kwargs": {**others, **call}}
    if len(inputs) == 1:
        return {"args": inputs, "kwargs": {**others, **call}}
    if kind in RECURRENT:
        return {"args": inputs[:1], "kwargs": {"initial_state": inputs[1:], **others, **call}}
    return {"args": [inputs], "kwargs": {**others, **call}}


def _tensors(value: Any, numbers: Numbers) -> Any:
    if isinstance(value, Ref):
        return tensor(numbers(value))
    if isinstance(value, list):
        return [_tensors(v, numbers) for v in value]
    return {k: _tensors(v, numbers) for k, v in value.items()} if isinstance(value, dict) else value


def end_today(value: Any, kinds: Mapping[str, str], numbers: Numbers) -> Any:
    """Inputs or outputs in Keras 3's form, where calls of functional models count from 1."""
    if isinstance(value, Ref):
        name, call, which = numbers(value)
        return [name, call + (kinds[name] == "Functional"), which]
    if isinstance(value, dict):
        return {k: end_today(v, kinds, numbers) for k, v in value.items()}
    return [end_today(v, kinds, numbers) for v in value]


def wired(
    layers: list[dict[str, Any]], found: Mapping[str, dict[str, Any]], said: tuple[Any, Any], reading: Reading
) -> tuple[dict[str, list[dict[str, Any]]], Any, Any] | None:
    """(calls of each layer in Keras 3's form, inputs, outputs), or None with what is wrong in `reading`.

    `layers`: the file's entries; `found`: each in today's words; `said`: the file's inputs and outputs.
    """
    old = {str(x.get("name")): str(x.get("class_name")) for x in layers}
    kinds = {name: str(thing["class_name"]) for name, thing in found.items()}
    nodes: dict[str, list[Node]] = {}
    at = ""
    try:
        for thing in layers:
            at = str(thing.get("name"))
            nodes[at] = [parsed(node, old) for node in thing.get("inbound_nodes") or []]
        at = ""
        start, end = (ends(value, old) for value in said)
        numbers = Numbers(nodes, [start, end], old)
    except ValueError as error:
        reading.wrong(at, f"inbound_nodes: {error}")
        return None
    made = {
        name: [today(node, kinds[name], found[name].get(CALL, {}), numbers) for node in calls]
        for name, calls in nodes.items()
    }
    return made, end_today(start, kinds, numbers), end_today(end, kinds, numbers)
