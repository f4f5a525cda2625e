"""The pieces of `plain` that a text needs, word for word, with the imports of all of it."""

from __future__ import annotations

import ast
import functools
from collections.abc import Iterable
from pathlib import Path

PLAIN = Path(__file__).parent / "plain"
IMPORTS = {
    "math": "import math",
    "sys": "import sys",
    "Callable": "from collections.abc import Callable",
    "Any": "from typing import Any",
    "reduce": "from functools import reduce",
    "Path": "from pathlib import Path",
    "np": "import numpy as np",
    "torch": "import torch",
    "load_file": "from safetensors.torch import load_file",
    "Tensor": "from torch import Tensor",
    "nn": "from torch import nn",
    "F": "from torch.nn import functional as F",
}
"What a name in exported source is imported by."
STANDARD = ("math", "sys", "Any", "Callable", "reduce", "Path")
"Those of Python itself."


@functools.cache
def _parts() -> dict[str, tuple[str, frozenset[str]]]:
    """Each piece by its name: its text and the names in it, in the order of the files."""
    found: dict[str, tuple[str, frozenset[str]]] = {}
    for file in sorted(PLAIN.glob("*.py")):
        text = file.read_text(encoding="utf-8")
        for node in ast.parse(text).body:
            name = node.targets[0] if isinstance(node, ast.Assign) else node
            called = getattr(name, "name", getattr(name, "id", None))
            if called is not None and isinstance(node, (ast.Assign, ast.ClassDef, ast.FunctionDef)):
                source = ast.get_source_segment(text, node) or ""
                decorators = getattr(node, "decorator_list", [])
                lead = "".join(f"@{ast.get_source_segment(text, d)}\n" for d in decorators)
                found[called] = lead + source, names_in(source)
    return found


def names_of_parts() -> frozenset[str]:
    """What the pieces are called."""
    return frozenset(_parts())


def names_in(text: str) -> frozenset[str]:
    """The names that Python text reads or writes."""
    return frozenset(node.id for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Name))


def needed(names: Iterable[str]) -> list[str]:
    """The texts of the pieces with these names and of those that they need, in order."""
    known, wanted, todo = _parts(), set(), list(names)
    while todo:
        name = todo.pop()
        if name in known and name not in wanted:
            wanted.add(name)
            todo += known[name][1]
    return [text for name, (text, _) in known.items() if name in wanted]


def imports(text: str) -> str:
    """The import lines that Python text needs, sorted as ruff sorts them."""
    names = names_in(text)
    own = [IMPORTS[n] for n in STANDARD if n in names]
    others = [line for n, line in IMPORTS.items() if n not in STANDARD and n in names]
    if {"Tensor", "nn"} <= names:
        others = [x for x in others if x not in (IMPORTS["Tensor"], IMPORTS["nn"])]
        others.insert(_after(others), "from torch import Tensor, nn")
    return "\n\n".join("\n".join(lines) for lines in (_sorted(own), _sorted(others)) if lines)


def _after(lines: list[str]) -> int:
    return len(lines) - (lines[-1:] == [IMPORTS["F"]])


def _sorted(lines: list[str]) -> list[str]:
    """`import x` before `from x import y`, each by the name of the module, as ruff has it."""
    return sorted(lines, key=lambda line: (line.startswith("from"), line.split()[1]))
