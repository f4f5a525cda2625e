"""RandAugment and AugMix: pictures through several of the random layers."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

from trainer.layers.base import Weights
from trainer.layers.image_affine import RandomRotation, RandomShear, RandomTranslation
from trainer.layers.image_base import (
    AnyFormat,
    Clipped,
    Drawn,
    ImageLayer,
    RandomImageLayer,
    Share,
    between,
)
from trainer.layers.image_color import RandomBrightness, RandomColorDegeneration, RandomContrast
from trainer.layers.image_filters import RandomSharpness
from trainer.layers.image_histogram import AutoContrast, Equalization
from trainer.layers.image_mix import numbers
from trainer.layers.image_sampling import Interpolation
from trainer.layers.image_tones import MOST_BITS, RandomPosterization, Solarization
from trainer.layers.plan import Plan
from trainer.lazy import torch
from trainer.options import Bool, PositiveFloat, PositiveInt
from trainer.shapes import Shape

if TYPE_CHECKING:
    from torch import Generator, Tensor

GEOMETRIC = ("random_shear", "random_translation", "random_rotation")
COLORS = ("random_brightness", "random_color_degeneration", "random_contrast", "random_sharpness")
VALUES = ("random_posterization", "solarization", "auto_contrast", "equalization")


class Augmenting(Clipped, AnyFormat, RandomImageLayer, abstract=True):
    """A layer that holds others under the names that Keras's has for them."""

    interpolation: Interpolation = "bilinear"
    "How shear, translation and rotation read between pixels."

    if TYPE_CHECKING:
        factor: Any

    keras_order = "value_range num_ops num_chains chain_depth factor alpha all_ops interpolation seed data_format"

    def names(self) -> tuple[str, ...]:
        """Names of the layers that may be drawn, in Keras's order."""
        raise NotImplementedError

    def part(self, name: str) -> ImageLayer:
        """The layer of that name; it sees channels last."""
        ends = between(self.factor, 0.0)
        values: dict[str, Any] = {"value_range": self.value_range}
        moved: dict[str, Any] = {"interpolation": self.interpolation}
        match name:
            case "random_shear":
                return RandomShear(x_factor=ends, y_factor=ends, **moved)
            case "random_translation":
                return RandomTranslation(height_factor=ends, width_factor=ends, **moved)
            case "random_rotation":
                return RandomRotation(factor=ends, **moved)
            case "random_posterization":
                return RandomPosterization(factor=max(1, int(MOST_BITS * ends[1])), **values)
            case "solarization":
                return Solarization(addition_factor=ends, threshold_factor=ends, **values)
            case "auto_contrast":
                return AutoContrast(**values)
            case "equalization":
                return Equalization(**values)
            case "random_brightness":
                return RandomBrightness(factor=ends, **values)
            case "random_color_degeneration":
                return RandomColorDegeneration(factor=ends, **values)
            case "random_contrast":
                return RandomContrast(factor=ends, **values)
            case _:
                return RandomSharpness(factor=ends, **values)

    def build(self, plan: Plan, shape: Shape) -> Shape:
        first = self.channels_at() == "channels_first" and len(shape) == 4
        for name in self.names():
            self.part(name).build(plan, (shape[0], *shape[2:], shape[1]) if first else shape)
        return super().build(plan, shape)

    def draw_part(self, name: str, generator: Generator, shape: tuple[int, ...]) -> Drawn | None:
        """What the layer of that name draws; None when it draws nothing."""
        part = self.part(name)
        return part.draw(generator, shape) if isinstance(part, RandomImageLayer) else None

    def apply_part(self, name: str, x: Tensor, drawn: Drawn | None) -> Tensor:
        """The pictures, changed by the layer of that name."""
        part = self.part(name)
        if isinstance(part, RandomImageLayer):
            assert drawn is not None
            return part.apply(x, drawn)
        # These two look at the phase alone, which here is training.
        return part.change(cast("Weights", SimpleNamespace(training=True)), x)


class RandAugment(Augmenting):
    """In training, num_ops layers, drawn for each batch among eleven, one after another; unchanged otherwise.

    The layers are RandomShear, RandomTranslation, RandomRotation, RandomBrightness, RandomColorDegeneration,
    RandomContrast, RandomSharpness, RandomPosterization, Solarization, AutoContrast and Equalization; one that is drawn
    twice does the same twice, as in Keras (Cubuk et al., 2019).
    https://keras.io/api/layers/preprocessing_layers/image_augmentation/rand_augment/

    Shape: (batch, height, width, 3) -> (batch, height, width, 3)
    """

    num_ops: PositiveInt = 2
    "Number of layers that pictures go through."
    factor: Share = 0.5
    "How strong each is: its own factor, from 0 to f or between the two given."

    def names(self) -> tuple[str, ...]:
        return (*GEOMETRIC, *COLORS, *VALUES)

    def draw(self, generator: Generator, shape: tuple[int, ...]) -> Drawn:
        names = self.names()
        chosen = numbers(generator).integers(0, len(names), self.num_ops).tolist()
        # Only those that act draw.
        parts = {names[i]: self.draw_part(names[i], generator, shape) for i in sorted(set(chosen))}
        return {"layer_idxes": chosen, "transforms": parts}

    def apply(self, x: Tensor, drawn: Drawn) -> Tensor:
        names = self.names()
        for index in drawn["layer_idxes"]:
            name = names[int(index)]
            x = self.apply_part(name, x, drawn["transforms"][name])
        return x


class AugMix(Augmenting):
    """In training, each picture with a mean of several versions of it mixed in; unchanged otherwise.

    w x + (1 - w) (v1 x1 + v2 x2 + …), cut to the range of values: each x_i went through a chain of up to chain_depth
    layers, w is drawn from a Beta and the v from a Dirichlet distribution with parameters alpha (Hendrycks et al.,
    2020). All is drawn once for a batch, but what each layer draws for each picture.
    https://keras.io/api/layers/preprocessing_layers/image_augmentation/aug_mix/

    Shape: (batch, height, width, channels) -> (batch, height, width, channels)
    """

    num_chains: PositiveInt = 3
    "Number of versions of a picture that are mixed."
    chain_depth: PositiveInt = 3
    "Number of layers of a chain at most: each place is left empty as often as any one layer stands there."
    factor: Share = 0.3
    "How strong each layer is: its own factor, from 0 to f or between the two given."
    alpha: PositiveFloat = 1.0
    "Parameter of both distributions: near 0, nearly all of one version; large, equal parts."
    all_ops: Bool = True
    "Whether brightness, colour degeneration, contrast and sharpness, which need 3 channels, are among the layers."

    def names(self) -> tuple[str, ...]:
        return (*GEOMETRIC, *VALUES, *(COLORS if self.all_ops else ()))

    def draw(self, generator: Generator, shape: tuple[int, ...]) -> Drawn:
        random, names = numbers(generator), self.names()
        shares = random.dirichlet([self.alpha] * self.num_chains).astype("float32").tolist()
        chains = []
        for chosen in random.integers(0, len(names) + 1, (self.num_chains, self.chain_depth)).tolist():
            parts = [names[i] for i in chosen if i < len(names)]
            steps = [{"layer_name": n, "transformation": self.draw_part(n, generator, shape)} for n in parts]
            chains.append(steps)
        own = random.beta(self.alpha, self.alpha)
        return {"chain_mixing_weights": shares, "weight_sample": own, "chain_transforms": chains}

    def apply(self, x: Tensor, drawn: Drawn) -> Tensor:
        mean = torch.zeros_like(x)
        for share, steps in zip(drawn["chain_mixing_weights"], drawn["chain_transforms"], strict=True):
            version = x
            for step in steps:
                version = self.apply_part(step["layer_name"], version, step["transformation"])
            mean = mean + version * share
        own = drawn["weight_sample"]
        return (own * x + (1 - own) * mean).clamp(*self.value_range)
