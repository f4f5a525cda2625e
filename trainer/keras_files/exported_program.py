"""`--to pt2`: a run's model, with the preprocessing that is numbers, as a program of torch.export."""

from __future__ import annotations

import io
import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch

from trainer.errors import RunError
from trainer.keras_files.exporting import Asked, Exported
from trainer.keras_files.serving import Entry, Served, entries_of, hold, some_rows, words
from trainer.layers.arrays import as_numpy
from trainer.lazy import with_tracing
from trainer.wording import clean

if TYPE_CHECKING:
    from torch.export import ExportedProgram

    from trainer.model.network import Network
    from trainer.train.use import OpenRun


def pt2(run: OpenRun, asked: Asked) -> Exported:
    """A `.pt2` file, which `torch.export.load` opens without this package.

    Raises:
        RunError: a layer can't be followed, or the loaded program predicts otherwise.
    """
    columns, rows = some_rows(run)
    entries = entries_of(run, columns)
    fed = [entry.fed(column) for entry, column in zip(entries, columns, strict=True)]
    image = io.BytesIO()
    with quiet(), torch.no_grad():
        program = followed(run.built.network, entries, fed)
        save(program, image)
        made = torch.export.load(io.BytesIO(image.getvalue())).module()(*fed)
    outputs = dict(zip(run.built.graph.outputs, map(as_numpy, several(made)), strict=True))
    found = hold(run, columns, outputs, rows, "pt2")
    takes = takes_of(program, entries)
    lines = (f"torch.export.load(...).module()({takes}): {words(found)}",)
    figures = {"difference": found.difference, "rows": found.rows, "torch": torch.__version__}
    notes = notes_of(program, entries)
    return Exported({asked.output: image.getvalue()}, lines, notes, figures)


def save(program: ExportedProgram, image: io.BytesIO) -> None:
    """Write a program.

    Raises:
        RunError: torch has no form for a part of it.
    """
    try:
        torch.export.save(program, image)
    except Exception as error:
        why = clean(str(error).strip().splitlines()[0][:300]) if str(error).strip() else type(error).__name__
        raise RunError(f"--to pt2: torch can't write this program: {why}", hint="--to onnx or --to code") from error


def sizes_of(program: ExportedProgram) -> list[list[int | None]]:
    """The shape of each input that a program takes; None for a size that is open."""
    names = program.graph_signature.user_inputs
    values = {node.name: node.meta["val"] for node in program.graph.nodes if node.name in names}
    return [[n if isinstance(n, int) else n.node.maybe_as_int() for n in values[str(name)].shape] for name in names]


def takes_of(program: ExportedProgram, entries: Sequence[Entry]) -> str:
    """What a program takes: `image float32 (rows, 28, 28)`."""
    known = zip(entries, sizes_of(program), strict=True)
    return ", ".join(f"{clean(entry.name)} {entry.words(sizes)}" for entry, sizes in known)


def notes_of(program: ExportedProgram, entries: Sequence[Entry]) -> tuple[str, ...]:
    """What is to be known of a program beside that."""
    notes = [note for entry in entries for note in entry.notes]
    for entry, sizes in zip(entries, sizes_of(program), strict=True):
        fixed = [f"axis {i} to {n}" for i, (n, m) in enumerate(zip(sizes, entry.shape, strict=True)) if n and m is None]
        if fixed:
            notes.append(f"{clean(entry.name)}: torch ties {', '.join(fixed)}, which the model leaves open")
    return tuple(notes)


def several(made: torch.Tensor | Sequence[torch.Tensor]) -> Sequence[torch.Tensor]:
    """The outputs of a model."""
    return (made,) if isinstance(made, torch.Tensor) else made


def followed(
    network: Network, entries: Sequence[Entry], fed: Sequence[torch.Tensor], form: str = "pt2"
) -> ExportedProgram:
    """A model as torch.export follows it, for any number of rows.

    Raises:
        RunError: a layer can't be followed.
    """
    with_tracing()
    served = Served(network, entries).eval()
    rows = torch.export.Dim("rows")
    examples = tuple(map(_two_or_more, fed))
    # What a model leaves open beside the number of rows stays open as far as torch can follow it.
    open_sizes = [[axis for axis, n in enumerate(entry.shape) if axis and n is None] for entry in entries]
    shapes = {"rows": tuple({0: rows, **dict.fromkeys(axes, torch.export.Dim.AUTO)} for axes in open_sizes)}
    try:
        with torch.no_grad():
            return torch.export.export(served, examples, dynamic_shapes=shapes)
    except Exception as error:
        # Whatever it is that torch can't follow, it says so in errors of a dozen classes.
        why = clean(str(error).strip().splitlines()[0][:300]) if str(error).strip() else type(error).__name__
        raise RunError(f"--to {form}: torch.export can't follow this model: {why}", hint="--to code") from error


def _two_or_more(values: torch.Tensor) -> torch.Tensor:
    """Rows of which there are at least two: torch takes one row for a size that never changes."""
    return values if len(values) > 1 else values.repeat_interleave(2, 0)


@contextmanager
def quiet() -> Iterator[None]:
    """Without what torch's exporters tell of themselves."""
    names = ("torch.onnx", "torch.export", "torch._export", "torch._dynamo", "onnxscript", "onnx_ir")
    levels = {name: logging.getLogger(name).level for name in names}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            for name in names:
                logging.getLogger(name).setLevel(logging.ERROR)
            yield
        finally:
            for name, level in levels.items():
                logging.getLogger(name).setLevel(level)
