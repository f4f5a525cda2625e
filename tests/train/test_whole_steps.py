"""Steps with compiled layers in them as one function of C: the histories and weights of autograd, by any threads."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.train.recipes import loaded
from tests.train.test_compiled import shared_by
from tests.train.test_direct import hold_alike, record, weights
from trainer.cli.using import measure
from trainer.errors import DataError
from trainer.native.compiler import compiler
from trainer.program import Known, LookUp
from trainer.runs.directory import RunDirectory
from trainer.train import compiled
from trainer.train.feed import Batch
from trainer.train.job import Options, Outcome, fit, resume
from trainer.train.loop import Training
from trainer.train.progress import Stopped
from trainer.train.use import OpenRun

pytestmark = pytest.mark.skipif(compiler() is None, reason="there is no C compiler")

RECIPE = """
name: whole
seed: 6
dataset: {source: digits, inputs: {image: {preprocess: [SEEN]}}, split: {test: {last: 50}}, limit: 350}
model:
  layers: [LAYERS, {Dense: {units: 10, activation: softmax}}]
compile: {optimizer: adam, loss: sparse_categorical_crossentropy, metrics: [accuracy], jit_compile: true}
fit: {epochs: 3, batch_size: 16, validation_split: 0.2}
"""
WORDS, ROWS = "{Reshape: {target_shape: [64]}}", "{Rescaling: {scale: 1/16}}"
IMAGES = f"{ROWS}, {{Reshape: {{target_shape: [8, 8, 1]}}}}"
TABLE = "{Embedding: {input_dim: 17, output_dim: 16}}"
MASKED = f"{TABLE[:-2]}, mask_zero: true}}}}"
STEPS = "{Reshape: {target_shape: [8, 8]}}"
CASES: dict[str, tuple[str, str]] = {
    "words behind a mask": (WORDS, f"{MASKED}, {{LSTM: {{units: 12}}}}"),
    "words backwards behind a mask": (WORDS, f"{MASKED}, {{GRU: {{units: 12, go_backwards: true}}}}"),
    "both ways": (
        WORDS,
        f"{TABLE}, {{Bidirectional: {{layer: {{LSTM: {{units: 8, return_sequences: true}}}}}}}}, "
        "{Bidirectional: {layer: {GRU: {units: 8}}, merge_mode: sum}}",
    ),
    "both ways behind a mask": (
        WORDS,
        f"{MASKED}, {{Bidirectional: {{layer: {{GRU: {{units: 8, return_sequences: true}}}}}}}}, "
        "{Dropout: {rate: 0.2}}, {Bidirectional: {layer: {SimpleRNN: {units: 8}}}}",
    ),
    "steps behind a mask": (
        f"{ROWS}, {STEPS}",
        "Masking, {TimeDistributed: {layer: {Dense: {units: 6, activation: relu}}}}, {GRU: {units: 12}}",
    ),
    "rows behind a mask": (
        f"{ROWS}, {STEPS}",
        "{Dense: {units: 6, activation: relu}}, {Masking: {mask_value: 0.25}}, Masking, "
        "{LSTM: {units: 12, return_sequences: true}}, {LSTM: {units: 8}}",
    ),
    "numbers behind a mask": (
        "{Rescaling: {scale: 1/16, offset: 0.3}}, {Reshape: {target_shape: [64, 1]}}",
        "{Masking: {mask_value: 0.3}}, {Dense: {units: 4}}, Flatten",
    ),
    "means of words": (WORDS, f"{TABLE}, GlobalAveragePooling1D"),
    "means of words behind a mask": (WORDS, f"{MASKED}, GlobalAveragePooling1D"),
    "means that keep their axis": (WORDS, f"{MASKED}, {{GlobalAveragePooling1D: {{keepdims: true}}}}, Flatten"),
    "largest of words": (WORDS, f"{TABLE}, GlobalMaxPooling1D"),
    "filters of one length": (
        IMAGES,
        "{Conv2D: {filters: 16, kernel_size: 3, kernel_constraint: {UnitNorm: {axis: [0, 1, 2]}}}}, MaxPooling2D, "
        "Flatten",
    ),
    "images to means": (
        IMAGES,
        "{Conv2D: {filters: 16, kernel_size: 3, activation: relu}}, MaxPooling2D, GlobalAveragePooling2D",
    ),
    "images to the largest": (
        IMAGES,
        "{Conv2D: {filters: 16, kernel_size: 3, activation: relu}}, MaxPooling2D, "
        "{GlobalMaxPooling2D: {keepdims: true}}, Flatten",
    ),
    "words": (WORDS, f"{TABLE}, {{LSTM: {{units: 12}}}}"),
    "words backwards": (WORDS, f"{TABLE}, {{GRU: {{units: 12, go_backwards: true, use_bias: false}}}}"),
    "words to a plain one": (WORDS, f"{TABLE}, {{SimpleRNN: {{units: 12, return_sequences: true}}}}, Flatten"),
    "a frozen table": (WORDS, f"{TABLE[:-2]}, trainable: false}}}}, {{LSTM: {{units: 12}}}}"),
    "vectors that are read twice": (
        WORDS,
        f"{TABLE[:-2]}, name: e}}}}, {{LSTM: {{units: 8, name: a}}}}, {{GRU: {{units: 8, inputs: e, name: b}}}}, "
        "{Concatenate: {inputs: [a, b]}}, {Concatenate: {inputs: [concatenate, a, image], axis: 1}}",
    ),
    "vectors alone": (WORDS, f"{TABLE}, Flatten"),
    "short vectors": (WORDS, "{Embedding: {input_dim: 17, output_dim: 3}}, {Dense: {units: 4}}, Flatten"),
    "rows": (ROWS, "{LSTM: {units: 12, return_sequences: true}}, {GRU: {units: 8}}, {Dense: {units: 9}}"),
    "normalized batches": (
        ROWS,
        "Flatten, {Dense: {units: 32, use_bias: false}}, BatchNormalization, ReLU, "
        "{Dense: {units: 16, use_bias: false}}, {BatchNormalization: {momentum: 0.9, scale: false}}, "
        "{Activation: {activation: tanh}}",
    ),
    "images": (IMAGES, "{Conv2D: {filters: 16, kernel_size: 3, activation: relu}}, MaxPooling2D, Flatten"),
}


def text(case: str) -> str:
    seen, layers = CASES[case]
    return RECIPE.replace("SEEN", seen).replace("LAYERS", layers)


def run(folder: Path, case: str, *sets: str, **more: Any) -> Outcome:
    made = text(case)
    return fit(loaded(made, *sets), Options(runs=folder, device="cpu", **more), made.encode(), None)


@pytest.mark.parametrize("case", CASES)
def test_training_is_that_of_autograd_by_any_threads(tmp_path: Path, case: str) -> None:
    plain = run(tmp_path, case, engine="plain")
    for threads in (1, 2, 3):
        ours = shared_by(threads, lambda: run(tmp_path, case))
        assert record(ours)["steps_by"] == "compiled code"
        hold_alike(plain, ours)


BY_AUTOGRAD = {"both ways", "both ways behind a mask", "steps behind a mask"}
"In bfloat16, in part: layers that hand their weights to others of a number type."


@pytest.mark.parametrize("case", [case for case in CASES if CASES[case][0] == WORDS or "behind" in case])
def test_half_precision_is_that_of_autograd(tmp_path: Path, case: str) -> None:
    """And a run is judged later as it was at its end."""
    plain, ours = (run(tmp_path, case, "model.dtype=mixed_bfloat16", engine=engine) for engine in ("plain", "auto"))
    found = record(ours)["steps_by"]
    assert found == ("operations in a row, some layers compiled" if case in BY_AUTOGRAD else "compiled code")
    for key in ("loss", "val_loss"):
        np.testing.assert_allclose(ours.history[key], plain.history[key], rtol=5e-3)
    opened = OpenRun(RunDirectory(ours.directory), Options(runs=tmp_path, device="cpu"))
    assert measure(opened, opened.rows("validation"))[0]["loss"] == ours.history["val_loss"][-1]


@pytest.mark.parametrize("case", ["words", "rows"])
@pytest.mark.parametrize("rows", [350, 340])
def test_a_stopped_run_goes_on_to_the_bit(
    case: str, rows: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a short batch at the end of an epoch, or without."""
    monkeypatch.setattr(compiled, "MOST_STEPS", 4)
    sets = (f"dataset.limit={rows}",)
    whole = run(tmp_path / "whole", case, *sets)
    calls, call = iter(range(99)), compiled.Compiled.call

    def interrupted(self: compiled.Compiled, *given: Any) -> None:
        call(self, *given)
        if next(calls) == 6:
            self.training.signalled.got = 2  # pyright: ignore[reportFunctionMemberAccess]

    with monkeypatch.context() as patched:
        patched.setattr(compiled.Compiled, "call", interrupted)
        with pytest.raises(Stopped):
            run(tmp_path / "cut", case, *sets)
    directory = RunDirectory.find(tmp_path / "cut", "last")
    outcome = resume(directory, Options(runs=tmp_path / "cut", device="cpu"))
    assert record(outcome)["steps_by"] == "compiled code"
    assert outcome.history == whole.history
    for mine, theirs in zip(weights(outcome), weights(whole), strict=True):
        np.testing.assert_array_equal(mine, theirs)


def test_a_run_whose_layers_alone_were_compiled_goes_on_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiled, "WORTHWHILE", 1e9)
    sets = ("compile.jit_compile=auto",)
    whole, step = run(tmp_path / "whole", "words", *sets), Training.step

    def interrupted(self: Training, batch: Batch) -> None:
        step(self, batch)
        if (self.epoch, self.batch) == (1, 7):
            self.signalled.got = 2  # pyright: ignore[reportFunctionMemberAccess]

    with monkeypatch.context() as patched:
        patched.setattr(Training, "step", interrupted)
        with pytest.raises(Stopped):
            run(tmp_path / "cut", "words", *sets)
    directory = RunDirectory.find(tmp_path / "cut", "last")
    outcome = resume(directory, Options(runs=tmp_path / "cut", device="cpu"))
    assert record(outcome)["steps_by"] == "operations in a row, some layers compiled"
    assert outcome.history == whole.history


def test_ids_that_come_in_half_precision_are_the_ids(tmp_path: Path) -> None:
    """What a layer in bfloat16 makes of ids is told apart as numbers, not by its bits."""
    seen, layers = CASES["words"]
    made = RECIPE.replace("SEEN", seen).replace("LAYERS", f"{{Activation: {{activation: relu}}}}, {layers}")
    found = []
    for engine in ("plain", "auto"):
        options = Options(runs=tmp_path, device="cpu", engine=engine)
        found.append(fit(loaded(made, "model.dtype=mixed_bfloat16"), options, made.encode(), None))
    assert record(found[1])["steps_by"] == "compiled code"
    np.testing.assert_allclose(found[1].history["loss"], found[0].history["loss"], rtol=0.02)


@pytest.mark.parametrize("case", ["words", "vectors alone"])
@pytest.mark.parametrize("threads", [1, 2])
def test_ids_out_of_range_are_told(tmp_path: Path, case: str, threads: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ids that a layer made; those of an input are looked at before the first step."""
    looks: list[object] = []
    for operation in (Known, LookUp):
        look = operation.__call__

        def later(self: Any, look: Any = look) -> None:
            looks.append(self)
            if len(looks) <= 2:
                self.ids.clamp_(max=31)
            look(self)

        monkeypatch.setattr(operation, "__call__", later)
    seen, layers = CASES[case]
    doubled = f"{{Add: {{inputs: [image, image], name: ids}}}}, {layers.replace('input_dim: 17', 'input_dim: 32')}"
    made = RECIPE.replace("SEEN", seen).replace("LAYERS", doubled)
    with pytest.raises(DataError, match=r"expected ids from 0 to 31 \(Embedding.input_dim is 32\), found 32 in row"):
        shared_by(threads, lambda: fit(loaded(made), Options(runs=tmp_path, device="cpu"), made.encode(), None))
    # When each of two programs was made, and once told by the steps.
    assert len(looks) == 3
