"""The door to heavy packages: each is imported at its first use, so that reading the catalogue costs nothing.

`torch` alone takes a second to import; `trainer validate` needs none of it. A quarter of that second goes into kernels
for tensors without data, which nothing but tracing asks for: the commands leave them out until something does.
"""

from __future__ import annotations

import importlib
import sys
from contextlib import suppress
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.metadata import PackageNotFoundError, version
from types import ModuleType
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

__all__ = ["F", "leave_tracing_out", "np", "torch", "with_tracing"]

TRACING = "torch._meta_registrations"
"The module of torch that registers kernels for tensors without data, and imports much of what else traces programs."
KNOWN = "2.13."
"Releases of torch that were seen to do without."


class _Left(ModuleType):
    """In the module's place until someone wants anything of it."""

    def __getattr__(self, name: str) -> Any:
        # Whoever walks through all modules asks for names like __file__.
        if name.startswith("__"):
            raise AttributeError(name)
        with_tracing()
        return getattr(sys.modules[TRACING], name)


class _Later(MetaPathFinder, Loader):
    """Finds that module before its file is found."""

    def find_spec(self, fullname: str, path: object, target: object = None) -> ModuleSpec | None:
        return ModuleSpec(fullname, self) if fullname == TRACING else None

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        return _Left(spec.name)

    def exec_module(self, module: ModuleType) -> None:
        # torch.Generator is not whole without it.
        importlib.import_module("torch._prims.rng_prims")


def leave_tracing_out() -> None:
    """Let torch, when it is imported later, do without what only tracing needs (`torch.export`, `device="meta"`)."""
    if "torch" in sys.modules:
        return
    with suppress(PackageNotFoundError):
        if version("torch").startswith(KNOWN):
            sys.meta_path.insert(0, _Later())


def with_tracing() -> None:
    """Make torch whole again: before a program is traced, and for code that is not ours."""
    sys.meta_path[:] = [finder for finder in sys.meta_path if not isinstance(finder, _Later)]
    if isinstance(sys.modules.get(TRACING), _Left):
        del sys.modules[TRACING]
        # `from torch import …` would find what was left there.
        setattr(sys.modules["torch"], TRACING.partition(".")[2], importlib.import_module(TRACING))
