"""Lists of ids in compiled steps, which add up a kernel's rows where they lie: what autograd makes of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.train.recipes import loaded
from tests.train.test_compiled import shared_by
from tests.train.test_direct import hold_alike, record, weights
from trainer.cli.using import measure
from trainer.layers.bags import Bags
from trainer.native.compiler import compiler
from trainer.native.operations import CUTS, Resident
from trainer.runs.directory import RunDirectory
from trainer.train import compiled
from trainer.train.job import Options, Outcome, fit, resume
from trainer.train.progress import Stopped
from trainer.train.use import OpenRun

pytestmark = pytest.mark.skipif(compiler() is None, reason="there is no C compiler")

RECIPE = """
name: listed
seed: 3
dataset:
  source: imdb
  inputs: {words: {preprocess: [{CategoryEncoding: {num_tokens: 300, output_mode: multi_hot}}]}}
  targets: {label: {}}
model: {layers: [LAYERS, {Dense: {units: 1, activation: sigmoid}}]}
compile: {optimizer: rmsprop, loss: binary_crossentropy, metrics: [accuracy], jit_compile: true}
fit: {epochs: 3, batch_size: 32, validation_split: 0.2}
"""
CASES = {
    "fewer units than a vector": "{Dense: {units: 7, activation: relu}}",
    "a vector of units": "{Dense: {units: 16, activation: tanh}}, {Dropout: {rate: 0.3}}, {Dense: {units: 5}}",
    "many units": "{Dense: {units: 131, activation: relu}}",
    "penalized": "{Dense: {units: 20, use_bias: false, kernel_regularizer: {L2: {l2: 0.01}}}}, Tanh",
    "frozen": "{Dense: {units: 64, activation: relu, trainable: false}}, {Dense: {units: 4}}",
    "read twice": "{Dense: {units: 8, name: a, activation: relu}}, {Dense: {units: 3, inputs: words, name: b}}, "
    "{Concatenate: {inputs: [a, b]}}",
    "by one layer twice": "{Dense: {units: 8, name: a}}, {a: {inputs: words, name: b}}, "
    "{Concatenate: {inputs: [a, b]}}",
}


@pytest.fixture
def texts(tmp_path: Path) -> Path:
    """A folder with a small imdb.npz, in which some texts are empty and some words stand in most of them."""
    random, arrays = np.random.default_rng(0), {}
    for part, count in (("train", 190), ("test", 40)):
        lists = np.empty(count, object)
        lists[:] = [(random.zipf(1.4, random.integers(0, 60)) % 290).tolist() for _ in range(count)]
        arrays |= {f"x_{part}": lists, f"y_{part}": random.integers(0, 2, count)}
    np.savez(tmp_path / "imdb.npz", allow_pickle=True, **arrays)
    return tmp_path


def run(data: Path, case: str, *sets: str, runs: Path | None = None, **more: Any) -> Outcome:
    text = RECIPE.replace("LAYERS", CASES[case])
    if "Tanh" in text:
        text = text.replace("Tanh", "{Activation: {activation: tanh}}")
    options = Options(runs=runs or data / "runs", data=data, device="cpu", **more)
    return fit(loaded(text, *sets), options, text.encode(), None)


@pytest.mark.parametrize("case", CASES)
def test_training_is_that_of_autograd_by_any_threads(texts: Path, case: str) -> None:
    plain = run(texts, case, engine="plain")
    made = [shared_by(threads, lambda: run(texts, case)) for threads in (1, 2, 3)]
    for ours in made:
        assert record(ours)["steps_by"] == "compiled code"
        hold_alike(plain, ours)
    for two, three in zip(*map(weights, made[1:]), strict=True):
        # Threads take whole sums.
        np.testing.assert_array_equal(two, three)


def test_a_run_is_judged_later_as_it_was(texts: Path) -> None:
    ours = run(texts, "a vector of units")
    opened = OpenRun(RunDirectory(ours.directory), Options(runs=texts, data=texts, device="cpu"))
    assert measure(opened, opened.rows("validation"))[0]["loss"] == ours.history["val_loss"][-1]


def test_a_stopped_run_goes_on_to_the_bit(texts: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiled, "MOST_STEPS", 2)
    whole, calls, call = run(texts, "a vector of units"), iter(range(99)), compiled.Compiled.call

    def interrupted(self: compiled.Compiled, *given: Any) -> None:
        call(self, *given)
        if next(calls) == 4:
            self.training.signalled.got = 2  # pyright: ignore[reportFunctionMemberAccess]

    with monkeypatch.context() as patched:
        patched.setattr(compiled.Compiled, "call", interrupted)
        with pytest.raises(Stopped):
            run(texts, "a vector of units", runs=texts / "cut")
    outcome = resume(RunDirectory.find(texts / "cut", "last"), Options(runs=texts / "cut", data=texts, device="cpu"))
    assert record(outcome)["steps_by"] == "compiled code"
    assert outcome.history == whole.history
    for mine, theirs in zip(weights(outcome), weights(whole), strict=True):
        np.testing.assert_array_equal(mine, theirs)


@pytest.mark.parametrize("case", CASES)
def test_half_precision_is_that_of_autograd(texts: Path, case: str) -> None:
    """But for sums in another order, which are rounded another way here and there."""
    plain, ours = (run(texts, case, "model.dtype=mixed_bfloat16", engine=engine) for engine in ("plain", "auto"))
    assert record(ours)["steps_by"] == "compiled code"
    for key in ("loss", "val_loss"):
        np.testing.assert_allclose(ours.history[key], plain.history[key], rtol=5e-3)


def test_what_lists_save_is_weighed(texts: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """15 steps of a small model are worth no compiling, but with long lists they are."""
    monkeypatch.setattr(compiled, "WORTHWHILE", 0.005)
    few = run(texts, "a vector of units", "compile.jit_compile=auto")
    assert record(few)["steps_by"] == "operations in a row"
    monkeypatch.setattr(compiled, "LISTING", 1e-6)
    assert record(run(texts, "a vector of units", "compile.jit_compile=auto"))["steps_by"] == "compiled code"


def test_zeros_are_no_work(texts: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor do they make a step a large one that is left to libraries."""
    monkeypatch.setattr(compiled, "WORTHWHILE", 0)
    monkeypatch.setattr(compiled, "LARGE_STEP", 32 * 300 * 16)
    assert record(run(texts, "a vector of units", "compile.jit_compile=auto"))["steps_by"] == "compiled code"
    monkeypatch.setattr(compiled, "LARGE_STEP", 32 * 16)
    assert record(run(texts, "a vector of units", "compile.jit_compile=auto"))["steps_by"] == "operations in a row"


@pytest.mark.parametrize("rows", [[], [[]], [[0] * 9], [list(range(100))], [[7], [7, 8], [299]]], ids=str)
def test_cuts_leave_out_no_column(rows: list[list[int]]) -> None:
    offsets = np.cumsum([0, *map(len, rows)])
    bags = Bags.of(np.array([n for row in rows for n in row], "int32"), offsets, 300)
    cuts = Resident(bags.places, bags.offsets, 300, 1).cuts()
    assert (len(cuts), cuts[0], cuts[-1]) == (CUTS + 1, 0, 300)
    assert cuts.dtype == torch.int32
    assert bool((cuts.diff() >= 0).all())
