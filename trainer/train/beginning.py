"""The weights that a model begins with, from another run or a file."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from trainer.errors import FileError, RecipeError, RunError, TrainerError, nearest
from trainer.model.freezing import matching
from trainer.model.network import Network
from trainer.recipe.model import Weights
from trainer.runs.directory import RunDirectory
from trainer.runs.model_file import read_model
from trainer.runs.saved import model_path
from trainer.runs.transfer import Transfer, load_weights_of
from trainer.runs.weights_file import ByLayer, ByPlace, read_weights
from trainer.sources.base import home

AT = ("model", "weights")
ENDINGS = (".h5", ".hdf5", ".keras")


@dataclass(frozen=True)
class Begun:
    """What a model began with."""

    found: Transfer
    "What became of each layer."
    file: Path
    sha256: str

    def record(self) -> dict[str, str]:
        """What the run keeps of it, to know the file again."""
        return {"file": str(self.file.resolve()), "sha256": self.sha256}


def begin_with(
    network: Network, asked: Weights, runs: Path, folder: Path | None, before: Mapping[str, str] | None = None
) -> Begun:
    """Load what a recipe asks for. Files count from `folder`; `before` is the record of a run that began already.

    Raises:
        TrainerError: there is no such run or file, it is none, it does not fit, or it is no longer what it was.
    """
    path, data, stranger = content_of(asked, runs, folder)
    digest = hashlib.sha256(data).hexdigest()
    check_same(before, path, digest)
    try:
        file = read_weights(data, stranger=stranger)
    except TrainerError as error:
        raise type(error)(*(p.at(*AT, "from") for p in error.problems)) from None
    done = load_weights_of(network, chosen(file, asked), by_name=asked.by_name, skip_mismatch=asked.skip_mismatch)
    if done.count("loaded") + done.count("in part") == 0:
        message = f"{asked.from_} gives this model no weights: {done}"
        hint = "by_name needs layers of equal names" if asked.by_name else "leave skip_mismatch out to see what differs"
        raise RecipeError(message, path=AT, hint=hint, code="weights")
    return Begun(done, path, digest)


def optimizer_state(asked: Weights, runs: Path, folder: Path | None) -> Mapping[str, Any]:
    """The state of the optimizer of the run that a model begins with, for `Updater.load_state`.

    Raises:
        TrainerError: there is no such run, or it keeps none.
    """
    at = (*AT, "optimizer")
    _, data, stranger = content_of(asked, runs, folder)
    if stranger:
        message = f"the state of an optimizer is taken from a run, and {asked.from_} is a file"
        raise RecipeError(message, path=at, hint=f"`trainer import {asked.from_}` makes a run of it")
    found = (read_model(data).extra.get("training") or {}).get("optimizer")
    if found is None:
        raise RecipeError(f"{asked.from_} keeps no state of an optimizer", path=at, hint="leave it out", code="state")
    return found


def check_same(before: Mapping[str, str] | None, path: Path, digest: str) -> None:
    """Hold a file of weights against the one that a run began with.

    Raises:
        RunError: it has changed.
    """
    if before is not None and before["sha256"] != digest:
        message = f"the run began with other weights than {path} holds now (the sha256 differs)"
        raise RunError(message, hint="put the file back as it was, or `trainer fit` the recipe anew")


def check_recorded(before: Mapping[str, str] | None, asked: Weights | None, runs: Path, folder: Path | None) -> None:
    """Hold the weights that a recipe asks for against those on a run's record.

    Raises:
        TrainerError: they can't be read, or have changed.
    """
    if before is not None and asked is not None:
        path, data, _ = content_of(asked, runs, folder)
        check_same(before, path, hashlib.sha256(data).hexdigest())


def content_of(asked: Weights, runs: Path, folder: Path | None) -> tuple[Path, bytes, bool]:
    """(the model file of a run, or a file; its content; whether a stranger may have written it).

    Raises:
        TrainerError: there is none; the path names the place.
    """
    at = (*AT, "from")
    path = (folder or Path()) / home(asked.from_)
    try:
        if path.is_file() or asked.from_.endswith(ENDINGS):
            if path.exists() and not path.is_file():
                raise FileError(f"{asked.from_}: expected a file", path=at)
            return path, path.read_bytes(), True
        path = model_path(RunDirectory.find_usable(runs, asked.from_), None)
        return path, path.read_bytes(), False
    except FileNotFoundError:
        raise FileError(f"there is no file {path}", path=at, hint=_like(path)) from None
    except (OSError, ValueError) as error:
        raise FileError(f"{asked.from_}: {getattr(error, 'strerror', None) or error}", path=at) from None
    except RunError as error:
        hint = "a run, or a file that ends in .h5"
        raise RunError(*(replace(p, path=at, hint=p.hint or hint) for p in error.problems)) from None


def _like(path: Path) -> str:
    """The nearest file of weights beside one that is not there."""
    try:
        return nearest(path.name, [p.name for p in path.parent.iterdir() if p.name.endswith(ENDINGS)])
    except OSError:
        return ""


def chosen(file: ByLayer | ByPlace, asked: Weights) -> ByLayer | ByPlace:
    """The layers of a file that are asked for.

    Raises:
        RecipeError: a name or pattern means none of them, or the file has no names.
    """
    if asked.only is None:
        return file
    if isinstance(file, ByPlace):
        message = "a .weights.h5 file has no names of layers to choose from"
        raise RecipeError(message, path=(*AT, "only"), hint="take a whole model file (.h5)")
    names = matching([saved.layer for saved in file.layers], asked.only, (*AT, "only"))
    return replace(file, layers=tuple(saved for saved in file.layers if saved.layer in names))
