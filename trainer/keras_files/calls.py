"""The calls in a model's description, as Keras 3 writes them: which tensors each reads, in which order."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from trainer.errors import FileError
from trainer.layers.order import in_order
from trainer.wording import clean

TENSOR = "__keras_tensor__"
DAMAGED = "the description is damaged"
ALL = -1
"Stands for all tensors that a layer makes, as one list."
Entry = Mapping[str, Any]


class Ref(NamedTuple):
    """A tensor: the layer that makes it, which of the layer's calls, which of the tensors that this one makes."""

    layer: str
    call: int = 0
    tensor: int = 0

    @property
    def maker(self) -> tuple[str, int]:
        """The call that makes it."""
        return self.layer, self.call


@dataclass(frozen=True)
class Made:
    """A call of a layer."""

    layer: str
    number: int
    positional: list[Ref]
    "Tensors that stand in a row, lists among them opened."
    named: dict[str, list[Ref]] = field(default_factory=dict)
    "Tensors by the name of the argument."
    says: dict[str, Any] = field(default_factory=dict)
    "What the call says beside tensors."

    def reads(self) -> list[Ref]:
        """All tensors."""
        return [*self.positional, *(ref for refs in self.named.values() for ref in refs)]


def name_of(entry: Entry) -> str:
    """The name of a layer's entry.

    Raises:
        FileError: it has none.
    """
    config = entry.get("config")
    name = entry.get("name") or (config.get("name") if isinstance(config, dict) else None)
    if not isinstance(name, str) or not name:
        raise FileError(f"a {clean(entry.get('class_name'))} of the description has no name", hint=DAMAGED)
    return name


def is_input(entry: Entry) -> bool:
    """Whether an entry is an input."""
    return entry.get("class_name") == "InputLayer"


def chain_of(entries: Sequence[Entry]) -> list[Made]:
    """The calls of a Sequential: each layer reads what the one before it makes."""
    before, calls = [Ref("")], []
    for entry in entries:
        calls.append(Made(name_of(entry), 0, before))
        before = [Ref(name_of(entry), 0, ALL)]
    return calls


def calls_of(entries: Sequence[Entry], place: str) -> list[Made]:
    """Every call of a functional model's layers, each layer's together.

    Raises:
        FileError: a node is not what Keras 3 writes, or reads what there is not.
    """
    found = [
        _call(name_of(entry), number, node, place)
        for entry in entries
        if not is_input(entry)
        for number, node in enumerate(_listed(entry.get("inbound_nodes"), f"{place}{name_of(entry)}"))
    ]
    known = {(made.layer, made.number) for made in found} | {(name_of(e), 0) for e in entries if is_input(e)}
    for made in found:
        for ref in made.reads():
            if ref.maker not in known:
                message = f"{place}{clean(made.layer)} reads call {ref.call} of {clean(ref.layer)}, which there is not"
                raise FileError(message, hint=DAMAGED)
    return found


def _listed(value: Any, place: str) -> list[Any]:
    if value is None:
        return []
    if not isinstance(value, list):
        raise FileError(f"{clean(place)}: expected a list of calls, found {type(value).__name__}", hint=DAMAGED)
    return value


def _call(layer: str, number: int, node: Any, place: str) -> Made:
    kwargs = (node.get("kwargs") or {}) if isinstance(node, dict) else None
    if not isinstance(node, dict) or not isinstance(node.get("args"), list) or not isinstance(kwargs, dict):
        raise FileError(f"{place}{clean(layer)}: expected calls with args and kwargs", hint=DAMAGED)
    positional = [ref for value in node["args"] for ref in refs_in(value)]
    more = {f"argument {n}": v for n, v in enumerate(node["args"]) if not any(True for _ in refs_in(v))}
    named = {name: refs for name, value in kwargs.items() if (refs := list(refs_in(value)))}
    says = {n: v for n, v in {**more, **kwargs}.items() if n not in named and not _nothing(v)}
    return Made(layer, number, positional, named, says)


def _nothing(value: Any) -> bool:
    """Whether an argument says nothing: none, or a list or mapping of nothing but that."""
    if isinstance(value, dict):
        value = list(value.values())
    return value is None or (isinstance(value, list) and all(map(_nothing, value)))


def refs_in(value: Any) -> Iterator[Ref]:
    """The tensors in an argument; those of a mapping in the order of their keys, as Keras takes them."""
    if isinstance(value, list):
        for inner in value:
            yield from refs_in(inner)
    elif isinstance(value, dict) and value.get("class_name") == TENSOR:
        config = value.get("config")
        yield ref_of(config.get("keras_history") if isinstance(config, dict) else None)
    elif isinstance(value, dict):
        for _, inner in sorted(value.items()):
            yield from refs_in(inner)


def ref_of(value: Any) -> Ref:
    """A tensor from `[layer, call, tensor]`.

    Raises:
        FileError: it is something else.
    """
    match value:
        case [str(layer), int(call), int(tensor), *_] if call >= 0 and tensor >= 0:
            return Ref(layer, call, tensor)
    raise FileError(f"expected [layer, call, tensor] in the description, found {clean(str(value)[:60])}", hint=DAMAGED)


def ends_of(value: Any) -> list[Ref]:
    """The inputs or outputs of a model: a list of tensors, one tensor alone, or a mapping of them."""
    if isinstance(value, dict):
        return [ref for _, inner in sorted(value.items()) for ref in ends_of(inner)]
    if isinstance(value, list) and not (value and isinstance(value[0], str)):
        return [ref for inner in value for ref in ends_of(inner)]
    return [ref_of(value)]


def needed(calls: Sequence[Made], outputs: Sequence[Ref]) -> list[Made]:
    """The calls that lead to the outputs, in an order in which each finds what it reads.

    Raises:
        FileError: they read each other in a circle.
    """
    at = {(made.layer, made.number): i for i, made in enumerate(calls)}
    needs = [[at[ref.maker] for ref in made.reads() if ref.maker in at] for made in calls]
    used: set[int] = set()
    todo = [at[ref.maker] for ref in outputs if ref.maker in at]
    while todo:
        index = todo.pop()
        if index not in used:
            used.add(index)
            todo += needs[index]
    order, circles = in_order([i for i in range(len(calls)) if i in used], needs)
    if circles:
        names = " and ".join(clean(calls[i].layer) for i in circles[0][:4])
        raise FileError(f"the layers {names} read each other in a circle", hint=DAMAGED)
    return [calls[i] for i in order]


def mapping_of(value: Any, place: str) -> dict[str, Any]:
    """A part of a description that must be a mapping.

    Raises:
        FileError: it is something else.
    """
    if not isinstance(value, dict):
        found = type(value).__name__
        raise FileError(f"{clean(place) or 'the model'}: expected a mapping, found {found}", hint=DAMAGED)
    return value


def sizes_of(said: Any, name: str) -> list[int | None]:
    """The shape that a file says of an input.

    Raises:
        FileError: it is none.
    """
    if isinstance(said, list) and said and all(n is None or (type(n) is int and n > 0) for n in said):
        return said
    hint = "say the shape of one row with --shape, such as --shape 28,28,1"
    found = "none" if said is None else clean(str(said)[:60])
    raise FileError(f"expected the shape of the input {clean(name)}, found {found}", hint=hint, code="shape")
