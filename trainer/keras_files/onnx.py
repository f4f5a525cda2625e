"""`--to onnx`: a run's model, with the preprocessing that is numbers, as an ONNX file that onnxruntime has run."""

from __future__ import annotations

import re
from collections.abc import Collection, Container, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from trainer.errors import EnvironmentFault, RunError
from trainer.keras_files.exported_program import followed, notes_of, quiet, takes_of
from trainer.keras_files.exporting import Asked, Exported
from trainer.keras_files.serving import as_arrays, entries_of, hold, some_rows, words
from trainer.wording import clean

if TYPE_CHECKING:
    from torch.export import ExportedProgram

    from trainer.layers.graph import Graph
    from trainer.train.use import OpenRun

OPSET = 20
"Of ONNX's operators; 20 is of 2023."
LARGEST = 2**31 - 1
"Bytes of one file of protobuf."


def onnx(run: OpenRun, asked: Asked) -> Exported:
    """An `.onnx` file.

    Raises:
        RunError: a layer or its number type can't be written, or onnxruntime predicts otherwise.
        EnvironmentFault: onnx, onnxscript or onnxruntime is not installed.
    """
    needed()
    check_types(run.built.graph)
    columns, rows = some_rows(run)
    entries = entries_of(run, columns)
    fed = [entry.fed(column) for entry, column in zip(entries, columns, strict=True)]
    inputs, outputs = [entry.name for entry in entries], called(run.built.graph.outputs, [e.name for e in entries])
    with quiet():
        program = followed(run.built.network, entries, fed, "onnx")
        image = written(program, inputs, list(outputs.values()))
    made = ran(image, as_arrays(entries, columns), outputs)
    found = hold(run, columns, made, rows, "onnx")
    lines = (f"onnxruntime, opset {OPSET}, {takes_of(program, entries)}: {words(found)}",)
    notes = [
        f"the output {name} is called {other} there, since an input has its name"
        for name, other in outputs.items()
        if other != name
    ]
    figures = {"difference": found.difference, "rows": found.rows, "opset": OPSET}
    return Exported({asked.output: image}, lines, (*notes, *notes_of(program, entries)), figures)


def called(outputs: Collection[str], inputs: Container[str]) -> dict[str, str]:
    """What each output is called in the file, where no two values have one name: as in the recipe if no input is."""
    found: dict[str, str] = {}
    for name in outputs:
        other = name
        while other in inputs or (other != name and other in outputs):
            other += "_output"
        found[name] = other
    return found


def check_types(graph: Graph) -> None:
    """Refuse, before a long way there, what onnxruntime has no operators for on a processor.

    Raises:
        RunError: something is computed in bfloat16.
    """
    types = {graph.dtype, *(dtype for layer in graph.layers.values() for dtype in layer.types())}
    said = sorted(dtype for dtype in types if dtype is not None and "bfloat16" in dtype)
    if said:
        message = f"--to onnx: onnxruntime does not compute in bfloat16 on a processor, and the model says {said[0]}"
        raise RunError(message, hint="--to pt2")


def needed() -> None:
    """Raises an EnvironmentFault when a package is missing."""
    import importlib.util

    missing = [name for name in ("onnx", "onnxscript", "onnxruntime") if importlib.util.find_spec(name) is None]
    if missing:
        raise EnvironmentFault(f"--to onnx needs {', '.join(missing)}", hint="pip install 'recipe-trainer[export]'")


def written(made: ExportedProgram, inputs: Sequence[str], outputs: Sequence[str]) -> bytes:
    """The bytes of the file; inputs and outputs have the recipe's names, and the number of rows is open.

    Raises:
        RunError: an operation has no form in ONNX, or the file would be too large.
    """
    try:
        found = torch.onnx.export(
            made, (), dynamo=True, opset_version=OPSET, input_names=inputs, output_names=outputs, verbose=False
        )
    except Exception as error:
        raise RunError(f"--to onnx: {reason(error)}", hint="--to pt2 or --to code") from error
    assert found is not None
    _apart(found.model.graph, {*inputs, *outputs})
    model = found.model_proto
    for value in (*model.graph.input, *model.graph.output):
        named = value.type.tensor_type.shape.dim
        if len(named) and named[0].dim_param:
            named[0].dim_param = "rows"
    if model.ByteSize() > LARGEST:
        raise RunError("--to onnx: the model is larger than 2 GB, which one file can't hold", hint="--to pt2")
    return model.SerializeToString()


def _apart(graph: Any, names: Container[str]) -> None:
    """Rename inner values that are called as an input or output: torch calls what adds `add`, as people an output."""
    ends = {*map(id, graph.inputs), *map(id, graph.outputs)}
    for number, node in enumerate(graph.all_nodes()):
        for value in node.outputs:
            if value.name in names and id(value) not in ends:
                value.name = f"{value.name}/{number}"


def reason(error: Exception) -> str:
    """What torch could not write, as far as its error tells."""
    words = str(error.__cause__ or error).strip()
    found = re.search(r"target=torch\.ops\.aten\.(\w+)", words)
    if found:
        return f"torch has no form in ONNX for {found[1]}, which the model computes"
    return f"torch can't write this model: {clean(words.splitlines()[0][:300] if words else type(error).__name__)}"


def ran(image: bytes, fed: dict[str, np.ndarray], outputs: Mapping[str, str]) -> dict[str, np.ndarray]:
    """What onnxruntime makes of rows, by the recipe's names; `outputs` has those of the file for them.

    Raises:
        RunError: it can't run the file, as where it has no kernel for a number type.
    """
    import onnxruntime

    settings = onnxruntime.SessionOptions()
    settings.log_severity_level = 3
    try:
        session: Any = onnxruntime.InferenceSession(image, settings, providers=["CPUExecutionProvider"])
        return dict(zip(outputs, session.run(list(outputs.values()), fed), strict=True))
    except Exception as error:
        why = clean(str(error).strip().splitlines()[0][:300])
        raise RunError(f"--to onnx: onnxruntime can't run this model here: {why}", hint="--to pt2") from error
