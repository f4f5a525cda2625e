"""Random numbers are derived, not consumed.

Every stream comes from the recipe's seed and a purpose (`stream(seed, "shuffle", epoch)`), so a position in a run is
(epoch, batch) and nothing else: to resume there is no generator state to save, and adding a layer moves no other draw.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from trainer.lazy import np

if TYPE_CHECKING:
    import numpy


def derive(seed: int, *purpose: str | int) -> int:
    """A 64-bit seed for one purpose, the same on every machine and in every version of Python."""
    text = "\x1f".join(str(p) for p in (seed, *purpose)).encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "little")


def stream(seed: int, *purpose: str | int) -> numpy.random.Generator:
    """A numpy generator (Philox: counter-based, equal on every platform) for one purpose."""
    return np.random.Generator(np.random.Philox(derive(seed, *purpose)))


def mixed(base: int, step: int) -> int:
    """A 63-bit seed from a stream's base and a step, by splitmix64; cheap enough for every layer and step."""
    z = (base + (step + 1) * 0x9E3779B97F4A7C15) & 0xFFFFFFFFFFFFFFFF
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & 0xFFFFFFFFFFFFFFFF
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & 0xFFFFFFFFFFFFFFFF
    return (z ^ (z >> 31)) >> 1
