"""The system's C compiler: from text to a loaded library."""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
import tempfile
from functools import cache
from pathlib import Path

COMPILERS = ("cc", "gcc", "clang")
FLAGS = ("-O3", "-fPIC", "-shared", "-fno-math-errno", "-fno-trapping-math", "-w")
THIS_PROCESSOR = (("-march=native",), ("-mcpu=native",), ())
"Ways to ask for this processor's instructions, by kind of processor; the last one is for compilers that know neither."
SECONDS = 120


class Uncompiled(Exception):
    """The compiler is missing or refused; the message says why."""


@cache
def compiler() -> str | None:
    """The compiler's path; the environment's CC goes first. None where there is none."""
    asked = os.environ.get("CC", "").split()
    names = (asked[0], *COMPILERS) if len(asked) == 1 else COMPILERS
    return next((found for name in names if (found := shutil.which(name))), None)


def library(text: str) -> ctypes.CDLL:
    """C compiled for this processor and loaded. Nothing stays on disk.

    Raises:
        Uncompiled: there is no compiler, or it refuses the text.
    """
    found = compiler()
    if found is None:
        raise Uncompiled("there is no C compiler (cc)")
    with tempfile.TemporaryDirectory(prefix="trainer-", ignore_cleanup_errors=True) as folder:
        source, made = Path(folder, "steps.c"), Path(folder, "steps.so")
        source.write_text(text, encoding="ascii")
        failure = ""
        for flags in THIS_PROCESSOR:
            failure = _compiled([found, *FLAGS, *flags, f"-I{Path(__file__).parent}", "-o", made, source, "-lm"])
            if not failure:
                return ctypes.CDLL(str(made))
    raise Uncompiled(f"the C compiler refuses: {failure}")


def _compiled(command: list[str | Path]) -> str:
    """Run the compiler; its first complaint when it fails, nothing otherwise."""
    try:
        done = subprocess.run(command, capture_output=True, timeout=SECONDS, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    said = done.stderr.decode("utf-8", "replace").strip().splitlines()
    errors = [line for line in said if "error" in line]
    return [*errors, *said, f"exit code {done.returncode}"][0] if done.returncode else ""
