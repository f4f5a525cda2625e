"""Windows over the samples of a frame, by the names that scipy.signal.get_window gives them, without SciPy."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any

from trainer.lazy import np
from trainer.options import Rule, number, number_schema

if TYPE_CHECKING:
    from numpy import ndarray


def _cosines(*factors: float) -> Callable[[int], ndarray]:
    """a0 - a1 cos(t) + a2 cos(2t) - …, t from 0 to 2 pi."""

    def window(n: int) -> ndarray:
        t = np.linspace(-math.pi, math.pi, n)
        return sum((factor * np.cos(k * t) for k, factor in enumerate(factors)), np.zeros(n))

    return window


def _triangle(n: int) -> ndarray:
    return 1 - np.abs(_centred(n)) * 2 / (n + n % 2)


def _bartlett(n: int) -> ndarray:
    return 1 - np.abs(_centred(n)) * 2 / (n - 1)


def _barthann(n: int) -> ndarray:
    distance = np.abs(np.arange(n) / (n - 1) - 0.5)
    return 0.62 - 0.48 * distance + 0.38 * np.cos(2 * math.pi * distance)


def _bohman(n: int) -> ndarray:
    x = np.abs(np.linspace(-1, 1, n))
    window = (1 - x) * np.cos(math.pi * x) + np.sin(math.pi * x) / math.pi
    window[[0, -1]] = 0.0
    return window


def _cosine(n: int) -> ndarray:
    return np.sin(math.pi / n * (np.arange(n) + 0.5))


def _exponential(n: int) -> ndarray:
    return np.exp(-np.abs(_centred(n)))


def _lanczos(n: int) -> ndarray:
    return np.sinc(_centred(n) * 2 / (n - 1))


def _parzen(n: int) -> ndarray:
    x = np.abs(_centred(n)) * 2 / n
    return np.where(np.abs(_centred(n)) <= (n - 1) / 4, 1 - 6 * x**2 + 6 * x**3, 2 * (1 - x) ** 3)


def _tukey(n: int) -> ndarray:
    """The outer halves of a Hann window around a flat middle, which is half of all."""
    edge = np.minimum(np.arange(n), np.arange(n)[::-1])
    width = (n - 1) / 4
    return np.where(edge <= math.floor(width), 0.5 * (1 - np.cos(math.pi * edge / width)), 1.0)


def _taylor(n: int) -> ndarray:
    """Taylor's window with 4 side lobes of nearly equal height, 30 dB below the main one, and 1 in the middle."""
    lobes = 4
    a = math.acosh(10 ** (30 / 20)) / math.pi
    spread = lobes**2 / (a**2 + (lobes - 0.5) ** 2)
    m = np.arange(1.0, lobes)
    factors = []
    for k in m:
        above = np.prod(1 - k**2 / spread / (a**2 + (m - 0.5) ** 2))
        below = 2 * np.prod(1 - k**2 / m[m != k] ** 2)
        factors.append((-1) ** (k + 1) * above / below)

    def at(place: ndarray) -> ndarray:
        return 1 + 2 * np.asarray(factors) @ np.cos(2 * math.pi * m[:, None] * place / n)

    return at(_centred(n)) / at(np.zeros(1))


def _centred(n: int) -> ndarray:
    return np.arange(n) - (n - 1) / 2


_NAMES: dict[tuple[str, ...], Callable[[int], ndarray]] = {
    ("hann", "han"): _cosines(0.5, 0.5),
    ("hamming", "hamm", "ham"): _cosines(0.54, 0.46),
    ("blackman", "black", "blk"): _cosines(0.42, 0.5, 0.08),
    ("blackmanharris", "blackharr", "bkh"): _cosines(0.35875, 0.48829, 0.14128, 0.01168),
    ("nuttall", "nutl", "nut"): _cosines(0.3635819, 0.4891775, 0.1365995, 0.0106411),
    ("flattop", "flat", "flt"): _cosines(0.21557895, 0.41663158, 0.277263158, 0.083578947, 0.006947368),
    ("boxcar", "box", "ones", "rect", "rectangular"): _cosines(1.0),
    ("triangle", "triang", "tri"): _triangle,
    ("bartlett", "bart", "brt"): _bartlett,
    ("barthann", "brthan", "bth"): _barthann,
    ("bohman", "bman", "bmn"): _bohman,
    ("cosine", "halfcosine"): _cosine,
    ("exponential", "poisson"): _exponential,
    ("lanczos", "sinc"): _lanczos,
    ("parzen", "parz", "par"): _parzen,
    ("taylor", "taylorwin"): _taylor,
    ("tukey", "tuk"): _tukey,
}
WINDOWS = {name: made for names, made in _NAMES.items() for name in names}
"""Every name; `_periodic` or `_symmetric` may follow it."""


def window_values(name: str, length: int, periodic: bool) -> ndarray:
    """The window's values, in float64.

    A periodic window is the beginning of the symmetric one that is one sample longer.
    """
    bare, _, form = name.rpartition("_")
    if form in ("periodic", "symmetric"):
        name, periodic = bare, form == "periodic"
    if length <= 1:
        return np.ones(length)
    return WINDOWS[name](length + periodic)[:length]


def _window(value: Any) -> Any:
    if isinstance(value, (list, tuple)) and value:
        return tuple(number(v) for v in value)
    bare, _, form = str(value).rpartition("_")
    if value is None or (bare if form in ("periodic", "symmetric") else value) in WINDOWS:
        return value
    raise ValueError


Window = Annotated[
    str | tuple[float, ...] | None,
    Rule(
        f"a window's name ({', '.join(names[0] for names in _NAMES)}), a list of numbers, one a sample, or null",
        _window,
        {"anyOf": [{"type": ["string", "null"]}, {"type": "array", "items": number_schema()}]},
    ),
]
