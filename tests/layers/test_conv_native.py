"""Convolutions and the pooling after them as compiled code: outputs and slopes of autograd, and when they step in."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from tests.train.recipes import loaded
from tests.train.test_direct import hold_alike, record
from trainer.cli.using import measure
from trainer.layers.conv_native import PooledConvolution
from trainer.native import calls
from trainer.native.compiler import compiler
from trainer.program import Program
from trainer.runs.directory import RunDirectory
from trainer.train.job import Options, Outcome, fit
from trainer.train.use import OpenRun

pytestmark = pytest.mark.skipif(compiler() is None, reason="needs a C compiler")

SIZES = {
    "one channel": ((9, 1, 12, 12), (16, 3, 3), (2, 2), 0),
    "three channels": ((5, 3, 14, 15), (48, 3, 3), (3, 4), 0),
    "long rows": ((6, 40, 9, 11), (32, 3, 3), (2, 2), 0),
    "rows of any length": ((4, 37, 8, 8), (16, 2, 5), (2, 1), 0),
    "zeros around": ((4, 16, 9, 7), (80, 3, 3), (2, 2), 1),
    "many places": ((3, 5, 13, 9), (16, 2, 2), (6, 4), 0),
    "one window": ((3, 17, 6, 6), (16, 3, 3), (4, 4), 0),
    "what windows leave": ((3, 4, 11, 11), (32, 1, 1), (4, 3), 0),
    "many windows": ((2, 16, 84, 80), (16, 3, 3), (2, 2), 0),
    "tiles": ((5, 32, 13, 13), (64, 3, 3), (2, 2), 0),
    "tiles that overlap": ((3, 64, 9, 43), (32, 2, 3), (3, 2), 1),
    "tiles of few places": ((3, 32, 5, 5), (96, 1, 1), (2, 2), 0),
}


def drawn(name: str, random: torch.Generator) -> list[torch.Tensor]:
    """A batch, a kernel and a bias of these sizes."""
    (batch, channels, height, width), (filters, rows, columns), *_ = SIZES[name]
    shapes = (batch, height, width, channels), (rows, columns, channels, filters), (filters,)
    return [torch.randn(shape, generator=random) for shape in shapes]


@pytest.mark.parametrize("name", SIZES)
@pytest.mark.parametrize("with_bias", [False, True])
def test_outputs_and_slopes_are_those_of_autograd(name: str, with_bias: bool, threads: int) -> None:
    *_, window, around = SIZES[name]
    random = torch.Generator().manual_seed(3)
    x, kernel, bias = (t.requires_grad_() for t in drawn(name, random))
    planes = F.pad(x.permute(0, 3, 1, 2), (around,) * 4)
    made = F.conv2d(planes, kernel.permute(3, 2, 0, 1), bias if with_bias else None)
    expected = F.max_pool2d(made, window).permute(0, 2, 3, 1)
    # Half of the slopes are zero, as behind a relu.
    slope = torch.randn(expected.shape, generator=random).relu()
    weights = [kernel, *([bias] if with_bias else [])]
    of_x, *slopes = torch.autograd.grad(expected, [x, *weights], slope)
    views = {id(weight): torch.full_like(weight, 7.0).detach() for weight in weights}
    with torch.no_grad():
        program = Program(views)
        both = PooledConvolution(
            x.detach(), kernel, bias if with_bias else None, window, (around,) * 2, expected.shape[1:3]
        )
        out, pull = both.operations(program)
        found = pull(slope.clone(), True)
        # Nothing of the first run is left over in the second.
        program.run()
    assert program.complete()
    close(out, expected)
    assert found is not None
    close(found, of_x)
    for ours, theirs in zip(views.values(), slopes, strict=True):
        close(ours, theirs)


def close(ours: torch.Tensor, theirs: torch.Tensor) -> None:
    scale = float(theirs.detach().abs().max())
    np.testing.assert_allclose(ours.numpy() / scale, theirs.detach().numpy() / scale, atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", SIZES)
@pytest.mark.parametrize("with_bias", [False, True])
def test_half_precision_is_rounded_once(name: str, with_bias: bool, threads: int) -> None:
    """Outputs and slopes are those of the same numbers in float32, rounded; slopes of weights are not rounded."""
    *_, window, around = SIZES[name]
    random = torch.Generator().manual_seed(3)
    x, kernel, bias = (t.bfloat16() for t in drawn(name, random))
    sizes = zip(x.shape[1:3], kernel.shape[:2], window, strict=True)
    out = [(n + 2 * around - k + 1) // w for n, k, w in sizes]
    slope = torch.randn(len(x), *out, len(bias), generator=random).relu().bfloat16()
    made: list[list[torch.Tensor]] = []
    for dtype in (torch.bfloat16, torch.float32):
        held = [weight.to(dtype, copy=True) for weight in (kernel, bias)][: 1 + with_bias]
        views = {id(weight): torch.full(weight.shape, 7.0) for weight in held}
        program = Program(views)
        both = PooledConvolution(x.to(dtype), held[0], held[1] if with_bias else None, window, (around,) * 2, out)
        outputs, pull = both.operations(program)
        of_x = pull(slope.to(dtype), True)
        assert of_x is not None
        # Weights that have moved are read anew.
        held[0].mul_(-0.5)
        program.run()
        made.append([outputs, of_x, *views.values()])
    assert {t.dtype for t in made[0][:2]} == {torch.bfloat16}
    for ours, exact in zip(made[0], made[1], strict=True):
        digits = 2.0**-8 if ours.dtype == torch.bfloat16 else 0
        room = digits * exact.abs() + 1e-5 * exact.abs().max()
        assert ((ours.float() - exact).abs() <= room).float().mean() >= 0.999
        np.testing.assert_allclose(float(ours.float().norm()), float(exact.norm()), rtol=1e-3)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_no_rows_make_none(dtype: torch.dtype) -> None:
    kernel = torch.ones(3, 3, 2, 16, dtype=dtype)
    both = PooledConvolution(torch.ones(0, 8, 8, 2, dtype=dtype), kernel, None, (2, 2), (0, 0), (3, 3))
    both.there()
    assert both.outputs.shape == (0, 3, 3, 16)


@pytest.mark.parametrize("window", [(2, 2), (3, 3), (5, 5), (2, 3)])
def test_what_is_no_number_stays_none(window: tuple[int, int]) -> None:
    """In whichever place of its window it stands; and the slopes go to places that there are."""
    places, (high, wide) = window[0] * window[1], window
    x = torch.zeros(places, 2 * high, 2 * wide, 16)
    for n in range(places):
        x[n, n // wide, n % wide] = torch.nan
    kernel = torch.ones(1, 1, 16, 32)
    with torch.no_grad():
        program = Program({id(kernel): torch.empty_like(kernel)})
        out, pull = PooledConvolution(x, kernel, None, window, (0, 0), (2, 2)).operations(program)
        slopes = pull(torch.ones_like(out), True)
    assert torch.isnan(out[:, 0, 0]).all()
    assert (out[:, 1] == 0).all()
    assert (out[:, 0, 1] == 0).all()
    assert slopes is not None
    # A window hands on as much as it is given, to the place of its largest sum.
    for n in range(places):
        assert (slopes[n, n // wide, n % wide] == 32).all()
    np.testing.assert_array_equal(slopes.sum((1, 2)).numpy(), 4 * 32)


RECIPE = """
name: pictures
seed: 3
dataset:
  source: digits
  inputs: {image: {preprocess: [{Reshape: {target_shape: SHAPE}}, {Rescaling: {scale: 1/16}}]}}
  split: {test: {last: 300}}
  limit: 500
model:
  layers:
    LAYERS
    - Flatten: {name: flat}
    - Dense: {units: 10, activation: softmax}
compile: {optimizer: {SGD: {learning_rate: 0.05, momentum: 0.9}}, loss: sparse_categorical_crossentropy}
fit: {epochs: 4, batch_size: 33, validation_split: 0.2}
"""
COMPILED = "operations in a row, some layers compiled"
CONV = "Conv2D: {filters: 16, kernel_size: 3, activation: relu}"
POOL = "MaxPooling2D: {name: pool}"
MODELS: dict[str, tuple[str, list[str]]] = {
    "twice": ("[8, 8, 1]", [CONV.replace("3, ", "3, padding: same, "), POOL, CONV.replace("3,", "2,"), "MaxPooling2D"]),
    "without activation and bias": ("[8, 8, 1]", ["Conv2D: {filters: 32, kernel_size: [2, 3], use_bias: false}", POOL]),
    "penalties": ("[8, 8, 1]", [CONV.replace("relu", "relu, kernel_regularizer: l2"), POOL]),
    "frozen": (
        "[8, 8, 1]",
        ["Conv2D: {filters: 3, kernel_size: 1}", f"{CONV[:-1]}, trainable: false}}", POOL],
    ),
    "in time": ("[16, 4]", ["Conv1D: {filters: 16, kernel_size: 3, activation: relu}", "MaxPooling1D: {pool_size: 3}"]),
    "zeros in time": ("[16, 4]", ["Conv1D: {filters: 16, kernel_size: 4, padding: same}", "MaxPooling1D"]),
}
ALONE: dict[str, tuple[str, list[str]]] = {
    "strides": ("[8, 8, 1]", [CONV.replace("3, ", "3, strides: 2, "), POOL]),
    "dilation": ("[8, 8, 1]", [CONV.replace("3, ", "3, dilation_rate: 2, "), POOL]),
    "windows that overlap": ("[8, 8, 1]", [CONV, "MaxPooling2D: {pool_size: 3, strides: 2}"]),
    "windows over the ends": ("[8, 8, 1]", [CONV, "MaxPooling2D: {pool_size: 4, padding: same}"]),
    "channels first": ("[8, 8, 1]", ["Permute: {dims: [3, 1, 2]}", f"{CONV[:-1]}, data_format: channels_first}}",
                       "MaxPooling2D: {data_format: channels_first}"]),
    "another activation": ("[8, 8, 1]", [CONV.replace("relu", "gelu"), POOL]),
    "filters": ("[8, 8, 1]", [CONV.replace("16", "12"), POOL]),
    "groups": ("[8, 8, 1]", ["Conv2D: {filters: 4, kernel_size: 1}", CONV.replace("3, ", "3, groups: 2, "), POOL]),
    "means": ("[8, 8, 1]", [CONV, "AveragePooling2D: {pool_size: 2}"]),
    "something between": ("[8, 8, 1]", [CONV, "LayerNormalization", POOL]),
    "one place": ("[8, 8, 1]", [CONV, "MaxPooling2D: {pool_size: 1}"]),
    "causal": ("[16, 4]", ["Conv1D: {filters: 16, kernel_size: 3, padding: causal}", "MaxPooling1D"]),
    "a number type": ("[8, 8, 1]", [CONV.replace("3, ", "3, dtype: mixed_bfloat16, "), POOL]),
    "a number type after": ("[8, 8, 1]", [CONV, "MaxPooling2D: {dtype: mixed_bfloat16}"]),
    "two that read": ("[8, 8, 1]", [CONV.replace("filters", "name: c, filters"), POOL,
                      "Flatten: {name: other, inputs: c}", "Flatten: {name: one, inputs: pool}",
                      "Concatenate: {inputs: [one, other]}"]),
}  # fmt: skip


def run(folder: Path, model: tuple[str, list[str]], *sets: str, **options: Any) -> Outcome:
    shape, layers = model
    lines = "\n    ".join(f"- {line}" for line in layers)
    text = RECIPE.replace("SHAPE", shape).replace("LAYERS", lines)
    return fit(loaded(text, *sets), Options(runs=folder, device="cpu", **options), text.encode(), None)


@pytest.mark.parametrize("case", MODELS)
def test_training_is_that_of_autograd(case: str, tmp_path: Path) -> None:
    plain, ours = (run(tmp_path, MODELS[case], engine=engine) for engine in ("plain", "auto"))
    assert record(ours)["steps_by"] == COMPILED
    hold_alike(plain, ours)


@pytest.mark.parametrize("case", MODELS)
def test_half_precision_trains_beside_autograd(case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And is judged by the same code as float32 is."""
    called: list[str] = []
    before = calls.Call.run
    monkeypatch.setattr(calls.Call, "run", lambda call, name: (called.append(name), before(call, name))[1])
    half = "model.dtype=mixed_bfloat16"
    plain, ours = (run(tmp_path, MODELS[case], half, engine=engine) for engine in ("plain", "auto"))
    assert record(ours)["steps_by"] == COMPILED
    for key in ("loss", "val_loss"):
        np.testing.assert_allclose(ours.history[key], plain.history[key], rtol=0.01)
    called.clear()
    opened = OpenRun(RunDirectory(ours.directory), Options(runs=tmp_path, device="cpu"))
    found, _, _ = measure(opened, opened.rows("validation"))
    assert found["loss"] == ours.history["val_loss"][-1]
    assert set(called) == {"pooled_forward"}


@pytest.mark.parametrize("case", ALONE)
def test_other_layers_go_one_by_one(case: str, tmp_path: Path) -> None:
    plain, ours = (run(tmp_path, ALONE[case], engine=engine) for engine in ("plain", "auto"))
    assert "compiled" not in record(ours)["steps_by"]
    if "a number type" not in case:
        hold_alike(plain, ours)


@pytest.mark.parametrize("engine", ["plain", "auto"])
def test_a_run_is_judged_later_as_it_was_at_its_end(
    engine: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To the bit, by the same code; what lies between the two layers can be asked for all the same."""
    outcome = run(tmp_path, MODELS["twice"], engine=engine)
    called: list[str] = []
    before = calls.Call.run
    monkeypatch.setattr(calls.Call, "run", lambda call, name: (called.append(name), before(call, name))[1])
    opened = OpenRun(RunDirectory(outcome.directory), Options(runs=tmp_path, device="cpu"))
    rows = opened.rows("validation")
    found, outputs, _ = measure(opened, rows)
    assert found["loss"] == outcome.history["val_loss"][-1]
    assert set(called) == ({"pooled_forward"} if engine == "auto" else set())
    assert opened.built.network.clock.joins == (engine == "auto")
    called.clear()
    xs = [slot.rows(slice(None)) for slot in opened.built.feed(rows).xs]
    graph = opened.built.graph
    with torch.inference_mode():
        network = opened.built.network.eval()
        inner, out = (made for made in network.run(*xs, want=[graph.tensor("conv2d"), *graph.outputs.values()]).outputs)
    assert not called
    assert inner.shape[1:] == (8, 8, 16)
    np.testing.assert_allclose(out.numpy(), next(iter(outputs.values())), atol=1e-6)


def test_layers_that_are_read_by_others_too_are_judged_alone(tmp_path: Path) -> None:
    shape, layers = ALONE["two that read"]
    both = ["Conv2D: {filters: 16, kernel_size: 2, inputs: pool}", "MaxPooling2D", "Flatten: {name: e}"]
    both.append("Concatenate: {inputs: [one, other, e]}")
    plain, ours = (run(tmp_path, (shape, [*layers[:-1], *both]), engine=engine) for engine in ("plain", "auto"))
    assert record(ours)["steps_by"] == COMPILED
    hold_alike(plain, ours)


def test_fewer_pictures_than_threads() -> None:
    before, random = torch.get_num_threads(), torch.Generator().manual_seed(1)
    x, kernel = torch.randn(2, 9, 8, 3, generator=random), torch.randn(3, 3, 3, 16, generator=random)
    try:
        torch.set_num_threads(5)
        with torch.no_grad():
            out, _ = PooledConvolution(x, kernel, None, (2, 2), (0, 0), (3, 3)).operations(Program({}))
    finally:
        torch.set_num_threads(before)
    close(out, F.max_pool2d(F.conv2d(x.permute(0, 3, 1, 2), kernel.permute(3, 2, 0, 1)), 2).permute(0, 2, 3, 1))
