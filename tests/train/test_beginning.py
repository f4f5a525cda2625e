"""Runs that begin with weights of another run or of a file: what is loaded, what is refused, what is on record."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import h5py
import keras
import numpy as np
import pytest
from keras.src.legacy.saving import legacy_h5_format

from tests.train.recipes import DIGITS
from tests.train.test_phases import Weights, moved, saved, snapshots
from tests.train.test_resume import assert_same, options, stop_after
from trainer.errors import FileError, RecipeError, RunError, TrainerError
from trainer.recipe.load import Loaded, load_recipe
from trainer.runs.directory import RunDirectory, finder
from trainer.train.job import Outcome, fit, resume
from trainer.train.progress import Stopped
from trainer.train.reproduce import reproduce_one
from trainer.train.trial import trial

# Keras's own: numpy's newer way to make arrays of torch's tensors.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

SHORT = DIGITS.replace("epochs: 4", "epochs: 1")
OTHER = SHORT.replace("seed: 3", "seed: 8")
KERAS_KINDS = ("whole.h5", "alone.h5", "keras.weights.h5")


class Place:
    """A folder of recipes and runs."""

    def __init__(self, folder: Path):
        self.folder, self.options = folder, options(folder / "runs")

    def loaded(self, text: str, *sets: str, name: str = "recipe") -> Loaded:
        (self.folder / f"{name}.yaml").write_text(text)
        return load_recipe(self.folder / f"{name}.yaml", sets, find_run=finder(self.options.runs))

    def fit(self, text: str, *sets: str, name: str = "recipe", **more: Any) -> Outcome:
        chosen = options(self.options.runs, **more)
        return fit(self.loaded(text, *sets, name=name), chosen, text.encode(), self.folder)

    def refused(self, kind: type[TrainerError], text: str, *sets: str) -> TrainerError:
        with pytest.raises(kind) as caught:
            self.fit(text, *sets)
        return caught.value


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def weights(spec: str) -> str:
    return OTHER.replace("model:\n", f"model:\n  weights: {spec}\n")


def by_layer(values: Weights) -> dict[str, list[np.ndarray]]:
    found: dict[str, list[np.ndarray]] = {}
    for path, array in values.items():
        found.setdefault(path.partition("/")[0], []).append(array)
    return found


def twin(**layers: int) -> Any:
    """A model of dense layers in real Keras: name to units."""
    keras.utils.set_random_seed(4)
    made = [keras.layers.Dense(units, name=name) for name, units in layers.items()]
    return keras.Sequential([keras.Input((64,)), *made])


def write(model: Any, folder: Path) -> None:
    """The model in every kind of file that Keras writes in HDF5."""
    model.save(folder / "whole.h5")
    with h5py.File(folder / "alone.h5", "w") as file:
        legacy_h5_format.save_weights_to_hdf5_group(file, model)
    model.save_weights(folder / "keras.weights.h5")


def held(model: Any, layer: str) -> list[np.ndarray]:
    return [np.asarray(v.value.detach()) for v in model.get_layer(layer).weights]


def equal(ours: list[np.ndarray], theirs: list[np.ndarray]) -> bool:
    return all(np.array_equal(a, b) for a, b in zip(ours, theirs, strict=True))


@pytest.mark.parametrize("word", ["path", "name", "stamped", "last"])
def test_from_a_run(place: Place, monkeypatch: pytest.MonkeyPatch, word: str) -> None:
    first = place.fit(SHORT, "name=first")
    end = saved(first)
    words = {"path": str(first.directory), "name": "first", "stamped": f"first/{first.directory.name}", "last": "last"}
    seen = snapshots(monkeypatch)
    done = place.fit(weights(f"{{from: {words[word]}}}"), "name=second")
    ((begun, _),) = seen
    assert equal(list(begun.values()), list(end.values()))
    assert (done.directory / "transfer.txt").read_text().splitlines()[0] == str(first.directory / "model.h5")
    assert "2 loaded" in (done.directory / "log.txt").read_text()


def test_a_run_is_remembered_by_its_place(place: Place) -> None:
    """`last` and a name mean another run a moment later; what the run keeps says which one was meant."""
    first = place.fit(SHORT, "name=first")
    done = place.fit(weights("{from: last}"), "name=second")
    place.fit(OTHER, "name=first")
    assert str(first.directory.resolve()) in (done.directory / "resolved.yaml").read_text()
    assert all(v.holds for v in reproduce_one("second", place.options, 1, []))


@pytest.mark.parametrize("kind", KERAS_KINDS)
def test_from_files_of_keras(place: Place, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    model = twin(one=32, two=10)
    write(model, place.folder)
    seen = snapshots(monkeypatch)
    done = place.fit(weights(f"{{from: {kind}}}"))
    ((begun, _),) = seen
    found = by_layer(begun)
    assert equal(found["dense"], held(model, "one"))
    assert equal(found["dense_1"], held(model, "two"))
    data = (place.folder / kind).read_bytes()
    record = RunDirectory(done.directory).record()["weights"]
    assert record == {"file": str((place.folder / kind).resolve()), "sha256": hashlib.sha256(data).hexdigest()}


@pytest.mark.parametrize("kind", KERAS_KINDS[:2])
def test_by_name(place: Place, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    """Layers of other names are left as they are, wherever they stand."""
    model = twin(other=7, dense_1=10, dense=32)
    write(model, place.folder)
    model = twin(dense=32, other=32, dense_1=10)
    write(model, place.folder)
    seen = snapshots(monkeypatch)
    plain = place.fit(OTHER)
    done = place.fit(weights(f"{{from: {kind}, by_name: true}}"))
    (first, _), (begun, _) = seen
    assert equal(by_layer(begun)["dense"], held(model, "dense"))
    assert equal(by_layer(begun)["dense_1"], held(model, "dense_1"))
    assert moved(first, begun) == {"dense/kernel", "dense_1/kernel"}
    lines = (done.directory / "transfer.txt").read_text().splitlines()
    assert [line.split()[:2] for line in lines[1:]] == [["dense", "loaded"], ["dense_1", "loaded"], ["other", "absent"]]
    assert plain.history != done.history


@pytest.mark.parametrize("kind", KERAS_KINDS)
def test_what_does_not_fit(place: Place, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    """It is refused with layers and shapes; `skip_mismatch` leaves it as it is and says so."""
    model = twin(dense=32, dense_1=5)
    write(model, place.folder)
    error = place.refused(RecipeError, weights(f"{{from: {kind}}}"))
    text = str(error)
    assert "dense_1" in text
    assert "(32, 5) in the file, (32, 10) here" in text
    assert "skip_mismatch: true" in text
    assert error.problems[0].place is not None
    assert error.problems[0].place.text.strip() == f"weights: {{from: {kind}}}"
    seen = snapshots(monkeypatch)
    done = place.fit(weights(f"{{from: {kind}, skip_mismatch: true}}"))
    place.fit(OTHER)
    (begun, _), (first, _) = seen
    assert moved(first, begun) == {"dense/kernel"}
    assert "1 loaded, 1 skipped" in (done.directory / "log.txt").read_text()


def test_only_some_layers(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    first = place.fit(SHORT, "name=first")
    seen = snapshots(monkeypatch)
    place.fit(weights("{from: first, by_name: true, only: [dense_*]}"))
    place.fit(OTHER)
    (begun, _), (fresh, _) = seen
    assert moved(fresh, begun) == {"dense_1/kernel", "dense_1/bias"}
    assert equal(by_layer(begun)["dense_1"], [saved(first)["dense_1/0"], saved(first)["dense_1/1"]])


def test_only_what_is_there(place: Place) -> None:
    place.fit(SHORT, "name=first")
    error = place.refused(RecipeError, weights("{from: first, by_name: true, only: [dens_1]}"))
    assert 'no layer is called "dens_1"' in str(error)
    assert "did you mean dense_1?" in str(error)
    write(twin(dense=32, dense_1=10), place.folder)
    error = place.refused(RecipeError, weights("{from: keras.weights.h5, only: dense}"))
    assert "has no names of layers" in str(error)
    assert "by_name" in str(place.refused(RecipeError, weights("{from: keras.weights.h5, by_name: true}")))


@pytest.mark.parametrize("spec", ["{from: whole.h5, by_name: true}", "{from: whole.h5, skip_mismatch: true}"])
def test_nothing_in_common_is_an_error(place: Place, spec: str) -> None:
    write(twin(a=3, b=4), place.folder)
    error = place.refused(RecipeError, weights(spec))
    assert "whole.h5 gives this model no weights" in str(error)
    assert error.problems[0].place is not None


def test_another_number_of_layers(place: Place) -> None:
    write(twin(a=32, b=32, c=10), place.folder)
    text = str(place.refused(RecipeError, weights("{from: whole.h5}")))
    assert "found 3 (a, b, c) in the file and 2 (dense, dense_1) here" in text
    assert "by_name: true" in text


def test_files_that_are_not_there(place: Place) -> None:
    write(twin(dense=32, dense_1=10), place.folder)
    error = place.refused(FileError, weights("{from: whol.h5}"))
    assert f"there is no file {place.folder / 'whol.h5'}" in str(error)
    assert "did you mean whole.h5?" in str(error)
    assert error.problems[0].place is not None
    assert error.problems[0].place.text.strip() == "weights: {from: whol.h5}"
    place.fit(SHORT, "name=first")
    error = place.refused(RunError, weights("{from: frist}"))
    assert "there is no run 'frist'" in str(error)
    assert "did you mean first?" in str(error)
    assert error.problems[0].place is not None
    assert "there is no file" in str(place.refused(FileError, weights("{from: ~no-such-user/x.h5}")))
    (place.folder / "folder.h5").mkdir()
    assert "folder.h5: expected a file" in str(place.refused(FileError, weights("{from: folder.h5}")))


def test_a_run_without_a_model(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        stop_after(patch, 3)
        with pytest.raises(Stopped):
            place.fit(SHORT, "name=first")
    assert "is not complete" in str(place.refused(RunError, weights("{from: first}")))


def test_what_is_no_such_file(place: Place) -> None:
    """Told by content; a stranger's file is gone through by a child process first."""
    twin(dense=32, dense_1=10).save(place.folder / "new.keras")
    text = str(place.refused(FileError, weights("{from: new.keras}")))
    assert "a zip archive (a .keras file is one)" in text
    (place.folder / "pickle.h5").write_bytes(b"\x80\x04nothing")
    assert "a Python pickle" in str(place.refused(FileError, weights("{from: pickle.h5}")))
    (place.folder / "empty.h5").write_bytes(b"")
    assert "an empty file" in str(place.refused(FileError, weights("{from: empty.h5}")))
    (place.folder / "notes").write_bytes(b"some text")
    assert "expected an HDF5 file" in str(place.refused(FileError, weights("{from: notes}")))


def test_a_hostile_file_is_refused(place: Place) -> None:
    write(twin(dense=32, dense_1=10), place.folder)
    with h5py.File(place.folder / "whole.h5", "a") as file:
        group = file["model_weights"]
        assert isinstance(group, h5py.Group)
        del group["dense"]
        group["dense"] = h5py.ExternalLink("/etc/passwd", "/")
    error = place.refused(FileError, weights("{from: whole.h5}"))
    assert "only hard links are followed" in str(error)
    write(twin(dense=32, dense_1=10), place.folder)
    for size in (100, 2000, -300):
        data = (place.folder / "keras.weights.h5").read_bytes()[:size]
        (place.folder / "cut.weights.h5").write_bytes(data)
        assert place.refused(FileError, weights("{from: cut.weights.h5}")).problems[0].place is not None


def test_going_on_needs_no_file(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """Once a checkpoint was written, the weights are those of the checkpoint."""
    write(twin(dense=32, dense_1=10), place.folder)
    text = weights("{from: whole.h5}").replace("epochs: 1", "epochs: 2")
    whole = place.fit(text)
    with monkeypatch.context() as patch:
        stop_after(patch, 20)
        with pytest.raises(Stopped):
            place.fit(text, name="cut")
    (place.folder / "whole.h5").unlink()
    again = resume(RunDirectory.find(place.options.runs, "last"), place.options)
    assert again.directory != whole.directory
    assert_same(whole, again)


@pytest.mark.parametrize("change", ["none", "other"])
def test_going_on_from_the_very_beginning(place: Place, monkeypatch: pytest.MonkeyPatch, change: str) -> None:
    """Without a checkpoint the file is read again, and must be the same."""
    write(twin(dense=32, dense_1=10), place.folder)
    whole = place.fit(weights("{from: whole.h5}"))

    def ends(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("trainer.train.loop.Training.run", ends)
        with pytest.raises(KeyboardInterrupt):
            place.fit(weights("{from: whole.h5}"))
    directory = RunDirectory.find(place.options.runs, "last")
    if change == "none":
        assert_same(whole, resume(directory, place.options))
        return
    twin(dense=32, dense_1=10, more=2).save(place.folder / "whole.h5")
    with pytest.raises(RunError, match=r"began with other weights than .*whole\.h5 holds now"):
        resume(directory, place.options)


def test_folds_begin_with_the_weights_each(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    write(twin(dense=32, dense_1=10), place.folder)
    seen = snapshots(monkeypatch)
    place.fit(weights("{from: whole.h5}").replace("validation_split: 0.25", "kfold: {folds: 2}"))
    assert len(seen) == 3
    assert all(moved(seen[0][0], begun) == set() for begun, _ in seen)


def test_a_run_comes_out_again(place: Place) -> None:
    write(twin(dense=32, dense_1=10), place.folder)
    done = place.fit(weights("{from: whole.h5}"))
    assert all(v.holds for v in reproduce_one(str(done.directory), place.options, 1, []))
    model = twin(dense=32, dense_1=10)
    model.get_layer("dense").bias.assign(np.ones(32))
    model.save(place.folder / "whole.h5")
    with pytest.raises(RunError, match="began with other weights"):
        reproduce_one(str(done.directory), place.options, 1, [])
    runs = len(list((place.options.runs / "digits").iterdir()))
    (place.folder / "whole.h5").unlink()
    with pytest.raises(FileError, match="there is no file"):
        reproduce_one(str(done.directory), place.options, 1, [])
    assert len(list((place.options.runs / "digits").iterdir())) == runs


@pytest.mark.parametrize("optimizer", ["{ScheduleFreeAdamW: {learning_rate: 1e-6}}", "{SGD: {learning_rate: 1e-6}}"])
def test_optimizers_begin_with_the_weights_too(place: Place, optimizer: str) -> None:
    """One that keeps a copy of the first weights copies those of the file: tiny steps leave the model as it was."""
    first = place.fit(SHORT.replace("epochs: 1", "epochs: 6"), "name=first")
    done = place.fit(weights("{from: first}"), f"compile.optimizer={optimizer}")
    assert done.figures["test.accuracy"] == pytest.approx(first.figures["test.accuracy"], abs=0.01)


def test_phases_begin_with_the_weights_once(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    first = place.fit(SHORT, "name=first")
    seen = snapshots(monkeypatch)
    place.fit(weights("{from: first}") + "phases: [{frozen: dense}, {}]\n")
    (begun, head), (again, _) = seen
    assert equal(list(begun.values()), list(saved(first).values()))
    assert moved(head, again) == set()
    assert equal(by_layer(head)["dense"], [saved(first)["dense/0"], saved(first)["dense/1"]])


def test_a_dry_run_loads_them(place: Place) -> None:
    write(twin(dense=32, dense_1=5), place.folder)
    with pytest.raises(RecipeError, match="shape") as caught:
        trial(place.loaded(weights("{from: whole.h5}")), place.options, place.folder)
    assert caught.value.problems[0].place is not None
    found = trial(place.loaded(weights("{from: whole.h5, skip_mismatch: true}")), place.options, place.folder)
    plain = trial(place.loaded(OTHER), place.options, place.folder)
    assert found["loss"] != plain["loss"]
    assert not place.options.runs.exists()
