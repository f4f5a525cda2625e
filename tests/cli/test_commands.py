"""The command line as a user meets it: exit codes, what goes to standard output, JSON, and every command's help."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.train.recipes import DIGITS
from trainer.cli.app import COMMANDS, run

BAD = DIGITS.replace("units: 32", "units: -4").replace("adam", "adm")


class Said:
    """What a command answered."""

    def __init__(self, code: int, out: str, err: str):
        self.code, self.out, self.err = code, out, err

    @property
    def json(self) -> Any:
        return json.loads(self.out)


@pytest.fixture
def trainer(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """Calls the command line in an empty folder with a digits recipe in it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("TRAINER_DATA", raising=False)
    monkeypatch.setenv("COLUMNS", "100")
    (tmp_path / "digits.yaml").write_text(DIGITS)
    (tmp_path / "bad.yaml").write_text(BAD)

    def call(*words: str) -> Said:
        capfd.readouterr()
        code = run(list(words))
        return Said(code, *capfd.readouterr())

    return call


@pytest.fixture
def done(trainer: Any) -> Any:
    """The same, after a run."""
    assert trainer("fit", "digits.yaml", "-q").code == 0
    return trainer


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_with_an_example(trainer: Any, command: str) -> None:
    said = trainer(command, "--help")
    assert said.code == 0
    assert f"Example: trainer {command}" in re.sub(r"\s+", " ", said.out)


def test_fit_leaves_a_whole_run_directory(trainer: Any) -> None:
    said = trainer("fit", "digits.yaml", "--progress", "plain")
    assert said.code == 0
    folder = Path(said.out.strip())
    names = {p.name for p in folder.iterdir()}
    assert names >= {"recipe.yaml", "resolved.yaml", "run.json", "history.csv", "metrics.json", "model.h5", "plots"} | {
        "report.html",
        "log.txt",
    }
    assert (folder / "recipe.yaml").read_text() == DIGITS
    assert re.fullmatch(r"\d{8}-\d{6}-[0-9a-f]{4}", folder.name)
    assert (folder.parent / "latest").read_text().strip() == folder.name
    record = json.loads((folder / "run.json").read_text())
    assert record["state"] == "done"
    assert record["rows"] == {"train": 450, "validation": 150, "test": 300}
    lines = [line for line in said.err.splitlines() if line.startswith("Epoch")]
    assert len(lines) == 4
    assert re.match(r"Epoch 1/4 - \ds \d+\ws/step - loss: [\d.]+ - accuracy: [\d.]+ - val_loss", lines[0])
    history = (folder / "history.csv").read_text().splitlines()
    assert history[0].startswith("epoch,loss,accuracy,val_loss,val_accuracy,learning_rate")
    assert len(history) == 5


def test_errors_go_to_standard_error_and_say_where(trainer: Any) -> None:
    said = trainer("validate", "bad.yaml")
    assert said.code == 2
    assert said.out == ""
    assert "bad.yaml:12:22 model.layers[0].Dense.units: expected an integer above 0, found -4" in said.err
    assert "try: did you mean adam?" in said.err
    assert said.err.rstrip().endswith("2 problems")


def test_errors_as_json_and_as_annotations(trainer: Any) -> None:
    said = trainer("validate", "bad.yaml", "--json")
    assert said.code == 2
    assert said.json["ok"] is False
    assert said.json["command"] == "validate"
    first = said.json["errors"][0]
    assert (first["file"], first["line"], first["column"]) == ("bad.yaml", 12, 22)
    assert first["path"] == "model.layers[0].Dense.units"
    lines = trainer("validate", "bad.yaml", "--output-format", "github").out.splitlines()
    assert lines[0].startswith("::error file=bad.yaml,line=12,col=22::expected an integer above 0")


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (("fit", "nothere.yaml"), 2),
        (("fit",), 2),
        (("ft",), 2),
        (("evaluate", "nothere"), 5),
        (("resume", "last"), 5),
        (("explain", "Densse"), 2),
        (("list", "lyers"), 2),
        (("fit", "digits.yaml", "--set", "fit.epochs=x"), 2),
        (("fit", "digits.yaml", "--set", "dataset.source={csv: {path: none.csv}}"), 3),
    ],
)
def test_exit_codes(trainer: Any, words: tuple[str, ...], code: int) -> None:
    said = trainer(*words)
    assert said.code == code, said.err
    assert said.err.strip()


def test_missing_data_file_is_a_file_error(trainer: Any) -> None:
    Path("table.yaml").write_text(
        "dataset: {source: {csv: {path: none.csv}}, columns: [a, b], target: c}\n"
        "model: {layers: [{Dense: {units: 1}}]}\ncompile: {loss: mse}\n"
    )
    said = trainer("fit", "table.yaml")
    assert said.code == 3
    assert "none.csv" in said.err


def test_a_failed_expectation_is_exit_one(trainer: Any) -> None:
    Path("high.yaml").write_text(DIGITS + "expect:\n  test.accuracy: {min: 1.5}\n  parameters: {value: 2410}\n")
    said = trainer("fit", "high.yaml", "--progress", "none")
    assert said.code == 1
    assert "✗ test.accuracy at least 1.5" in said.err
    assert "✓ parameters 2410" in said.err
    said = trainer("reproduce", "high.yaml", "--junit", "v.xml", "-q")
    assert said.code == 1
    assert "1 of 2 expectations hold" in said.out
    assert 'failures="1"' in Path("v.xml").read_text()


def test_reproduce_a_run_gives_its_own_figures_again(done: Any) -> None:
    said = done("reproduce", "digits")
    assert said.code == 0, said.out + said.err
    assert "FAIL" not in said.out


def test_reproduce_over_seeds(trainer: Any) -> None:
    Path("seeds.yaml").write_text(DIGITS + "expect:\n  test.accuracy: {min: 0.3, mean: {min: 0.4}}\n")
    said = trainer("reproduce", "seeds.yaml", "--seeds", "3", "-q")
    assert said.code == 0, said.out
    assert "±" in said.out
    assert "mean test.accuracy" in said.out


def test_evaluate_prints_metrics_report_and_matrix(done: Any) -> None:
    said = done("evaluate")
    assert said.code == 0
    assert re.search(r"^accuracy 0\.\d{4}$", said.out, re.M)
    assert "precision" in said.out
    assert "truth" in said.out
    run_folder = next(Path("runs/digits").glob("2*"))
    assert (run_folder / "plots" / "confusion-test.png").read_bytes()[:4] == b"\x89PNG"
    answer = done("evaluate", "digits", "--split", "validation", "--json").json
    assert answer["result"]["rows"] == 150
    history = json.loads((run_folder / "metrics.json").read_text())["figures"]
    assert answer["result"]["figures"]["accuracy"] == pytest.approx(history["val.accuracy"])
    assert np.sum(answer["result"]["confusion"]) == 150


@pytest.fixture
def rows(done: Any) -> Path:
    """Ten raw rows of digits as CSV."""
    from sklearn.datasets import load_digits

    path = Path("rows.csv")
    np.savetxt(path, load_digits().data[:10], delimiter=",", fmt="%d")
    return path


def test_predict_classes_in_row_order(done: Any, rows: Path) -> None:
    said = done("predict", "last", str(rows), "--classes")
    assert said.code == 0, said.err
    lines = said.out.splitlines()
    assert lines[0] == "class"
    assert len(lines) == 11
    assert sum(a == b for a, b in zip(lines[1:], "0123456789", strict=True)) >= 6


def test_predict_forms_agree(done: Any, rows: Path) -> None:
    whole = np.genfromtxt(done("predict", "last", str(rows)).out.splitlines()[1:], delimiter=",")
    assert whole.shape == (10, 10)
    np.testing.assert_allclose(whole.sum(1), 1, atol=1e-5)
    top = done("predict", "last", str(rows), "--top-k", "2").out.splitlines()
    assert top[0] == "class_1,probability_1,class_2,probability_2"
    assert float(top[1].split(",")[1]) == pytest.approx(whole[0].max())
    flat = np.genfromtxt(done("predict", "last", str(rows), "--temperature", "100").out.splitlines()[1:], delimiter=",")
    assert np.ptp(flat) < np.ptp(whole) / 4
    for name in ("p.npz", "p.jsonl", "p.csv", "p.parquet"):
        assert done("predict", "last", str(rows), "-o", name).code == 0
        assert Path(name).stat().st_size > 0
    hidden = done("predict", "last", str(rows), "--layer", "dense")
    assert len(hidden.out.splitlines()[1].split(",")) == 32
    np.save("rows.npy", np.loadtxt(rows, delimiter=",").reshape(-1, 8, 8))
    assert (
        done("predict", "last", "rows.npy").out.splitlines()[1:]
        == done("predict", "last", str(rows)).out.splitlines()[1:]
    )


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--layer", "nope"), 'no layer "nope"'),
        (("--top-k", "99"), "at most 10"),
        (("--temperature", "0"), "above 0"),
        (("--classes", "--top-k", "2"), "either"),
        (("-o", "x.txt"), ".parquet"),
    ],
)
def test_predict_refuses(done: Any, rows: Path, words: tuple[str, ...], says: str) -> None:
    said = done("predict", "last", str(rows), *words)
    assert said.code in (2, 5)
    assert says in said.err


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("1,2,3\n", "expected 64 numbers a row, found 3"),
        (",".join(["1"] * 63 + ["x"]) + "\n" + ",".join(["1"] * 63 + ["x"]) + "\n", 'found "x"'),
        ("", "empty"),
    ],
)
def test_predict_names_bad_rows(done: Any, text: str, says: str) -> None:
    Path("odd.csv").write_text(text)
    said = done("predict", "last", "odd.csv")
    assert said.code == 3
    assert says in said.err


def test_resume_extends(done: Any) -> None:
    said = done("resume", "last", "--epochs", "6", "--progress", "plain")
    assert said.code == 0, said.err
    assert [line[:9] for line in said.err.splitlines() if line.startswith("Epoch")] == ["Epoch 5/6", "Epoch 6/6"]


def test_summary_is_keras_table(done: Any) -> None:
    for target in ("digits.yaml", "last"):
        said = done("summary", target)
        assert said.code == 0
        assert "dense (Dense)" in said.out
        assert "(None, 32)" in said.out
        assert "Total params: 2,410 (9.41 KB)" in said.out


def test_weights_lists_every_weight(done: Any) -> None:
    said = done("weights", "last", "--layer", "dense_1", "--values")
    assert said.code == 0
    assert "dense_1/kernel" in said.out
    assert "32×10" in said.out
    answer = done("weights", "last", "--json").json["result"]
    assert list(answer) == ["dense/kernel", "dense/bias", "dense_1/kernel", "dense_1/bias"]
    assert done("weights", "last", "--layer", "nope").code == 2


def test_runs_lists(done: Any) -> None:
    said = done("runs")
    assert "digits/2" in said.out
    assert "done" in said.out
    assert len(done("runs", "digits", "--json").json["result"]) == 1


def test_explain_list_schema(trainer: Any) -> None:
    assert "Size of the last axis of the output." in trainer("explain", "Dense").out
    assert "Rows a step." in trainer("explain", "fit.batch_size").out
    assert "Fully connected" in trainer("list", "layers").out
    schema = json.loads(trainer("schema").out)
    assert schema["$schema"].startswith("http://json-schema.org/draft-07")


def test_init_then_fit(trainer: Any) -> None:
    assert trainer("init", "first.yaml").code == 0
    assert trainer("validate", "first.yaml").code == 0
    assert trainer("init", "first.yaml").code == 2
    table = np.random.default_rng(0).normal(size=(200, 3))
    lines = ["a,b,kind", *(f"{x:.3f},{y:.3f},{int(x + y > 0)}" for x, y, _ in table)]
    Path("table.csv").write_text("\n".join(lines) + "\n")
    assert trainer("init", "mine.yaml", "--csv", "table.csv").code == 0
    said = trainer("fit", "mine.yaml", "--set", "fit.epochs=3", "--json")
    assert said.code == 0, said.err
    assert "test.accuracy" in said.json["result"]["figures"]
    assert trainer("init", "x.yaml", "--csv", "table.csv", "--target", "kin").code == 3


def test_dry_run_keeps_nothing(trainer: Any) -> None:
    said = trainer("fit", "digits.yaml", "--dry-run", "--json")
    assert said.code == 0, said.err
    assert said.json["result"]["parameters"] == 2410
    assert not Path("runs").exists()


def test_control_characters_never_reach_the_terminal(trainer: Any) -> None:
    Path("odd.yaml").write_text(DIGITS.replace("name: digits", 'name: "a\\e[31m\\u202eb"'))
    said = trainer("validate", "odd.yaml")
    assert said.code == 2
    assert "\x1b" not in said.err
    assert "\u202e" not in said.err


def test_a_layers_output_keeps_its_shape_in_npz(done: Any, tmp_path: Path) -> None:
    said = done("predict", "digits", "--split", "test", "--layer", "dense", "-o", "hidden.npz")
    assert said.code == 0, said.err
    with np.load(tmp_path / "hidden.npz") as found:
        assert {name: array.shape for name, array in found.items()} == {"dense": (300, 32)}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["rows.csv", "--split", "test"], "either files of rows or --split test"),
        ([], "needs files of rows, or --split"),
        (["--split", "tst"], "expected test, validation or train"),
    ],
)
def test_rows_to_predict_are_named_once(done: Any, words: list[str], message: str) -> None:
    said = done("predict", "digits", *words)
    assert said.code == 2
    assert message in said.err


def test_runs_in_a_pipe_are_whole_lines(done: Any) -> None:
    said = done("runs")
    (line,) = said.out.splitlines()
    assert re.match(r"digits/\d{8}-\d{6}-[0-9a-f]{4}\tdone\t\d\t", line)
    said = done("runs", "digts")
    assert said.code == 5
    assert "did you mean digits?" in said.err


def test_folders_that_are_not_there(trainer: Any) -> None:
    assert trainer("schema", "-o", "nowhere/recipe.json").code == 4
    assert trainer("reproduce", "digits.yaml", "--junit", "nowhere/verdicts.xml").code == 2
    assert "there is no file nope.yaml" in trainer("reproduce", "nope.yaml").err


def test_a_report_can_be_written_again(done: Any) -> None:
    folder = Path(done("report", "last").out.strip()).parent
    first = (folder / "report.html").read_bytes()
    (folder / "report.html").unlink()
    (folder / "plots" / "curves.png").unlink()
    assert done("report", "last", "--json").json["result"]["report"].endswith("report.html")
    assert (folder / "report.html").read_bytes() == first
    assert (folder / "plots" / "curves.png").is_file()


def test_fit_goes_on_where_a_run_of_the_recipe_stopped(trainer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from trainer.runs.directory import list_runs
    from trainer.train.loop import Training

    assert trainer("fit", "digits.yaml", "--resume", "-q").code == 0
    (whole,) = list_runs(Path("runs"))
    said = trainer("fit", "digits.yaml", "--resume", "--progress", "plain")
    assert f"{whole.path} is complete; a new run begins" in said.err
    with monkeypatch.context() as patch:

        def stop(self: Training) -> None:
            raise KeyboardInterrupt

        patch.setattr(Training, "validate", stop)
        assert trainer("fit", "digits.yaml", "--set", "seed=4", "-q").code == 130
    stopped = list_runs(Path("runs"))[-1]
    said = trainer("fit", "digits.yaml", "--resume", "--set", "seed=5", "--progress", "plain")
    assert f"{stopped.path} has another recipe; a new run begins" in said.err
    for other in list_runs(Path("runs")):
        if other.path.name > stopped.path.name:
            other.path.rename(Path("runs") / "aside")
    said = trainer("fit", "digits.yaml", "--resume", "--set", "seed=4", "--progress", "plain")
    assert f"going on with {stopped.path}" in said.err
    assert said.out.strip() == str(stopped.path)
    assert stopped.record()["state"] == "done"


@pytest.mark.parametrize("other", [("--epochs", "3"), ("--dry-run",)])
def test_flags_that_resume_can_not_stand_beside(trainer: Any, other: tuple[str, ...]) -> None:
    said = trainer("fit", "digits.yaml", "--resume", *other)
    assert said.code == 2
    assert f"--resume can't stand beside {other[0]}" in said.err


def test_reproduce_writes_what_was_measured(trainer: Any) -> None:
    recipe = Path("digits.yaml")
    expect = "expect:\n  test.accuracy: {min: 0.9999}  # high\n  parameters: {value: 7}\n  test.loss: {max: 100}\n"
    recipe.write_text(DIGITS + expect)
    said = trainer("reproduce", "digits.yaml")
    assert said.code == 1
    assert recipe.read_text() == DIGITS + expect
    said = trainer("reproduce", "digits.yaml", "--update", "-q")
    assert said.code == 0
    assert "digits.yaml expect.parameters.value: 7 -> 2410" in said.out
    text = recipe.read_text()
    assert text.startswith(DIGITS)
    assert "{value: 2410}" in text
    assert "{max: 100}" in text
    assert "# high" in text
    assert trainer("reproduce", "digits.yaml").code == 0
    assert trainer("reproduce", "digits.yaml", "--update").code == 0
    assert recipe.read_text() == text


def test_what_update_refuses(done: Any) -> None:
    assert "last is no recipe file" in done("reproduce", "last", "--update").err
    assert "can't stand beside --set" in done("reproduce", "digits.yaml", "--update", "--set", "seed=2").err
