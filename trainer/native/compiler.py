"""The system's C compiler: from text to a loaded library."""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from functools import cache
from pathlib import Path

from trainer.cache import key_of
from trainer.native.kept import LIBRARIES, library_kept, processor
from trainer.switches import on

HERE = Path(__file__).parent
COMPILERS = ("cc", "gcc", "clang")
FLAGS = ("-O3", "-fPIC", "-shared", "-fno-math-errno", "-fno-trapping-math", "-ffp-contract=on", "-w")
FUSED = "--param=avoid-fma-max-bits=0"
"GCC takes long chains of fused products apart on some processors, and does so by the number of rows."
WIDE = "-mprefer-vector-width=512"
"Compilers halve vectors for processors whose clock the widest ones once slowed down."
THIS_PROCESSOR = (("-march=native", FUSED, WIDE), ("-march=native", WIDE), ("-march=native",), ("-mcpu=native",), ())
"Ways to ask for this processor's instructions, by kind of processor; the last one is for compilers that know none."
WITHOUT_TILES = "-DWITHOUT_TILES"
SECONDS = 120


class Uncompiled(Exception):
    """The compiler is missing or refused; the message says why."""


@cache
def compiler() -> str | None:
    """The compiler's path; the environment's CC goes first. None where there is none."""
    asked = os.environ.get("CC", "").split()
    names = (asked[0], *COMPILERS) if len(asked) == 1 else COMPILERS
    return next((found for name in names if (found := shutil.which(name))), None)


def has_tiles() -> bool:
    """Whether what is compiled multiplies bfloat16 by tiles of the processor (AMX)."""
    return on("tiles") and compiler() is not None and sys.platform == "linux" and "amx_bf16" in processor()


def library(text: str) -> ctypes.CDLL:
    """C compiled for this processor and loaded; what was compiled before comes from the user's cache.

    Raises:
        Uncompiled: there is no compiler, or it refuses the text.
    """
    found = compiler()
    if found is None:
        raise Uncompiled("there is no C compiler (cc)")
    always = FLAGS if on("tiles") else (*FLAGS, WITHOUT_TILES)
    flags = [*always, *(flag for flags in THIS_PROCESSOR for flag in flags)]
    headers = (header.read_bytes() for header in sorted(HERE.glob("*.h")))
    key = key_of(processor(), text, *headers, _build(found), *flags)
    return library_kept(key) or _made([found, *always], text, key)


def _made(command: Sequence[str], text: str, key: str) -> ctypes.CDLL:
    with tempfile.TemporaryDirectory(prefix="trainer-", ignore_cleanup_errors=True) as folder:
        source, made = Path(folder, "steps.c"), Path(folder, "steps.so")
        source.write_text(text, encoding="ascii")
        failure = ""
        for flags in THIS_PROCESSOR:
            failure = _compiled([*command, *flags, f"-I{HERE}", "-o", made, source, "-lm"])
            if not failure:
                LIBRARIES.keep(key, made.read_bytes())
                return ctypes.CDLL(str(made))
    raise Uncompiled(f"the C compiler refuses: {failure}")


def _build(path: str) -> str:
    """Which compiler it is, as far as that shows without running it."""
    real = Path(path).resolve()
    stat = real.stat()
    return f"{real} {stat.st_size} {stat.st_mtime_ns}"


def _compiled(command: list[str | Path]) -> str:
    """Run the compiler; its first complaint when it fails, nothing otherwise."""
    try:
        done = subprocess.run(command, capture_output=True, timeout=SECONDS, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    said = done.stderr.decode("utf-8", "replace").strip().splitlines()
    errors = [line for line in said if "error" in line]
    return [*errors, *said, f"exit code {done.returncode}"][0] if done.returncode else ""
