"""Names of classes and where these stand: one class is found and imported without the rest of its package."""

from __future__ import annotations

import ast
import functools
import importlib
import pkgutil
import re
from pathlib import Path
from typing import NamedTuple


def snake_case(name: str) -> str:
    """Keras's rule from a class name to a layer name: `Conv2D` to `conv2d`, `MaxPooling2D` to `max_pooling2d`."""
    name = re.sub(r"\W+", "", name)
    name = re.sub("(.)([A-Z][a-z]+)", r"\1_\2", name)
    return re.sub("([a-z])([A-Z])", r"\1_\2", name).lower()


def plural(kind: str) -> str:
    """`loss` to `losses`, `layer` to `layers`."""
    return kind + ("es" if kind.endswith("s") else "s")


class Named(NamedTuple):
    """Where the class of a name stands."""

    final: str
    module: str
    is_short: bool
    "Whether the name is the snake-case form."


_CLASS = re.compile(r"^class (\w+)\(([^)]*)\):\n((?:(?!^\S).*\n?)*)", re.MULTILINE)
_ALIASES = re.compile(r"^    aliases = (\(.*?\))$", re.MULTILINE | re.DOTALL)


@functools.cache
def names_in(room: str) -> dict[str, Named]:
    """Every spelling in a package, as its files say it: to import one class without the others.

    Where there is no text to read there is nothing.
    """
    finals: dict[str, Named] = {}
    others: dict[str, Named] = {}
    for folder in importlib.import_module(room).__path__:
        for file in sorted(Path(folder).glob("*.py")):
            for name, bases, body in _CLASS.findall(file.read_text(encoding="utf-8")):
                if "abstract=True" in bases or "kind=" in bases:
                    continue
                finals[name] = place = Named(name, f"{room}.{file.stem}", False)
                others.setdefault(snake_case(name), place._replace(is_short=True))
                aliases = _ALIASES.search(body)
                others |= dict.fromkeys(ast.literal_eval(aliases[1]) if aliases else (), place)
    return {**finals, **{name: place for name, place in others.items() if name not in finals}}


@functools.cache
def load_room(room: str) -> None:
    """Import every module of a package once, so that its classes are in the catalogue."""
    package = importlib.import_module(room)
    for module in pkgutil.iter_modules(package.__path__):
        importlib.import_module(f"{room}.{module.name}")
