"""What a command that trains or predicts will need, made ready while the recipe is read."""

from __future__ import annotations

import ctypes
import importlib
import os
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from threading import Thread

from trainer.cli.crowd import crowded, give_way
from trainer.lazy import leave_tracing_out
from trainer.switches import cores, on

NEEDS_TORCH = {"fit", "resume", "reproduce", "evaluate", "predict", "generate", "import", "export", "weights"}
"Commands that always, or nearly so, come to import torch."


def make_ready(command: str, was_crowded: bool = False) -> None:
    """Begin to load what takes longest; nothing depends on it.

    `was_crowded`: other programs computed already when this one began, so that it is none of their short moments.

    Raises:
        RecipeError: an optimisation is switched off that there is not.
    """
    if command in NEEDS_TORCH and on("crowd") and was_crowded and crowded():
        give_way()
    if not on("start"):
        return
    leave_tracing_out()
    if command in NEEDS_TORCH and os.name == "posix" and cores() > 1:
        # The linker binds one library at a time: those that are needed to read a recipe go first.
        for module in ("yaml", "mmap"):
            importlib.import_module(module)
        # The program's end waits for it: what ends while libraries are loaded crashes.
        Thread(target=_load_library, daemon=False).start()


def _load_library() -> None:
    """Let the linker bind torch's largest library, which takes it a sixth of a second.

    Called as a foreign function, it leaves the interpreter free meanwhile. `import torch` finds the library loaded, or
    loads it and says what is wrong.
    """
    with suppress(OSError, AttributeError, ValueError):
        found = find_spec("torch")
        places = found.submodule_search_locations if found is not None else None
        for library in Path(places[0], "lib").glob("libtorch_cpu.*") if places else ():
            load = ctypes.CDLL(None).dlopen
            load.argtypes, load.restype = [ctypes.c_char_p, ctypes.c_int], ctypes.c_void_p
            load(os.fsencode(library), os.RTLD_NOW | os.RTLD_LOCAL)
