"""What update rules make of the step's number, in Keras's float32 arithmetic.

1 - 0.999^t differs by 1e-5 between float32 and float64 in the first steps, and so do the weights; so the powers are
taken by the same operation as Keras's, a block of steps at a time.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

from trainer.lazy import np, torch

if TYPE_CHECKING:
    import numpy

BLOCK = 1024


@functools.lru_cache(maxsize=64)
def _powers(base: float, block: int) -> list[float]:
    steps = torch.arange(block * BLOCK, (block + 1) * BLOCK, dtype=torch.float32)
    return torch.pow(torch.full((), base, dtype=torch.float32), steps).tolist()


def power(base: float, step: int) -> float:
    """base^step."""
    return _powers(base, step // BLOCK)[step % BLOCK]


@functools.lru_cache(maxsize=64)
def rest(share: float) -> float:
    """1 - share, both in float32: for 0.999 that is 5e-5 of it above 0.001."""
    return float(np.float32(1) - np.float32(share))


@functools.lru_cache(maxsize=64)
def _corrections(beta_1: float, beta_2: float, block: int) -> list[float]:
    one = np.float32(1)
    first, second = (np.array(_powers(b, block), dtype=np.float32) for b in (beta_1, beta_2))
    with np.errstate(divide="ignore", invalid="ignore"):
        return (np.sqrt(one - second) / (one - first)).tolist()


def adam_correction(beta_1: float, beta_2: float, step: int) -> float:
    """sqrt(1 - beta_2^step) / (1 - beta_1^step)."""
    return _corrections(beta_1, beta_2, step // BLOCK)[step % BLOCK]


def adam_corrections(beta_1: float, beta_2: float, first: int, count: int) -> numpy.ndarray:
    """Those of `count` steps from the first one."""
    blocks = range(first // BLOCK, (first + count - 1) // BLOCK + 1)
    found = [value for block in blocks for value in _corrections(beta_1, beta_2, block)]
    start = first % BLOCK
    return np.array(found[start : start + count])


@functools.lru_cache(maxsize=64)
def _nesterov(beta_1: float, block: int) -> list[tuple[float, float, float]]:
    one, half = np.float32(1), np.float32(0.5)
    product = np.float32(_nesterov(beta_1, block - 1)[-1][2]) if block else one
    found = []
    for step in range(block * BLOCK, (block + 1) * BLOCK):
        now, coming = (np.float32(beta_1) * (one - half * np.float32(power(0.96, s))) for s in (step, step + 1))
        product = product * now if step else one
        found.append((float(now), float(coming), float(product)))
    return found


def nesterov_momenta(beta_1: float, step: int) -> tuple[float, float, float]:
    """(this step's momentum, the coming one's, the product of all up to this step) of Nadam's schedule."""
    return _nesterov(beta_1, step // BLOCK)[step % BLOCK]
