"""MixUp and CutMix against Keras: the same transformation handed to both; what is drawn, by its distribution."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest
import torch
from pydantic import ValidationError
from scipy import stats

from tests.parity.census import held
from tests.parity.configs import hold_config
from tests.parity.harness import cell_of, close
from trainer.layers.base import Layer
from trainer.layers.image_mix import Mixing
from trainer.layers.plan import Plan


def mixing(spec: Any) -> Mixing:
    layer = Layer.parse(spec)
    assert isinstance(layer, Mixing)
    return layer


def drawn_case(seed: int) -> tuple[dict[str, Any], np.ndarray, np.ndarray]:
    """(layer, pictures, one-hot targets) of one configuration."""
    random = np.random.default_rng([6, seed])
    data_format = ["channels_last", "channels_first"][int(random.integers(2))]
    if seed % 2:
        spec: dict[str, Any] = {"MixUp": {"alpha": float(random.uniform(0.05, 3))}}
    else:
        pair = sorted(random.uniform(0, 1, 2).tolist())
        spec = {"CutMix": {"factor": pair if random.random() < 0.5 else pair[1]}}
    next(iter(spec.values()))["data_format"] = data_format
    batch, channels = int(random.integers(1, 8)), int(random.integers(1, 5))
    height, width = (int(n) for n in random.integers(1, 9, 2))
    shape = (height, width, channels) if data_format == "channels_last" else (channels, height, width)
    x = random.normal(size=(batch, *shape))
    return spec, x, np.eye(5, dtype="float32")[random.integers(0, 5, batch)]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("seed", range(120))
def test_equals_keras(seed: int, dtype: str) -> None:
    spec, x, labels = drawn_case(seed)
    layer = mixing(spec)
    config = layer.to_keras()
    twin: Any = keras.layers.deserialize({**config, "config": {**config["config"], "dtype": dtype}})
    held(layer, x.shape, dtype)
    images, targets = torch.from_numpy(x.astype(dtype)), torch.from_numpy(labels.astype(dtype))
    drawn = twin.get_random_transformation(images)
    theirs = twin.transform_images(images, drawn), twin.transform_labels(targets, drawn)
    first = layer.channels_at() == "channels_first"
    ours_drawn = {k: v.permute(0, 2, 3, 1) if first and k == "batch_masks" else v for k, v in drawn.items()}
    ours = layer.mixed(images.permute(0, 2, 3, 1) if first else images, targets, ours_drawn)
    tolerance = 1e-10 if dtype == "float64" else 1e-6
    if dtype == "float64" and drawn["mix_weight"].dtype == torch.float32:
        tolerance = 1e-6
    close(ours[0].permute(0, 3, 1, 2) if first else ours[0], theirs[0], f"{spec}: pictures", tolerance)
    close(ours[1], theirs[1], f"{spec}: labels", tolerance)
    shape = (None, *x.shape[1:])
    assert tuple(layer.build(Plan(), shape)) == tuple(twin.compute_output_shape(shape)) == shape


@pytest.mark.parametrize("seed", range(40))
def test_pictures_and_targets_agree(seed: int) -> None:
    """Pictures that are their own targets come out as their targets do, whatever is drawn: by weight, or by area."""
    spec, x, _ = drawn_case(seed)
    layer = mixing(spec)
    batch = len(x)
    values = torch.arange(float(batch))
    pictures = values.view(-1, 1, 1, 1).expand(batch, 40, 30, 2)
    generator = torch.Generator().manual_seed(seed)
    drawn = layer.draw(generator, tuple(pictures.shape))
    made, targets = layer.mixed(pictures, values, drawn)
    assert sorted(drawn["permutation_order"].tolist()) == list(range(batch))
    # A box covers whole pixels, its share for the targets does not.
    assert float((made.mean((1, 2, 3)) - targets).abs().max()) < (1e-5 if "MixUp" in spec else 0.06 * batch)
    close(layer.blend(values.view(-1, 1), drawn), targets.view(-1, 1), "a column")


@pytest.mark.parametrize("alpha", [0.05, 0.2, 1.0, 4.0])
def test_shares_of_mixup(alpha: float) -> None:
    """The share of draws below each value, Keras's too; the ends hold more than float32 can tell apart."""
    ours = mixing({"MixUp": {"alpha": alpha}}).draw(torch.Generator().manual_seed(3), (20000, 2, 2, 1))
    theirs: Any = keras.layers.MixUp(alpha=alpha, seed=4)
    at = np.linspace(0.001, 0.999, 50)
    for drawn in (ours, theirs.get_random_transformation(np.ones((20000, 2, 2, 1), "float32"))):
        below = (drawn["mix_weight"].numpy()[:, None] <= at).mean(0)
        np.testing.assert_allclose(below, stats.beta(alpha, alpha).cdf(at), atol=0.015)


def test_boxes_of_cutmix() -> None:
    spec = {"CutMix": {"factor": [1.0, 1.0], "seed": 3}}
    layer, twin = mixing(spec), keras.layers.deserialize(Layer.parse(spec).to_keras())
    x = np.ones((4000, 20, 12, 1), "float32")
    ours: Any = layer.draw(torch.Generator().manual_seed(3), x.shape)
    theirs: Any = twin.get_random_transformation(x)
    for what in ("mix_weight", "batch_masks"):
        mine, other = (d[what].double().reshape(len(x), -1).mean(1) for d in (ours, theirs))
        apart: Any = stats.ks_2samp(mine, other)
        assert apart.pvalue > 1e-3, what
    mine, other = (d["batch_masks"].double().mean(0) for d in (ours, theirs))
    assert float((mine - other).abs().max()) < 0.05
    assert (
        float((1 - ours["batch_masks"].double().flatten(1).mean(1) - ours["mix_weight"].flatten()).abs().mean()) < 0.05
    )


@pytest.mark.parametrize("spec", ["MixUp", "CutMix", {"CutMix": {"seed": 5}}], ids=str)
def test_acts_in_training_alone(spec: Any) -> None:
    cell, _ = cell_of(spec, (None, 6, 6, 1))
    x = torch.randn(16, 6, 6, 1)
    assert cell.eval()(x) is x
    followed: list[Any] = []
    cell.clock.mixings = followed
    made = cell.train()(x)
    assert not torch.equal(made, x)
    (blend,) = followed
    assert float((blend(x.mean((1, 2, 3))) - made.mean((1, 2, 3))).abs().max()) < (1e-5 if spec == "MixUp" else 1.0)
    cell.clock.step = 1
    assert not torch.equal(cell(x), made)
    cell.clock.step = 0
    cell.clock.mixings = None
    assert torch.equal(cell(x.byte().float()), cell_of(spec, (None, 6, 6, 1))[0](x.byte()))


CONFIGS = [{"MixUp": {"alpha": 0.5, "seed": 3}}, {"CutMix": {"factor": [0.2, 0.7], "data_format": "channels_first"}}]


@pytest.mark.parametrize("spec", CONFIGS, ids=str)
def test_config(spec: Any) -> None:
    hold_config(spec)


@pytest.mark.parametrize("spec", [{"MixUp": {"alpha": 0}}, {"CutMix": {"factor": 1.5}}, {"CutMix": {"factor": [0, 2]}}])
def test_refuses_options(spec: Any) -> None:
    with pytest.raises(ValidationError) as caught:
        Layer.parse(spec)
    ((name, options),) = spec.items()
    assert caught.value.errors()[0]["loc"] == (name, next(iter(options)))


def test_refuses_rows_that_are_no_pictures() -> None:
    for name in ("MixUp", "CutMix"):
        with pytest.raises(ValueError, match="expected input of shape"):
            Layer.parse(name).build(Plan(), (None, 6))
