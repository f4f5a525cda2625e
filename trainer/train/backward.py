"""Gradients straight from autograd's engine.

`torch.autograd.grad` with gradients of its own loads torch's symbolic shapes, and sympy with them (0.3 s), to compare
two shapes, and spends a fifth of a small step on checks that hold here by construction.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import torch

Gradients = tuple[torch.Tensor | None, ...]


def gradients(
    roots: Sequence[torch.Tensor], seeds: Sequence[torch.Tensor], parameters: Sequence[torch.Tensor]
) -> Gradients:
    """Sum over roots of seed times derivative, for each parameter; None where no root depends on it.

    Shape: each seed has its root's
    """
    return engine()(tuple(roots), tuple(seeds), tuple(parameters))


@functools.cache
def engine() -> Callable[[Any, Any, Any], Gradients]:
    """The engine's own entrance, or the documented function where torch has moved it."""
    try:
        from torch.autograd.graph import _engine_run_backward as run
    except ImportError:
        return documented
    return lambda roots, seeds, parameters: run(roots, seeds, False, False, parameters, True, accumulate_grad=False)


def documented(roots: Any, seeds: Any, parameters: Any) -> Gradients:
    """The same through `torch.autograd.grad`."""
    return torch.autograd.grad(roots, parameters, seeds, allow_unused=True)
