"""Tensors as numpy arrays, whatever their number type; numbers of a recipe as tensors."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

from trainer.lazy import torch

if TYPE_CHECKING:
    import numpy
    from torch import Tensor


def as_numpy(tensor: Tensor) -> numpy.ndarray:
    """The values, in the tensor's own memory where that can be; bfloat16, which numpy lacks, as float32, exactly."""
    given = tensor.detach().cpu()
    return (given.float() if given.dtype == torch.bfloat16 else given).numpy()


def constants(values: Any, device: Any) -> Tensor:
    """Numbers that a layer was given, in tuples, brought to a device once; they are not to be overwritten."""
    # A tensor of what follows a model to export it is of no use elsewhere.
    return (_brought.__wrapped__ if torch.compiler.is_compiling() else _brought)(values, device)


@functools.lru_cache(256)
def _brought(values: Any, device: Any) -> Tensor:
    with torch.inference_mode(False):
        return torch.tensor(values, device=device)
