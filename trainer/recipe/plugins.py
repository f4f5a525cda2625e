"""Plugins: Python files beside the recipe that declare layers, losses, metrics and callbacks of the user's own."""

from __future__ import annotations

import hashlib
import importlib.util
import sys
from pathlib import Path
from typing import Any

from trainer.errors import RecipeError


def load_plugins(names: Any, folder: Path, allowed: bool) -> dict[str, str]:
    """Run each plugin file once, so that its classes are in the catalogues; file name to sha256.

    Raises:
        RecipeError: plugins are refused, a file is missing, stands outside the recipe's folder, or fails.
    """
    if not isinstance(names, list):
        return {}
    digests = {}
    for index, name in enumerate(names):
        path = ("plugins", index)
        if not isinstance(name, str):
            continue
        if not allowed:
            raise RecipeError(f"the recipe runs Python code from {name}, and --no-plugins forbids it", path=path)
        file = (folder / name).resolve()
        if Path(name).is_absolute() or folder.resolve() not in file.parents or file.suffix != ".py":
            raise RecipeError(f"expected a .py file beside the recipe, found {name}", path=path)
        if not file.is_file():
            raise RecipeError(f"there is no file {name} beside the recipe", path=path)
        digests[name] = _run_once(file, name, path)
    return digests


def _run_once(file: Path, name: str, path: tuple[str | int, ...]) -> str:
    text = file.read_bytes()
    digest = hashlib.sha256(text).hexdigest()
    module_name = f"trainer_plugin_{digest[:16]}"
    if module_name in sys.modules:
        return digest
    spec = importlib.util.spec_from_file_location(module_name, file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[module_name] = module
    try:
        spec.loader.exec_module(module)
    except Exception as error:  # a plugin is the user's code: whatever it raises is named, with its file
        del sys.modules[module_name]
        raise RecipeError(f"{name} failed to load: {type(error).__name__}: {error}", path=path) from error
    return digest
