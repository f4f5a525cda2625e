"""The door to heavy packages: each is imported at its first use, so that reading the catalogue costs nothing.

`torch` alone takes a second to import; `trainer validate` needs none of it.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    import torch
    import torch.nn.functional as F
else:

    class _Door:
        def __init__(self, module: str):
            self._module = module

        def __getattr__(self, name: str) -> Any:
            value = getattr(importlib.import_module(self._module), name)
            setattr(self, name, value)
            return value

    np = _Door("numpy")
    torch = _Door("torch")
    F = _Door("torch.nn.functional")

__all__ = ["F", "np", "torch"]
