"""Writing on from a prompt: against loops by hand, and against the numbers of Keras's example."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.train.recipes import DIGITS, directory_of, output, trained
from trainer.errors import DataError, FileError, RunError
from trainer.sources.text_windows import UNKNOWN, encode
from trainer.streams import stream
from trainer.train.generating import Writer, chosen
from trainer.train.job import Options
from trainer.train.use import OpenRun

TEXT = "The just man is happy, and the unjust man is not.\nIs he? Yes.\n" * 12
RECIPE = """
name: book
seed: 5
dataset:
  source: {{text_windows: {{path: {path}, maxlen: 8, step: 1{source}}}}}
  {features}
model:
  layers:
    {layers}
    - Dense: {{units: {units}{activation}}}
compile: {{optimizer: {{adam: {{learning_rate: 0.01}}}}, loss: {loss}}}
fit: {{epochs: 2, batch_size: 64}}
"""
LAYERS = "- Embedding: {input_dim: 60, output_dim: 8}\n    - LSTM: {units: 16}"
SPARSE = "sparse_categorical_crossentropy"


def recipe(folder: Path, **changes: Any) -> str:
    """A recipe over TEXT, which is written into the folder."""
    (folder / "book.txt").write_text(changes.pop("text", TEXT))
    parts = {
        "source": "",
        "features": "limit: 2000",
        "layers": LAYERS,
        "units": 20,
        "activation": ", activation: softmax",
    }
    return RECIPE.format(path=folder / "book.txt", **{**parts, "loss": SPARSE, **changes})


def opened(folder: Path, text: str) -> OpenRun:
    return OpenRun(directory_of(trained(folder, text)), Options(device="cpu"))


def writer(folder: Path, **changes: Any) -> Writer:
    return Writer(opened(folder, recipe(folder, **changes)))


@pytest.fixture(scope="module")
def book(tmp_path_factory: pytest.TempPathFactory) -> Writer:
    """A run over characters."""
    return writer(tmp_path_factory.mktemp("book"))


@pytest.fixture(scope="module")
def by_words(tmp_path_factory: pytest.TempPathFactory) -> Writer:
    """A run over words."""
    return writer(tmp_path_factory.mktemp("words"), source=", level: word", units=11)


def sample(preds: np.ndarray, temperature: float) -> np.ndarray:
    """What Keras's example of text generation hands to numpy's multinomial."""
    exponents = np.exp(np.log(np.asarray(preds).astype("float64")) / temperature)
    return exponents / np.sum(exponents)


def by_hand(run: OpenRun, window: list[int], pick: Any, length: int) -> list[int]:
    """Symbols one after the other: predict, pick, move the window on."""
    found = []
    for place in range(length):
        number = pick(output(run, np.asarray([window], "int32"))[0], place)
        found.append(number)
        window = [*window[1:], number]
    return found


@pytest.mark.parametrize("temperature", [0.2, 0.5, 1.0, 1.2, 7.0])
def test_points_fall_on_symbols_as_often_as_in_the_example_of_keras(temperature: float) -> None:
    preds = np.random.default_rng(1).dirichlet(np.full(9, 0.5)).astype("float32")
    count = 20_000
    points = (np.arange(count) + 0.5) / count
    drawn = np.bincount([chosen(preds.astype("float64"), temperature, p) for p in points], minlength=9)
    np.testing.assert_allclose(drawn / count, sample(preds, temperature), atol=1.01 / count)


def test_temperatures_at_the_ends() -> None:
    preds = np.asarray([0.3, 0.0, 0.45, 0.25])
    for temperature in (0.0, 1e-310, 1e-299, 1e-3):
        assert {chosen(preds, temperature, p) for p in (1e-9, 0.5, 1 - 2**-53)} == {2}
    assert {chosen(preds, float("inf"), p) for p in (0.1, 0.4, 0.6, 0.9)} == {0, 1, 2, 3}
    assert [chosen(preds, 1.0, p) for p in (0.0, 0.29, 0.31, 0.74, 0.76, 1 - 2**-53)] == [0, 0, 2, 2, 3, 3]
    assert chosen(np.asarray([1.0, 0.0]), 1.0, 1 - 2**-53) == 0


@pytest.mark.parametrize("temperature", [0.3, 1.0])
def test_a_text_is_that_of_a_loop_by_hand(book: Writer, temperature: float) -> None:
    points = stream(4, "generate").random(40)

    def pick(preds: np.ndarray, place: int) -> int:
        return int(np.flatnonzero(np.cumsum(sample(preds[:19], temperature)) > points[place])[0])

    window = encode("e just man is", book.words).tolist()[-8:]
    expected = by_hand(book.run, window, pick, 40)
    assert "".join(book.write("e just man is", 40, temperature, 4)) == "".join(book.words[n] for n in expected)


def test_greedy_is_a_loop_of_argmax(book: Writer) -> None:
    window = encode("just man", book.words).tolist()
    expected = by_hand(book.run, window, lambda preds, _: int(preds[:19].argmax()), 60)
    for seed in (0, 1):
        assert "".join(book.write("just man", 60, 0.0, seed)) == "".join(book.words[n] for n in expected)


def test_the_seed_makes_the_text(book: Writer) -> None:
    texts = {seed: "".join(book.write("the man ", 50, 1.0, seed)) for seed in (0, 1, 2)}
    assert len(set(texts.values())) == 3
    assert "".join(book.write("the man ", 50, 1.0, 1)) == texts[1]
    assert "".join(book.write("the man ", 20, 1.0, 1)) == texts[1][:20]
    again = Writer(OpenRun(book.run.directory, Options(device="cpu")))
    assert "".join(again.write("the man ", 50, 1.0, 2)) == texts[2]


def test_probabilities_are_those_of_the_model(book: Writer) -> None:
    window = book.begin("is happy")
    np.testing.assert_array_equal(book.chances(window), output(book.run, window[None])[0].astype("float64"))


def test_short_prompts_stand_behind_what_the_text_begins_with(book: Writer) -> None:
    assert book.text(book.begin("is")) == "the juis"
    assert book.text(book.begin("")) == "the just"
    assert book.text(book.begin("Man is happy")) == "is happy"
    assert "".join(book.write("is", 9, 0.0)) == "".join(book.write("the juis", 9, 0.0))


def test_a_prompt_from_the_text(book: Writer) -> None:
    prompts = {book.drawn(seed) for seed in range(8)}
    assert len(prompts) > 4
    assert all(len(p) == 8 and p in TEXT.lower() for p in prompts)
    assert book.drawn(3) == book.drawn(3)


def test_words(by_words: Writer) -> None:
    assert by_words.words == ("and", "happy", "he", "is", "just", "man", "not", "the", "unjust", "yes")
    expected = by_hand(
        by_words.run, by_words.begin("Just man, and").tolist(), lambda preds, _: int(preds[:10].argmax()), 7
    )
    pieces = list(by_words.write("Just man, and", 7, 0.0))
    assert pieces == [f" {by_words.words[n]}" for n in expected]
    assert by_words.text(by_words.begin("just man")) == "the just man is happy and just man"


def test_what_the_text_lacks_is_named(book: Writer, by_words: Writer) -> None:
    with pytest.raises(DataError, match="the characters '8', 'z', 'é' do not occur"):
        book.write("a zoé 8", 3)
    with pytest.raises(DataError, match="the word 'zebra' does not occur"):
        by_words.write("the zebra", 3)


@pytest.mark.parametrize(("level", "units"), [("char", 12), ("word", 5)])
def test_the_unknown_is_read_and_never_written(tmp_path: Path, level: str, units: int) -> None:
    made = writer(tmp_path, source=f", level: {level}, num_words: {units}", units=units)
    assert made.words[0] == UNKNOWN
    assert 0 in made.begin("zq happy zebra").tolist()
    pieces = [p.strip(" ") if level == "word" else p for p in made.write("zq happy zebra", 200, 3.0)]
    assert set(pieces) == set(made.words[1:])


MODELS = {
    "raw scores": {"activation": "", "loss": "{SparseCategoricalCrossentropy: {from_logits: true}}"},
    "one-hot targets": {
        "units": 19,
        "loss": "categorical_crossentropy",
        "features": "targets: {next: {preprocess: [{CategoryEncoding: {num_tokens: 19, output_mode: one_hot}}]}}\n"
        "  inputs: {window: {}}",
    },
    "one-hot windows": {
        "features": "inputs: {window: {preprocess: [{CategoryEncoding: {num_tokens: 19, output_mode: one_hot}}]}}\n"
        "  targets: {next: {}}",
        "layers": "- LSTM: {units: 8}",
    },
    "no recurrence": {"layers": "- Embedding: {input_dim: 19, output_dim: 4}\n    - Flatten"},
    "names of its own": {
        "features": "inputs: {before: {field: window}}\n  targets: {after: {field: next}}",
    },
}


@pytest.mark.parametrize("name", MODELS)
def test_models_of_every_kind_write(tmp_path: Path, name: str) -> None:
    made = writer(tmp_path, **MODELS[name])
    chances = made.chances(made.begin("the man"))
    assert chances.sum() == pytest.approx(1, abs=1e-5)
    text = "".join(made.write("the man", 30, 1.0))
    assert len(text) == 30
    assert set(text) <= set(TEXT.lower())


def test_states_are_not_kept_from_window_to_window(tmp_path: Path) -> None:
    layers = "- Embedding: {input_dim: 60, output_dim: 8}\n    - LSTM: {units: 16, stateful: true}"
    text = recipe(tmp_path, layers=layers, features="limit: 640")
    made = Writer(opened(tmp_path, text.replace("batch_size: 64", "batch_size: 64, shuffle: false")))
    window = made.begin("the just man")
    first = made.chances(window)
    made.chances(made.begin("is he?"))
    np.testing.assert_array_equal(made.chances(window), first)
    again = opened(tmp_path, recipe(tmp_path, features="limit: 640"))
    again.built.network.set_weights(made.run.built.network.get_weights())
    np.testing.assert_allclose(Writer(again).chances(window), first, rtol=1e-5)


REFUSED = {
    "a number": (
        {"units": 1, "activation": "", "loss": "mse"},
        "its output is not one probability for each of the 19 characters",
    ),
    "a step each": (
        {
            "layers": "- Embedding: {input_dim: 19, output_dim: 4}",
            "features": "inputs: {window: {}}\n  targets: {again: {field: window}}",
        },
        "it goes from window to window, not from window to next",
    ),
    "other numbers": (
        {
            "features": "inputs: {window: {}}\n"
            "  targets: {next: {preprocess: [{IntegerLookup: {num_oov_indices: 0}}]}}",
        },
        "its output is not one probability for each",
    ),
    "another input": (
        {
            "layers": "- Dense: {units: 3}",
            "features": "inputs: {number: {field: next}}\n  targets: {next: {}}",
        },
        "it goes from next to next",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_models_that_predict_no_next_symbol(tmp_path: Path, name: str) -> None:
    changes, said = REFUSED[name]
    with pytest.raises(RunError, match=said) as refusal:
        writer(tmp_path, **changes)
    (problem,) = refusal.value.problems
    assert problem.message.startswith("the run book/")
    assert "a last layer of 19 units with softmax" in problem.hint


def test_a_run_on_other_rows(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="its rows come from digits, not from windows over a text") as refusal:
        Writer(opened(tmp_path, DIGITS))
    assert "source: {text_windows: {path: book.txt}}" in refusal.value.problems[0].hint


def test_a_text_that_has_changed(tmp_path: Path) -> None:
    directory = directory_of(trained(tmp_path, recipe(tmp_path)))
    (tmp_path / "book.txt").write_text(TEXT.replace("happy", "hoppy"))
    with pytest.raises(RunError, match=r"changed are data file book\.txt"):
        Writer(OpenRun(directory, Options(device="cpu")))
    (tmp_path / "book.txt").unlink()
    with pytest.raises(FileError, match="there is no file"):
        Writer(OpenRun(directory, Options(device="cpu")))


def test_a_model_that_diverged(book: Writer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(book.run, "predict", lambda columns: {"y": np.full((1, 20), np.nan, "float32")})
    with pytest.raises(RunError, match="no numbers"):
        next(book.write("the man", 3))
