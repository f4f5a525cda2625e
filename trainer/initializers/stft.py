"""STFT: kernels that make a convolution a short-time Fourier transform."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from trainer.initializers.base import Initializer
from trainer.initializers.window_functions import Window, window_values
from trainer.lazy import np
from trainer.options import Bool
from trainer.shapes import text

if TYPE_CHECKING:
    import numpy


class STFT(Initializer):
    """cos(-2 pi t f / n), or sin, under a window: t counts the samples of a frame, f the frequencies of n // 2 + 1.

    In float32 throughout, as Keras computes them. https://keras.io/api/layers/initializers/

    Raises:
        ValueError: the weight is not (samples, 1, frequencies), or the window has another number of samples.
    """

    aliases = ("STFTInitializer",)

    side: Literal["real", "imag"] = "real"
    "Whether the kernel gives the real or the imaginary part."
    window: Window = "hann"
    "Factor of each sample of a frame: a name as in scipy.signal.windows, the values themselves, or null for none."
    scaling: Literal["density", "spectrum"] | None = "density"
    "Divisor of the window: density, the root of its sum of squares; spectrum, its sum; null, 1."
    periodic: Bool = False
    "Whether the window is one period of an endless one, rather than symmetric."

    def values(self, shape: tuple[int, ...], random: numpy.random.Generator) -> numpy.ndarray:
        if len(shape) != 3 or shape[1] != 1 or shape[2] < 2:
            raise ValueError(f"STFT makes a kernel (samples, 1, frequencies), found a weight of shape {text(shape)}")
        samples, _, bins = shape
        single = np.float32
        frequency = np.arange(bins, dtype="float32") / single(2 * (bins - 1))
        turns = single(-2) * np.arange(samples, dtype="float32")[:, None] * frequency
        angle = turns * single(np.pi)
        kernel = np.cos(angle) if self.side == "real" else np.sin(angle)
        if self.window is not None:
            kernel = kernel * self._window(samples)[:, None] / self._divisor(samples)
        return kernel[:, None]

    def _window(self, samples: int) -> numpy.ndarray:
        if isinstance(self.window, str):
            return window_values(self.window, samples, self.periodic).astype("float32")
        values = np.asarray(self.window, "float32")
        if len(values) != samples:
            raise ValueError(f"window has {len(values)} values, but the frame {samples} samples")
        return values

    def _divisor(self, samples: int) -> numpy.float32:
        window = self._window(samples)
        if self.scaling is None:
            return np.float32(1)
        return np.sqrt(np.sum(window**2)) if self.scaling == "density" else np.sum(np.abs(window))
