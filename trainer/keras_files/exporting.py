"""A run's model in another form: what `trainer export --to WORD` makes of it.

`FORMS` has a line for each word; its function takes an open run and what was asked, and gives files and what to say.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trainer.errors import RecipeError, nearest
from trainer.runs.files import make_directory, write_atomic

if TYPE_CHECKING:
    from trainer.train.use import OpenRun


@dataclass(frozen=True)
class Asked:
    """What an export was asked for."""

    output: Path
    "The file to make; the first of them where a form has several."
    optimizer: bool | None = None
    "Whether the optimizer's state goes into the file; None for what is usual of the form."


@dataclass(frozen=True)
class Exported:
    """What an export made."""

    files: Mapping[Path, bytes]
    "Whole contents by the place to write them to; `Asked.output` is the last one written."
    lines: tuple[str, ...] = ()
    "What can be done with them."
    notes: tuple[str, ...] = ()
    "What is not in them, or is otherwise than expected."
    figures: Mapping[str, Any] = field(default_factory=dict)
    "The same as data, for `--json`."


@dataclass(frozen=True)
class Form:
    """A form that a model can be written in."""

    suffix: str
    "How the name of its file ends."
    place: str
    "`module:function`, imported when it is asked for: `function(run: OpenRun, asked: Asked) -> Exported`."
    words: str
    "What it is, for the help."
    holds_state: bool = False
    "Whether the optimizer's state can stand in it."
    inside: str = ""
    "For a form that is a folder: the first file in it."

    def function(self) -> Callable[[OpenRun, Asked], Exported]:
        """The function that makes it."""
        module, _, name = self.place.partition(":")
        return getattr(importlib.import_module(module), name)


KERAS = "trainer.keras_files.keras_forms"
CODE = "trainer.keras_files.source_code.form"
FORMS: dict[str, Form] = {
    "keras": Form(".keras", f"{KERAS}:archive", "Keras's archive, with the optimizer's state", True),
    "h5": Form(".h5", f"{KERAS}:hdf5", "Keras's whole-model HDF5 file", True),
    "weights": Form(".weights.h5", f"{KERAS}:weights", "weights alone, for Keras's load_weights", True),
    "json": Form(".json", f"{KERAS}:architecture", "the architecture alone, for Keras's model_from_json"),
    "code": Form("", f"{CODE}:code", "a folder with plain PyTorch source and its weights", inside="model.py"),
    "onnx": Form(".onnx", "trainer.keras_files.onnx:onnx", "an ONNX file, with the preprocessing that is numbers"),
    "pt2": Form(".pt2", "trainer.keras_files.exported_program:pt2", "a program of torch.export"),
}


def form_of(word: str) -> Form:
    """The form of a word after `--to`.

    Raises:
        RecipeError: there is none.
    """
    if word in FORMS:
        return FORMS[word]
    hint = nearest(word, FORMS) or f"there are {', '.join(FORMS)}"
    raise RecipeError(f'--to: there is no form "{word}"', hint=hint, code="unknown-name")


def place_for(form: Form, name: str, output: Path | None) -> Path:
    """Where the export of a model of that name goes: what was asked for, a folder that exists, or here.

    Raises:
        RecipeError: the ending is one that the file's readers do not take.
    """
    if output is None or output.is_dir():
        return (output or Path()) / f"{name}{form.suffix}"
    endings = {".h5": (".h5", ".hdf5")}.get(form.suffix, (form.suffix,))
    misled = form.suffix == ".h5" and output.name.endswith(".weights.h5")
    if not output.name.endswith(endings) or misled:
        hint = f"such as {output.name.partition('.')[0] or name}{form.suffix}; readers go by the ending"
        raise RecipeError(f"--output: expected a name that ends in {form.suffix}, found {output.name}", hint=hint)
    return output


def export(run: OpenRun, word: str, asked: Asked) -> Exported:
    """The run's model in the form of a word, not yet written.

    Raises:
        RecipeError: there is no such form, or it has no place for the optimizer's state.
        RunError: the state was asked for and the run's file has none.
    """
    form = form_of(word)
    if asked.optimizer and not form.holds_state:
        holders = ", ".join(name for name, one in FORMS.items() if one.holds_state)
        raise RecipeError(f"--optimizer: {word} has no place for the optimizer's state", hint=f"--to {holders}")
    return form.function()(run, asked)


def write(made: Exported, *, force: bool = False) -> None:
    """Write what was made, each file whole or not at all.

    Raises:
        RecipeError: a file is there already, and `force` does not say to overwrite it; nothing is written.
        EnvironmentFault: the system refuses.
    """
    refuse_existing(made.files, force=force)
    for path, data in made.files.items():
        make_directory(path.parent)
        write_atomic(path, data)


def refuse_existing(paths: Mapping[Path, bytes] | tuple[Path, ...], *, force: bool) -> None:
    """Raises a RecipeError if one of the files is there already; a folder is never overwritten."""
    there = [path for path in paths if path.is_dir() or (path.exists() and not force)]
    if there:
        raise RecipeError(f"{', '.join(map(str, there))} exists", hint="choose another name (-o FILE), or --force")
