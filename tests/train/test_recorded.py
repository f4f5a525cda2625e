"""Steps recorded as a graph and played back, on a stand-in for a GPU: the same numbers as steps taken one by one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.keras_files.test_model_trips import recipe as of_a_layer
from tests.runs.test_keras_opens import ZOO
from tests.runs.zoo import PIPELINES, UNSAVED
from tests.train.recipes import loaded
from tests.train.tape import NotedTape
from tests.train.test_direct import HEAD, record, weights
from trainer.errors import RecipeError
from trainer.layers.bags import Bags
from trainer.recipe.load import Loaded
from trainer.runs.directory import RunDirectory
from trainer.train import loop, recorded
from trainer.train.feed import Batch
from trainer.train.job import Options, Outcome, fit, resume
from trainer.train.progress import Stopped
from trainer.train.recorded import CudaTape, Recorded

BY = "a recorded graph of kernels"


@pytest.fixture(autouse=True)
def on_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(recorded.TAPES, "cpu", NotedTape)
    monkeypatch.setattr(recorded, "FEW_STEPS", 2)
    monkeypatch.setenv("TRAINER_WITHOUT", "hand")


def run(folder: Path, made: Loaded, engine: str = "auto") -> Outcome:
    return fit(made, Options(runs=folder, device="cpu", engine=engine), b"", None)


def same(ours: Outcome, plain: Outcome) -> None:
    assert ours.history == plain.history
    assert len(weights(ours)) == len(weights(plain)) > 0
    for mine, theirs in zip(weights(ours), weights(plain), strict=True):
        np.testing.assert_array_equal(mine, theirs)


def hold(folder: Path, made: Loaded, by: str = BY) -> None:
    plain, ours = (run(folder, made, engine) for engine in ("plain", "auto"))
    assert record(plain)["steps_by"] == "autograd, since it was asked for"
    assert record(ours)["steps_by"] == by
    same(ours, plain)


ANIMALS = [
    (name, number, shape, layer)
    for name, animals in {**ZOO, **PIPELINES, **UNSAVED}.items()
    for number, (shape, layer) in enumerate(animals)
]
HOST = "a layer draws its random numbers on the host"
WAITS = "the GPU refuses: operation not permitted when stream is capturing: aten._local_scalar_dense.default"
LEFT = {
    **dict.fromkeys(("MixUp-0", "CutMix-0", "RandAugment-0", "AugMix-0", "Pipeline-1"), HOST),
    **dict.fromkeys([f"CategoryEncoding-{n}" for n in range(len(ZOO["CategoryEncoding"]))], WAITS),
}
"Layers whose steps are taken one by one, and why."


@pytest.mark.parametrize(("name", "number", "shape", "layer"), ANIMALS, ids=[f"{a[0]}-{a[1]}" for a in ANIMALS])
def test_every_layer(name: str, number: int, shape: Any, layer: str, tmp_path: Path) -> None:
    made = of_a_layer(tmp_path, shape, layer, "Adam: {learning_rate: 0.01, clipnorm: 1.0}")
    why = LEFT.get(f"{name}-{number}")
    hold(tmp_path, made, f"autograd, since it was asked for; not recorded, since {why}" if why else BY)


STEPS = """
model:
  dtype: DTYPE
  layers:
    - Dense: {units: 24, activation: relu, kernel_regularizer: l2}
    - Dropout: {rate: 0.4}
    - Dense: {units: 10, activation: softmax}
compile: {optimizer: OPTIMIZER, loss: sparse_categorical_crossentropy, metrics: [accuracy]}
fit: {epochs: 3, batch_size: 33, validation_split: 0.25}
"""


def steps(optimizer: str = "adam", dtype: str = "float32", **changes: str) -> str:
    text = (HEAD + STEPS.lstrip()).replace("OPTIMIZER", optimizer).replace("DTYPE", dtype)
    for block, first in changes.items():
        text = text.replace(f"{block}: {{", f"{block}: {{{first}, ")
    return text


DECAY = "{CosineDecay: {initial_learning_rate: 0.1, decay_steps: 30}}"
SCALED = "{LossScaleOptimizer: {inner_optimizer: adam, initial_scale: 2.0e+9, dynamic_growth_steps: 9}}"
SEVERAL = "{MultiOptimizer: {optimizer_map: {default_optimizer: adam, optimizer_map: {dense_1/.*: sgd}}}}"
BOTH = "{LossScaleOptimizer: {inner_optimizer: INNER, dynamic_growth_steps: 5}}".replace("INNER", SEVERAL)
RUNS = {
    "dropout": steps(),
    "weighed": steps(fit="class_weight: {0: 2.0, 3: 0.5}"),
    "a schedule, clipped": steps(f"{{SGD: {{momentum: 0.9, learning_rate: {DECAY}, clipnorm: 1}}}}"),
    "several optimizers": steps(SEVERAL),
    "averaged": steps("{AdamW: {use_ema: true, gradient_accumulation_steps: 2}}"),
    "mixed_bfloat16": steps(dtype="mixed_bfloat16"),
    "mixed_float16": steps(SCALED, "mixed_float16"),
    "several optimizers, scaled": steps(BOTH, "mixed_float16"),
    "callbacks that look at batches": steps() + "callbacks: [TerminateOnNaN]\n",
}
"The scale of mixed_float16 begins so high that the first steps change nothing but the scale."


@pytest.mark.parametrize("case", RUNS)
def test_every_way_of_training(case: str, tmp_path: Path) -> None:
    hold(tmp_path, loaded(RUNS[case]))


MASKED = """
name: masked
seed: 2
dataset:
  source: {npz: {path: PATH}}
  inputs: {x: {}}
  targets: {y: {}}
model:
  layers:
    - Embedding: {input_dim: 9, output_dim: 5, mask_zero: true}
    - LSTM: {units: 4, return_sequences: true, dropout: 0.2, recurrent_dropout: 0.3}
    - GRU: {units: 3}
    - Dense: {units: 1}
compile: {optimizer: rmsprop, loss: mse, metrics: [mae]}
fit: {epochs: 3, batch_size: 8}
"""


def test_masks(tmp_path: Path) -> None:
    draws = np.random.default_rng(0)
    np.savez(tmp_path / "rows.npz", x=draws.integers(0, 9, (52, 7)), y=draws.normal(size=52).astype("float32"))
    hold(tmp_path, loaded(MASKED.replace("PATH", str(tmp_path / "rows.npz"))))


def test_the_last_batch_is_taken_by_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is shorter than the others: 525 rows make 15 batches of 33 and one of 30."""
    played: list[int] = []
    play = Recorded.play
    monkeypatch.setattr(Recorded, "play", lambda self, batch: (played.append(batch.size), play(self, batch)))
    made = run(tmp_path, loaded(RUNS["dropout"]))
    assert record(made)["rows"]["train"] == 525
    assert played == [33] * 15 * 3


def test_a_stopped_run_goes_on_to_the_bit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = loaded(RUNS["dropout"])
    whole = run(tmp_path / "whole", made)
    played = iter(range(99))
    play = Recorded.play

    def interrupted(self: Recorded, batch: Any) -> None:
        play(self, batch)
        if next(played) == 14:
            signalled.got = 2  # pyright: ignore[reportFunctionMemberAccess]

    signalled: Any = None
    begin = loop.Training.begin

    def begun(self: loop.Training) -> None:
        nonlocal signalled
        signalled = self.signalled
        begin(self)

    with monkeypatch.context() as patched:
        patched.setattr(Recorded, "play", interrupted)
        patched.setattr(loop.Training, "begin", begun)
        with pytest.raises(Stopped):
            run(tmp_path / "cut", made)
    # Begun as a recording, it goes on so, however few steps are left.
    monkeypatch.setattr(recorded, "FEW_STEPS", 1000)
    directory = RunDirectory.find(tmp_path / "cut", "last")
    assert json.loads((directory.path / "run.json").read_text())["jit_compile"] == {"0": True}
    ours = resume(directory, Options(runs=tmp_path / "cut", device="cpu"))
    assert record(ours)["steps_by"] == BY
    same(ours, whole)


@pytest.mark.parametrize(("asked", "by"), [("false", "autograd"), ("true", BY), ("auto", BY)])
def test_jit_compile(asked: str, by: str, tmp_path: Path) -> None:
    made = run(tmp_path, loaded(steps(compile=f"jit_compile: {asked}")))
    assert record(made)["steps_by"].startswith(by)


def test_few_steps_are_not_recorded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recorded, "FEW_STEPS", 49)
    assert "too few for the time" in record(run(tmp_path, loaded(RUNS["dropout"])))["steps_by"]


def test_what_can_not_be_recorded_is_refused_when_asked(tmp_path: Path) -> None:
    drawn = "- Reshape: {target_shape: [8, 8, 1]}\n    - Conv2D: {filters: 3, kernel_size: 1}\n    "
    drawn += "- RandAugment: {value_range: [0, 1]}\n    - Flatten\n    "
    text = steps(compile="jit_compile: true").replace("- Dense: {units: 24", drawn + "- Dense: {units: 24")
    with pytest.raises(RecipeError, match=HOST):
        run(tmp_path, loaded(text))


def test_lists_of_ids_are_not_recorded() -> None:
    bags: Any = Bags.of(np.array([1, 2, 2]), np.array([0, 1, 3]), 4)
    anything: Any = None
    with pytest.raises(recorded.Unrecorded, match="another length in each batch"):
        Recorded(anything, anything, anything, Batch((bags,), (torch.zeros(2),), (None,)))


def test_draws_in_another_number_are_refused() -> None:
    """A layer that does not draw as often in each step would get another's numbers."""
    draws = recorded._Draws(torch.device("cpu"))
    cell: Any = type("Cell", (), {"draw_seed": lambda self, seed: 3})()
    draws._deal(cell, None)
    draws.deal()
    draws._deal(cell, None)
    with pytest.raises(recorded.Unrecorded, match="not the same in each step"):
        draws._deal(cell, None)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("case", RUNS)
def test_on_a_gpu(case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert recorded.TAPES["cuda"] is CudaTape
    monkeypatch.delenv("TRAINER_WITHOUT")
    plain, ours = (
        fit(loaded(RUNS[case]), Options(runs=tmp_path, device="cuda", engine=engine), b"", None)
        for engine in ("plain", "auto")
    )
    assert record(ours)["steps_by"] == BY
    for name, values in plain.history.items():
        np.testing.assert_allclose(ours.history[name], values, rtol=1e-4, err_msg=name)
