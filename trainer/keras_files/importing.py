"""A model file becomes a run: a recipe, its weights, and a table of what was mapped."""

from __future__ import annotations

import hashlib
import shutil
import tempfile
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import trainer
from trainer.errors import FileError, RecipeError
from trainer.keras_files.arrays import current_arrays
from trainer.keras_files.assign import not_numbers, put_in
from trainer.keras_files.bounds import check_sizes, understood
from trainer.keras_files.carrying import carried
from trainer.keras_files.current import Description, current
from trainer.keras_files.import_table import Row, header_of, rows_of
from trainer.keras_files.levels import COMPOSITES, Level
from trainer.keras_files.masks import without_masks
from trainer.keras_files.opening import Opened, Opening, described_by
from trainer.keras_files.optimizer_map import fitted, patterns_of, too_slow
from trainer.keras_files.recipe import Translation, translated
from trainer.keras_files.recipe_text import recipe_text
from trainer.model.cell import blank
from trainer.model.summary import summarize
from trainer.recipe.document import Document
from trainer.recipe.load import Loaded, default_name, recipe_of
from trainer.recipe.plugins import load_plugins
from trainer.report.model_graph import of_graph
from trainer.runs.directory import RunDirectory
from trainer.runs.keras_config import training_config
from trainer.runs.model_file import model_bytes
from trainer.runs.weights_file import ByLayer, ByPlace
from trainer.train.build import Built, build
from trainer.train.devices import choose_device
from trainer.train.job import write_recipe
from trainer.train.log import now
from trainer.train.terms import Options
from trainer.train.unseen import IMPORTED, stand_in
from trainer.wording import clean

SLAB = 2**22


@dataclass(frozen=True)
class Asked:
    """What an import was asked for."""

    file: Path
    name: str | None = None
    "Name of the run; by default the file's."
    shape: tuple[int | None, ...] | None = None
    "Shape of one row, for a model that does not say it."
    weights: Path | None = None
    "File of the weights, when `file` holds the model alone."
    plugins: tuple[Path, ...] = ()
    "Python files that declare classes which Keras lacks."
    theano: bool = False
    "Whether a model of Keras 1 was trained on Theano."


@dataclass
class Imported:
    """What came of a model file."""

    directory: Path
    kind: str
    version: str | None
    rows: list[Row]
    notes: list[str]
    warnings: list[str]
    parameters: int
    optimizer: bool
    "Whether the optimizer's state came along."
    seconds: float = 0.0
    inputs: dict[str, list[int | None]] = field(default_factory=dict)
    outputs: dict[str, list[int | None]] = field(default_factory=dict)


def import_file(asked: Asked, options: Options, opening: Opening | None = None) -> Imported:
    """Make a run of a model file; `opening` is one that has begun already.

    Raises:
        FileError: it is no model file, or holds what can't be read; nothing was written.
    """
    began = time.perf_counter()
    with ThreadPoolExecutor(1) as pool, tempfile.TemporaryDirectory() as staging:
        opening = opening or Opening(asked.file)
        digest = pool.submit(_digest, asked.file)
        try:
            opened = _with_weights(opening.opened(), asked)
        finally:
            opening.stop()
        made = _Import(asked, options, opened, digest, Path(staging))
        return replace(made.imported(), seconds=round(time.perf_counter() - began, 3))


def _digest(path: Path) -> tuple[str, int]:
    made, size = hashlib.sha256(), 0
    with path.open("rb") as file:
        while slab := file.read(SLAB):
            made.update(slab)
            size += len(slab)
    return made.hexdigest(), size


def _with_weights(opened: Opened, asked: Asked) -> Opened:
    """A file with the weights of another one, where these were asked for.

    Raises:
        FileError: there is no model, or the other file holds no weights.
    """
    if asked.weights is not None:
        other = Opening(asked.weights).opened()
        if other.weights is None:
            raise FileError(f"{asked.weights}: expected weights, found {other.kind}")
        if opened.architecture is None:
            raise FileError(f"{asked.file}: expected a model, found {opened.kind}", hint="give the model first")
        return described_by(other, opened)
    if opened.architecture is None:
        message = f"{asked.file}: expected a model, found {opened.kind} without one"
        hint = f"trainer import MODEL.json --weights {asked.file.name}, with the text that Keras's to_json gives"
        more = "; a recipe of yours takes them as `model: {weights: {from: FILE}}`"
        raise FileError(message, hint=hint + more, code="no-model")
    return opened


class _Import:
    """One import at work."""

    def __init__(self, asked: Asked, options: Options, opened: Opened, digest: Future[tuple[str, int]], staging: Path):
        self.asked, self.options, self.opened, self.staging = asked, options, opened, staging
        self.digest = digest
        self.name = asked.name or default_name(asked.file.name.removesuffix(".weights.h5"))
        self.warnings: list[str] = []

    def imported(self) -> Imported:
        self._plugins()
        assert self.opened.architecture is not None
        with understood(self.asked.file):
            opened = replace(self.opened, architecture=without_masks(self.opened.architecture))
            description = current(opened, self.asked.shape, theano=self.asked.theano)
            made = translated(description, self.name, self.opened.assets, self.asked.shape)
        for name, data in made.files.items():
            (self.staging / name).write_bytes(data)
        loaded = self._checked(made)
        weights = None
        if self.opened.weights is not None:
            with understood(self.asked.file):
                weights = current_arrays(description, opened)
        assert loaded.outline.graph is not None
        check_sizes(loaded.outline.graph, weights, loaded.recipe.fit.batch_size)
        built = self._built(loaded)
        notes = [*description.notes, *made.notes]
        self._weights(built, made, weights)
        slots = self._slots(built, made.level, description, notes)
        return self._written(built, made, notes, slots)

    def _plugins(self) -> None:
        """Declare the classes of the plugins, and keep their files."""
        for path in self.asked.plugins:
            load_plugins([path.name], path.parent, self.options.allow_plugins)
            (self.staging / path.name).write_bytes(path.read_bytes())

    def _checked(self, made: Translation) -> Loaded:
        """The recipe, checked; what its compile says and can't be is left out with a note.

        Raises:
            FileError: the model can't be.
        """
        made.recipe["model"]["weights"] = {"from": self.name}
        if self.asked.plugins:
            made.recipe = {"name": self.name, "plugins": [p.name for p in self.asked.plugins], **made.recipe}
        patterns = patterns_of(made.compiled.block.get("optimizer"))
        said = {**patterns}
        patterns.clear()
        for _ in range(4):
            try:
                loaded = self._loaded(made)[0]
                return loaded if not said else self._with_patterns(made, loaded, patterns, said)
            except RecipeError as error:
                if not made.compiled.simpler(error.problems):
                    problems = [
                        replace(p, path=(), place=None, message=f"{self.asked.file}: {p.message}")
                        for p in error.problems
                    ]
                    raise FileError(*problems) from None
        return self._loaded(made)[0]

    def _with_patterns(
        self, made: Translation, loaded: Loaded, patterns: dict[str, Any], said: Mapping[str, Any]
    ) -> Loaded:
        """The recipe once more, with the expressions of a MultiOptimizer as they fit its weights."""
        assert loaded.outline.graph is not None
        assert self.opened.architecture is not None
        model = str(self.opened.architecture["config"].get("name"))
        nested = [row.name for row in made.rows if row.kind in COMPOSITES]
        paths = list(loaded.outline.graph.weight_paths())
        slow = too_slow(said, paths, model)
        if slow is not None:
            del made.compiled.block["optimizer"]
            made.compiled.notes.append(f"the optimizer was left out: matching {clean(slow)[:80]} might take for ever")
            return self._loaded(made)[0]
        found, unused = fitted(said, paths, model, nested)
        patterns.update(found)
        made.compiled.notes += [f"the optimizer for {clean(p)} was left out: no weight is called so" for p in unused]
        return self._loaded(made)[0]

    def _loaded(self, made: Translation, header: Sequence[str] = ()) -> tuple[Loaded, str]:
        """(the checked recipe, its text)."""
        text = recipe_text(made.recipe, header)
        document = Document.parse(text, f"{self.name}.yaml")
        return recipe_of(document, self.name, self.staging, allow_plugins=self.options.allow_plugins), text

    def _built(self, loaded: Loaded) -> Built:
        sets = stand_in(loaded.recipe, loaded.outline)
        with blank() if self.opened.weights is not None else nullcontext():
            return build(loaded.recipe, loaded.outline, sets.train, choose_device("cpu"))

    def _weights(self, built: Built, made: Translation, arrays: ByLayer | ByPlace | None) -> None:
        if arrays is None:
            self.warnings.append("the file holds no weights: the model begins with new ones")
            return
        put_in(built.network, arrays, made.level)
        for name in not_numbers(arrays):
            self.warnings.append(f"weights of {name} hold what is no number (NaN)")

    def _slots(self, built: Built, level: Level, description: Description, notes: list[str]) -> dict[str, Any] | None:
        """The state of the optimizer, where the file has one that fits."""
        if not self.opened.optimizer:
            return None
        try:
            fresh = built.updater().state()
            return carried(self.opened, description, built.optimizer, fresh, level.called)
        except (FileError, RecipeError) as error:
            why = error.problems[0].message if self.opened.training else "the description names no optimizer"
            notes.append(f"the optimizer's state was left out: {why}")
            return None

    def _written(self, built: Built, made: Translation, notes: list[str], slots: dict[str, Any] | None) -> Imported:
        """The run, in a directory of its own that is there whole or not at all."""
        directory = RunDirectory.create(self.options.runs, self.name)
        try:
            return self._filled(directory, built, made, notes, slots)
        except BaseException:
            shutil.rmtree(directory.path, ignore_errors=True)
            raise

    def _filled(
        self,
        directory: RunDirectory,
        built: Built,
        made: Translation,
        notes: list[str],
        slots: dict[str, Any] | None,
    ) -> Imported:
        """The run directory with all that belongs into it."""
        digest, size = self.digest.result()
        going_on = {"optimizer": True} if slots is not None else {}
        made.recipe["model"]["weights"] = {"from": directory.label, **going_on}
        header = header_of(self.asked.file, self.opened, made, notes, digest, directory)
        loaded, text = self._loaded(made, header)
        write_recipe(directory, loaded, text.encode(), self.staging)
        described = training_config(built.optimizer, list(built.objective.goals.values()), built.graph.name)
        state = {"fold": None, "stage": 0, "began": 0, "folds": [], "memory": {}}
        state |= {"preprocessing": built.preprocessing(), "training": slots and {"optimizer": slots}}
        directory.write("model.h5", model_bytes(built.network, described, state))
        source = {"file": str(self.asked.file), "sha256": digest, "bytes": size, "kind": self.opened.kind}
        source |= {"keras_version": self.opened.version, "backend": self.opened.backend, "notes": notes}
        directory.write_record({**directory.record(), **_record(loaded, built, directory), "imported": source})
        return self._answer(directory, built, made, notes, going_on=slots is not None)

    def _answer(
        self, directory: RunDirectory, built: Built, made: Translation, notes: list[str], *, going_on: bool
    ) -> Imported:
        graph = built.graph
        return Imported(
            directory.path,
            self.opened.kind,
            self.opened.version,
            rows_of(built, made),
            notes,
            self.warnings,
            summarize(graph).parameters,
            going_on,
            inputs={n: list(graph.shapes[i][1:]) for n, i in graph.inputs.items()},
            outputs={n: list(s[1:]) for n, s in zip(graph.outputs, graph.output_shapes, strict=True)},
        )


def _record(loaded: Loaded, built: Built, directory: RunDirectory) -> dict[str, Any]:
    """What `run.json` says of an import as of any run."""
    return {
        "state": IMPORTED,
        "description": loaded.recipe.description,
        "seed": loaded.recipe.seed,
        "folder": str(directory.path.resolve()),
        "plugins": loaded.plugins,
        "created": now(),
        "finished": now(),
        "environment": {"trainer": trainer.__version__},
        "layers": [vars(line) for line in summarize(built.graph).lines],
        "graph": of_graph(built.graph).as_data(),
    }
