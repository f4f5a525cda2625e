"""BatchNormalization, and a relu behind it, as compiled code: outputs and slopes in double, and when it steps in."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.train.recipes import loaded
from tests.train.test_direct import hold_alike, record
from trainer.cli.using import measure
from trainer.layers.normalization_native import NormalizedBatch
from trainer.native import calls
from trainer.native.compiler import compiler
from trainer.program import Program
from trainer.runs.directory import RunDirectory
from trainer.train import compiled
from trainer.train.job import Options, Outcome, fit
from trainer.train.use import OpenRun

pytestmark = pytest.mark.skipif(compiler() is None, reason="needs a C compiler")

SIZES = [(1, 16), (7, 16), (300, 32), (257, 48), (90, 64), (600, 112), (5, 4096), (3, 5, 7, 144)]
EPSILON = 1e-3


def drawn(size: tuple[int, ...], half: bool) -> tuple[torch.Tensor, ...]:
    """(x, gamma, beta, mean, variance, slope)"""
    random = torch.Generator().manual_seed(sum(size))
    x, slope = (torch.randn(size, generator=random) * 2 + 1 for _ in range(2))
    gamma, beta, mean = (torch.randn(size[-1], generator=random) for _ in range(3))
    variance = torch.rand(size[-1], generator=random) + 0.1
    if half:
        x, slope = x.bfloat16(), slope.bfloat16()
    return x, gamma, beta, mean, variance, slope


def expected(x: Any, gamma: Any, beta: Any, given: Any, slope: Any, relu: bool) -> list[torch.Tensor]:
    """Outputs and slopes (of x, gamma and beta), all in double."""
    x, gamma, beta = (t.double().requires_grad_() for t in (x, gamma, beta))
    rows = x.reshape(-1, x.shape[-1])
    mean, variance = (t.double() for t in given or (rows.mean(0), rows.var(0, correction=0)))
    y = (x - mean) / torch.sqrt(variance + EPSILON) * gamma + beta
    if relu:
        y = torch.relu(y)
    return [y.detach(), *torch.autograd.grad(y, [x, gamma, beta], slope.double())]


@pytest.mark.parametrize("half", [False, True])
@pytest.mark.parametrize("size", SIZES)
def test_outputs_and_slopes_are_those_of_autograd_in_double(size: tuple[int, ...], half: bool, threads: int) -> None:
    x, gamma, beta, mean, variance, slope = drawn(size, half)
    for moves, relu in itertools.product([False, True], repeat=2):
        given = None if moves else (mean, variance)
        theirs = expected(x, gamma, beta, given, slope, relu)
        views = {id(weight): torch.full_like(weight, 7.0) for weight in (gamma, beta)}
        program = Program(views)
        both = NormalizedBatch(x, gamma, beta, given, EPSILON, relu)
        out, pull = both.operations(program)
        arrived = slope.clone()
        of_x = pull(arrived, True)
        assert program.complete()
        # Nothing of the first run is left over in the second.
        arrived.copy_(slope)
        program.run()
        assert of_x is not None
        assert out.dtype == of_x.dtype == x.dtype
        for ours, other, coarse in zip((out, of_x, *views.values()), theirs, (half, half, False, False), strict=True):
            scale = float(other.abs().max()) or 1.0
            # Half precision rounds what comes out by 2**-9 at most; sums are rounded nowhere.
            bounds = {"rtol": 2**-8, "atol": 1e-5} if coarse else {"rtol": 0, "atol": 2e-6}
            np.testing.assert_allclose(ours.double().numpy() / scale, other.numpy() / scale, **bounds)


@pytest.mark.parametrize("which", ["gamma", "beta", "both", "neither"])
def test_factors_and_shifts_may_be_missing(which: str) -> None:
    x, gamma, beta, *_, slope = drawn((50, 32), False)
    ones, zeros = torch.ones(32), torch.zeros(32)
    has = {"gamma": which in ("gamma", "both"), "beta": which in ("beta", "both")}
    y, of_x, *slopes = expected(
        x, gamma if has["gamma"] else ones, beta if has["beta"] else zeros, None, slope, relu=True
    )
    views = {id(t): torch.empty(32) for t, name in ((gamma, "gamma"), (beta, "beta")) if has[name]}
    both = NormalizedBatch(x, gamma if has["gamma"] else None, beta if has["beta"] else None, None, EPSILON, True)
    program = Program(views)
    out, pull = both.operations(program)
    found = pull(slope.clone(), True)
    assert found is not None
    kept = [s for s, name in zip(slopes, has, strict=True) if has[name]]
    for ours, theirs in zip((out, found, *views.values()), (y, of_x, *kept), strict=True):
        np.testing.assert_allclose(ours.numpy(), theirs.numpy(), atol=2e-5, rtol=1e-5)


def test_slopes_of_the_input_are_made_only_where_they_are_wanted() -> None:
    x, gamma, beta, *_, slope = drawn((50, 32), False)
    *_, of_gamma, _ = expected(x, gamma, beta, None, slope, relu=False)
    views = {id(gamma): torch.empty(32)}
    _, pull = NormalizedBatch(x, gamma, beta, None, EPSILON, False).operations(Program(views))
    arrived = slope.clone()
    assert pull(arrived, False) is None
    np.testing.assert_array_equal(arrived.numpy(), slope.numpy())
    np.testing.assert_allclose(views[id(gamma)].numpy(), of_gamma.numpy(), rtol=1e-5, atol=1e-5)


def test_moments_hold_far_from_zero() -> None:
    """Where squares that are added up leave nothing of the variance."""
    x = torch.randn(5000, 16, generator=torch.Generator().manual_seed(0)) + 3000
    both = NormalizedBatch(x, None, None, None, EPSILON, False)
    both.there()
    np.testing.assert_allclose(both.mean.numpy(), x.double().mean(0).numpy(), rtol=1e-7)
    np.testing.assert_allclose(both.variance.numpy(), x.double().var(0, correction=0).numpy(), rtol=1e-5)


@pytest.mark.parametrize("half", [False, True])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_what_is_no_number_stays_in_its_feature(value: float, half: bool) -> None:
    x, *_ = drawn((40, 32), half)
    x[11, 5] = value
    both = NormalizedBatch(x, None, None, None, EPSILON, True)
    both.there()
    assert torch.isnan(both.outputs[:, 5] if np.isnan(value) else both.outputs[11, 5]).all()
    others = torch.arange(32) != 5
    assert torch.isfinite(both.outputs[:, others]).all()


def test_half_precision_is_rounded_as_torch_rounds_it() -> None:
    """To the nearest, and to even between two: every pattern of 16 bits times a number that needs rounding."""
    x = torch.arange(-(2**15), 2**15, dtype=torch.int32).to(torch.int16).view(torch.bfloat16).view(-1, 16)
    gamma = torch.tensor([1 + 2.0**-8, 1.5, 1 / 3, 0.75] * 4)
    given = torch.zeros(16), torch.full((16,), 1 - EPSILON)
    both = NormalizedBatch(x, gamma, None, given, float(1 - np.float64(given[1][0])), False)
    both.there()
    theirs = (x.float() * gamma).bfloat16()
    # Numbers below 2**-126 may count as zero.
    plain = (theirs.float().abs() >= 2.0**-126) | torch.isnan(theirs)
    assert plain.sum() > 60000
    np.testing.assert_array_equal(both.outputs[plain].float().numpy(), theirs[plain].float().numpy())


RECIPE = """
name: pictures
seed: 3
dataset:
  source: digits
  inputs: {image: {preprocess: [{Reshape: {target_shape: [8, 8, 1]}}, {Rescaling: {scale: 1/16}}]}}
  limit: 500
model:
  layers:
    - Conv2D: {filters: FILTERS, kernel_size: 3, strides: 2, use_bias: false}
    LAYERS
    - Flatten
    - Dense: {units: 10, activation: softmax}
compile: {optimizer: {SGD: {learning_rate: 0.05, momentum: 0.9}}, loss: sparse_categorical_crossentropy}
fit: {epochs: 4, batch_size: 33, validation_split: 0.2}
"""
NORM = "BatchNormalization: {momentum: 0.8}"
CONV = "Conv2D: {filters: 32, kernel_size: 2, name: second}"
WITH_IT: dict[str, list[str]] = {
    "relu": [NORM, "Activation: {activation: relu}", CONV, NORM, "ReLU"],
    "alone": [NORM, CONV],
    "another activation": [NORM, "Activation: {activation: tanh}"],
    "relu with a limit": [NORM, "ReLU: {max_value: 1}"],
    "leaky": [NORM, "LeakyReLU: {negative_slope: 0.1}"],
    "without factors": ["BatchNormalization: {scale: false}", "ReLU", "BatchNormalization: {center: false}"],
    "frozen": [CONV, "BatchNormalization: {trainable: false, moving_mean_initializer: {RandomNormal: {stddev: 0.1}}}",
               "ReLU"],
    "penalties": ["BatchNormalization: {gamma_regularizer: l2, beta_regularizer: l1}", "ReLU"],
    "read twice": ["BatchNormalization: {name: n}", "ReLU: {name: r}", "Add: {inputs: [n, r]}"],
    "the input": ["Reshape: {target_shape: [9, 16]}", NORM, "ReLU"],
    "features alone": ["GlobalAveragePooling2D", NORM, "ReLU", "Reshape: {target_shape: [1, 16]}"],
}  # fmt: skip
WITHOUT: dict[str, list[str]] = {
    "renorm": ["BatchNormalization: {renorm: true}"],
    "another axis": ["BatchNormalization: {axis: 1}"],
    "in float64": ["BatchNormalization: {dtype: float64}"],
}


HALF = ("model.dtype=mixed_bfloat16", "compile.optimizer={SGD: {learning_rate: 0.01}}")
"With steps that do not make much of what each of them rounds."


def run(folder: Path, layers: list[str], *sets: str, filters: int = 16, **options: Any) -> Outcome:
    lines = "\n    ".join(f"- {line}" for line in layers)
    text = RECIPE.replace("LAYERS", lines).replace("FILTERS", str(filters))
    return fit(loaded(text, *sets), Options(runs=folder, device="cpu", **options), text.encode(), None)


@pytest.mark.parametrize("case", WITH_IT)
def test_training_is_that_of_autograd(case: str, tmp_path: Path) -> None:
    plain, ours = (run(tmp_path, WITH_IT[case], engine=engine) for engine in ("plain", "auto"))
    assert record(ours)["steps_by"] == "operations in a row, some layers compiled"
    hold_alike(plain, ours)


@pytest.mark.parametrize("case", WITHOUT)
def test_other_forms_go_as_they_went(case: str, tmp_path: Path) -> None:
    plain, ours = (run(tmp_path, WITHOUT[case], engine=engine) for engine in ("plain", "auto"))
    assert "compiled" not in record(ours)["steps_by"]
    hold_alike(plain, ours)


def test_features_that_fill_no_vector_go_as_they_went(tmp_path: Path) -> None:
    plain, ours = (run(tmp_path, WITH_IT["relu"][:2], filters=12, engine=engine) for engine in ("plain", "auto"))
    assert record(ours)["steps_by"] == "operations in a row"
    hold_alike(plain, ours)


@pytest.mark.parametrize("case", ["relu", "alone", "leaky", "frozen"])
def test_half_precision_is_read_and_written_as_it_is(
    case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[tuple[torch.dtype, bool]] = []
    before = NormalizedBatch.__init__

    def noted(self: NormalizedBatch, x: torch.Tensor, *args: Any) -> None:
        made.append((x.dtype, args[-1]))
        before(self, x, *args)

    monkeypatch.setattr(NormalizedBatch, "__init__", noted)
    plain, ours = (run(tmp_path, WITH_IT[case], *HALF, engine=engine) for engine in ("plain", "auto"))
    assert record(ours)["steps_by"] == "operations in a row, some layers compiled"
    assert {dtype for dtype, _ in made} == {torch.bfloat16}
    assert {relu for _, relu in made} == {case in ("relu", "frozen")}
    for key, values in plain.history.items():
        np.testing.assert_allclose(ours.history[key], values, rtol=0.01, err_msg=key)


def test_a_run_that_is_judged_compiles_nothing_that_only_training_calls(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    outcome = run(tmp_path, WITH_IT["relu"])
    asked: list[str] = []
    monkeypatch.setattr(compiled, "get_ready", asked.append)
    opened = OpenRun(RunDirectory(outcome.directory), Options(runs=tmp_path, device="cpu"))
    found, _, _ = measure(opened, opened.rows("validation"))
    assert found["loss"] == outcome.history["val_loss"][-1]
    assert asked == []


def test_a_relu_of_another_number_type_goes_alone(tmp_path: Path) -> None:
    layers = [NORM, "ReLU: {dtype: float32}"]
    plain, ours = (run(tmp_path, layers, *HALF, engine=engine) for engine in ("plain", "auto"))
    for key, values in plain.history.items():
        np.testing.assert_allclose(ours.history[key], values, rtol=0.01, err_msg=key)


def test_without_a_compiler_nothing_is_called(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRAINER_WITHOUT", "compiled")
    monkeypatch.setattr(calls.Call, "run", None)
    for half in ((), HALF):
        assert record(run(tmp_path, WITH_IT["relu"], *half))["steps_by"] == "operations in a row"
