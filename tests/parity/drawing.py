"""What several parity tests draw and look up: masks of sequences, weights by name."""

from __future__ import annotations

import numpy as np
import torch

from trainer.model.network import Cell

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
