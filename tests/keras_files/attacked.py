"""Runs the corpus of attacks in a process that is watched: `python -m tests.keras_files.attacked FOLDER`."""

from __future__ import annotations

import gc
import importlib
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

from tests.keras_files import attacks
from trainer.errors import TrainerError
from trainer.keras_files.importing import Asked, import_file
from trainer.train.terms import Options

seen: list[str] = []
watching = False


def watch(event: str, arguments: tuple[Any, ...]) -> None:
    """Note what no reading of a file may do."""
    if not watching:
        return
    if event in ("os.system", "pickle.find_class", "marshal.loads", "os.exec", "os.posix_spawn") or event.startswith(
        ("socket.", "urllib.", "ctypes.dlopen")
    ):
        seen.append(f"{event} {str(arguments)[:200]}")
    if event == "subprocess.Popen" and "trainer.runs.look" not in arguments[1]:
        seen.append(f"{event} {str(arguments)[:200]}")
    if event == "open" and isinstance(arguments[0], (str, bytes)):
        name = os.fsdecode(arguments[0])
        if name.endswith((attacks.SECRET, attacks.MARKER)):
            seen.append(f"open {name}")
    if event == "import" and str(arguments[0]).startswith("evil"):
        seen.append(f"import {arguments[0]}")


def attempt(name: str, folder: Path) -> dict[str, Any]:
    """What came of an attack."""
    file = folder / name
    began = time.perf_counter(), time.process_time()
    try:
        made = import_file(Asked(file, "attacked"), Options(runs=folder / "runs"))
        found = {"error": None, "says": str(made.directory)}
    except TrainerError as error:
        found = {"error": type(error).__name__, "says": str(error)}
    except BaseException as error:
        found = {"error": f"TRACEBACK {type(error).__name__}", "says": str(error)[:500]}
    return {**found, "wall": time.perf_counter() - began[0], "seconds": time.process_time() - began[1]}


def kilobytes(word: str) -> int:
    """A line of what the system knows of this process."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(word))


def main(folder: Path) -> None:
    global watching
    (folder / attacks.SECRET).write_text("secret")
    (folder / "evil_module.py").write_text(f"open({str(folder / attacks.MARKER)!r}, 'w').write('imported')\n")
    sys.path.insert(0, str(folder))
    for name, write in attacks.ATTACKS.items():
        write(folder / name)
    # Whatever is imported late is imported now, so that the hook sees the files alone.
    attacks.archive(folder / "sound", attacks.chain(attacks.dense()))
    assert import_file(Asked(folder / "sound"), Options(runs=folder / "runs")).parameters == 8
    importlib.import_module("trainer.layers.base").Layer.spellings()
    importlib.import_module("trainer.activations.legacy")
    sys.addaudithook(watch)
    gc.collect()
    # From here on the largest size counts anew.
    Path("/proc/self/clear_refs").write_text("5")
    before = kilobytes("VmRSS")
    found = {}
    for name in attacks.ATTACKS:
        watching = True
        found[name] = attempt(name, folder)
        watching = False
        found[name]["seen"], seen[:] = list(seen), []
    memory = kilobytes("VmHWM") - before
    print(json.dumps({"found": found, "memory": memory, "marker": (folder / attacks.MARKER).exists()}))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
