"""Libraries that were compiled before, kept in the user's cache: compiling takes as long as training a small model.

Only what this user alone could have written is loaded, whole as it was written.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import platform
from contextlib import suppress
from pathlib import Path

from trainer.cache import cache_folder

MOST = 200
"Libraries of some 20 KB each; the longest unused go."
DIGEST = 32


def library_kept(key: str) -> ctypes.CDLL | None:
    """The library of that key; None where there is none, or it is not as it was written."""
    try:
        path = _path(key)
        if not _ours_alone(path.parent) or not _ours_alone(path):
            return None
        data = path.read_bytes()
        if hashlib.sha256(data[:-DIGEST]).digest() != data[-DIGEST:]:
            return None
        os.utime(path)
        return ctypes.CDLL(str(path))
    except (OSError, RuntimeError):  # no home folder is a RuntimeError
        return None


def keep_library(key: str, data: bytes) -> None:
    """Keep a library; where that can't be, it is compiled again the next time."""
    with suppress(OSError, RuntimeError):
        path = _path(key)
        part = path.with_suffix(f".{os.getpid()}")
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        try:
            # What follows the end of a library is no part of it.
            part.write_bytes(data + hashlib.sha256(data).digest())
            part.chmod(0o600)
            part.replace(path)
        finally:
            part.unlink(missing_ok=True)
        for old in sorted(path.parent.iterdir(), key=lambda file: -file.stat().st_mtime)[MOST:]:
            old.unlink(missing_ok=True)


def key_of(*parts: str | bytes) -> str:
    """A name for what is made of these on this processor."""
    made = hashlib.sha256(_processor().encode())
    for part in parts:
        data = part if isinstance(part, bytes) else part.encode()
        made.update(b"%d:" % len(data))
        made.update(data)
    return made.hexdigest()


def _path(key: str) -> Path:
    return cache_folder("steps") / f"{key}.so"


def _ours_alone(path: Path) -> bool:
    """Whether nobody else may write there."""
    if os.name != "posix":
        return True
    found = path.stat()
    return found.st_uid == os.getuid() and not found.st_mode & 0o022


def _processor() -> str:
    """What this processor can do: a cache may be shared by machines of several kinds."""
    with suppress(OSError), open("/proc/cpuinfo", encoding="utf-8", errors="replace") as file:
        wanted = ("model name", "flags", "Features", "CPU implementer", "CPU part")
        return "\n".join(line for line in file.read(8192).splitlines() if line.startswith(wanted))
    return f"{platform.machine()} {platform.processor()}"
