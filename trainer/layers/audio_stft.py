"""STFTSpectrogram."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import ValidationInfo, field_validator

from trainer.initializers.stft import STFT
from trainer.initializers.window_functions import Window
from trainer.layers.base import Layer, Weights
from trainer.layers.plan import Plan
from trainer.layers.spatial import DataFormat, split_axes
from trainer.lazy import F, torch
from trainer.options import Bool, PositiveInt, complaint
from trainer.shapes import Shape, same_padding, window_length

if TYPE_CHECKING:
    from torch import Tensor

_EPSILON = 1e-7
"Keras's backend epsilon: neither a power nor a magnitude counts as less."


class STFTSpectrogram(Layer):
    """The frequencies in each frame of a sound, by a short-time Fourier transform whose kernels can be trained.

    With re and im the real and imaginary parts: magnitude = sqrt(re^2 + im^2), log = its logarithm, psd = re^2 + im^2
    (twice that but at both ends), angle = atan2(im, re), stft = re and im side by side. Frequencies: fft_length // 2 +
    1. `trainable: false` keeps the kernels as they are.
    https://keras.io/api/layers/preprocessing_layers/audio_preprocessing/stft_spectrogram/

    Shape: (batch, samples, channels) -> (batch, frames, channels * frequencies), or with expand_dims
    (batch, frames, frequencies, channels)
    """

    mode: Literal["log", "magnitude", "psd", "real", "imag", "angle", "stft"] = "log"
    "What is told of each frequency."
    frame_length: PositiveInt = 256
    "Samples of a frame."
    frame_step: PositiveInt | None = None
    "Samples from one frame's start to the next's; by default half a frame."
    fft_length: PositiveInt | None = None
    "Length of the transform, at least a frame; by default the next power of two."
    window: Window = "hann"
    "Factor of each sample of a frame: a name as in scipy.signal.windows, the values themselves, or null for none."
    periodic: Bool = False
    "Whether the window is one period of an endless one, rather than symmetric."
    scaling: Literal["density", "spectrum"] | None = "density"
    "Divisor of the window: density, the root of its sum of squares; spectrum, its sum; null, 1."
    padding: Literal["valid", "same"] = "valid"
    "valid: frames lie within the sound; same: zeros at both ends, so that a frame starts at every frame_step samples."
    expand_dims: Bool = False
    "Whether channels keep an axis of their own, which makes a picture for each sound."
    data_format: DataFormat = "channels_last"
    "channels_last: (batch, samples, channels); channels_first: (batch, channels, samples)."

    preprocessing = True

    @field_validator("frame_step")
    @classmethod
    def _within_a_frame(cls, value: int | None, info: ValidationInfo) -> int | None:
        length = info.data.get("frame_length")
        if value is not None and length is not None and value > length:
            raise complaint(f"frame_step ({value}) must not be above frame_length ({length})")
        return value

    @field_validator("fft_length")
    @classmethod
    def _holds_a_frame(cls, value: int | None, info: ValidationInfo) -> int | None:
        length = info.data.get("frame_length")
        if value is not None and length is not None and value < length:
            raise complaint(f"fft_length ({value}) must not be below frame_length ({length})")
        return value

    @field_validator("window")
    @classmethod
    def _fits_a_frame(cls, value: Window, info: ValidationInfo) -> Window:
        length = info.data.get("frame_length")
        if isinstance(value, tuple) and length is not None and len(value) != length:
            raise complaint(f"window has {len(value)} values, but frame_length is {length}")
        return value

    @property
    def step(self) -> int:
        """Samples from one frame to the next."""
        return self.frame_step or self.frame_length // 2

    @property
    def frequencies(self) -> int:
        """Bins of the transform."""
        return (self.fft_length or 1 << (self.frame_length - 1).bit_length()) // 2 + 1

    def build(self, plan: Plan, shape: Shape) -> Shape:
        if self.frequencies < 2:
            raise ValueError("fft_length must be 2 or more: a transform of one sample has no frequencies")
        if self.step < 1:
            raise ValueError("frame_step can't be half a frame of one sample; give frame_step: 1")
        (samples,), channels = split_axes(shape, 1, self.data_format)
        kernel = (self.frame_length, 1, self.frequencies)
        real = STFT(window=self.window, scaling=self.scaling, periodic=self.periodic)
        imag = real.model_copy(update={"side": "imag"})
        plan.weight("real_kernel", kernel, real, when=self.mode != "imag")
        plan.weight("imag_kernel", kernel, imag, when=self.mode != "real")
        frames = window_length(samples, self.frame_length, self.step, self.padding)
        bins = self.frequencies * (2 if self.mode == "stft" else 1)
        first = self.data_format == "channels_first"
        if self.expand_dims:
            return (shape[0], channels, frames, bins) if first else (shape[0], frames, bins, channels)
        width = None if channels is None else channels * bins
        return (shape[0], width, frames) if first else (shape[0], frames, width)

    def forward(self, w: Weights, x: Tensor) -> Tensor:
        first = self.data_format == "channels_first"
        frames = self._frames(x if first else x.transpose(1, 2))
        # (batch, channels, frames, bins): a product of matrices is several times faster than a convolution here.
        made = self._told(*(None if k is None else frames @ k[:, 0] for k in (w.real_kernel, w.imag_kernel)))
        if self.expand_dims:
            return made if first else made.permute(0, 2, 3, 1)
        joined = made.transpose(2, 3).flatten(1, 2)
        return joined if first else joined.transpose(1, 2)

    def _frames(self, x: Tensor) -> Tensor:
        """(batch, channels, frames, frame_length) of (batch, channels, samples)."""
        if self.padding == "same":
            x = F.pad(x, same_padding(x.shape[-1], self.frame_length, self.step))
        return x.unfold(-1, self.frame_length, self.step)

    def _told(self, real: Tensor | None, imag: Tensor | None) -> Tensor:
        """What `mode` asks for, along the last axis."""
        if real is None or imag is None:
            found = imag if real is None else real
            assert found is not None
            return found
        if self.mode == "stft":
            return torch.cat([real, imag], -1)
        if self.mode == "angle":
            return torch.atan2(imag, real)
        power = real.square() + imag.square()
        if self.mode == "psd":
            return power + F.pad(power[..., 1:-1], (1, 1))
        magnitude = power.clamp_min(_EPSILON).sqrt()
        return magnitude if self.mode == "magnitude" else magnitude.clamp_min(_EPSILON).log()
