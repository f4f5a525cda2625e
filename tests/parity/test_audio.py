"""STFTSpectrogram and MelSpectrogram against Keras: kernels, forward, gradients, shapes; windows against SciPy."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest
import torch
from pydantic import ValidationError
from scipy.signal import get_window

from tests.parity.census import held
from tests.parity.configs import hold_config
from tests.parity.drawing import normal
from tests.parity.harness import cell_of, close, random_weights
from trainer.block import problems_of
from trainer.initializers.base import Initializer
from trainer.initializers.window_functions import WINDOWS, window_values
from trainer.layers.base import Layer
from trainer.layers.plan import Plan

pytestmark = pytest.mark.filterwarnings("ignore:`fft_length` is recommended:UserWarning")
NAMES = sorted(WINDOWS)
MODES = ["log", "magnitude", "psd", "real", "imag", "angle", "stft"]


@pytest.mark.parametrize("name", NAMES)
def test_windows(name: str) -> None:
    for length in (1, 2, 3, 4, 5, 6, 7, 16, 17, 33, 255, 256):
        for periodic in (False, True):
            for form in ("", "_periodic", "_symmetric"):
                ours = window_values(name + form, length, periodic)
                np.testing.assert_allclose(ours, get_window(name + form, length, periodic), atol=1e-12)


def choice(random: np.random.Generator, values: list[Any]) -> Any:
    return values[int(random.integers(len(values)))]


def drawn_window(random: np.random.Generator, length: int, names: list[str]) -> Any:
    """A name, values, or none."""
    kind = random.random()
    if kind < 0.1:
        return None
    return random.uniform(0.1, 1, length).round(3).tolist() if kind < 0.3 else choice(random, names)


def drawn_stft(seed: int) -> tuple[dict[str, Any], np.ndarray]:
    """(layer, sound) of one configuration."""
    random = np.random.default_rng([4, seed])
    length = int(random.integers(3, 40))
    options: dict[str, Any] = {"mode": MODES[seed % len(MODES)], "frame_length": length}
    if random.random() < 0.6:
        options["frame_step"] = int(random.integers(1, length + 1))
    if random.random() < 0.4:
        options["fft_length"] = length + int(random.integers(0, 30))
    if random.random() < 0.8:
        options["window"] = drawn_window(random, length, NAMES)
    options["periodic"] = bool(random.random() < 0.5)
    options["scaling"] = choice(random, ["density", "spectrum", None])
    options["padding"] = choice(random, ["valid", "same"])
    options["expand_dims"] = bool(random.random() < 0.5)
    options["data_format"] = choice(random, ["channels_last", "channels_first"])
    samples, channels = int(random.integers(40, 120)), int(random.integers(1, 4))
    last = options["data_format"] == "channels_last"
    x = random.normal(size=(3, samples, channels) if last else (3, channels, samples))
    return {"STFTSpectrogram": options}, x


def exact_twin(layer: Layer, **other: Any) -> Any:
    """Keras's layer in float64."""
    held(layer, "double", str(other))
    config = layer.to_keras()
    return keras.layers.deserialize({**config, "config": {**config["config"], **other, "dtype": "float64"}})


def exact_stft(layer: Layer, x: torch.Tensor, values: list[np.ndarray]) -> tuple[torch.Tensor, list[Any]]:
    """(Keras's output in float64, its kernels); from its parts where it would fall back to float32."""
    mode = layer.model_dump()["mode"]
    modes = ["real", "imag"] if mode in ("log", "magnitude", "psd", "angle") else [mode]
    twins = [exact_twin(layer, mode=m) for m in modes]
    for twin in twins:
        twin.build((None, *x.shape[1:]))
    kernels = [v for twin in twins for v in twin.trainable_weights]
    for kernel, value in zip(kernels, values, strict=True):
        kernel.assign(value.astype("float64"))
    made = [twin(x) for twin in twins]
    if len(made) == 1:
        return made[0], kernels
    if mode == "angle":
        return torch.atan2(made[1], made[0]), kernels
    power = made[0] ** 2 + made[1] ** 2
    if mode == "psd":
        whole: Any = exact_twin(layer)
        whole.build((None, *x.shape[1:]))
        whole.set_weights(values)
        return power * (whole(x).double() / power).detach().round(), kernels
    magnitude = power.clamp_min(1e-7).sqrt()
    return magnitude.log() if mode == "log" else magnitude, kernels


@pytest.mark.parametrize("seed", range(210))
def test_stft_equals_keras(seed: int) -> None:
    spec, x = drawn_stft(seed)
    cell, shape = cell_of(spec, (None, *x.shape[1:]))
    twin: Any = keras.layers.deserialize(cell.layer.to_keras())
    twin.build((None, *x.shape[1:]))
    held(cell.layer, x.shape)
    assert tuple(shape) == tuple(twin.compute_output_shape((None, *x.shape[1:])))
    mine = [(s.name, tuple(t.shape), moves) for s, _, t, moves in cell.rows()]
    assert mine == [(v.name, tuple(v.shape), v.trainable) for v in twin.weights]
    for (_, path, tensor, _), variable in zip(cell.rows(), twin.weights, strict=True):
        close(tensor, variable.value, f"{spec}: {path}", 1e-6)
    sound = torch.from_numpy(x.astype("float32"))
    ours, theirs = cell(sound), twin(sound)
    assert tuple(ours.shape)[1:] == tuple(shape)[1:]
    if cell.layer.model_dump()["mode"] != "angle":
        close(ours, theirs, f"{spec}: output")


@pytest.mark.parametrize("seed", range(210))
def test_stft_in_float64(seed: int) -> None:
    spec, x = drawn_stft(seed)
    cell, _ = cell_of(spec, (None, *x.shape[1:]))
    values = random_weights(cell, seed)
    cell.double()
    with torch.no_grad():
        for (_, _, tensor, _), value in zip(cell.rows(), values, strict=True):
            tensor.copy_(torch.from_numpy(value))
    mine, other = (torch.from_numpy(x.copy()).requires_grad_() for _ in range(2))
    theirs, kernels = exact_stft(cell.layer, other, values)
    ours = cell(mine)
    assert ours.dtype is theirs.dtype is torch.float64
    close(ours, theirs, f"{spec}: output", 1e-10)
    pull = torch.from_numpy(np.random.default_rng(seed).normal(size=tuple(ours.shape)))
    (ours * pull).sum().backward()
    (theirs * pull).sum().backward()
    close(mine.grad, other.grad, f"{spec}: gradient of the input", 1e-10)
    for (_, path, tensor, _), variable in zip(cell.rows(), kernels, strict=True):
        close(tensor.grad, variable.value.grad, f"{spec}: gradient of {path}", 1e-10)


def test_angle_in_float32() -> None:
    """Angles of the layer's own kernels, but where they hang on the sign of a zero or on rounding alone."""
    cell, _ = cell_of({"STFTSpectrogram": {"mode": "angle", "frame_length": 16}}, (None, 60, 1))
    twin = keras.layers.deserialize(cell.layer.to_keras())
    x = torch.from_numpy(normal(1, 3, 60, 1))
    ours, theirs = cell(x)[..., 1:-1], twin(x)[..., 1:-1]
    assert float((ours - theirs).detach().abs().max()) < 1e-4


@pytest.mark.parametrize("side", ["real", "imag"])
@pytest.mark.parametrize("shape", [(256, 1, 129), (2048, 1, 1025), (100, 1, 65), (7, 1, 8)])
def test_stft_initializer(side: str, shape: tuple[int, ...]) -> None:
    """Keras's float32 phases, though those of a long frame are off by some 1e-4."""
    for more in ({}, {"window": None}, {"window": "hamming", "scaling": "spectrum", "periodic": True}):
        ours = Initializer.parse({"STFT": {"side": side, **more}})
        theirs: Any = keras.initializers.deserialize(ours.to_keras())
        held(ours, shape)
        close(ours.values(shape, np.random.default_rng(0)), theirs(shape), f"{side} {more}", 2e-6)
        assert theirs.get_config() == ours.keras_config()


@pytest.mark.parametrize("shape", [(3, 4), (8, 2, 5), (8, 1, 1)])
def test_stft_initializer_refuses_other_weights(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="STFT makes a kernel"):
        Initializer.parse("STFT").values(shape, np.random.default_rng(0))
    with pytest.raises(ValueError, match="window has 2 values, but the frame 8 samples"):
        Initializer.parse({"STFT": {"window": [1, 2]}}).values((8, 1, 5), np.random.default_rng(0))


def test_a_tone_is_where_it_should_be() -> None:
    """4 periods in a frame of 64: the fifth of 33 frequencies."""
    cell, _ = cell_of({"STFTSpectrogram": {"frame_length": 64, "mode": "psd"}}, (None, 640, 1))
    x = torch.sin(torch.arange(640) * (2 * np.pi * 4 / 64)).reshape(1, 640, 1)
    assert (cell(x).argmax(-1) == 4).all()


def drawn_mel(seed: int) -> tuple[dict[str, Any], np.ndarray]:
    random = np.random.default_rng([5, seed])
    whole = int(random.integers(16, 70))
    options: dict[str, Any] = {"fft_length": whole, "sequence_stride": int(random.integers(3, 30))}
    if random.random() < 0.5:
        options["sequence_length"] = int(random.integers(4, whole + 1))
    options["window"] = drawn_window(random, options.get("sequence_length", whole), ["hann", "hamming"])
    options["sampling_rate"] = int(random.integers(4000, 20000))
    options["num_mel_bins"] = int(random.integers(1, 12))
    options["min_freq"] = float(random.uniform(0, 500))
    if random.random() < 0.5:
        options["max_freq"] = float(random.uniform(1000, options["sampling_rate"] / 2))
    options["power_to_db"] = bool(random.random() < 0.6)
    options["top_db"] = float(random.uniform(1, 60))
    options["mag_exp"] = choice(random, [1.0, 2.0, 3.0, 0.5])
    options["min_power"] = choice(random, [1e-10, 1e-3, 1.0])
    options["ref_power"] = choice(random, [1.0, 0.0, -3.0, 10.0])
    return {"MelSpectrogram": options}, random.normal(size=(3, int(random.integers(40, 300))))


@pytest.mark.parametrize("seed", range(200))
def test_mel_equals_keras(seed: int) -> None:
    spec, x = drawn_mel(seed)
    cell, shape = cell_of(spec, (None, *x.shape[1:]))
    twin: Any = keras.layers.deserialize(cell.layer.to_keras())
    sound = torch.from_numpy(x.astype("float32"))
    ours, theirs = cell(sound), twin(sound)
    close(ours, theirs, f"{spec}: output")
    assert tuple(ours.shape)[1:] == tuple(shape)[1:]
    assert not list(cell.rows())
    assert not twin.weights


@pytest.mark.parametrize("seed", range(200))
def test_mel_in_float64(seed: int) -> None:
    """Keras falls back to float32 at its bands: its transform and its bands in float64, and the rest by hand."""
    spec, x = drawn_mel(seed)
    cell, _ = cell_of(spec, (None, *x.shape[1:]))
    layer: Any = cell.layer
    twin: Any = exact_twin(layer)
    mine, other = (torch.from_numpy(x.copy()).requires_grad_() for _ in range(2))
    bands = twin.linear_to_mel_weight_matrix(
        layer.num_mel_bins, layer.fft_length // 2 + 1, layer.sampling_rate, layer.min_freq, twin.max_freq
    )
    theirs = (twin._spectrogram(other) @ bands.double()).transpose(1, 2)
    if layer.power_to_db:
        least = layer.min_power
        theirs = 10 * (theirs.clamp_min(least).log10() - np.log10(max(abs(layer.ref_power), least)))
        theirs = torch.maximum(theirs, theirs.max() - layer.top_db)
    ours = cell(mine)
    close(ours, theirs, f"{spec}: output", 1e-10)
    pull = torch.from_numpy(np.random.default_rng(seed).normal(size=tuple(ours.shape)))
    (ours * pull).sum().backward()
    (theirs * pull).sum().backward()
    close(mine.grad, other.grad, f"{spec}: gradient of the input", 1e-10)


def test_keras_infers_a_frame_too_many() -> None:
    """Where one more sample would make one more frame (3.15.1); ours is the number that comes."""
    spec = {"MelSpectrogram": {"fft_length": 16, "sequence_stride": 8, "num_mel_bins": 4}}
    cell, shape = cell_of(spec, (None, 63))
    twin: Any = keras.layers.deserialize(cell.layer.to_keras())
    assert tuple(twin.compute_output_shape((None, 63))) == (None, 4, 9)
    assert tuple(twin(np.ones((2, 63), "float32")).shape) == (2, *shape[1:]) == (2, 4, 8)
    assert cell_of(spec, (None, None))[1] == (None, 4, None)


def test_silence_has_a_slope() -> None:
    """Keras's slope there is not a number, since it takes a root of zero first."""
    cell, _ = cell_of({"MelSpectrogram": {"fft_length": 16, "sequence_stride": 8, "num_mel_bins": 4}}, (None, 64))
    x = torch.zeros(2, 64, requires_grad=True)
    cell(x).sum().backward()
    assert x.grad is not None
    assert torch.isfinite(x.grad).all()


def test_training_after_evaluation() -> None:
    """The table of bands that evaluation made serves training."""
    cell, _ = cell_of({"MelSpectrogram": {"fft_length": 18, "sequence_stride": 7, "num_mel_bins": 3}}, (None, 64))
    x = torch.randn(2, 64)
    with torch.inference_mode():
        before = cell(x)
    x.requires_grad_()
    after = cell(x)
    after.sum().backward()
    assert torch.equal(before, after.detach())


CONFIGS: list[tuple[Any, tuple[str, ...]]] = [
    ({"STFTSpectrogram": {"window": [0.5, 1, 0.5], "frame_length": 3, "frame_step": 2, "name": "s"}}, ()),
    ({"STFTSpectrogram": {"mode": "psd", "fft_length": 512, "scaling": None, "data_format": "channels_first"}}, ()),
    ({"MelSpectrogram": {"sequence_length": 2048, "max_freq": 8000, "top_db": 0}}, ()),
    ({"MelSpectrogram": {"window": "hamming"}}, ("sequence_length", "max_freq")),
]


@pytest.mark.parametrize(("spec", "resolved"), CONFIGS, ids=str)
def test_config(spec: Any, resolved: tuple[str, ...]) -> None:
    hold_config(spec, *resolved)


REFUSED = [
    ("STFTSpectrogram", {"frame_step": 257}, "frame_step (257) must not be above frame_length (256)"),
    ("STFTSpectrogram", {"fft_length": 255}, "fft_length (255) must not be below frame_length (256)"),
    ("STFTSpectrogram", {"window": [1, 2]}, "window has 2 values, but frame_length is 256"),
    ("STFTSpectrogram", {"window": "kaiser"}, "expected a window's name"),
    ("STFTSpectrogram", {"window": 4}, "expected a window's name"),
    ("STFTSpectrogram", {"mode": "power"}, "expected one of"),
    ("MelSpectrogram", {"sequence_length": 2049}, "sequence_length (2049) must not be above fft_length (2048)"),
    ("MelSpectrogram", {"window": [1, 2]}, "window has 2 values, but a window has 2048 samples"),
    ("MelSpectrogram", {"window": "blackman"}, 'expected "hann", "hamming"'),
]


@pytest.mark.parametrize(("name", "options", "says"), REFUSED)
def test_refuses_options(name: str, options: dict[str, Any], says: str) -> None:
    with pytest.raises(ValidationError) as caught:
        Layer.parse({name: options})
    (problem,) = problems_of(caught.value)
    assert problem.path == (name, next(iter(options)))
    assert problem.message.startswith(says)


INPUTS = [
    ("STFTSpectrogram", {}, (None, 300), "expected input of shape"),
    ("STFTSpectrogram", {}, (None, 200, 1), "a window of 256 does not fit into 200 entries"),
    ("STFTSpectrogram", {"frame_length": 1}, (None, 200, 1), "fft_length must be 2 or more"),
    ("STFTSpectrogram", {"frame_length": 1, "fft_length": 2}, (None, 200, 1), "give frame_step: 1"),
    ("MelSpectrogram", {}, (None, 3000, 1), "expected input of shape \\(batch, samples\\)"),
    ("MelSpectrogram", {}, (None, 1024), "mirroring 1024 samples"),
    ("MelSpectrogram", {"fft_length": 1}, (None, 1024), "fft_length must be 2 or more"),
    ("MelSpectrogram", {"min_freq": 8000}, (None, 4000), "must be below the highest frequency, 8000"),
]


@pytest.mark.parametrize(("name", "options", "shape", "says"), INPUTS)
def test_refuses_inputs(name: str, options: dict[str, Any], shape: tuple[int | None, ...], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        Layer.parse({name: options}).build(Plan(), shape)
