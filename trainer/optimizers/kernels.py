"""torch's kernels over lists of tensors. Their names begin with an underscore, but torch.optim stands on them."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

from trainer.lazy import torch

if TYPE_CHECKING:
    from torch import Tensor


@functools.cache
def kernel(name: str) -> Any:
    """The function of that name."""
    return getattr(torch, name)


def factor(value: float, like: Tensor) -> Any:
    """A number for an operation on `like`: as a tensor, which torch takes in half the time of a Python number.

    Half precision keeps the Python number, which enters the operation unrounded.
    """
    return _tensor(value, like.dtype, like.device) if like.dtype in (torch.float32, torch.float64) else value


@functools.lru_cache(256)
def _tensor(value: float, dtype: Any, device: Any) -> Tensor:
    return torch.full((), value, dtype=dtype, device=device)


@functools.cache
def flatten() -> Any:
    """The function that puts tensors end to end in one new one."""
    from torch._utils import _flatten_dense_tensors

    return _flatten_dense_tensors
