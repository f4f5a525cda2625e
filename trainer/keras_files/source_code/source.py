"""The whole source of a run's model: preprocessing, model, `load`, and a small program that predicts an .npz file."""

from __future__ import annotations

import ast
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch

from trainer import __version__
from trainer.errors import RunError
from trainer.keras_files.serving import Entry, numbers
from trainer.keras_files.source_code.body import MODULE_NAMES, Body, Line, Writer, shown, statements
from trainer.keras_files.source_code.parts import imports, names_in, needed
from trainer.keras_files.source_code.piece import Given, NoSource, Spot, piece_of
from trainer.keras_files.source_code.text import identifier, laid_out, literal, plain
from trainer.layers.graph import Graph
from trainer.layers.image_resize import Resizing
from trainer.layers.plan import Plan
from trainer.model.cell import Cell
from trainer.model.network import Network
from trainer.naming import snake_case
from trainer.shapes import Shape

MODEL, WEIGHTS = "model.py", "model.safetensors"


@dataclass
class Source:
    """A model as Python text and the tensors that go with it."""

    text: str
    tensors: dict[str, torch.Tensor]
    notes: list[str] = field(default_factory=list)


def source_of(network: Network, entries: Sequence[Entry], name: str) -> Source:
    """The source of a network, and of what can be written of the preprocessing before it.

    Raises:
        RunError: with every layer that can't be written.
    """
    body = model_body(network)
    prepare = Preparing(body, entries)
    notes = [*prepare.notes, *body.notes, *lost(network)]
    main = body.text([prepare.text()])
    tail = [_constants(entries, network.graph), *_program(len(entries), len(network.graph.outputs))]
    code = _joined([*needed(names_in("\n\n".join([*body.before, main]))), *body.before, main, *tail])
    head = _head(name, entries, network.graph, notes)
    gap = "\n\n" if _is_constant(code) else "\n\n\n"
    whole = f"{head}\n\nfrom __future__ import annotations\n\n{imports(code)}{gap}{code}\n"
    ast.parse(whole)
    tensors = {n: t.detach().contiguous().clone() for n, t in {**body.weights, **body.buffers}.items()}
    return Source(whole, tensors, notes)


def model_body(network: Network) -> Body:
    """The class of the model itself.

    Raises:
        RunError: with every layer that can't be written.
    """
    graph = network.graph
    types = {t for layer in graph.layers.values() for t in layer.types()} - {None, "float32"}
    if types or graph.dtype != "float32":
        found = ", ".join(sorted({str(t) for t in types} | {graph.dtype} - {"float32"}))
        raise RunError(f"--to code writes models that compute in float32; this one says {found}", hint="--to keras")
    try:
        writer = Writer("Model", graph.wiring, graph.shapes, network.cell)
        body = writer.written([False] * len(graph.inputs))
    except NoSource as error:
        found = str(error).split("\n")
        hint = "--to pt2 or --to onnx take a model as it computes, without its source"
        raise RunError(*(f"can't write {line}" for line in found), hint=hint) from None
    # The masks of its outputs are for losses alone.
    body.returns = body.returns[: len(graph.outputs)]
    return body


def lost(network: Network) -> list[str]:
    """What training on would need and the source has not."""
    specs = [spec for spec, *_ in network.rows()]
    found = []
    if any(spec.regularizer for spec in specs) or any(s.penalty for s in network.steps):
        found.append("the penalties of regularizers are no part of the source: add them to the loss to train on")
    if any(spec.constraint for spec in specs):
        found.append("constraints on weights are no part of the source: project after each step to train on")
    return found


def spots(entry: Entry) -> list[tuple[Cell, Spot]]:
    """The steps before the model, each where it stands."""
    shape, found = entry.shape, []
    for cell in (*entry.cells, *entry.fronts):
        made = cell.layer.build(Plan(), shape)
        found.append((cell, Spot(cell, (shape,), made, (False,))))
        shape = made
    return found


def unwritten(cell: Cell, before: Shape, after: Shape, integers: bool) -> str:
    """Why a step before the model can't be written; empty when it can."""
    why = numbers(cell, before, after, integers)
    if why:
        return why
    if isinstance(cell.layer, Resizing) and integers:
        return "rounds integers"
    try:
        piece_of(Spot(cell, (before,), after, (False,)))
    except NoSource as error:
        return str(error)
    return ""


class Preparing:
    """The method that turns raw rows into what `forward` takes."""

    def __init__(self, body: Body, entries: Sequence[Entry]):
        self.notes: list[str] = []
        self.lines: list[Line] = []
        self.returns: list[str] = []
        self.arguments = [identifier(e.name, body.arguments[:i], "tensor") for i, e in enumerate(entries)]
        for entry, argument in zip(entries, self.arguments, strict=True):
            self.notes += entry.notes
            self._input(body, entry, argument)

    def _input(self, body: Body, entry: Entry, argument: str) -> None:
        self.lines.append(Line([argument], f"{argument}.{'float' if entry.is_float else 'long'}()"))
        steps = [(cell, piece_of(spot)) for cell, spot in spots(entry)]
        for cell, piece in steps:
            taken = {*MODULE_NAMES, *body.places}
            place = identifier(f"{entry.name}_{snake_case(type(cell.layer).__name__)}", taken)
            body.add(place, piece)
            body.before += [text for text in piece.before if text not in body.before]
            self.notes += [f"{entry.name}: {note}" for note in piece.notes]
            self.lines.append(Line([argument], piece.call(Given(f"self.{place}", (argument,), (None,)))))
        if entry.counts:
            self.lines.append(Line([argument], f"{argument}.float()"))
        self.returns.append(argument)

    def text(self) -> str:
        """The method."""
        kind = "Tensor" if len(self.returns) == 1 else f"tuple[{', '.join(['Tensor'] * len(self.returns))}]"
        takes = ", ".join(["self", *(f"{a}: Tensor" for a in self.arguments)])
        head = laid_out(f"def prepare({takes}) -> {kind}:", 4)
        says = '        """What `forward` takes, from raw rows."""'
        return "\n".join([head, says, *statements(self.lines, self.returns)])


def _constants(entries: Sequence[Entry], graph: Graph) -> str:
    names = {"INPUTS": tuple(e.name for e in entries), "OUTPUTS": tuple(graph.outputs)}
    lines = [f'TENSORS = Path(__file__).with_name("{WEIGHTS}")', *(f"{k} = {literal(v)}" for k, v in names.items())]
    return "\n".join(laid_out(line, 0) for line in lines)


def _program(inputs: int, outputs: int) -> list[str]:
    """`load`, `predict`, and the small program around them."""
    prepared = "*model.prepare(*raw)" if inputs > 1 else "model.prepare(*raw)"
    made = "{OUTPUTS[0]: torch.cat(parts).numpy()}"
    if outputs > 1:
        made = "{name: torch.cat(p).numpy() for name, p in zip(OUTPUTS, zip(*parts, strict=True), strict=True)}"
    load = '''def load(path: Path = TENSORS) -> Model:
    """The trained model, ready to predict; `.train()` lets it train on."""
    model = Model()
    model.load_state_dict(load_file(path))
    return model.eval()'''
    predict = f'''def predict(rows: dict[str, np.ndarray], batch_size: int = 256) -> dict[str, np.ndarray]:
    """The outputs by name for raw rows by name."""
    model, parts = load(), []
    for start in range(0, len(rows[INPUTS[0]]), batch_size):
        raw = [torch.from_numpy(rows[name][start : start + batch_size]) for name in INPUTS]
        with torch.no_grad():
            parts.append(model({prepared}))
    return {made}'''
    main = """if __name__ == "__main__":
    with np.load(sys.argv[1]) as held:
        np.savez(sys.argv[2], **predict(dict(held)))"""
    return [load, predict, main]


def _joined(pieces: Sequence[str]) -> str:
    """Pieces as a file has them: constants one below the other, all else two lines apart."""
    whole = ""
    for before, piece in zip(("", *pieces), pieces, strict=False):
        alike = _is_constant(before) and _is_constant(piece)
        whole += piece if not before else f"{chr(10) if alike else chr(10) * 3}{piece}"
    return whole


def _is_constant(piece: str) -> bool:
    return bool(piece) and not piece.startswith(("def ", "class ", "@", "if "))


def _head(name: str, entries: Sequence[Entry], graph: Graph, notes: Sequence[str]) -> str:
    takes = ", ".join(f"{plain(e.name)} {shown(e.shape, 'rows')}" for e in entries)
    made = ", ".join(f"{plain(n)} {shown(graph.shapes[t], 'rows')}" for n, t in graph.outputs.items())
    lines = [f'"""{plain(name)}: a model in plain PyTorch, as `trainer export --to code` ({__version__}) wrote it.', ""]
    lines += [f"Its weights are in {WEIGHTS}. From raw rows to predictions:", ""]
    lines += [f"    python {MODEL} rows.npz predictions.npz", "", f"Arrays: {takes} -> {made}"]
    lines += [f"Note: {plain_note(n)}" for n in notes]
    return "\n".join([*(piece for line in lines for piece in wrapped(line)), '"""'])


def plain_note(note: str) -> str:
    """A note as it may stand in a docstring."""
    return note.replace("\\", "/").replace('"', "'").encode("ascii", "replace").decode()


def wrapped(line: str) -> list[str]:
    import textwrap

    return textwrap.wrap(line, 119) or [""]
