"""torch's kernels over lists of tensors. Their names begin with an underscore, but torch.optim stands on them."""

from __future__ import annotations

import functools
from typing import Any

from trainer.lazy import torch


@functools.cache
def kernel(name: str) -> Any:
    """The function of that name."""
    return getattr(torch, name)


@functools.cache
def flatten() -> Any:
    """The function that puts tensors end to end in one new one."""
    from torch._utils import _flatten_dense_tensors

    return _flatten_dense_tensors
