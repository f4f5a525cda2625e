"""MixUp and CutMix in training: targets and weights follow the rows; evaluation and prediction leave rows alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.train.recipes import directory_of, loaded, output, trained
from trainer.errors import RecipeError
from trainer.layers.base import Layer
from trainer.layers.graph import chain
from trainer.losses.base import Loss
from trainer.model.network import Network
from trainer.train.feed import Batch
from trainer.train.objective import Goal, Objective
from trainer.train.scoring import judge
from trainer.train.terms import Options
from trainer.train.use import OpenRun

ONE_HOT = "{CategoryEncoding: {num_tokens: 10, output_mode: one_hot}}"
RECIPE = f"""
name: mixing
seed: 3
dataset:
  source: digits
  inputs: {{image: {{preprocess: [{{Reshape: {{target_shape: [8, 8, 1]}}}}, {{Rescaling: {{scale: 1/16}}}}]}}}}
  targets: {{label: {{preprocess: [{ONE_HOT}]}}}}
  split: {{test: {{last: 300}}}}
  limit: 900
model:
  layers:
    - MixUp: {{alpha: 1.0}}
    - Flatten
    - Dense: {{units: 48, activation: relu}}
    - Dense: {{units: 10, activation: softmax}}
compile: {{optimizer: {{adam: {{learning_rate: 0.01}}}}, loss: categorical_crossentropy, metrics: [accuracy]}}
fit: {{epochs: 10, batch_size: 32, validation_split: 0.25}}
"""
IN_PIPELINE = "[{Pipeline: {layers: [{MixUp: {alpha: 1.0}}, CutMix]}}, Flatten, {Dense: {units: 10}}]"


MSE = Objective({"y": Goal(Loss.parse("mse"))})


def mixing_network(*specs: Any) -> Network:
    layers = [Layer.parse(spec) for spec in (*specs, "Flatten")]
    return Network(chain(layers, {"x": (None, 4, 4, 1)}), seed=1)


def batch_of(rows: int) -> Batch:
    """Pictures of one value each, which is the target and the weight too."""
    values = torch.arange(1.0, rows + 1)
    pictures = values.view(-1, 1, 1, 1).expand(rows, 4, 4, 1)
    return Batch((pictures,), (values.view(-1, 1).repeat(1, 16),), (values.clone(),))


@pytest.mark.parametrize(
    "specs",
    [["MixUp"], ["MixUp", "MixUp"], [{"Pipeline": {"layers": ["MixUp", {"MixUp": {"alpha": 2}}]}}]],
    ids=["one", "two", "pipeline"],
)
def test_targets_and_weights_follow_in_training(specs: list[Any]) -> None:
    network, batch = mixing_network(*specs), batch_of(12)
    judged = judge(network.train(), MSE, batch)
    ((y,), (weight,)) = judged.batch.ys, judged.batch.weights
    torch.testing.assert_close(y, judged.made.output)
    assert weight is not None
    torch.testing.assert_close(weight, judged.made.output[:, 0])
    assert not torch.equal(y, batch.ys[0])
    assert float(judged.value) < 1e-9
    assert network.clock.mixings is None


def test_rows_stay_in_inference() -> None:
    network, batch = mixing_network("MixUp", "CutMix"), batch_of(12)
    judged = judge(network.eval(), MSE, batch)
    assert judged.batch is batch
    assert torch.equal(judged.made.output, batch.ys[0])


def test_each_step_mixes_anew_and_again_alike() -> None:
    network, batch, made = mixing_network("CutMix").train(), batch_of(12), []
    for step in (0, 1, 0):
        network.clock.step = step
        made.append(judge(network, MSE, batch).batch.ys[0])
    assert torch.equal(made[0], made[2])
    assert not torch.equal(made[0], made[1])


@pytest.mark.parametrize("layer", ["MixUp: {alpha: 1.0}", "CutMix"])
def test_a_recipe_learns_from_mixed_rows(tmp_path: Path, layer: str) -> None:
    """On mixed rows the loss can't fall below the entropy of the mixed targets; on rows as they are it does."""
    out = trained(tmp_path, RECIPE.replace("MixUp: {alpha: 1.0}", layer))
    last = {name: values[-1] for name, values in out.history.items()}
    assert last["loss"] > 0.35
    assert last["val_loss"] < last["loss"]
    assert last["val_accuracy"] > 0.85
    plain = trained(tmp_path, RECIPE.replace("    - MixUp: {alpha: 1.0}\n", ""))
    assert plain.history["loss"][-1] < 0.1


def test_evaluation_does_not_depend_on_the_batch(tmp_path: Path) -> None:
    outcome = trained(tmp_path, RECIPE, "fit.epochs=1")
    run = OpenRun(directory_of(outcome), Options(runs=tmp_path, device="cpu"))
    x = np.random.default_rng(1).random((7, 64)).astype("float32") * 16
    whole, alone = output(run, x), np.concatenate([output(run, x[i : i + 1]) for i in range(7)])
    np.testing.assert_allclose(whole, alone, atol=1e-6)


@pytest.mark.parametrize(
    ("layers", "path"),
    [
        ("[Flatten, {Reshape: {target_shape: [8, 8, 1]}}, CutMix, Flatten, {Dense: {units: 10}}]", (2, "CutMix")),
        (IN_PIPELINE, (0, "Pipeline", "layers", 0, "MixUp")),
    ],
)
def test_class_numbers_are_refused(layers: str, path: tuple[Any, ...]) -> None:
    sets = [f"model.layers={layers}", "compile.loss={SparseCategoricalCrossentropy: {from_logits: true}}"]
    with pytest.raises(RecipeError) as caught:
        loaded(RECIPE.replace(f", preprocess: [{ONE_HOT}]", "").replace(f"{{preprocess: [{ONE_HOT}]}}", "{}"), *sets)
    (problem,) = [p for p in caught.value.problems if p.path == ("model", "layers", *path)]
    assert "class numbers, which can't be mixed" in problem.message
    assert "CategoryEncoding" in problem.hint
