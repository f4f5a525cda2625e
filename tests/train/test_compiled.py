"""Steps of small models as compiled code: the histories and weights of autograd, and when it is chosen."""

from __future__ import annotations

import ctypes
import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.train.recipes import directory_of, loaded
from tests.train.test_direct import hold_alike, record, weights
from trainer.errors import RecipeError
from trainer.native import compiler, kept
from trainer.native.operations import Statements
from trainer.native.text import NotInC
from trainer.program import Program
from trainer.runs.directory import RunDirectory
from trainer.train import compiled, devices
from trainer.train.job import Options, Outcome, fit, resume
from trainer.train.progress import Stopped

RECIPE = """
name: compiled
seed: 4
dataset: {source: SOURCE, inputs: {INPUT: {preprocess: [PREPROCESS]}}, split: {test: {last: 50}}, limit: 350}
model:
  layers: [LAYERS]
compile: {optimizer: OPTIMIZER, loss: LOSS, metrics: [METRIC], jit_compile: JIT}
fit: {epochs: 3, batch_size: 16, validation_split: 0.2}
callbacks: [CALLBACKS]
"""
CLASSES = {
    "SOURCE": "digits",
    "INPUT": "image",
    "PREPROCESS": "{Reshape: {target_shape: [64]}}, {Rescaling: {scale: 1/16}}",
    "LAYERS": "{Dense: {units: 12, activation: relu}}, {Dense: {units: 10, activation: softmax}}",
    "OPTIMIZER": "adam",
    "LOSS": "sparse_categorical_crossentropy",
    "METRIC": "accuracy",
    "JIT": "true",
    "CALLBACKS": "",
}
NUMBERS = CLASSES | {
    "SOURCE": "diabetes",
    "INPUT": "features",
    "PREPROCESS": "Normalization",
    "LAYERS": "{Dense: {units: 64, activation: tanh}}, {Dense: {units: 9, use_bias: false}}, {Dense: {units: 1}}",
    "LOSS": "mse",
    "METRIC": "mae",
}
PENALIZED = CLASSES | {
    "LAYERS": "{Dense: {units: 150, activation: relu, kernel_regularizer: l2, bias_regularizer: {L1: {l1: 0.1}}}}, "
    "{Dense: {units: 8, kernel_regularizer: {L1L2: {l1: 0.001}}}}, "
    "{Dense: {units: 10, activation: softmax, kernel_regularizer: {L1L2: {l1: 0.01, l2: 0.02}}}}"
}
HIDDEN = "{{Dense: {{units: 20, activation: {0}}}}}, {{Dense: {{units: 10, activation: softmax}}}}"
ACTIVATIONS = ("sigmoid", "exponential", "relu6", "elu", "selu", "leaky_relu", "silu", "gelu", "tanh", "tanh_shrink")
CASES: dict[str, dict[str, str]] = {
    "classes": CLASSES,
    "numbers": NUMBERS,
    "a wide layer": NUMBERS | {"LAYERS": "{Dense: {units: 150, activation: relu}}, {Dense: {units: 1}}"},
    "dropout": CLASSES
    | {
        "LAYERS": "{Dense: {units: 24}}, {Dropout: {rate: 0.3}}, {GaussianNoise: {stddev: 0.1}}, "
        "{Dense: {units: 10, activation: softmax}}"
    },
    "two of one input": CLASSES
    | {
        "LAYERS": "{Dense: {units: 8, name: a}}, {Dense: {units: 8, inputs: a, name: b}}, {Add: {inputs: [a, b]}}, "
        "{Multiply: {inputs: [add, a]}}, {Dense: {units: 10, activation: softmax}}"
    },
    "frozen": CLASSES | {"LAYERS": "{Dense: {units: 12, trainable: false}}, {Dense: {units: 10, activation: softmax}}"},
    "one output": NUMBERS | {"LOSS": "huber", "OPTIMIZER": "{SGD: {learning_rate: 0.01}}"},
    **{f"loss {name}": NUMBERS | {"LOSS": name} for name in ("mae", "log_cosh", "mape")},
    **{f"activation {name}": CLASSES | {"LAYERS": HIDDEN.format(name)} for name in ACTIVATIONS},
    "rmsprop": NUMBERS | {"OPTIMIZER": "rmsprop"},
    "rmsprop, centered": NUMBERS | {"OPTIMIZER": "{rmsprop: {centered: true, momentum: 0.5}}"},
    "momentum": CLASSES | {"OPTIMIZER": "{SGD: {learning_rate: 0.05, momentum: 0.9}}"},
    "nesterov": CLASSES | {"OPTIMIZER": "{SGD: {learning_rate: 0.05, momentum: 0.9, nesterov: true}}"},
    "amsgrad": CLASSES | {"OPTIMIZER": "{adam: {amsgrad: true}}"},
    "decay": CLASSES | {"OPTIMIZER": "adamw"},
    "norms that are clipped": PENALIZED | {"OPTIMIZER": "{adam: {clipnorm: 0.05, weight_decay: 0.01}}"},
    "one norm of all": CLASSES | {"OPTIMIZER": "{SGD: {learning_rate: 0.5, momentum: 0.9, global_clipnorm: 0.3}}"},
    "values that are clipped": NUMBERS | {"OPTIMIZER": "{rmsprop: {clipvalue: 0.2}}"},
    **{
        f"optimizer {name}": CLASSES | {"OPTIMIZER": name}
        for name in ("nadam", "adamax", "adagrad", "{adadelta: {learning_rate: 0.5}}", "{lion: {weight_decay: 0.01}}")
    },
    "averages": CLASSES | {"OPTIMIZER": "{adam: {use_ema: true, ema_momentum: 0.9}}"},
    "averages that take the place of weights": PENALIZED
    | {"OPTIMIZER": "{rmsprop: {use_ema: true, ema_momentum: 0.7, ema_overwrite_frequency: 3, weight_decay: 0.01}}"},
    "constraints": CLASSES
    | {
        "LAYERS": "{Dense: {units: 20, activation: relu, kernel_constraint: {MaxNorm: {max_value: 0.5}}, "
        "bias_constraint: NonNeg}}, {Dense: {units: 12, kernel_constraint: {UnitNorm: {axis: [0, 1]}}}}, "
        "{Dense: {units: 10, activation: softmax, kernel_constraint: "
        "{MinMaxNorm: {min_value: 0.5, max_value: 0.8, rate: 0.6, axis: 1}}}}",
        "OPTIMIZER": "{adam: {use_ema: true, clipnorm: 0.5}}",
    },
    "penalties": PENALIZED,
    "penalties on batches that are judged one by one": NUMBERS
    | {
        "LAYERS": "{Dense: {units: 30, activation: relu, kernel_regularizer: l2}}, "
        "{Dense: {units: 1, bias_regularizer: l1}}",
        "METRIC": "{CosineSimilarity: {axis: 0}}",
    },
    "a schedule": CLASSES
    | {
        "OPTIMIZER": "{adam: {learning_rate: {ExponentialDecay: {initial_learning_rate: 0.01, decay_steps: 5, "
        "decay_rate: 0.9}}}}"
    },
    "rates that a callback moves": CLASSES
    | {"CALLBACKS": "{ReduceLROnPlateau: {monitor: loss, patience: 0, factor: 0.1, min_delta: 9}}"},
}


def text(parts: dict[str, str]) -> str:
    made = RECIPE
    for word, value in parts.items():
        made = made.replace(word, value, 1)
    return made


def run(folder: Path, parts: dict[str, str], **more: Any) -> Outcome:
    made = text(parts)
    return fit(loaded(made), Options(runs=folder, device="cpu", **more), made.encode(), None)


needs_compiler = pytest.mark.skipif(compiler.compiler() is None, reason="there is no C compiler")


@needs_compiler
@pytest.mark.parametrize("case", CASES)
def test_training_is_that_of_autograd(tmp_path: Path, case: str) -> None:
    plain, ours = (run(tmp_path, CASES[case], engine=engine) for engine in ("plain", "auto"))
    assert record(ours)["steps_by"] == "compiled code"
    assert record(plain)["steps_by"].startswith("autograd")
    hold_alike(plain, ours)


def run_by(threads: int, folder: Path, parts: dict[str, str], **more: Any) -> Outcome:
    """Train with steps that so many threads share."""
    return shared_by(threads, lambda: run(folder, parts, **more))


def shared_by(threads: int, fitted: Callable[[], Outcome]) -> Outcome:
    """What is trained with steps that so many threads share."""
    texts: list[str] = []
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(devices, "SMALL_STEP", 0)
        patched.setattr(compiled, "SHARED_STEP", 0)
        patched.setattr(devices, "cores", lambda: threads)
        patched.setattr(compiled, "library", lambda text: texts.append(text) or compiler.library(text))
        compiled._library.cache_clear()
        outcome = fitted()
    assert record(outcome)["threads"] == threads
    assert [text.startswith("#define SHARED") for text in texts] == [threads > 1]
    return outcome


@needs_compiler
@pytest.mark.parametrize("case", CASES)
def test_threads_that_share_the_steps_give_the_same(tmp_path: Path, case: str) -> None:
    alone, two, three = run(tmp_path, CASES[case]), *(run_by(n, tmp_path, CASES[case]) for n in (2, 3))
    hold_alike(alone, two)
    for a, b in zip(weights(two), weights(three), strict=True):
        # Threads take whole sums.
        np.testing.assert_array_equal(a, b)


SHAPES = [(128, 70, 33), (7, 200, 600), (1, 5, 1100), (45, 1, 40), (64, 64, 64), (13, 129, 513), (3, 17, 1)]


@needs_compiler
@pytest.mark.parametrize("threads", [1, 2, 3, 4, 7])
@pytest.mark.parametrize("layout", ["rows", "columns"])
@pytest.mark.parametrize("with_bias", [False, True])
def test_a_product_of_shares_is_the_product(threads: int, layout: str, with_bias: bool) -> None:
    library = compiler.library(SHARES)
    for m, n, k in SHAPES:
        draw = np.random.default_rng(m + n + k)
        left, right, bias = (draw.normal(size=s).astype("float32") for s in ((k, m), (k, n), (n,)))
        held = right if layout == "rows" else np.ascontiguousarray(right.T)
        steps = (n, 1) if layout == "rows" else (1, k)
        made = np.full((m, n), np.nan, "float32")
        pointers = [None if a is None else ctypes.c_void_p(a.ctypes.data) for a in (bias if with_bias else None, left)]
        sizes = [ctypes.c_long(number) for number in (m, n, k)]
        for me in range(threads):
            rest = [ctypes.c_long(number) for number in (*steps, me, threads)]
            library.share(
                ctypes.c_void_p(made.ctypes.data), *sizes, *pointers, ctypes.c_void_p(held.ctypes.data), *rest
            )
        exact = left.T.astype("float64") @ right.astype("float64") + (bias if with_bias else 0)
        np.testing.assert_allclose(made, exact, rtol=1e-4, atol=1e-4)


SHARES = """#define SHARED
#include "kernels.h"
void share(float *o, long m, long n, long k, const float *bias, const float *a, const float *b, long bk, long bn,
           long me, long all) {
    product_share(o, m, n, k, bias, a, 1, m, b, bk, bn, me, all);
}
"""


UNCOMPILED = {
    "there is no C for": CLASSES
    | {"LAYERS": "{Dense: {units: 12}}, BatchNormalization, {Dense: {units: 10, activation: softmax}}"},
    "there is no C for Ftrl": CLASSES | {"OPTIMIZER": "ftrl"},
    "there is no C for Adam with these options": CLASSES | {"OPTIMIZER": "{adam: {gradient_accumulation_steps: 2}}"},
    "callbacks look at batches": CLASSES | {"CALLBACKS": "TerminateOnNaN"},
    "there is no C for the penalty OrthogonalRegularizer": CLASSES
    | {
        "LAYERS": "{Dense: {units: 12, kernel_regularizer: OrthogonalRegularizer}}, "
        "{Dense: {units: 10, activation: softmax}}"
    },
    "autograd has a part in every step": NUMBERS | {"LOSS": "cosine_similarity"},
}


@pytest.mark.parametrize("reason", UNCOMPILED)
def test_what_cannot_be_compiled_is_refused_when_asked(tmp_path: Path, reason: str) -> None:
    with pytest.raises(RecipeError, match=f"can't be compiled: {reason}"):
        run(tmp_path, UNCOMPILED[reason])
    outcome = run(tmp_path, UNCOMPILED[reason] | {"JIT": "auto"})
    assert record(outcome)["steps_by"] == "operations in a row"


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "trainer" / "steps"


SEVEN = "int seven(void) { return 7; }\n"


def made_anew(monkeypatch: pytest.MonkeyPatch) -> bool:
    """Whether a library was compiled; it does what it should in any case."""
    calls = []
    with monkeypatch.context() as patched:
        patched.setattr(compiler, "_compiled", lambda command: calls.append(command) or run_compiler(command))
        assert compiler.library(SEVEN).seven() == 7
    return bool(calls)


run_compiler = compiler._compiled


@needs_compiler
def test_what_was_compiled_is_kept(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert made_anew(monkeypatch)
    (kept_file,) = cache.iterdir()
    assert not made_anew(monkeypatch)
    assert kept_file.stat().st_mode & 0o777 == 0o600
    assert cache.stat().st_mode & 0o777 == 0o700
    # Another text, another compiler, another processor: another library.
    monkeypatch.setattr(compiler, "processor", lambda: "another")
    assert made_anew(monkeypatch)
    assert len(list(cache.iterdir())) == 2


@needs_compiler
@pytest.mark.parametrize(
    "change", ["cut", "one byte", "empty", "writable by all", "folder writable by all", "a folder"]
)
def test_what_is_not_as_it_was_written_is_not_loaded(cache: Path, change: str, monkeypatch: pytest.MonkeyPatch) -> None:
    made_anew(monkeypatch)
    (file,) = cache.iterdir()
    data = file.read_bytes()
    if change == "cut":
        file.write_bytes(data[: len(data) // 2])
    elif change == "one byte":
        file.write_bytes(data[:4000] + bytes([data[4000] ^ 1]) + data[4001:])
    elif change == "empty":
        file.write_bytes(b"")
    elif change == "writable by all":
        file.chmod(0o666)
    elif change == "folder writable by all":
        cache.chmod(0o777)
    else:
        file.unlink()
        file.mkdir()
    assert made_anew(monkeypatch)
    assert made_anew(monkeypatch) == (change in ("folder writable by all", "a folder"))
    assert not [path for path in cache.iterdir() if path.suffix != ".so"]


@needs_compiler
def test_without_a_place_to_keep_it_all_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert made_anew(monkeypatch)
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setattr(Path, "home", lambda: (_ for _ in ()).throw(RuntimeError("no home")))
    assert made_anew(monkeypatch)


@needs_compiler
def test_the_longest_unused_go(cache: Path) -> None:
    few = replace(kept.LIBRARIES, most=3)
    for number in range(5):
        few.keep(f"k{number}", b"x" * 50)
        os.utime(cache / f"k{number}.so", (number, number))
    assert sorted(file.name for file in cache.iterdir()) == ["k2.so", "k3.so", "k4.so"]


@needs_compiler
def test_auto_weighs_the_number_of_steps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiled, "WORTHWHILE", 0.25)
    few = run(tmp_path, CLASSES | {"JIT": "auto"})
    assert record(few)["steps_by"] == "operations in a row"
    monkeypatch.setattr(compiled, "WORTHWHILE", 1e-3)
    enough = run(tmp_path, CLASSES | {"JIT": "auto"})
    assert record(enough)["steps_by"] == "compiled code"
    assert record(run(tmp_path, CLASSES | {"JIT": "false"}))["steps_by"] == "operations in a row"
    monkeypatch.setattr(compiled, "LARGE_STEP", 100)
    assert record(run(tmp_path, CLASSES | {"JIT": "auto"}))["steps_by"] == "operations in a row"


@needs_compiler
def test_a_stopped_run_goes_on_to_the_bit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiled, "MOST_STEPS", 4)
    whole = run(tmp_path / "whole", CASES["dropout"])
    made, calls, call = text(CASES["dropout"]), iter(range(99)), compiled.Compiled.call

    def interrupted(self: compiled.Compiled, *given: Any) -> None:
        call(self, *given)
        if next(calls) == 5:
            self.training.signalled.got = 2  # pyright: ignore[reportFunctionMemberAccess]

    with monkeypatch.context() as patched:
        patched.setattr(compiled.Compiled, "call", interrupted)
        with pytest.raises(Stopped):
            fit(loaded(made), Options(runs=tmp_path / "cut", device="cpu"), made.encode(), None)
    directory = RunDirectory.find(tmp_path / "cut", "last")
    state = json.loads((directory.path / "run.json").read_text())
    assert state["steps_by"] == "compiled code"
    assert state["jit_compile"] == {"0": True}
    # Begun as compiled code, it goes on so, however few steps are left.
    outcome = resume(directory, Options(runs=tmp_path / "cut", device="cpu"))
    assert record(outcome)["steps_by"] == "compiled code"
    assert outcome.history == whole.history
    for mine, theirs in zip(weights(outcome), weights(whole), strict=True):
        np.testing.assert_array_equal(mine, theirs)


@needs_compiler
def test_a_run_goes_on_without_a_compiler_and_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    began = run(tmp_path, CLASSES)
    monkeypatch.setattr(compiler, "compiler", lambda: None)
    compiled._library.cache_clear()
    outcome = resume(directory_of(began), Options(runs=tmp_path, device="cpu", epochs=4))
    assert "no longer are, since there is no C compiler" in (outcome.directory / "log.txt").read_text()
    assert len(outcome.history["loss"]) == len(began.history["loss"]) + 1


@needs_compiler
def test_a_profile_counts_compiled_steps(tmp_path: Path) -> None:
    """And the time of what is in them, whoever takes them."""
    for found, other in (
        (run(tmp_path, CASES["dropout"], profile=True), run(tmp_path, CASES["dropout"])),
        (run_by(2, tmp_path, CASES["dropout"], profile=True), run_by(2, tmp_path, CASES["dropout"])),
    ):
        profile = found.profile
        assert (profile["steps"], profile["rows"]) == (3 * 18, 3 * 280)
        spent = {part for part, spent in profile["parts"].items() if spent["seconds"] > 0}
        parts = {"compiled", "data", "forward", "loss", "backward", "update", "metrics", "validation"}
        assert parts <= spent
        assert set(profile["layers"]) == {"dense", "dropout", "gaussian_noise", "dense_1"}
        assert all(ways["forward"]["seconds"] > 0 for ways in profile["layers"].values())
        assert sum(part["share"] for part in profile["parts"].values()) == pytest.approx(1)
        assert found.history == other.history
        for mine, theirs in zip(weights(found), weights(other), strict=True):
            np.testing.assert_array_equal(mine, theirs)


def test_a_compiler_that_fails_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(compiler.Uncompiled, match=r"refuses: .*error"):
        compiler.library("int steps(void) { return nothing; }")


@needs_compiler
def test_labels_out_of_range_are_not_written(tmp_path: Path) -> None:
    slope, labels = torch.zeros(2, 3), torch.tensor([[1], [0]])
    program = Program({})
    program.do(slope.scatter_add_, -1, labels, torch.ones(()).expand_as(labels))
    c = Statements()
    c.add(program.operations[0])
    labels.fill_(3)
    assert "wrong = 1" in c.lines[0]


def test_lambdas_and_strange_functions_are_not_in_c() -> None:
    c = Statements()
    for operation in (lambda: None, torch.zeros(3).cumsum_):
        program = Program({})
        program.do(operation, *([0] if operation.__name__ == "cumsum_" else []))
        with pytest.raises(NotInC):
            c.add(program.operations[0])
