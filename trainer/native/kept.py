"""Libraries that were compiled before, kept in the user's cache: compiling takes as long as training a small model."""

from __future__ import annotations

import ctypes
import platform
from contextlib import suppress

from trainer.cache import Kept

LIBRARIES = Kept("steps", ".so", 200)
"Some 20 KB each. What follows the end of a library in its file is no part of it."


def library_kept(key: str) -> ctypes.CDLL | None:
    """The library of that key; None where there is none, or it is not as it was written."""
    with suppress(OSError):
        return None if LIBRARIES.find(key) is None else ctypes.CDLL(str(LIBRARIES.path(key)))
    return None


def processor() -> str:
    """What this processor can do: a cache may be shared by machines of several kinds."""
    with suppress(OSError), open("/proc/cpuinfo", encoding="utf-8", errors="replace") as file:
        wanted = ("model name", "flags", "Features", "CPU implementer", "CPU part")
        return "\n".join(line for line in file.read(8192).splitlines() if line.startswith(wanted))
    return f"{platform.machine()} {platform.processor()}"
