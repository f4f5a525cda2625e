"""Tensors as numpy arrays, whatever their number type."""

from __future__ import annotations

from typing import TYPE_CHECKING

from trainer.lazy import torch

if TYPE_CHECKING:
    import numpy
    from torch import Tensor


def as_numpy(tensor: Tensor) -> numpy.ndarray:
    """The values, in the tensor's own memory where that can be; bfloat16, which numpy lacks, as float32, exactly."""
    given = tensor.detach().cpu()
    return (given.float() if given.dtype == torch.bfloat16 else given).numpy()
