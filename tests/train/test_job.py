"""A run from fit through resume to use: what is on record, what is refused, and what stays whole."""

from __future__ import annotations

import gzip
import json
import math
from pathlib import Path

import numpy as np
import pytest

from tests.train.recipes import DIGITS, directory_of, loaded, only, output, trained
from trainer.errors import DataError, EnvironmentFault, RecipeError, RunError, TrainerError
from trainer.recipe.load import load_recipe
from trainer.runs.directory import RunDirectory, list_runs
from trainer.runs.saved import model_path, model_source
from trainer.train.job import Options, Outcome, fit, resume
from trainer.train.loop import Training
from trainer.train.predictions import Asked, columns_of
from trainer.train.reading import read_inputs
from trainer.train.reproduce import reproduce_one
from trainer.train.use import OpenRun

TABLE = """
name: table
dataset:
  source: {csv: {path: rows.csv}}
  columns: [a, b]
  target: [y]
  split: {test: 0.2}
model: {layers: [{Dense: {units: 1}}]}
compile: {optimizer: adam, loss: mse, metrics: [mae]}
fit: {epochs: 2, batch_size: 16}
"""


ARRAYS = "dataset: {source: {npz: {path: rows.npz}}, inputs: {x: {}}, targets: {y: {}}}\n"


def options(tmp_path: Path) -> Options:
    return Options(runs=tmp_path / "runs", device="cpu")


def table(folder: Path, rows: int = 100, more: str = "") -> Path:
    """A recipe beside its rows."""
    random = np.random.default_rng(0)
    lines = [f"{a:.3f},{b:.3f},{a + b:.3f}" for a, b in random.normal(size=(rows, 2))]
    (folder / "rows.csv").write_text("a,b,y\n" + "\n".join(lines) + "\n" + more)
    (folder / "table.yaml").write_text(TABLE)
    return folder / "table.yaml"


def fitted(tmp_path: Path, *sets: str) -> Outcome:
    recipe = table(tmp_path)
    return fit(load_recipe(recipe, sets), options(tmp_path), recipe.read_bytes(), tmp_path)


def test_rows_beside_the_recipe_are_found_afterwards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    outcome = fitted(tmp_path)
    monkeypatch.chdir("/")
    opened = OpenRun(directory_of(outcome), options(tmp_path))
    assert len(opened.rows("test")) == 20
    extended = options(tmp_path)
    extended.epochs = 3
    assert len(resume(directory_of(outcome), extended).history["loss"]) == 3


def test_rows_that_changed_are_not_judged(tmp_path: Path) -> None:
    outcome = fitted(tmp_path)
    table(tmp_path, more="1,2,3\n")
    with pytest.raises(RunError, match="changed are data file"):
        OpenRun(directory_of(outcome), options(tmp_path)).rows("test")


def test_an_edited_recipe_is_not_resumed(tmp_path: Path) -> None:
    outcome = fitted(tmp_path)
    path = outcome.directory / "resolved.yaml"
    path.write_text(path.read_text().replace("batch_size: 16", "batch_size: 8"))
    extended = options(tmp_path)
    extended.epochs = 3
    with pytest.raises(RunError, match=r"changed are resolved\.yaml"):
        resume(directory_of(outcome), extended)
    extended.allow_change = True
    assert len(resume(directory_of(outcome), extended).history["loss"]) == 3


def test_more_epochs_are_part_of_the_recipe(tmp_path: Path) -> None:
    outcome = fitted(tmp_path)
    extended = options(tmp_path)
    extended.epochs = 4
    resume(directory_of(outcome), extended)
    assert load_recipe(outcome.directory / "resolved.yaml").recipe.fit.epochs == 4
    with pytest.raises(RunError, match="complete"):
        resume(directory_of(outcome), options(tmp_path))
    again = reproduce_one(str(outcome.directory), options(tmp_path), 1, [])
    assert [v.figure for v in again if not v.holds] == []
    with pytest.raises(RecipeError, match="its own seed"):
        reproduce_one(str(outcome.directory), options(tmp_path), 2, [])


def test_a_run_with_folds_is_not_extended(tmp_path: Path) -> None:
    outcome = trained(tmp_path, DIGITS, "fit.validation_split=0", "fit.kfold.folds=2", "fit.epochs=1")
    extended = Options(runs=tmp_path, device="cpu", epochs=2)
    with pytest.raises(RunError, match="folds"):
        resume(directory_of(outcome), extended)
    assert json.loads((outcome.directory / "run.json").read_bytes())["state"] == "done"


def test_folds_keep_files_of_their_own(tmp_path: Path) -> None:
    sets = (
        "fit.validation_split=0",
        "fit.kfold.folds=2",
        "fit.epochs=1",
        "callbacks=[{CSVLogger: {filename: log.csv}}]",
    )
    outcome = trained(tmp_path, DIGITS, *sets)
    for folder in ("folds/1", "folds/2", "."):
        assert len((outcome.directory / folder / "log.csv").read_text().splitlines()) == 2


def test_threads_are_on_record_before_the_first_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []

    def look(self: Training) -> dict[str, list[float]]:
        (run,) = list_runs(tmp_path)
        seen.append(run.record()["threads"])
        raise EnvironmentFault("enough")

    monkeypatch.setattr(Training, "run", look)
    with pytest.raises(EnvironmentFault):
        trained(tmp_path)
    assert seen == [1]


def test_rows_that_could_not_be_read_may_be_mended(tmp_path: Path) -> None:
    recipe = table(tmp_path, more="1,x,3\n")
    with pytest.raises(TrainerError):
        fit(load_recipe(recipe), options(tmp_path), b"", tmp_path)
    (run,) = list_runs(tmp_path / "runs")
    assert run.record()["state"] == "failed"
    table(tmp_path)
    assert len(resume(run, options(tmp_path)).history["loss"]) == 2


@pytest.mark.parametrize("epochs", [1, 3])
def test_weights_that_are_no_numbers_end_the_run(tmp_path: Path, epochs: int) -> None:
    text = TABLE.replace("optimizer: adam", "optimizer: {SGD: {learning_rate: 3e38}}")
    text = text.replace("epochs: 2", f"epochs: {epochs}").replace("batch_size: 16", "batch_size: 1000")
    table(tmp_path, more="100,100,-900\n" * 99)
    (tmp_path / "table.yaml").write_text(text)
    with pytest.raises(EnvironmentFault, match="the weights are no longer finite at the end of epoch 1"):
        fit(load_recipe(tmp_path / "table.yaml"), options(tmp_path), b"", tmp_path)
    (run,) = list_runs(tmp_path / "runs")
    assert run.load_checkpoint()[0] is None, "there was no finite state to keep"


def test_best_epoch_is_the_number_of_an_epoch(tmp_path: Path) -> None:
    outcome = trained(tmp_path, DIGITS, "fit.initial_epoch=2", "fit.epochs=5")
    assert outcome.best_epoch in (3, 4, 5)
    assert outcome.best_epoch == 3 + int(np.argmin(outcome.history["val_loss"]))


def test_validation_frequency_counts_epochs_from_the_first(tmp_path: Path) -> None:
    outcome = trained(tmp_path, DIGITS, "fit.initial_epoch=1", "fit.epochs=5", "fit.validation_freq=2")
    assert [math.isnan(v) for v in outcome.history["val_loss"]] == [False, True, False, True]


def test_training_figures_keep_the_rows_own_weights(tmp_path: Path) -> None:
    text = TABLE.replace("epochs: 2", "epochs: 2, sample_weight: w").replace("split: {test: 0.2}", "split: {}")
    table(tmp_path)
    lines = (tmp_path / "rows.csv").read_text().splitlines()
    (tmp_path / "rows.csv").write_text("\n".join([lines[0] + ",w", *(f"{r},{i % 3}" for i, r in enumerate(lines[1:]))]))
    (tmp_path / "table.yaml").write_text(text + "expect: {train.loss: {min: 0}}\n")
    outcome = fit(load_recipe(tmp_path / "table.yaml"), options(tmp_path), b"", tmp_path)
    opened = OpenRun(directory_of(outcome), options(tmp_path))
    found = output(opened, np.stack([np.asarray(opened.sets.train.columns[c], "float32") for c in "ab"], 1))[:, 0]
    truth, weight = (np.asarray(opened.sets.train.columns[c], "float32") for c in "yw")
    assert outcome.figures["train.loss"] == pytest.approx(np.mean((found - truth) ** 2 * weight), rel=1e-5)


@pytest.mark.parametrize(
    ("column", "words"),
    [
        ("v", 'no field "v"; it has a, b, y, t, n'),
        ("t", "holds text"),
        ("n", "weights of 0 or more, found -1 in row 1"),
    ],
)
def test_weights_of_rows_must_be_weights(tmp_path: Path, column: str, words: str) -> None:
    (tmp_path / "rows.csv").write_text("a,b,y,t,n\n1,2,3,x,1\n2,3,4,y,-1\n3,4,5,z,1\n4,5,6,x,2\n")
    text = TABLE.replace("epochs: 2", f"epochs: 2, sample_weight: {column}").replace("split: {test: 0.2}", "split: {}")
    (tmp_path / "table.yaml").write_text(text)
    with pytest.raises((DataError, RecipeError), match=words) as raised:
        fit(load_recipe(tmp_path / "table.yaml"), options(tmp_path), b"", tmp_path)
    assert column == "n" or raised.value.problems[0].path == ("fit", "sample_weight")


def test_weights_of_rows_need_a_shape(tmp_path: Path) -> None:
    np.savez(tmp_path / "rows.npz", x=np.ones((4, 3, 2)), y=np.ones((4, 3, 1)), w=np.ones((4, 2)), c=np.ones((4, 3, 1)))
    for name in "wc":
        text = ARRAYS + TABLE[TABLE.index("model:") :].replace("epochs: 2", f"epochs: 2, sample_weight: {name}")
        (tmp_path / "r.yaml").write_text(text)
        with pytest.raises(DataError, match=r"is no sample_weight: expected one number a row, or \(None, 3\)"):
            fit(load_recipe(tmp_path / "r.yaml"), options(tmp_path), b"", tmp_path)


def test_numbers_that_are_none_are_named_with_their_row(tmp_path: Path) -> None:
    np.savez(tmp_path / "rows.npz", x=np.array([[1.0], [np.nan], [3.0]]), y=np.zeros(3))
    (tmp_path / "r.yaml").write_text(ARRAYS + TABLE[TABLE.index("model:") :])
    with pytest.raises(DataError, match="input x: expected finite numbers, found nan in row 1"):
        fit(load_recipe(tmp_path / "r.yaml"), options(tmp_path), b"", tmp_path)


def test_labels_between_classes_are_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "rows.npz", x=np.ones((3, 2)), y=np.array([0.0, 0.7, 1.0]))
    text = (
        TABLE[TABLE.index("model:") :]
        .replace("units: 1", "units: 2, activation: softmax")
        .replace(", metrics: [mae]", "")
    )
    text = "dataset: {source: {npz: {path: rows.npz}}, inputs: {x: {}}, targets: {y: {}}}\n" + text
    (tmp_path / "r.yaml").write_text(text.replace("loss: mse", "loss: sparse_categorical_crossentropy"))
    with pytest.raises(DataError, match="class numbers"):
        fit(load_recipe(tmp_path / "r.yaml"), options(tmp_path), b"", tmp_path)


def test_weights_of_classes_are_held_against_all_rows_not_a_fold(tmp_path: Path) -> None:
    text = (
        "dataset: {source: iris, targets: {label: {}}, inputs: {features: {}}}\n"
        "model: {layers: [{Dense: {units: 3, activation: softmax}}]}\n"
        "compile: {optimizer: adam, loss: sparse_categorical_crossentropy}\n"
        "fit: {epochs: 1, kfold: {folds: 3, final: false}, class_weight: {0: 1.0, 2: 3.0}}\n"
    )
    assert len(trained(tmp_path, text).folds) == 3
    with pytest.raises(DataError, match="names class 7"):
        trained(tmp_path, text.replace("2: 3.0", "7: 3.0"))


FLAGS = (
    ARRAYS
    + """
model: {layers: [{Dense: {units: 3, activation: sigmoid}}]}
compile: {optimizer: adam, loss: binary_crossentropy}
fit: {epochs: 1}
"""
)


def test_several_flags_are_no_classes(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    np.savez(tmp_path / "rows.npz", x=random.normal(size=(20, 2)), y=random.integers(0, 2, (20, 3)))
    (tmp_path / "r.yaml").write_text(FLAGS)
    outcome = fit(load_recipe(tmp_path / "r.yaml"), options(tmp_path), b"", tmp_path)
    opened = OpenRun(directory_of(outcome), options(tmp_path))
    outputs = opened.predict([random.normal(size=(4, 2))])
    for asked in (Asked(classes=True), Asked(top_k=2)):
        with pytest.raises(RecipeError, match="on its own"):
            columns_of(opened, outputs, asked)
    made = np.stack(list(columns_of(opened, outputs, Asked(temperature=2.0)).values()), 1)
    np.testing.assert_allclose(made, 1 / (1 + np.exp(-np.log(only(outputs) / (1 - only(outputs))) / 2)), rtol=1e-5)


def test_a_row_with_a_bad_cell_is_no_heading(tmp_path: Path) -> None:
    opened = OpenRun(directory_of(fitted(tmp_path)), options(tmp_path))
    with pytest.raises(DataError, match=r"rows:1: expected a number in column 1"):
        read_inputs(opened, "rows", b"NA,2\n1,2\n")
    with pytest.raises(DataError, match='the header has no column "a"'):
        read_inputs(opened, "rows", b"x,b\n1,2\n")
    assert read_inputs(opened, "rows", b"1,2\n3,4\n")[0].tolist() == [[1.0, 2.0], [3.0, 4.0]]
    assert read_inputs(opened, "rows", b"b,a\n1,2\n")[0].tolist() == [[2.0, 1.0]]


def test_a_line_that_counts_columns_is_no_row(tmp_path: Path) -> None:
    opened = OpenRun(directory_of(trained(tmp_path, DIGITS)), options(tmp_path))
    rows = "\n".join(",".join(map(str, range(n, n + 64))) for n in (0, 1))
    with pytest.raises(DataError, match="seems to be a header"):
        read_inputs(opened, "rows", rows.encode())
    assert len(read_inputs(opened, "rows", rows.split("\n")[1].encode())[0]) == 1


def test_a_run_that_went_on_after_its_stop_is_not_reproduced(tmp_path: Path) -> None:
    stops = "callbacks: [{EarlyStopping: {patience: 0, monitor: loss, mode: max}}]\n"
    outcome = trained(tmp_path, DIGITS + stops)
    assert len(outcome.epochs) == 2
    run = directory_of(outcome)
    assert all(v.holds for v in reproduce_one(str(run.path), options(tmp_path), 1, []))
    resume(run, Options(runs=tmp_path, device="cpu", epochs=6))
    with pytest.raises(RecipeError, match=r"went on after a stop that its recipe would make again \(epoch 2"):
        reproduce_one(str(run.path), options(tmp_path), 1, [])


def test_a_model_that_a_callback_saved_is_found_by_its_name(tmp_path: Path) -> None:
    saves = "callbacks: [{ModelCheckpoint: {filepath: best.h5, save_best_only: true}}]\n"
    run = directory_of(trained(tmp_path, DIGITS + saves))
    assert model_path(run, "best") == model_path(run, "best.h5") == run.path / "best.h5"
    with pytest.raises(RunError, match=r"there are best.h5, checkpoints/last-"):
        model_path(run, "worst")


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("split: {test: {last: 300}}", "split: {test: {last: 300}, stratify: label}", "nothing is drawn"),
        ("split: {test: {last: 300}}", "split: {validation: 0.2}", "holds validation rows back already"),
        ("loss: sparse", "loss: {reduction: none", None),
        ("epochs: 4", "kfold: {folds: 2}, epochs: 4", "kfold makes its own"),
    ],
)
def test_what_can_not_stand_together(old: str, new: str, words: str | None) -> None:
    text = DIGITS.replace(old, new)
    if words is None:
        text = DIGITS.replace(
            "loss: sparse_categorical_crossentropy", "loss: {SparseCategoricalCrossentropy: {reduction: none}}"
        )
        words = "needs one number a batch"
    with pytest.raises(RecipeError, match=words):
        loaded(text)


DECAY = "{ExponentialDecay: {initial_learning_rate: 0.01, decay_steps: 5, decay_rate: 0.9}}"
SCHEDULE = f"compile.optimizer={{adam: {{learning_rate: {DECAY}}}}}"


@pytest.mark.parametrize(
    ("sets", "words"),
    [
        (
            [SCHEDULE, "callbacks=[{LearningRateScheduler: {schedule: {0: 1e-3}}}]"],
            "follows Exp",
        ),
        (["compile.metrics=[{BinaryAccuracy: {name: hits}}]", "callbacks=[{EarlyStopping: {monitor: hits}}]"], "hits"),
        (["fit.validation_split=0", "expect={val.loss: {max: 9}}"], "needs validation rows"),
    ],
)
def test_what_would_fail_later_is_found_before(sets: list[str], words: str) -> None:
    with pytest.raises(RecipeError, match=words):
        loaded(DIGITS, *sets)


def test_folds_without_a_final_fit_validate(tmp_path: Path) -> None:
    sets = ["fit.validation_split=0", "fit.kfold={folds: 2, final: false}", "fit.epochs=2"]
    outcome = trained(tmp_path, DIGITS, *sets, "callbacks=[{EarlyStopping: {monitor: val_loss, patience: 1}}]")
    assert len(outcome.folds) == 2


def test_a_run_is_not_shortened(tmp_path: Path) -> None:
    outcome = fitted(tmp_path, "fit.epochs=4")
    before = (outcome.directory / "run.json").read_bytes()
    asked = options(tmp_path)
    asked.epochs = 3
    with pytest.raises(RunError, match="at epoch 4 already"):
        resume(directory_of(outcome), asked)
    assert (outcome.directory / "run.json").read_bytes() == before


def test_rows_to_predict_must_be_numbers_and_some(tmp_path: Path) -> None:
    opened = OpenRun(directory_of(fitted(tmp_path)), options(tmp_path))
    for rows, words in (
        (b"a,b\n", "there are no rows"),
        (b"1,nan\n", "rows: expected finite numbers, found nan in row 0"),
    ):
        with pytest.raises(DataError, match=words):
            read_inputs(opened, "rows", rows)


def test_idx_files_are_predicted(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 16, (5, 8, 8), dtype=np.uint8)
    path = tmp_path / "five-ubyte.gz"
    path.write_bytes(gzip.compress(b"\x00\x00\x08\x03" + np.array([5, 8, 8], ">u4").tobytes() + pixels.tobytes()))
    opened = OpenRun(directory_of(trained(tmp_path, DIGITS, "fit.epochs=1")), Options(runs=tmp_path, device="cpu"))
    column = read_inputs(opened, str(path), path.read_bytes())
    np.testing.assert_array_equal(column[0], pixels)
    assert only(opened.predict(column)).shape == (5, 10)


def test_the_newest_run_with_a_model_is_used(tmp_path: Path) -> None:
    outcome = fitted(tmp_path)
    (tmp_path / "rows.csv").unlink()
    with pytest.raises(TrainerError):
        fit(load_recipe(tmp_path / "table.yaml"), options(tmp_path), b"", tmp_path)
    failed = RunDirectory.find(tmp_path / "runs", "table")
    assert failed.record()["state"] == "failed"
    for words in ("table", "last"):
        assert RunDirectory.find_usable(tmp_path / "runs", words).path == outcome.directory
    assert RunDirectory.find_usable(tmp_path / "runs", failed.label).path == failed.path
    with pytest.raises(RunError, match=r"has no model\.h5"):
        model_source(failed, None)


def test_a_run_that_is_not_complete_can_be_looked_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(self: Training) -> dict[str, float]:
        if self.epoch == 2:
            raise EnvironmentFault("enough")
        return validate(self)

    validate = Training.validate
    monkeypatch.setattr(Training, "validate", stop)
    with pytest.raises(EnvironmentFault):
        trained(tmp_path, DIGITS, checkpoint_every=0.0)
    (run,) = list_runs(tmp_path)
    with pytest.raises(RunError) as caught:
        OpenRun(run, Options(runs=tmp_path, device="cpu"))
    assert "--checkpoint last" in str(caught.value)
    opened = OpenRun(run, Options(runs=tmp_path, device="cpu"), "last")
    assert opened.state["training"]["position"]["epoch"] in (1, 2)


def test_folds_without_a_final_fit_have_no_model(tmp_path: Path) -> None:
    outcome = trained(tmp_path, DIGITS, "fit.validation_split=0", "fit.kfold={folds: 2, final: false}", "fit.epochs=1")
    with pytest.raises(RunError) as caught:
        OpenRun(directory_of(outcome), Options(runs=tmp_path, device="cpu"))
    assert "fit.kfold.final" in str(caught.value)
