"""RandAugment and AugMix against Keras, with what Keras draws handed to both."""

from __future__ import annotations

import copy
import itertools
import json
from collections import Counter
from typing import Any

import keras
import numpy as np
import pytest
import torch

from tests.parity.census import held
from tests.parity.configs import hold_config
from tests.parity.harness import cell_of, close
from trainer.layers.base import Layer
from trainer.layers.image_augment import Augmenting, AugMix, RandAugment
from trainer.layers.plan import Plan

pytestmark = pytest.mark.filterwarnings("ignore:Tensor.T is deprecated on 0-D tensors:UserWarning")


def augmenting(spec: Any) -> Augmenting:
    layer = Layer.parse(spec)
    assert isinstance(layer, Augmenting)
    return layer


def drawn_case(seed: int) -> tuple[dict[str, Any], np.ndarray]:
    """(layer, pictures) of one configuration."""
    random = np.random.default_rng([7, seed])
    options: dict[str, Any] = {
        "value_range": [[0, 255], [0, 1], [-1, 1]][int(random.integers(3))],
        "interpolation": ["nearest", "bilinear"][int(random.integers(2))],
        "data_format": ["channels_last", "channels_first"][int(random.integers(2))],
    }
    pair = sorted(random.uniform(0, 1, 2).round(3).tolist())
    options["factor"] = pair if random.random() < 0.4 else pair[0]
    if seed % 2:
        spec = {"RandAugment": {**options, "num_ops": int(random.integers(1, 5))}}
    else:
        more = {"num_chains": int(random.integers(1, 4)), "chain_depth": int(random.integers(1, 4))}
        more |= {"alpha": float(random.uniform(0.2, 3)), "all_ops": bool(random.random() < 0.6)}
        spec = {"AugMix": {**options, **more}}
    size = (int(random.integers(4, 12)), int(random.integers(4, 12)))
    shape = (*size, 3) if options["data_format"] == "channels_last" else (3, *size)
    low, high = options["value_range"]
    return spec, random.uniform(low, high, (4, *shape)).astype("float32")


def plain(config: Any) -> Any:
    return json.loads(json.dumps(config))


def spared(twin: Any) -> Any:
    """Keras's layer without three faults of 3.15.1.

    On torch its brightness adds to the very pictures that it is given, and a warp moves the matrix that was drawn, so
    that RandAugment's second layer is another one; its AutoContrast takes the first two axes after the batch for height
    and width in channels_first too.
    """
    first = twin.data_format == "channels_first"
    for name in RandAugment().names():
        part = getattr(twin, name, None)
        if part is not None:
            part.transform_images = copying(part.transform_images, first and name == "auto_contrast")
    return twin


def copying(inner: Any, moved: bool) -> Any:
    def transform(images: torch.Tensor, transformation: Any = None, training: bool = True) -> torch.Tensor:
        images = images.permute(0, 2, 3, 1) if moved else images
        made = inner(images.clone(), copy.deepcopy(transformation), training=training)
        return made.permute(0, 3, 1, 2) if moved else made

    return transform


def test_keras_brightens_what_was_not_drawn() -> None:
    """Why it is spared here: without, all pictures that RandAugment sees are brightened, whatever it drew."""
    twin: Any = keras.layers.deserialize(RandAugment(factor=(1.0, 1.0), num_ops=1).to_keras())
    x = torch.full((2, 4, 4, 3), 100.0)
    drawn = twin.get_random_transformation(x.clone())
    drawn["layer_idxes"] = torch.tensor([keras.layers.RandAugment._AUGMENT_LAYERS.index("random_shear")])
    assert float(twin.transform_images(x.clone(), drawn).max()) > 300
    assert float(spared(twin).transform_images(x.clone(), drawn).max()) == 100


def last_axis(x: torch.Tensor, layer: Augmenting) -> torch.Tensor:
    return x.permute(0, 2, 3, 1) if layer.channels_at() == "channels_first" else x


def place(x: torch.Tensor, layer: Augmenting) -> torch.Tensor:
    return x.permute(0, 3, 1, 2) if layer.channels_at() == "channels_first" else x


@pytest.mark.parametrize("seed", range(240))
def test_equals_keras(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The order of layers and the mixing of chains; each layer that acts, too, on what Keras's own is given there.

    Rounding may put a few pixels on another step of values, or beside the edge between two pixels.
    """
    spec, x = drawn_case(seed)
    layer = augmenting(spec)
    twin = spared(keras.layers.deserialize(layer.to_keras()))
    twin.build((None, *x.shape[1:]))
    images = torch.from_numpy(x)
    drawn = twin.get_random_transformation(images)
    theirs = twin.transform_images(images, drawn)

    held(layer, x.shape)

    def compared(self: Augmenting, name: str, given: torch.Tensor, changes: Any) -> torch.Tensor:
        expected = last_axis(getattr(twin, name).transform_images(place(given, layer), changes), layer)
        made = original(self, name, given, changes)
        apart = (made - expected).abs() > (1e-4 if name in WARPS else 1e-5) * float(expected.abs().max())
        assert float(apart.double().mean()) <= (0.02 if name in (*WARPS, *STEPPED) else 0), f"{spec}: {name}"
        return expected

    original = Augmenting.apply_part
    monkeypatch.setattr(Augmenting, "apply_part", compared)
    ours = place(layer.apply(last_axis(images, layer), drawn), layer)
    close(ours, theirs, f"{spec}: pictures", 1e-6)
    shape = (None, *x.shape[1:])
    assert tuple(layer.build(Plan(), shape)) == tuple(twin.compute_output_shape(shape)) == shape


WARPS = ("random_shear", "random_translation", "random_rotation")
STEPPED = ("random_posterization", "equalization", "solarization")


@pytest.mark.parametrize("name", [*RandAugment().names()])
@pytest.mark.parametrize("factor", [0.3, [0.2, 0.9]])
def test_each_part_is_made_as_keras_makes_it(name: str, factor: Any) -> None:
    layer = augmenting({"RandAugment": {"factor": factor, "value_range": [0, 1]}})
    twin: Any = keras.layers.deserialize(layer.to_keras())
    ours, theirs = layer.part(name).keras_config(), getattr(twin, name).get_config()
    made = keras.layers.deserialize(layer.part(name).to_keras()).get_config()
    assert plain({**made, "name": ""}) == plain({**theirs, "name": ""})
    assert set(ours) <= set(theirs) | {"trainable", "name"}


def test_parts_are_those_of_keras() -> None:
    from keras.src.layers.preprocessing.image_preprocessing import aug_mix

    assert list(RandAugment().names()) == keras.layers.RandAugment._AUGMENT_LAYERS
    assert list(AugMix().names()) == aug_mix.AUGMENT_LAYERS_ALL
    assert list(AugMix(all_ops=False).names()) == aug_mix.AUGMENT_LAYERS


def test_how_often_each_is_drawn() -> None:
    layer, other = RandAugment(num_ops=3), AugMix(chain_depth=4)
    seen: Counter[str] = Counter()
    depths, shares = Counter(), []
    for seed in range(2000):
        drawn = layer.draw(torch.Generator().manual_seed(seed), (1, 4, 4, 3))
        seen.update(layer.names()[i] for i in drawn["layer_idxes"])
        mixed = other.draw(torch.Generator().manual_seed(seed), (1, 4, 4, 3))
        depths.update(len(chain) for chain in mixed["chain_transforms"])
        shares.append(mixed["chain_mixing_weights"])
    assert set(seen) == set(layer.names())
    assert all(abs(n - 6000 / 11) < 120 for n in seen.values()), seen
    assert sum(n * times for n, times in depths.items()) / 6000 == pytest.approx(4 * 11 / 12, abs=0.05)
    np.testing.assert_allclose(np.sum(shares, 1), 1, atol=1e-6)
    np.testing.assert_allclose(np.mean(shares, 0), 1 / 3, atol=0.03)


@pytest.mark.parametrize("spec", ["RandAugment", {"AugMix": {"seed": 4, "num_chains": 2}}], ids=str)
def test_acts_in_training_alone(spec: Any) -> None:
    cell, _ = cell_of(spec, (None, 8, 8, 3))
    x = torch.rand(6, 8, 8, 3) * 255
    assert cell.eval()(x) is x
    cell.train()
    made = []
    for step in range(8):
        cell.clock.step = step
        made.append(cell(x))
        assert made[-1].shape == x.shape
    assert sum(torch.equal(a, b) for a, b in itertools.pairwise(made)) < 2
    cell.clock.step = 3
    assert torch.equal(cell(x), made[3])


CONFIGS = [
    {"RandAugment": {"num_ops": 3, "factor": [0.1, 0.4], "seed": 2, "value_range": [0, 1]}},
    {"AugMix": {"alpha": 0.5, "all_ops": False, "interpolation": "nearest", "factor": [0.1, 0.4]}},
]


@pytest.mark.parametrize("spec", CONFIGS, ids=str)
def test_config(spec: Any) -> None:
    hold_config(spec)


def test_needs_colours() -> None:
    for spec in ("RandAugment", "AugMix"):
        with pytest.raises(ValueError, match="expected pictures of 3 channels, found 1"):
            Layer.parse(spec).build(Plan(), (None, 8, 8, 1))
    cell, _ = cell_of({"AugMix": {"all_ops": False}}, (None, 8, 8, 1))
    assert cell.train()(torch.rand(2, 8, 8, 1)).shape == (2, 8, 8, 1)
