"""What several parity tests draw and look up: masks of sequences, sizes of windows, weights by name."""

from __future__ import annotations

import numpy as np
import torch

from trainer.model.cell import Cell

MASKS = ["start", "middle", "end", "scattered", "row"]


def named(cell: Cell) -> dict[str, torch.Tensor]:
    """The layer's weights by name."""
    return {spec.name: tensor for spec, _, tensor, _ in cell.rows()}


def mask_of(kind: str, batch: int, time: int, random: np.random.Generator) -> np.ndarray:
    """A mask of masked steps at one place, or scattered, with a whole row masked."""
    steps = np.arange(time)
    ends = random.integers(1, time, batch)[:, None]
    mask = {
        "start": steps >= ends,
        "end": steps < ends,
        "middle": steps != ends // 2,
        "scattered": random.random((batch, time)) < 0.6,
        "row": np.ones((batch, time), bool),
    }[kind].copy()
    mask[0] = True
    if kind in ("row", "scattered"):
        mask[-1] = False
    return mask


def sizes(random: np.random.Generator, rank: int, most: int, least: int = 1) -> int | list[int]:
    """One integer for all axes, or one for each."""
    drawn = [int(n) for n in random.integers(least, most + 1, rank)]
    return drawn[0] if random.random() < 0.4 else drawn


def placed(spatial: tuple[int, ...], channels: int, data_format: str | None) -> tuple[int, ...]:
    """An input's shape without the batch."""
    return (channels, *spatial) if data_format == "channels_first" else (*spatial, channels)


def normal(seed: int, *shape: int) -> np.ndarray:
    """Input values in float32."""
    return np.random.default_rng(seed).normal(size=shape).astype("float32")
