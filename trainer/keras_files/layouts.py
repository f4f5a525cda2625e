"""Arrays of a layer's weights, from the layouts of Keras 1, of Theano and of cuDNN to today's."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from trainer.keras_files.words import SPACES
from trainer.lazy import np

if TYPE_CHECKING:
    import numpy

    Arrays = list[numpy.ndarray]

GATES = {"LSTM": (0, 2, 1, 3), "LSTMCell": (0, 2, 1, 3), "GRU": (0, 1, 2), "GRUCell": (0, 1, 2)}
"Which of Keras 1's gates stands where: it has i, c, f, o for LSTM, today i, f, c, o; z, r, h for GRU in both."
TURNED = ("Conv1D", "Conv2D", "Conv3D", "Conv2DTranspose", "Conv3DTranspose", "ConvLSTM1D", "ConvLSTM2D", "ConvLSTM3D")
"Layers that Theano computed with the kernel turned round."


def rank_of(kind: str) -> int:
    """Spatial axes of a convolution; 0 for other layers."""
    return SPACES.get(kind.removesuffix("Transpose")[-2:], 0) if "Conv" in kind else 0


def gated(kind: str) -> int:
    """Arrays that Keras 1 keeps for such a layer where each gate has its own; 0 for layers without gates."""
    gates = GATES.get("LSTM" if kind.startswith("ConvLSTM") else kind)
    return 3 * len(gates) if gates else 0


def from_keras_1(kind: str, config: dict[str, Any], arrays: Arrays) -> Arrays:
    """A layer's arrays as Keras 1 kept them, in the layout of Keras 2."""
    if kind.startswith("ConvLSTM"):
        return _conv_lstm(config, arrays)
    if kind in GATES and len(arrays) == gated(kind):
        return _joined(GATES[kind], arrays)
    if not arrays or not rank_of(kind):
        return arrays
    if kind.startswith("SeparableConv"):
        first = config.get("data_format") == "channels_first"
        kernel = _channels_last(arrays[0], config, 2, first)
        mixing = [a.transpose(2, 3, 1, 0) if kernel is not arrays[0] else a for a in arrays[1:2]]
        return [kernel, *mixing, *arrays[2:]]
    return [_kernel(kind, config, arrays[0]), *arrays[1:]]


def _joined(order: Sequence[int], arrays: Arrays) -> Arrays:
    """Kernel, recurrent kernel and bias from those of each gate."""
    return [np.concatenate([arrays[3 * gate + part] for gate in order], axis=-1) for part in range(3)]


def _conv_lstm(config: dict[str, Any], arrays: Arrays) -> Arrays:
    if len(arrays) != 12:
        return arrays
    first = config.get("data_format") == "channels_first"
    kernels = [a if a.ndim == 1 else _channels_last(a, config, 2, first) for a in arrays]
    return _joined(GATES["LSTM"], kernels)


def _channels_last(kernel: numpy.ndarray, config: dict[str, Any], rank: int, first: bool) -> numpy.ndarray:
    """(window, in, out) from that, or from (out, in, window)."""
    size = tuple(config.get("kernel_size") or ())
    if kernel.ndim != rank + 2:
        return kernel
    last_fits, first_fits = kernel.shape[:rank] == size, kernel.shape[2:] == size
    if first_fits and (first or not last_fits):
        return kernel.transpose(*range(2, rank + 2), 1, 0)
    return kernel


def _kernel(kind: str, config: dict[str, Any], kernel: numpy.ndarray) -> numpy.ndarray:
    """Keras 1's kernel of a convolution in the layout of Keras 2."""
    rank, filters = rank_of(kind), config.get("filters")
    first = config.get("data_format") == "channels_first"
    if rank == 1:
        return _in_time(config, kernel)
    if kernel.ndim != rank + 2:
        return kernel
    size = tuple(config.get("kernel_size") or ())
    last_fits = kernel.shape[:rank] == size and kernel.shape[-1] == filters
    first_fits = kernel.shape[2:] == size and kernel.shape[0] == filters
    transposed = kind.endswith("Transpose")
    if first_fits and (first or not last_fits):
        back = (0, 1) if transposed else (1, 0)
        return kernel.transpose(*range(2, rank + 2), *back)
    if last_fits and transposed:
        return kernel.swapaxes(-1, -2)
    return kernel


def _in_time(config: dict[str, Any], kernel: numpy.ndarray) -> numpy.ndarray:
    """Conv1D, which Keras 1 kept as a convolution over pictures of width 1."""
    if kernel.ndim != 4:
        return kernel
    (length,) = config["kernel_size"]
    if kernel.shape[:2] != (length, 1) or kernel.shape[3] != config.get("filters"):
        kernel = kernel.transpose(2, 3, 1, 0)
    return kernel[:, 0]


def turned(kind: str, config: dict[str, Any], arrays: Arrays) -> Arrays:
    """Kernels turned round in their spatial axes: Theano computed true convolutions, everybody else correlations."""
    if kind not in TURNED:
        return arrays
    count = 2 if kind.startswith("ConvLSTM") else 1
    return [_flipped(a) if number < count else a for number, a in enumerate(arrays)]


def _flipped(kernel: numpy.ndarray) -> numpy.ndarray:
    return kernel[(*(slice(None, None, -1),) * (kernel.ndim - 2), slice(None), slice(None))]


def settled(kind: str, config: dict[str, Any], arrays: Arrays) -> Arrays:
    """What the shapes alone tell: weights of cuDNN's layers, and kernels of a Keras 2 that had channels first."""
    if kind in ("LSTM", "LSTMCell") and len(arrays) == 3 and arrays[2].size == 8 * config["units"]:
        return _from_cudnn(arrays, 4, lambda bias: bias.reshape(2, -1).sum(0))
    if kind in ("GRU", "GRUCell") and len(arrays) == 3 and arrays[2].shape == (6 * config["units"],):
        return _from_cudnn(arrays, 3, lambda bias: bias.reshape(2, -1))
    if kind in ("Conv2D", "Conv2DTranspose", "ConvLSTM2D") and arrays:
        count = 2 if kind == "ConvLSTM2D" else 1
        return [_last_try(kind, config, a) if n < count else a for n, a in enumerate(arrays)]
    return arrays


def _from_cudnn(arrays: Arrays, gates: int, bias: Callable[[numpy.ndarray], numpy.ndarray]) -> Arrays:
    """cuDNN keeps each gate's matrices by columns."""
    kernel, recurrent, both = arrays
    kernels = [k.T.reshape(k.shape, order="F") for k in np.split(kernel, gates, axis=1)]
    recurrents = [k.T for k in np.split(recurrent, gates, axis=1)]
    return [np.concatenate(kernels, axis=1), np.concatenate(recurrents, axis=1), bias(both)]


def _last_try(kind: str, config: dict[str, Any], kernel: numpy.ndarray) -> numpy.ndarray:
    """A kernel that does not fit as it is, and does with its axes in the order (3, 2, 0, 1)."""
    filters = config.get("filters", 0) * (4 if kind == "ConvLSTM2D" else 1)
    size, place = tuple(config.get("kernel_size") or ()), -2 if kind == "Conv2DTranspose" else -1

    def fits(found: numpy.ndarray) -> bool:
        return found.shape[:2] == size and found.shape[place] == filters

    if kernel.ndim != 4 or fits(kernel):
        return kernel
    other = kernel.transpose(3, 2, 0, 1)
    return other if fits(other) else kernel
