"""MelSpectrogram."""

from __future__ import annotations

import functools
import math
from typing import TYPE_CHECKING, Annotated, Any, Self

from pydantic import PrivateAttr, ValidationInfo, field_validator

from trainer.layers.base import Layer, Weights, need_rank
from trainer.layers.plan import Plan
from trainer.lazy import torch
from trainer.options import (
    Bool,
    Float,
    NonNegativeFloat,
    PositiveFloat,
    PositiveInt,
    Rule,
    complaint,
    number,
    number_schema,
)
from trainer.shapes import Shape

if TYPE_CHECKING:
    from torch import Tensor

_NAMES = ("hann", "hamming")


def _taper(value: Any) -> Any:
    if isinstance(value, (list, tuple)) and value:
        return tuple(number(v) for v in value)
    if value is not None and value not in _NAMES:
        raise ValueError
    return value


Taper = Annotated[
    str | tuple[float, ...] | None,
    Rule(
        '"hann", "hamming", a list of numbers, one a sample, or null',
        _taper,
        {"anyOf": [{"enum": [*_NAMES, None]}, {"type": "array", "items": number_schema()}]},
    ),
]


class MelSpectrogram(Layer):
    """The loudness of a sound over time in bands that are equally far apart to the ear, the mel scale.

    mel(f) = 1127 ln(1 + f / 700). Each band sums |transform|^mag_exp under a triangle that ends in the middles of its
    neighbours; in decibels it is 10 log10(max(band, min_power)) less that of ref_power. The sound is mirrored at its
    ends, so that a window stands at every sequence_stride samples.
    In a model the loudest of all rows of a batch counts for top_db, as in Keras; under a feature's `preprocess` that of
    each row by itself, which is what Keras makes of the row alone.
    https://keras.io/api/layers/preprocessing_layers/audio_preprocessing/mel_spectrogram/

    Shape: (batch, samples) -> (batch, num_mel_bins, frames)
    """

    fft_length: PositiveInt = 2048
    "Length of the transform."
    sequence_stride: PositiveInt = 512
    "Samples from one window to the next."
    sequence_length: PositiveInt | None = None
    "Samples of a window, in the middle of the transform; by default fft_length."
    window: Taper = "hann"
    "Factor of each sample: hann, hamming, the values themselves, or null for none."
    sampling_rate: PositiveInt = 16000
    "Samples of a second."
    num_mel_bins: PositiveInt = 128
    "Number of bands."
    min_freq: NonNegativeFloat = 20.0
    "Hertz at which the lowest band begins."
    max_freq: PositiveFloat | None = None
    "Hertz at which the highest band ends; by default half the sampling rate."
    power_to_db: Bool = True
    "Whether bands are given in decibels."
    top_db: NonNegativeFloat = 80.0
    "Decibels below the loudest at which everything quieter is put."
    mag_exp: PositiveFloat = 2.0
    "Power of the magnitude: 2 for energy, 1 for amplitude."
    min_power: PositiveFloat = 1e-10
    "The least that a band counts before the logarithm."
    ref_power: Float = 1.0
    "What counts as 0 decibels."

    preprocessing = True
    # By top_db.
    across_rows = True

    _alone: bool = PrivateAttr(default=False)

    def by_rows(self) -> Self:
        made = self.model_copy()
        made._alone = True
        return made

    @field_validator("sequence_length")
    @classmethod
    def _within_the_transform(cls, value: int | None, info: ValidationInfo) -> int | None:
        whole = info.data.get("fft_length")
        if value is not None and whole is not None and value > whole:
            raise complaint(f"sequence_length ({value}) must not be above fft_length ({whole})")
        return value

    @field_validator("window")
    @classmethod
    def _of_the_sequence(cls, value: Any, info: ValidationInfo) -> Any:
        length = info.data.get("sequence_length") or info.data.get("fft_length")
        if isinstance(value, tuple) and length is not None and len(value) != length:
            raise complaint(f"window has {len(value)} values, but a window has {length} samples")
        return value

    @property
    def highest(self) -> float:
        """Hertz at which the highest band ends."""
        return self.max_freq or self.sampling_rate // 2

    def build(self, plan: Plan, shape: Shape) -> Shape:
        need_rank(shape, 2, "(batch, samples)")
        if self.min_freq >= self.highest:
            raise ValueError(f"min_freq ({self.min_freq:g}) must be below the highest frequency, {self.highest:g}")
        if self.fft_length < 2:
            raise ValueError("fft_length must be 2 or more: a transform of one sample has no frequencies")
        samples, mirrored = shape[1], self.fft_length // 2
        if samples is None:
            return shape[0], self.num_mel_bins, None
        if samples <= mirrored:
            raise ValueError(f"mirroring {mirrored} samples (half of fft_length) needs more of them, found {samples}")
        frames = (samples + 2 * mirrored - self.fft_length) // self.sequence_stride + 1
        return shape[0], self.num_mel_bins, frames

    def forward(self, w: Weights, x: Tensor) -> Tensor:
        x = x if x.dtype == torch.float64 else x.float()
        power = self._power(x)
        # What is made while a model is followed to export it is no tensor to keep.
        triangles = _triangles.__wrapped__ if torch.compiler.is_compiling() else _triangles
        bands = triangles(
            self.fft_length // 2 + 1, self.num_mel_bins, self.sampling_rate, self.min_freq, self.highest, x.device
        )
        mel = bands.T.to(x.dtype) @ power
        return self._decibels(mel) if self.power_to_db else mel

    def _power(self, x: Tensor) -> Tensor:
        """|transform|^mag_exp, (batch, frequencies, frames)."""
        length = self.sequence_length or self.fft_length
        window = _window(self.window, length, x)
        made = torch.stft(x, self.fft_length, self.sequence_stride, length, window, center=True, return_complex=True)
        # Squares first: the slope of a magnitude is not a number where there is silence.
        energy = made.real.square() + made.imag.square()
        return energy if self.mag_exp == 2 else energy ** (self.mag_exp / 2)

    def _decibels(self, mel: Tensor) -> Tensor:
        reference = 10 * math.log10(max(abs(self.ref_power), self.min_power))
        loud = 10 * mel.clamp_min(self.min_power).log10() - reference
        loudest = loud.amax((1, 2), keepdim=True) if self._alone else loud.max()
        return torch.maximum(loud, loudest - self.top_db)


def _window(window: Any, length: int, like: Tensor) -> Tensor:
    if window == "hann":
        return torch.hann_window(length, dtype=like.dtype, device=like.device)
    if window == "hamming":
        return torch.hamming_window(length, dtype=like.dtype, device=like.device)
    return torch.tensor(window or (1.0,) * length, dtype=like.dtype, device=like.device)


@functools.lru_cache(maxsize=32)
def _triangles(bins: int, bands: int, rate: int, lowest: float, highest: float, device: Any) -> Tensor:
    """How much of each frequency is in each band, (bins, bands): 1 at a band's middle; the first frequency in none.

    In float32 whatever the input, and step by step as Keras has it, so that no band is off by a rounding.
    """
    with torch.inference_mode(False):
        hertz = torch.arange(1, bins) / (bins - 1) * (rate / 2)
        first, last = _mel(torch.tensor([lowest, highest]))
        edges = first + torch.arange(bands + 2) / (bands + 1) * (last - first)
        low, middle, high = edges[:-2], edges[1:-1], edges[2:]
        place = _mel(hertz)[:, None]
        rising, falling = (place - low) / (middle - low), (high - place) / (high - middle)
        found = torch.minimum(rising, falling).clamp_min(0.0)
        return torch.cat([torch.zeros(1, bands), found]).to(device)


def _mel(hertz: Tensor) -> Tensor:
    return 1127.0 * torch.log(1.0 + hertz / 700.0)
