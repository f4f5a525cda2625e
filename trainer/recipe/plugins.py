"""Plugins: Python files beside the recipe that declare layers, losses, metrics and callbacks of the user's own."""

from __future__ import annotations

import hashlib
import importlib.util
import sys
from importlib.abc import SourceLoader
from pathlib import Path
from typing import Any

from trainer.declare import Declared
from trainer.errors import Path as Where
from trainer.errors import RecipeError
from trainer.lazy import with_tracing
from trainer.naming import load_room

MOST_BYTES = 1 << 20
_loaded: dict[str, str] = {}
"Name in recipes to the module that was made of the file last; a run keeps a copy of the file, which is the same one."


class _Read(SourceLoader):
    """Runs exactly the text that was hashed, and writes no byte code beside the recipe."""

    def __init__(self, file: Path, text: bytes):
        self.file, self.text = file, text

    def get_filename(self, fullname: str) -> str:
        return str(self.file)

    def get_data(self, path: str) -> bytes:
        return self.text


def load_plugins(names: Any, folder: Path, allowed: bool) -> dict[str, str]:
    """Run each plugin file once, so that its classes are in the catalogues; file name to sha256.

    A file that changed since it was run in this process takes the place of what it declared before.

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
        try:
            file = (folder / name).resolve()
            beside = not Path(name).is_absolute() and folder.resolve() in file.parents and file.suffix == ".py"
        except (OSError, ValueError, RuntimeError):  # a loop of links is a RuntimeError before Python 3.13
            beside, file = False, folder
        if not beside:
            raise RecipeError(f"expected a .py file beside the recipe, found {name}", path=path)
        digests[name] = _run_once(file, name, path)
    return digests


def declared(digest: str) -> list[str]:
    """Names of the classes that the plugin file of that sha256 declares."""
    name = _module_name(digest)
    return [n for kind in Declared.__subclasses__() for n, c in kind.catalogue.items() if c.__module__ == name]


def _module_name(digest: str) -> str:
    return f"trainer_plugin_{digest[:16]}"


def _run_once(file: Path, name: str, path: Where) -> str:
    text = _text(file, name, path)
    digest = hashlib.sha256(text).hexdigest()
    module_name = _module_name(digest)
    if module_name not in sys.modules:
        if name in _loaded:
            _forget(_loaded[name])
        for kind in Declared.__subclasses__():
            load_room(kind.room)  # so that a plugin which takes one of our names is the one refused
        _run(module_name, file, name, text, path)
    _loaded[name] = module_name
    return digest


def _run(module_name: str, file: Path, name: str, text: bytes, path: Where) -> None:
    spec = importlib.util.spec_from_loader(module_name, _Read(file, text))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[module_name] = module
    with_tracing()
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:  # a plugin is the user's code: whatever it raises is named, with its file
        _forget(module_name)
        raise RecipeError(f"{name}{_line(error, file)} failed to load: {_said(error)}", path=path) from error


def _text(file: Path, name: str, path: Where) -> bytes:
    if not file.is_file():
        raise RecipeError(f"there is no file {name} beside the recipe", path=path)
    try:
        with file.open("rb") as opened:
            text = opened.read(MOST_BYTES + 1)
    except OSError as error:
        raise RecipeError(f"{name}: {error.strerror}", path=path) from None
    if len(text) > MOST_BYTES:
        raise RecipeError(f"{name}: expected at most {MOST_BYTES:,} bytes, found more", path=path)
    return text


def _said(error: BaseException) -> str:
    said = error.msg if isinstance(error, SyntaxError) else str(error)
    return f"{type(error).__name__}: {said}" if said else type(error).__name__


def _line(error: BaseException, file: Path) -> str:
    """`:12`, the plugin's own line where the error came from."""
    if isinstance(error, SyntaxError) and error.filename == str(file):
        return f":{error.lineno}"
    line, trace = "", error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == str(file):
            line = f":{trace.tb_lineno}"
        trace = trace.tb_next
    return line


def _forget(module_name: str) -> None:
    """Take a module and all that it declared out of the catalogues."""
    sys.modules.pop(module_name, None)
    for kind in Declared.__subclasses__():
        for name in [n for n, c in kind.catalogue.items() if c.__module__ == module_name]:
            del kind.catalogue[name]
