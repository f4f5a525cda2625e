"""predict --decode: the sequences that a CTC model reads, and what is refused beside it."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import numpy as np
import pytest

from tests.cli.calling import Call
from tests.train.recipes import DIGITS, directory_of, only, trained
from trainer.runs.directory import RunDirectory
from trainer.train.decoding import beam_search, greedy
from trainer.train.job import Options
from trainer.train.use import OpenRun

LINES = """
name: lines
seed: 2
dataset:
  source: {{npz: {{path: {path}}}}}
  inputs: {{line: {{field: x}}}}
  targets: {{word: {{field: y, preprocess: [{{IntegerLookup: {lookup}}}]}}}}
  split: {{test: {{last: 20}}}}
model:
  layers:
    - Dense: {{units: 4, name: scores}}{more}
compile: {{optimizer: {{adam: {{learning_rate: 0.05}}}}, loss: {loss}}}
fit: {{epochs: 25, batch_size: 16}}
"""
LOOKUP = "{vocabulary: [7, 8, 9], mask_token: -1, num_oov_indices: 0}"


def lines(folder: Path, more: str = "", loss: str = "CTC") -> str:
    """A recipe over words of two symbols out of 7, 8 and 9, two steps each with noise between and around."""
    random = np.random.default_rng(0)
    words = random.integers(0, 3, (100, 2))
    x = random.normal(0, 0.3, (100, 7, 4)).astype("float32")
    x[:, [0, 3, 6], 3] += 2
    for place in range(2):
        for step in (1, 2):
            x[np.arange(100), 3 * place + step, words[:, place]] += 2
    np.savez(folder / "lines.npz", x=x, y=words + 7)
    return LINES.format(path=folder / "lines.npz", lookup=LOOKUP, more=more, loss=loss)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Runs over lines and over digits."""
    made = tmp_path_factory.mktemp("runs")
    trained(made, lines(made))
    trained(made, DIGITS, "fit.epochs=1")
    return made


@pytest.fixture
def predict(call: Call, folder: Path) -> Call:
    """Calls `trainer predict` for the test rows of a run."""
    return lambda name, *words: call("predict", name, "--split", "test", *words, "--runs", str(folder))


@pytest.fixture
def scores(folder: Path) -> np.ndarray:
    """What the model gives for the test rows."""
    opened = OpenRun(RunDirectory.find(folder, "lines"), Options(device="cpu"))
    return only(opened.predict(opened.built.columns(opened.rows("test"))))


def words_of(paths: np.ndarray) -> list[str]:
    return [" ".join("-789"[n] for n in path if n >= 0) for path in paths.tolist()]


def table(out: str) -> dict[str, list[str]]:
    rows = list(csv.DictReader(io.StringIO(out)))
    return {name: [row[name] for row in rows] for name in rows[0]}


def test_greedy(predict: Call, scores: np.ndarray, folder: Path) -> None:
    code, out, _ = predict("lines", "--decode", "greedy")
    found = table(out)
    assert code == 0
    assert list(found) == ["decoded"]
    assert found["decoded"] == words_of(greedy(scores).paths[0])
    truth = np.load(folder / "lines.npz")["y"][-20:].tolist()
    assert sum(a == f"{b[0]} {b[1]}" for a, b in zip(found["decoded"], truth, strict=True)) >= 15


@pytest.mark.parametrize("width", [None, 1, 5])
def test_beam(predict: Call, scores: np.ndarray, width: int | None) -> None:
    more = () if width is None else ("--beam-width", str(width))
    _, out, _ = predict("lines", "--decode", "beam", *more)
    known, found = beam_search(scores, beam_width=width or 100), table(out)
    assert list(found) == ["decoded", "log_probability"]
    assert found["decoded"] == words_of(known.paths[0])
    np.testing.assert_allclose([float(v) for v in found["log_probability"]], known.scores[:, 0], rtol=1e-6)


def test_several_sequences(predict: Call, scores: np.ndarray) -> None:
    _, out, _ = predict("lines", "--decode", "beam", "--top-k", "3", "--beam-width", "8", "--json")
    found, known = json.loads(out)["result"]["columns"], beam_search(scores, beam_width=8, top_paths=3)
    assert list(found) == [f"{what}_{n}" for n in (1, 2, 3) for what in ("decoded", "log_probability")]
    for rank in range(3):
        assert found[f"decoded_{rank + 1}"] == words_of(known.paths[rank])


def test_other_outputs_stay_as_they_are(call: Call, tmp_path: Path) -> None:
    more = "\n    - GlobalAveragePooling1D\n    - Dense: {units: 1, name: first}\n  outputs: [scores, first]"
    text = lines(tmp_path, more, "{scores: CTC, first: mse}").replace(
        "targets: {word:", "targets: {first: {field: z}, scores:"
    )
    arrays = dict(np.load(tmp_path / "lines.npz"))
    np.savez(tmp_path / "lines.npz", **arrays, z=arrays["y"][:, 0])
    opened = OpenRun(directory_of(trained(tmp_path, text, "fit.epochs=1")), Options(device="cpu"))
    made = opened.predict(opened.built.columns(opened.rows("test")))
    words = ("--split", "test", "--decode", "beam", "--top-k", "2", "--runs", str(tmp_path))
    code, out, _ = call("predict", "lines", *words)
    assert code == 0
    found = table(out)
    assert next(iter(found)) == "scores_decoded_1"
    assert [float(v) for v in found["first"]] == pytest.approx(made["first"][:, 0].tolist())


@pytest.mark.parametrize(
    ("name", "words", "said"),
    [
        ("digits", ("--decode", "greedy"), "the loss CTC; this one learned with SparseCategoricalCrossentropy"),
        ("lines", ("--decode", "best"), '--decode: expected greedy or beam, found "best"'),
        ("lines", ("--beam-width", "3"), "--beam-width is for --decode beam"),
        ("lines", ("--decode", "greedy", "--beam-width", "3"), "--beam-width is for --decode beam"),
        ("lines", ("--decode", "greedy", "--top-k", "2"), "greedy finds one path"),
        ("lines", ("--decode", "beam", "--top-k", "3", "--beam-width", "2"), "expected at most 2 paths"),
        ("lines", ("--decode", "beam", "--classes"), "leave --classes"),
        ("lines", ("--decode", "beam", "--proba"), "leave --classes"),
        ("lines", ("--decode", "beam", "--temperature", "2"), "leave --classes"),
        ("lines", ("--decode", "beam", "--layer", "scores"), "leave --classes"),
    ],
)
def test_what_goes_with_no_sequence(predict: Call, name: str, words: tuple[str, ...], said: str) -> None:
    code, out, err = predict(name, *words)
    assert (code, out) == (2, "")
    assert said in err
